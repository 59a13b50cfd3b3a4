//! What is sent: the names of keys and the arguments of scripts, as `src/lua/` describes them.

use super::scripts::Script;
use crate::domain::decimal::Quantity;
use crate::domain::idempotency::KeyHash;
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::reservation::{KeyUse, Reserve};
use crate::domain::stock::Place;
use std::collections::HashMap;

/// The one builder of key names: every name has the tenant as its hash tag, and the location in it. (D1, D9)
#[derive(Clone, Debug, Default)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// With something in front of every name, for a Redis that others use too; `None` when it cannot stand there.
    pub fn new(prefix: &str) -> Option<Self> {
        let fits = prefix.bytes().all(|b| b.is_ascii_graphic() && !b"{}".contains(&b));
        fits.then(|| Self { prefix: prefix.to_owned() })
    }

    /// All of a tenant that is not a level.
    pub fn book(&self, tenant: TenantId) -> String {
        format!("{}stock:{{{tenant}}}:book", self.prefix)
    }

    /// What belongs to a shard's outbox.
    pub fn outbox(&self, shard: usize, what: &str) -> String {
        format!("{}stock:{{shard-{shard}}}:outbox:{what}", self.prefix)
    }

    /// The level of a unit at a location.
    pub fn place(&self, tenant: TenantId, (unit, location): Place) -> String {
        format!("{}stock:{{{tenant}}}:{unit}:{location}", self.prefix)
    }

    fn all(&self, tenant: TenantId, places: impl Iterator<Item = Place>) -> Vec<String> {
        std::iter::once(self.book(tenant)).chain(places.map(|place| self.place(tenant, place))).collect()
    }
}

/// One run of a script.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub script: Script,
    /// Every key it touches.
    pub keys: Vec<String>,
    /// The rest.
    pub args: Vec<String>,
}

/// Whose stock, and which load of it.
#[derive(Clone, Copy, Debug)]
pub struct Book<'a> {
    /// Key names.
    pub names: &'a Names,
    /// The tenant.
    pub tenant: TenantId,
    /// The load that the caller knows.
    pub epoch: u64,
}

impl Book<'_> {
    fn call(&self, script: Script, places: impl Iterator<Item = Place>, args: Vec<String>) -> Call {
        Call { script, keys: self.names.all(self.tenant, places), args }
    }

    fn args(&self, rest: impl IntoIterator<Item = String>) -> Vec<String> {
        std::iter::once(self.epoch.to_string()).chain(rest).collect()
    }

    /// One chunk of a load.
    pub fn warmup(&self, chunk: &[(Place, Quantity)], number: usize, is_last: bool) -> Call {
        let mut args = self.args([number.to_string(), flag(is_last)]);
        args.extend(chunk.iter().map(|(_, on_hand)| on_hand.units().to_string()));
        self.call(Script::Warmup, chunk.iter().map(|(place, _)| *place), args)
    }

    /// Sales, in order. `known` tells the places at which there must be a level.
    pub fn reserve(&self, commands: &[&Reserve], known: impl Fn(Place) -> bool) -> Call {
        let mut places = Vec::new();
        let mut numbers: HashMap<Place, usize> = HashMap::new();
        let mut sales = Vec::with_capacity(commands.len() * 6);
        for command in commands {
            let (key, fingerprint) = command.keyed.map_or_else(Default::default, |keyed| {
                (hex(keyed.key.0), hex(u128::from_be_bytes(keyed.fingerprint.0)))
            });
            sales.extend([id(command.sale), key, fingerprint, command.demand.len().to_string()]);
            for (unit, quantity) in &command.demand {
                let number = number_of((*unit, command.location), &mut numbers, &mut places);
                sales.extend([number.to_string(), quantity.units().to_string()]);
            }
        }
        let mut args = self.args(places.iter().map(|place| flag(known(*place))));
        args.append(&mut sales);
        self.call(Script::MultiReserve, places.into_iter(), args)
    }

    /// Ends the reservations of durable sales; each place once.
    pub fn settle(&self, sales: &[SaleId], places: &[Place]) -> Call {
        self.call(Script::Settle, places.iter().copied(), self.args(sales.iter().map(|sale| id(*sale))))
    }

    /// Undoes a reservation of these places.
    pub fn rollback(&self, sale: SaleId, places: &[Place]) -> Call {
        self.call(Script::Rollback, places.iter().copied(), self.args([id(sale)]))
    }

    /// Movements, as the `number`th of such calls since the load. Also tells each place once.
    pub fn moved(
        &self,
        number: u64,
        movements: &[(Place, Quantity)],
        known: impl Fn(Place) -> bool,
    ) -> (Call, Vec<Place>) {
        let mut places = Vec::new();
        let mut numbers: HashMap<Place, usize> = HashMap::new();
        let mut moves = Vec::with_capacity(movements.len() * 2);
        for (place, delta) in movements {
            let number = number_of(*place, &mut numbers, &mut places);
            moves.extend([number.to_string(), delta.units().to_string()]);
        }
        let mut args = self.args([number.to_string()]);
        args.extend(places.iter().map(|place| flag(known(*place))));
        args.append(&mut moves);
        (self.call(Script::Move, places.iter().copied(), args), places)
    }

    /// The levels of places.
    pub fn check(&self, places: &[Place]) -> Call {
        self.call(Script::Check, places.iter().copied(), self.args([]))
    }

    /// What a key stands for.
    pub fn key_use(&self, key: KeyHash) -> Call {
        self.call(Script::KeyUse, std::iter::empty(), self.args([hex(key.0)]))
    }

    /// A key whose sale is durable.
    pub fn remember_key(&self, key: KeyHash, used: KeyUse) -> Call {
        let fingerprint = hex(u128::from_be_bytes(used.fingerprint.0));
        self.call(
            Script::RememberKey,
            std::iter::empty(),
            self.args([hex(key.0), fingerprint, id(used.sale)]),
        )
    }

    /// The oldest settled keys beyond `keep`.
    pub fn oldest_keys(&self, keep: usize, most: usize) -> Call {
        self.call(Script::OldestKeys, std::iter::empty(), self.args([keep.to_string(), most.to_string()]))
    }

    /// So many of the oldest settled keys are forgotten.
    pub fn forget_keys(&self, from: u64, count: usize) -> Call {
        self.call(Script::ForgetKeys, std::iter::empty(), self.args([from.to_string(), count.to_string()]))
    }
}

