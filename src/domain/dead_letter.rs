//! What was given up, grouped by why: a thousand letters with one cause are one thing to mend.

use super::ids::{ConnectionId, HookId, UnitId};
use super::time::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use uuid::Uuid;

/// What a letter is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// An event that a consumer of the bus could not apply.
    Event,
    /// A quantity that a marketplace does not take.
    Push,
    /// News of a marketplace that could not be read, or an order in it that could not be sold.
    Notice,
    /// A webhook's message that its receiver refused.
    Message,
}

impl Matter {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Event, Self::Push, Self::Notice, Self::Message];

    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "evento",
            Self::Push => "envio",
            Self::Notice => "aviso",
            Self::Message => "mensaje",
        }
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|matter| matter.as_str() == text)
    }

    /// Why letters of this kind are not thrown away; nothing when they may be.
    pub const fn kept_because(self) -> Option<&'static str> {
        match self {
            Self::Event => Some(
                "stock counts it, since the goods were handed over, and a sale in no book is a lost sale; mend its \
                 cause and replay it",
            ),
            Self::Push | Self::Notice | Self::Message => None,
        }
    }
}

/// The id of a letter that is not the bus's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetterId {
    /// A push of a unit.
    Push(ConnectionId, UnitId),
    /// A notice, by the marketplace's own id of it.
    Notice(ConnectionId, String),
    /// A message to a webhook, by its place in the order.
    Message(HookId, i64),
}

impl LetterId {
    /// Reads an id; nothing when it is one of the bus's.
    pub fn parse(id: &str) -> Option<Self> {
        let (matter, rest) = id.split_once('/')?;
        let (of, about) = rest.split_once('/')?;
        let of = Uuid::parse_str(of).ok()?;
        match Matter::parse(matter)? {
            Matter::Push => Some(Self::Push(ConnectionId(of), UnitId(Uuid::parse_str(about).ok()?))),
            Matter::Notice => Some(Self::Notice(ConnectionId(of), about.to_owned())),
            Matter::Message => Some(Self::Message(HookId(of), about.parse().ok()?)),
            Matter::Event => None,
        }
    }

    /// Which connection gave it up, if one did.
    pub const fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::Push(connection, _) | Self::Notice(connection, _) => Some(*connection),
            Self::Message(..) => None,
        }
    }

    /// What it is about.
    pub const fn matter(&self) -> Matter {
        match self {
            Self::Push(..) => Matter::Push,
            Self::Notice(..) => Matter::Notice,
            Self::Message(..) => Matter::Message,
        }
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matter = self.matter().as_str();
        match self {
            Self::Push(connection, unit) => write!(f, "{matter}/{connection}/{unit}"),
            Self::Notice(connection, id) => write!(f, "{matter}/{connection}/{id}"),
            Self::Message(hook, position) => write!(f, "{matter}/{hook}/{position}"),
        }
    }
}

/// Something that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id among the dead letters.
    pub id: String,
    /// What it is about.
    pub matter: Matter,
    /// Which group gave it up.
    pub group: String,
    /// An event's routing key, or what a notice is about.
    pub kind: String,
    /// Whose; empty when it cannot be read.
    pub tenant: String,
    /// How often it was tried.
    pub attempts: u64,
    /// When it failed first.
    pub first_at: Timestamp,
    /// When it failed last.
    pub last_at: Timestamp,
    /// Why.
    pub cause: String,
    /// The event or notice as it came, or what was sent, without secrets.
    pub payload: Vec<u8>,
    /// What came back, if somebody was asked.
    pub response: String,
}

/// Letters with the same cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they have in common: the cause without ids and numbers.
    pub cause: String,
    /// Their ids, oldest first.
    pub ids: Vec<String>,
    /// The oldest one's first failure.
    pub first_at: Timestamp,
    /// The newest one's last failure.
    pub last_at: Timestamp,
    /// One cause in full.
    pub example: String,
}

/// A cause without what differs from letter to letter: words with a digit in them become `#`.
pub fn common_cause(cause: &str) -> String {
    let word = |word: &str| {
        if word.bytes().any(|byte| byte.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() }
    };
    let mut common: Vec<String> = cause.split_whitespace().map(word).collect();
    common.dedup_by(|one, other| one == "#" && other == "#");
    common.join(" ")
}

