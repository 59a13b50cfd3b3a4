//! What comes back: the codes of `src/lua/prelude.lua` as answers of the port.

use crate::domain::decimal::Quantity;
use crate::domain::idempotency::Fingerprint;
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::reservation::{KeyUse, Outcome, Reserve};
use crate::domain::stock::{Level, Shortage};
use crate::ports::PortError;
use redis::Value;
use uuid::Uuid;

const OK: i64 = 1;
const NOTHING: i64 = 0;
const SHORT: i64 = -1;
const MISSING: i64 = -2;
const FENCED: i64 = -3;
const INVALID: i64 = -4;
const REPEATED: i64 = -5;
const REUSED: i64 = -6;
const OUT_OF_BOUNDS: i64 = -7;

/// The answer of a script that was allowed to act.
#[derive(Debug)]
pub struct Reply {
    code: i64,
    rest: Vec<Value>,
}

/// Why a script did not act.
#[derive(Debug)]
pub enum Refusal {
    /// Another load is in force, of this epoch if any.
    Fenced(Option<u64>),
    /// Levels that must be there are not.
    Missing(usize),
    /// Not an answer of a script.
    Unreadable,
}

impl Refusal {
    /// What the port says.
    pub fn of(self, tenant: TenantId) -> PortError {
        PortError::Transient(match self {
            Self::Fenced(None) => {
                format!(
                    "the stock of tenant {tenant} is not in Redis (flushed, evicted, restarted); load it again"
                )
            }
            Self::Fenced(Some(epoch)) => {
                format!("the stock of tenant {tenant} was loaded anew (epoch {epoch}); load it again")
            }
            Self::Missing(count) => {
                format!("{count} levels of tenant {tenant} are gone from Redis (evicted?); load them again")
            }
            Self::Unreadable => "Redis answered something that no script of this version says".into(),
        })
    }
}

impl Reply {
    /// Reads an answer; whatever says that the caller's load is not there is a refusal.
    pub fn read(value: Value) -> Result<Self, Refusal> {
        let Value::Array(mut rest) = value else { return Err(Refusal::Unreadable) };
        let code = rest.first().and_then(integer).ok_or(Refusal::Unreadable)?;
        rest.remove(0);
        match code {
            FENCED => Err(Refusal::Fenced(rest.first().and_then(text).and_then(|epoch| epoch.parse().ok()))),
            MISSING => Err(Refusal::Missing(rest.len())),
            _ => Ok(Self { code, rest }),
        }
    }

    /// Of reservations, in the order in which they were asked for.
    pub fn outcomes(self, commands: &[&Reserve]) -> Result<Vec<Outcome>, PortError> {
        if self.code != OK {
            return Err(self.unexpected());
        }
        if self.rest.len() != commands.len() {
            return Err(unreadable());
        }
        let one = |(value, command): (Value, &&Reserve)| {
            Self::read(value).map_err(|_| unreadable()).and_then(|reply| reply.outcome(command))
        };
        self.rest.into_iter().zip(commands).map(one).collect()
    }