/// The number of a place among those that are named, from 1; a new one comes behind them.
fn number_of(place: Place, numbers: &mut HashMap<Place, usize>, places: &mut Vec<Place>) -> usize {
    *numbers.entry(place).or_insert_with(|| {
        places.push(place);
        places.len()
    })
}

fn flag(is: bool) -> String {
    u8::from(is).to_string()
}

fn hex(bits: u128) -> String {
    format!("{bits:032x}")
}

fn id(sale: SaleId) -> String {
    sale.0.simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::idempotency::Fingerprint;
    use crate::domain::ids::{LocationId, UnitId};
    use crate::domain::reservation::Keyed;
    use uuid::Uuid;

    fn place(unit: u128, location: u128) -> Place {
        (UnitId(Uuid::from_u128(unit)), LocationId(Uuid::from_u128(location)))
    }

    fn quantity(units: i64) -> Quantity {
        Quantity::from_units(units).unwrap()
    }

    const TENANT: TenantId = TenantId(Uuid::from_u128(7));

    #[test]
    fn d1_every_name_has_the_tenant_as_its_tag_and_a_level_its_location() {
        let names = Names::new("shop.").unwrap();
        let tag = "{00000000-0000-0000-0000-000000000007}";
        assert_eq!(names.book(TENANT), format!("shop.stock:{tag}:book"));
        let level = names.place(TENANT, place(1, 2));
        let (unit, location) =
            ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002");
        assert_eq!(level, format!("shop.stock:{tag}:{unit}:{location}"));
        assert_ne!(level, names.place(TENANT, place(2, 1)));
        for bad in ["a b", "{", "x}", "ñ", "\n"] {
            assert!(Names::new(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_reserve_names_every_place_it_may_change_and_says_which_must_be_there() {
        let names = Names::default();
        let book = Book { names: &names, tenant: TENANT, epoch: 42 };
        let command = Reserve {
            sale: SaleId(Uuid::from_u128(0xab)),
            location: LocationId(Uuid::from_u128(9)),
            demand: vec![(place(1, 9).0, quantity(1_500)), (place(2, 9).0, quantity(-3))],
            keyed: Some(Keyed { key: KeyHash(0xc), fingerprint: Fingerprint([0xd; 16]) }),
        };
        let other = Reserve {
            sale: SaleId(Uuid::from_u128(0xcd)),
            demand: vec![(place(2, 9).0, quantity(7))],
            keyed: None,
            ..command.clone()
        };
        let call = book.reserve(&[&command, &other], |at| at == place(1, 9));
        let keys = [names.book(TENANT), names.place(TENANT, place(1, 9)), names.place(TENANT, place(2, 9))];
        assert_eq!((call.script, call.keys), (Script::MultiReserve, keys.to_vec()));
        let (sale, key, fingerprint) = (format!("{:032x}", 0xab), format!("{:032x}", 0xc), "0d".repeat(16));
        let second = format!("{:032x}", 0xcd);
        let first = ["42", "1", "0", &sale, &key, &fingerprint, "2", "1", "1500", "2", "-3"];
        assert_eq!(call.args, [&first[..], &[&second, "", "", "1", "2", "7"]].concat());
        let of_nothing = book.reserve(&[&Reserve { keyed: None, demand: vec![], ..command }], |_| true);
        assert_eq!(
            (of_nothing.keys.len(), &of_nothing.args[2..]),
            (1, &["", "", "0"].map(str::to_owned)[..])
        );
    }

    #[test]
    fn movements_name_each_place_once_and_keep_their_order() {
        let names = Names::default();
        let book = Book { names: &names, tenant: TENANT, epoch: 1 };
        let movements = [(place(1, 1), quantity(-1)), (place(2, 1), quantity(5)), (place(1, 1), quantity(2))];
        let (call, places) = book.moved(3, &movements, |at| at == place(2, 1));
        assert_eq!((places, call.keys.len()), (vec![place(1, 1), place(2, 1)], 3));
        assert_eq!(call.args, ["1", "3", "0", "1", "1", "-1", "2", "5", "1", "2"]);
    }
}
