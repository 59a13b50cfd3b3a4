//! What became of the baskets, for people and for programs.

use super::{Rung, feed::Fed};
use crate::{
    domain::decimal::Decimal,
    load::{Report, per_second, thousandths},
};
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

const EXAMPLES: usize = 10;

/// Counts while the replay runs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub sold: u64,
    replayed: u64,
    refused: BTreeMap<String, u64>,
    gave_up: u64,
    gave_up_examples: Vec<String>,
    lines: u64,
    // Sums of a whole year may leave the range of a single amount.
    units: i128,
    total: i128,
}

impl Tally {
    pub fn sold(&mut self, rung: &Rung, total: Decimal<2>, again: bool) {
        self.sold += 1;
        self.replayed += u64::from(again);
        self.lines += rung.lines;
        self.units += i128::from(rung.units.units());
        self.total += i128::from(total.units());
    }

    pub fn refused(&mut self, code: String) {
        *self.refused.entry(code).or_default() += 1;
    }

    pub fn gave_up(&mut self, rung: &Rung, why: &str) {
        self.gave_up += 1;
        if self.gave_up_examples.len() < EXAMPLES {
            self.gave_up_examples.push(format!("basket {}: {why}", rung.basket));
        }
    }

    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    pub fn finished(&self) -> u64 {
        self.sold + self.refusals() + self.gave_up
    }
}

/// The outcome of a replay; its JSON form is part of the command's contract.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Baskets in the file, up to the limit.
    pub baskets: u64,
    /// Baskets sent.
    pub sent: u64,
    /// Baskets answered with 201.
    pub sold: u64,
    /// Those of them that had been sold before, by an earlier attempt or an earlier replay.
    pub replayed: u64,
    /// Baskets refused for good, by status and error code.
    pub refused: BTreeMap<String, u64>,
    /// Baskets without a definite answer.
    pub gave_up: u64,
    /// The first of them.
    pub gave_up_examples: Vec<String>,
    /// Baskets not sent: a sku is not in the catalogue.
    pub unknown_sku: u64,
    /// The first of them.
    pub unknown_sku_examples: Vec<String>,
    /// Baskets not sent: a row is wrong.
    pub bad: u64,
    /// The first of them.
    pub bad_examples: Vec<String>,
    /// Why the file could not be read to its end.
    pub broken_file: Option<String>,
    /// Lines sold.
    pub lines: u64,
    /// Units sold, a decimal.
    pub units: String,
    /// Money taken, a decimal.
    pub total: String,
    /// Repeated attempts by cause.
    pub retries: BTreeMap<&'static str, u64>,
    /// Baskets sent noticeably after their moment.
    pub late: u64,
    /// The worst of those, in microseconds.
    pub worst_lateness_us: u64,
    /// First request to last answer, in milliseconds.
    pub elapsed_ms: u64,
    /// Sales a second.
    pub sales_per_second: u64,
    /// Lines a second.
    pub lines_per_second: u64,
    /// Latency from the intended moment to the definite answer.
    pub latency_us: Latency,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Summary {
    pub(super) fn new(report: Report, tally: Tally, fed: Fed) -> Self {
        let latency = &report.latency;
        Self {
            baskets: fed.baskets,
            sent: report.sent,
            sold: tally.sold,
            replayed: tally.replayed,
            refused: tally.refused,
            gave_up: tally.gave_up,
            gave_up_examples: tally.gave_up_examples,
            unknown_sku: fed.unknown_sku,
            unknown_sku_examples: fed.unknown_examples,
            bad: fed.bad,
            bad_examples: fed.bad_examples,
            broken_file: fed.broken,
            lines: tally.lines,
            units: fixed(tally.units, 3),
            total: fixed(tally.total, 2),
            retries: report.retries,
            late: report.late,
            worst_lateness_us: u64::try_from(report.worst_lateness.as_micros()).unwrap_or(u64::MAX),
            elapsed_ms: u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX),
            sales_per_second: per_second(tally.sold, report.elapsed),
            lines_per_second: per_second(tally.lines, report.elapsed),
            latency_us: Latency {
                p50: latency.per_mille(500),
                p90: latency.per_mille(900),
                p99: latency.per_mille(990),
                p999: latency.per_mille(999),
                max: latency.max(),
            },
        }
    }

    /// Whether the file was read to its end and every basket sent was sold or refused for good.
    pub const fn is_definite(&self) -> bool {
        self.gave_up == 0 && self.broken_file.is_none()
    }
}

/// A sum of smallest units as a decimal text.
fn fixed(units: i128, scale: u32) -> String {
    let one = 10_i128.pow(scale);
    let sign = if units < 0 { "-" } else { "" };
    format!("{sign}{}.{:0width$}", units.abs() / one, units.abs() % one, width = scale as usize)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, examples: &[String], of: u64| {
            examples.iter().try_for_each(|example| writeln!(f, "               {example}"))?;
            if of > examples.len() as u64 { writeln!(f, "               and others") } else { Ok(()) }
        };
        writeln!(f, "baskets        {} in the file, {} sent", self.baskets, self.sent)?;
        writeln!(f, "sold           {}, of which {} had been sold before", self.sold, self.replayed)?;
        writeln!(f, "refused        {}", self.refused.values().sum::<u64>())?;
        for (code, count) in &self.refused {
            writeln!(f, "  {count:>10}   {code}")?;
        }
        writeln!(f, "gave up        {}", self.gave_up)?;
        list(f, &self.gave_up_examples, self.gave_up)?;
        if self.unknown_sku > 0 {
            writeln!(f, "unknown sku    {} baskets not sent", self.unknown_sku)?;
            list(f, &self.unknown_sku_examples, self.unknown_sku)?;
        }
        if self.bad > 0 {
            writeln!(f, "bad rows       {} baskets not sent", self.bad)?;
            list(f, &self.bad_examples, self.bad)?;
        }
        if let Some(error) = &self.broken_file {
            writeln!(f, "file           not read to its end: {error}")?;
        }
        writeln!(f, "lines          {}", self.lines)?;
        writeln!(f, "units          {}", self.units)?;
        writeln!(f, "total          {}", self.total)?;
        for (why, count) in &self.retries {
            writeln!(f, "repeated       {count} times: {why}")?;
        }
        if self.late > 0 {
            writeln!(f, "late           {}, at worst {} ms", self.late, thousandths(self.worst_lateness_us))?;
        }
        writeln!(f, "elapsed        {} s", thousandths(self.elapsed_ms))?;
        writeln!(f, "rate           {} sales/s, {} lines/s", self.sales_per_second, self.lines_per_second)?;
        let Latency { p50, p90, p99, p999, max } = self.latency_us;
        let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max].map(thousandths);
        writeln!(f, "latency (ms)   p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max}")
    }
}

#[cfg(test)]
mod tests {
    use super::fixed;

    #[test]
    fn sums_are_shown_exactly() {
        assert_eq!(fixed(0, 2), "0.00");
        assert_eq!(fixed(-5, 2), "-0.05");
        assert_eq!(fixed(12_345_678_901_234_567_890, 3), "12345678901234567.890");
    }
}
