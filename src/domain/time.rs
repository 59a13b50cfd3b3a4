//! Moments: microseconds since 1970-01-01T00:00:00Z inside, RFC 3339 with `Z` on the wire.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A moment in UTC, in microseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, as tokens count time.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Reads an RFC 3339 text; `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(moment.unix_timestamp_nanos() / 1_000).ok().map(Self)
    }

    /// `2026-11-22T12:34:56.789012Z`. Digit by digit: every event and every answer has one.
    fn bytes(self) -> [u8; 27] {
        let moment = OffsetDateTime::from_unix_timestamp(self.seconds());
        let moment = moment.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (date, time) = (moment.date(), moment.time());
        let mut bytes = *b"0000-00-00T00:00:00.000000Z";
        write(&mut bytes[..4], date.year().unsigned_abs());
        write(&mut bytes[5..7], u8::from(date.month()).into());
        write(&mut bytes[8..10], date.day().into());
        write(&mut bytes[11..13], time.hour().into());
        write(&mut bytes[14..16], time.minute().into());
        write(&mut bytes[17..19], time.second().into());
        // A remainder of a million.
        write(&mut bytes[20..26], self.0.rem_euclid(1_000_000) as u32);
        bytes
    }
}

/// The last digits of a number, as many as there is room for.
fn write(room: &mut [u8], number: u32) {
    let mut rest = number;
    for digit in room.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

fn text(bytes: &[u8; 27]) -> &str {
    // ASCII, see `bytes`.
    std::str::from_utf8(bytes).unwrap_or_default()
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(&self.bytes()))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text(&self.bytes()))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("is not an RFC 3339 moment"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let moment = Timestamp::from_micros(1_767_225_599_000_250);
        assert_eq!(moment.to_string(), "2025-12-31T23:59:59.000250Z");
        assert_eq!(Timestamp::parse("2025-12-31T20:59:59.000250-03:00"), Some(moment));
        assert_eq!(Timestamp::parse("ayer"), None);
        for (micros, shown) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_825_600_000_001, "2000-02-29T12:00:00.000001Z"),
        ] {
            let moment = Timestamp::from_micros(micros);
            assert_eq!(moment.to_string(), shown);
            assert_eq!(serde_json::to_string(&moment).unwrap(), format!("\"{shown}\""));
            assert_eq!(Timestamp::parse(shown), Some(moment));
        }
    }
}
