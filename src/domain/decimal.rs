//! Fixed-point decimals: the one place where a decimal text becomes an integer and back.
//!
//! `Decimal<2>` is money in centavos, `Decimal<3>` a quantity in thousandths. The text is read digit by digit, so
//! no binary float is ever involved: `0.1` is exactly 1/10, and `1e400` is a clear error instead of infinity.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;
use std::fmt;

/// Money: integer centavos; two places on the wire.
pub type Money = Decimal<2>;

/// A quantity: integer thousandths; up to three places on the wire.
pub type Quantity = Decimal<3>;

/// Largest magnitude a decimal may have, in its smallest unit: 2^53 - 1, so that every JSON reader in the world and
/// every Lua number can hold it exactly.
pub const MAX_UNITS: i64 = (1 << 53) - 1;

/// Why a text is not an acceptable decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not of the form `-?digits[.digits][e[+-]digits]`.
    #[error("is not a decimal number")]
    Malformed,
    /// More decimal places than the scale keeps (trailing zeros are free).
    #[error("has more decimal places than allowed")]
    TooPrecise,
    /// Magnitude above [`MAX_UNITS`].
    #[error("is out of range")]
    OutOfRange,
}

/// A decimal kept as an integer count of `10^-SCALE`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal<const SCALE: u32>(i64);

impl<const SCALE: u32> Decimal<SCALE> {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// How many smallest units make one whole.
    pub const ONE: i64 = 10_i64.pow(SCALE);

    /// From a count of smallest units; `None` beyond [`MAX_UNITS`].
    pub const fn from_units(units: i64) -> Option<Self> {
        if units > MAX_UNITS || units < -MAX_UNITS { None } else { Some(Self(units)) }
    }

    /// From a count of wholes; `None` beyond [`MAX_UNITS`].
    pub const fn from_whole(whole: i64) -> Option<Self> {
        match whole.checked_mul(Self::ONE) {
            Some(units) => Self::from_units(units),
            None => None,
        }
    }

    /// The count of smallest units.
    pub const fn units(self) -> i64 {
        self.0
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether there is a fractional part.
    pub const fn is_fractional(self) -> bool {
        self.0 % Self::ONE != 0
    }

    /// Sum; `None` beyond [`MAX_UNITS`].
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        // Both are within 2^53, so the plain sum cannot overflow an i64.
        Self::from_units(self.0 + other.0)
    }

    /// Difference; `None` beyond [`MAX_UNITS`].
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        Self::from_units(self.0 - other.0)
    }

    /// The negative.
    pub const fn negated(self) -> Self {
        Self(-self.0)
    }

    /// Reads `-?digits[.digits][e[+-]digits]`, the JSON number grammar with leading zeros tolerated.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        let bytes = text.as_bytes();
        let (negative, bytes) = match bytes.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, bytes),
        };
        let exponent_at = bytes.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(bytes.len());
        let (mantissa, exponent) = bytes.split_at(exponent_at);
        let exponent = parse_exponent(exponent)?;
        let point = mantissa.iter().position(|b| *b == b'.').unwrap_or(mantissa.len());
        let (whole, fraction) = (&mantissa[..point], mantissa.get(point + 1..).unwrap_or(&[]));
        let ends_in_point = point + 1 == mantissa.len();
        let digits = || whole.iter().chain(fraction);
        if whole.is_empty() || ends_in_point || !digits().all(u8::is_ascii_digit) {
            return Err(DecimalError::Malformed);
        }
        // The value is (all digits) x 10^shift smallest units.
        let shift = exponent + i64::from(SCALE) - fraction.len() as i64;
        let mut units: i64 = 0;
        let mut dropped = if shift < 0 { digits().count() as i64 + shift } else { i64::MAX };
        for digit in digits() {
            let digit = i64::from(digit - b'0');
            if dropped > 0 {
                units = units * 10 + digit;
                if units > MAX_UNITS {
                    return Err(DecimalError::OutOfRange);
                }
            } else if digit != 0 {
                return Err(DecimalError::TooPrecise);
            }
            dropped = dropped.saturating_sub(1);
        }
        for _ in 0..shift.max(0) {
            if units == 0 {
                break;
            }
            units *= 10;
            if units > MAX_UNITS {
                return Err(DecimalError::OutOfRange);
            }
        }
        Ok(Self(if negative { -units } else { units }))
    }
}

fn parse_exponent(text: &[u8]) -> Result<i64, DecimalError> {
    let Some((_, text)) = text.split_first() else { return Ok(0) };
    let (sign, digits) = match text.split_first() {
        Some((b'-', rest)) => (-1, rest),
        Some((b'+', rest)) => (1, rest),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(DecimalError::Malformed);
    }
    // Past a thousand every exponent means the same (nothing or too much), so the digits may saturate.
    let magnitude = digits.iter().fold(0_i64, |acc, d| (acc * 10 + i64::from(d - b'0')).min(1_000));
    Ok(sign * magnitude)
}