    fn outcome(&self, command: &Reserve) -> Result<Outcome, PortError> {
        // Lines count from 1.
        let line = |number: &Value| {
            let number = usize::try_from(integer(number)?).ok()?;
            command.demand.get(number.checked_sub(1)?).copied()
        };
        match self.code {
            OK => Ok(Outcome::Reserved),
            REUSED => Ok(Outcome::KeyReused),
            REPEATED => self.rest.first().and_then(sale).map(Outcome::Repeated).ok_or_else(unreadable),
            SHORT => {
                let (pairs, _) = self.rest.as_chunks::<2>();
                let shortage = |[number, left]: &[Value; 2]| {
                    let (unit, asked) = line(number)?;
                    Some(Shortage { unit, asked, available: quantity(left)? })
                };
                let all: Option<Vec<_>> = pairs.iter().map(shortage).collect();
                all.map(Outcome::Short).ok_or_else(unreadable)
            }
            INVALID => {
                let unit = self.rest.first().and_then(line);
                unit.map(|(unit, _)| Outcome::Invalid(unit)).ok_or_else(|| self.unexpected())
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Of what either happens or finds nothing to happen to; with the count that came back.
    pub fn done(&self) -> Result<Option<u64>, PortError> {
        match self.code {
            OK => Ok(Some(self.rest.first().and_then(unsigned).unwrap_or_default())),
            NOTHING => Ok(None),
            _ => Err(self.unexpected()),
        }
    }

    /// Of movements: false when one would leave the bounds.
    pub fn moved(&self) -> Result<bool, PortError> {
        match self.code {
            OK => Ok(true),
            OUT_OF_BOUNDS => Ok(false),
            _ => Err(self.unexpected()),
        }
    }

    /// Of reading levels, in the order in which they were asked for.
    pub fn levels(&self) -> Result<Vec<Option<Level>>, PortError> {
        if self.code != OK {
            return Err(self.unexpected());
        }
        let (triples, _) = self.rest.as_chunks::<3>();
        let level = |[there, on_hand, held]: &[Value; 3]| {
            let level = Level { on_hand: quantity(on_hand)?, reserved: quantity(held)? };
            Some((integer(there)? == 1).then_some(level))
        };
        triples.iter().map(level).collect::<Option<_>>().ok_or_else(unreadable)
    }

    /// Of a key.
    pub fn key_use(&self) -> Result<Option<KeyUse>, PortError> {
        match (self.code, &self.rest[..]) {
            (NOTHING, _) => Ok(None),
            (OK, [fingerprint, by]) => {
                let bits = text(fingerprint).and_then(|text| u128::from_str_radix(text, 16).ok());
                let fingerprint = bits.map(|bits| Fingerprint(bits.to_be_bytes()));
                let used = fingerprint.zip(sale(by)).map(|(fingerprint, sale)| KeyUse { fingerprint, sale });
                used.map(Some).ok_or_else(unreadable)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Of the oldest keys: the first one's position and the sales; `None` for a key without one.
    pub fn oldest(&self) -> Result<(u64, Vec<Option<SaleId>>), PortError> {
        match (self.code, self.rest.split_first()) {
            (OK, Some((first, sales))) => {
                let first = unsigned(first).ok_or_else(unreadable)?;
                Ok((first, sales.iter().map(sale).collect()))
            }
            _ => Err(self.unexpected()),
        }
    }

    /// A code that this command should never meet: a fault of this program, not of Redis.
    fn unexpected(&self) -> PortError {
        PortError::Permanent(format!("Redis refused a command as malformed: {} {:?}", self.code, self.rest))
    }
}

fn unreadable() -> PortError {
    Refusal::Unreadable.of(TenantId(Uuid::nil()))
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        other => text(other)?.parse().ok(),
    }
}

fn unsigned(value: &Value) -> Option<u64> {
    integer(value).and_then(|number| number.try_into().ok())
}

fn quantity(value: &Value) -> Option<Quantity> {
    integer(value).and_then(Quantity::from_units)
}

fn sale(value: &Value) -> Option<SaleId> {
    text(value)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{LocationId, UnitId};

    fn read(parts: &[i64]) -> Result<Reply, Refusal> {
        Reply::read(Value::Array(parts.iter().map(|part| Value::Int(*part)).collect()))
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn command() -> Reserve {
        let demand = (1..4).map(|n| (UnitId(Uuid::from_u128(n)), Quantity::from_units(5).unwrap()));
        let (sale, location) = (SaleId(Uuid::from_u128(9)), LocationId(Uuid::from_u128(8)));
        Reserve { sale, location, demand: demand.collect(), keyed: None }
    }

    #[test]
    fn every_code_of_a_reservation_is_understood() {
        let command = command();
        let outcome = |parts: &[i64]| read(parts).unwrap().outcome(&command).unwrap();
        let unit = |n: usize| command.demand[n].0;
        assert_eq!(outcome(&[1]), Outcome::Reserved);
        assert_eq!(outcome(&[-6]), Outcome::KeyReused);
        assert_eq!(outcome(&[-4, 3]), Outcome::Invalid(unit(2)));
        let short = |n: usize, left| Shortage {
            unit: unit(n),
            asked: Quantity::from_units(5).unwrap(),
            available: Quantity::from_units(left).unwrap(),
        };
        assert_eq!(outcome(&[-1, 1, 4, 3, -2]), Outcome::Short(vec![short(0, 4), short(2, -2)]));
        let repeated = Value::Array(vec![Value::Int(-5), bulk(&format!("{:032x}", 9))]);
        let reserved = Value::Array(vec![Value::Int(1)]);
        let both =
            || Reply::read(Value::Array(vec![Value::Int(1), reserved.clone(), repeated.clone()])).unwrap();
        let outcomes = both().outcomes(&[&command, &command]).unwrap();
        assert_eq!(outcomes, [Outcome::Reserved, Outcome::Repeated(command.sale)]);
        assert!(both().outcomes(&[&command]).unwrap_err().is_transient(), "an answer too many");
        assert!(!read(&[-4, 3]).unwrap().outcomes(&[&command]).unwrap_err().is_transient());
    }

    #[test]
    fn what_is_malformed_is_permanent_and_what_is_gone_is_transient() {
        let command = command();
        for parts in [&[-4][..], &[-4, 0], &[-4, 4], &[-4, 99], &[-7, 1], &[0]] {
            let error = read(parts).unwrap().outcome(&command).unwrap_err();
            assert!(!error.is_transient(), "{parts:?}");
        }
        let tenant = TenantId(Uuid::from_u128(1));
        for (parts, word) in [(&[-3, 77][..], "77"), (&[-2, 1, 2], "2 levels"), (&[], "no script")] {
            let parts = parts.iter().map(|part| bulk(&part.to_string())).collect();
            let error = Reply::read(Value::Array(parts)).unwrap_err().of(tenant);
            assert!(error.is_transient() && error.to_string().contains(word), "{error}");
        }
        assert!(matches!(Reply::read(Value::Okay), Err(Refusal::Unreadable)));
        assert!(read(&[-1, 9, 0]).unwrap().outcome(&command).unwrap_err().is_transient());
    }

    #[test]
    fn levels_and_keys_come_back_as_they_were_sent() {
        let levels = read(&[1, 1, 10, 4, 0, 0, 0]).unwrap().levels().unwrap();
        let units =
            |level: &Option<Level>| level.map(|level| (level.on_hand.units(), level.reserved.units()));
        assert_eq!(levels.iter().map(units).collect::<Vec<_>>(), [Some((10, 4)), None]);
        assert!(read(&[1, 1, i64::MAX, 0]).unwrap().levels().is_err());
        let key = Value::Array(vec![Value::Int(1), bulk(&"0d".repeat(16)), bulk(&format!("{:032x}", 9))]);
        let used = KeyUse { fingerprint: Fingerprint([0xd; 16]), sale: command().sale };
        assert_eq!(Reply::read(key).unwrap().key_use().unwrap(), Some(used));
        let oldest = Value::Array(vec![Value::Int(1), Value::Int(4), bulk(""), bulk(&format!("{:032x}", 9))]);
        assert_eq!(Reply::read(oldest).unwrap().oldest().unwrap(), (4, vec![None, Some(command().sale)]));
    }
}
