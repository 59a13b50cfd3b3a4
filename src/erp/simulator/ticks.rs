//! `datetime`: ticks of 1/300 s since 1900-01-01, in a zone that nobody wrote down.

use time::{Date, Month};

/// Ticks in a day.
pub const DAY: i64 = 300 * 86_400;

/// Days from 1900-01-01 to 1970-01-01.
pub const EPOCH: i64 = 25_567;

/// The day number of 1900-01-01 in the calendar of the library.
const FIRST: i64 = 2_415_021;

/// `CONVERT(varchar(23), datetime, 126)`: milliseconds, and none when there are none.
pub fn text_of(ticks: i64) -> String {
    let (days, rest) = (ticks.div_euclid(DAY), ticks.rem_euclid(DAY));
    let ms = (rest * 10 + 1) / 3;
    let date = Date::from_julian_day(i32::try_from(days + FIRST).unwrap_or(0)).unwrap_or(Date::MIN);
    let (secs, ms) = (ms / 1_000, ms % 1_000);
    let text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        secs / 3_600,
        secs / 60 % 60,
        secs % 60
    );
    if ms == 0 { text } else { format!("{text}.{ms:03}") }
}

/// `CAST(text AS datetime)`: to the nearest tick. What is no moment is the beginning of time.
pub fn ticks_of(text: &str) -> i64 {
    let number = |from: usize, to: usize| text.get(from..to).and_then(|part| part.parse::<i64>().ok());
    let parsed = || {
        let month = Month::try_from(u8::try_from(number(5, 7)?).ok()?).ok()?;
        let date = Date::from_calendar_date(
            i32::try_from(number(0, 4)?).ok()?,
            month,
            u8::try_from(number(8, 10)?).ok()?,
        )
        .ok()?;
        let days = i64::from(date.to_julian_day()) - FIRST;
        let ms = number(11, 13)? * 3_600_000
            + number(14, 16)? * 60_000
            + number(17, 19)? * 1_000
            + number(20, 23).unwrap_or(0);
        Some(days * DAY + (ms * 3 + 5) / 10)
    };
    parsed().unwrap_or(i64::MIN / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of the 300 ticks of a second, and the midnight that follows the last one.
    #[test]
    fn l2_ticks_survive_as_milliseconds() {
        let day = ticks_of("2026-11-27T00:00:00");
        for ticks in (0..600).chain(DAY - 300..DAY + 300) {
            assert_eq!(ticks_of(&text_of(day + ticks)), day + ticks, "{}", text_of(day + ticks));
        }
        let shown: Vec<String> = (1..=3).map(|tick| text_of(day + tick)).collect();
        assert_eq!(shown, ["2026-11-27T00:00:00.003", "2026-11-27T00:00:00.007", "2026-11-27T00:00:00.010"]);
        assert_eq!(ticks_of("1900-01-01T00:00:00"), 0);
        assert_eq!(text_of(EPOCH * DAY), "1970-01-01T00:00:00");
    }
}