impl<const SCALE: u32> fmt::Display for Decimal<SCALE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Text::new(self.0, SCALE).as_str())
    }
}

impl<const SCALE: u32> fmt::Debug for Decimal<SCALE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A JSON number: money always with its two places, quantities without trailing zeros.
impl<const SCALE: u32> Serialize for Decimal<SCALE> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if SCALE != 2 && !self.is_fractional() {
            return serializer.serialize_i64(self.0 / Self::ONE);
        }
        let text = Text::new(self.0, SCALE);
        let mut text = text.as_str();
        if SCALE != 2 {
            text = text.trim_end_matches('0');
        }
        serde_json::from_str::<&RawValue>(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// From a JSON number, or from a string that holds one (for clients whose JSON library only knows floats).
impl<'de, const SCALE: u32> Deserialize<'de> for Decimal<SCALE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let text = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
        Self::parse(text).map_err(de::Error::custom)
    }
}

/// A decimal's text, written from its last digit on: the formatter would cost a sale more than its prices do.
struct Text {
    bytes: [u8; 32],
    start: usize,
}

impl Text {
    /// All of an i64, sign, point and leading zeros fit: 19 digits, or `scale` + 1 of them.
    fn new(units: i64, scale: u32) -> Self {
        let mut text = Self { bytes: [b'0'; 32], start: 32 };
        let mut rest = units.unsigned_abs();
        for place in 0.. {
            if place == scale && scale > 0 {
                text.push(b'.');
            }
            // The digit of a remainder of ten fits in a byte.
            text.push(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 && place >= scale {
                break;
            }
        }
        if units < 0 {
            text.push(b'-');
        }
        text
    }

    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[self.start] = byte;
    }

    fn as_str(&self) -> &str {
        // Only digits, a point and a sign were pushed.
        std::str::from_utf8(&self.bytes[self.start..]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type D3 = Decimal<3>;

    #[test]
    fn reads_what_is_exact_and_names_what_is_not() {
        let ok = [("0", 0), ("1", 1000), ("1.5", 1500), ("-0.001", -1), ("1.2500", 1250), ("1e0", 1000)];
        for (text, units) in
            ok.into_iter().chain([("2E+2", 200_000), ("15e-1", 1500), ("0e999", 0), ("007", 7000)])
        {
            assert_eq!(D3::parse(text).map(D3::units), Ok(units), "{text}");
        }
        for text in
            ["", "-", ".5", "1.", "1.2.3", "NaN", "inf", "1e", "1e+", "0x10", "1_000", " 1", "+1", "--1"]
        {
            assert_eq!(D3::parse(text), Err(DecimalError::Malformed), "{text}");
        }
        for text in ["0.0001", "1.2345", "1e-4"] {
            assert_eq!(D3::parse(text), Err(DecimalError::TooPrecise), "{text}");
        }
        for text in ["1e400", "9007199254741", "99999999999999999999999999", "-1e30"] {
            assert_eq!(D3::parse(text), Err(DecimalError::OutOfRange), "{text}");
        }
    }

    #[test]
    fn wire_form_is_an_exact_number() {
        let money = Money::parse("1234.5").unwrap();
        assert_eq!(serde_json::to_string(&money).unwrap(), "1234.50");
        let quantity = |text| serde_json::to_string(&Quantity::parse(text).unwrap()).unwrap();
        assert_eq!(
            (quantity("10"), quantity("0.350"), quantity("0")),
            ("10".into(), "0.35".into(), "0".into())
        );
        assert_eq!((quantity("-0.5"), quantity("-7")), ("-0.5".into(), "-7".into()));
        let shown = |units| Money::from_units(units).unwrap().to_string();
        assert_eq!(
            [0, 7, -7, 100, -12_345, MAX_UNITS].map(shown),
            ["0.00", "0.07", "-0.07", "1.00", "-123.45", "90071992547409.91"]
        );
        assert_eq!(serde_json::from_str::<Money>("\"0.10\"").unwrap().units(), 10);
        assert!(serde_json::from_str::<Money>("[1]").is_err());
        assert!(serde_json::from_str::<Money>("null").is_err());
    }

    proptest! {
        #[test]
        fn text_and_back_is_the_same(units in -MAX_UNITS..=MAX_UNITS) {
            let value = D3::from_units(units).unwrap();
            prop_assert_eq!(D3::parse(&value.to_string()), Ok(value));
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<D3>(&json).unwrap(), value);
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "[-+0-9.eE]{0,24}") {
            let _unused = D3::parse(&text);
        }
    }
}