/// Groups letters, the largest group first.
pub fn grouped(letters: &[DeadLetter]) -> Vec<Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for letter in letters {
        let cause = common_cause(&letter.cause);
        let new = || Group {
            cause: cause.clone(),
            ids: Vec::new(),
            first_at: letter.first_at,
            last_at: letter.last_at,
            example: letter.cause.clone(),
        };
        let group = groups.entry(cause.clone()).or_insert_with(new);
        group.ids.push(letter.id.clone());
        group.first_at = group.first_at.min(letter.first_at);
        group.last_at = group.last_at.max(letter.last_at);
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.ids.len()));
    groups
}

/// Which letters are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of these ids; all when empty.
    pub ids: Vec<String>,
    /// Those of this common cause; whatever the cause when absent.
    pub cause: Option<String>,
    /// So many at most, the oldest first.
    pub most: usize,
}

impl Selection {
    /// The chosen ones, in their order.
    pub fn of<'a>(&self, letters: &'a [DeadLetter]) -> Vec<&'a DeadLetter> {
        let named = |letter: &&DeadLetter| self.ids.is_empty() || self.ids.contains(&letter.id);
        let caused = |letter: &&DeadLetter| {
            self.cause.as_ref().is_none_or(|cause| common_cause(&letter.cause) == common_cause(cause))
        };
        letters.iter().filter(named).filter(caused).take(self.most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(id: &str, cause: &str, second: i64) -> DeadLetter {
        DeadLetter {
            id: id.into(),
            matter: Matter::Event,
            group: "g".into(),
            kind: "sales.created".into(),
            tenant: "t".into(),
            attempts: 4,
            first_at: Timestamp::from_micros(second),
            last_at: Timestamp::from_micros(second + 10),
            cause: cause.into(),
            payload: Vec::new(),
            response: String::new(),
        }
    }

    #[test]
    fn ids_are_read_back_and_those_of_the_bus_are_not() {
        let (connection, unit) = (ConnectionId(Uuid::from_u128(1)), UnitId(Uuid::from_u128(2)));
        for letter in [
            LetterId::Push(connection, unit),
            LetterId::Notice(connection, "orders/create e/1".into()),
            LetterId::Message(HookId(Uuid::from_u128(3)), 7),
        ] {
            assert_eq!(LetterId::parse(&letter.to_string()), Some(letter));
        }
        let uuid = Uuid::from_u128(1);
        for id in [
            "queue.sales.created/7",
            "",
            "envio",
            &format!("envio/{uuid}/x"),
            &format!("evento/{uuid}/{uuid}"),
        ] {
            assert_eq!(LetterId::parse(id), None, "{id}");
        }
    }

    #[test]
    fn letters_with_one_cause_are_one_group_and_are_chosen_together() {
        let letters = [
            letter("1", "FOREIGN KEY constraint failed (SQLite code 787)", 5),
            letter("2", "stock of 0192f5a0-6c1e at 0192f5a0-7000 is out of bounds", 1),
            letter("3", "stock of 0192f5a0-9999 at 0192f5a0-1111 is out of bounds", 9),
        ];
        let groups = grouped(&letters);
        assert_eq!(groups[0].cause, "stock of # at # is out of bounds");
        assert_eq!((&groups[0].ids[..], groups.len()), (&["2".to_owned(), "3".into()][..], 2));
        assert_eq!((groups[0].first_at, groups[0].last_at), (letters[1].first_at, letters[2].last_at));
        let chosen = |selection: Selection| -> Vec<String> {
            selection.of(&letters).into_iter().map(|letter| letter.id.clone()).collect()
        };
        let all = Selection { most: 9, ..Selection::default() };
        assert_eq!(chosen(all.clone()), ["1", "2", "3"]);
        assert_eq!(chosen(Selection { most: 1, ..all.clone() }), ["1"]);
        assert_eq!(chosen(Selection { cause: Some(letters[2].cause.clone()), ..all.clone() }), ["2", "3"]);
        assert_eq!(chosen(Selection { ids: vec!["3".into(), "x".into()], ..all }), ["3"]);
    }
}
