//! Where a marketplace shows something else than it was told to.

use crate::domain::decimal::Money;
use crate::domain::ids::UnitId;
use crate::domain::time::Timestamp;

/// Why a quantity may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Less is there: most likely an order whose news has not arrived.
    Order,
    /// More is there: somebody edited it, or a cancelled order brought it back.
    Edited,
    /// Nothing is there at all: the item was deleted or is not stocked at the place.
    Gone,
}

impl Cause {
    /// The most probable one.
    pub fn of(ours: i64, theirs: Option<i64>) -> Option<Self> {
        match theirs {
            None => Some(Self::Gone),
            Some(theirs) if theirs < ours => Some(Self::Order),
            Some(theirs) if theirs > ours => Some(Self::Edited),
            Some(_) => None,
        }
    }

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Order => "pedido_sin_noticia",
            Self::Edited => "editado_alla",
            Self::Gone => "no_esta",
        }
    }
}

/// One difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Which unit.
    pub unit: UnitId,
    /// What it was last confirmed to show.
    pub ours: i64,
    /// What it shows; nothing when the item is gone.
    pub theirs: Option<i64>,
    /// Since when it is known.
    pub since: Timestamp,
    /// The most probable cause.
    pub cause: Cause,
}

impl Drift {
    /// What the difference is worth at a price of one whole; nothing when it is too much money to tell.
    pub fn worth(&self, price: Money) -> Option<Money> {
        let difference = self.theirs.unwrap_or_default().checked_sub(self.ours)?;
        price.units().checked_mul(difference).and_then(Money::from_units)
    }
}

#[test]
fn the_cause_follows_from_the_direction_and_the_worth_from_the_price() {
    assert_eq!(Cause::of(5, Some(5)), None);
    let causes = [Some(3), Some(9), None].map(|theirs| Cause::of(5, theirs).map(Cause::as_str));
    assert_eq!(causes, [Some("pedido_sin_noticia"), Some("editado_alla"), Some("no_esta")]);
    let drift = Drift {
        unit: UnitId(uuid::Uuid::from_u128(1)),
        ours: 5,
        theirs: Some(3),
        since: Timestamp::from_micros(0),
        cause: Cause::Order,
    };
    let worth = |price: &str| drift.worth(Money::parse(price).unwrap()).map(|money| money.to_string());
    assert_eq!(worth("10.50").as_deref(), Some("-21.00"));
    assert_eq!(drift.worth(Money::from_units(crate::domain::decimal::MAX_UNITS).unwrap()), None);
}
