//! What was found, and how it is told. Pure: knows no server.

use serde::Serialize;
use std::fmt;

/// How good or bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, and will be regretted.
    Warning,
    /// Does not work, or breaks a promise of Blend's.
    Failed,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What: part and aspect, "redis version".
    pub name: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, never with a secret in it.
    pub found: String,
    /// What to do; none when it is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// The findings of one probe, while it is under way.
pub(super) struct Checks {
    part: &'static str,
    list: Vec<Check>,
}

impl Checks {
    pub(super) const fn new(part: &'static str) -> Self {
        Self { part, list: Vec::new() }
    }

    pub(super) fn ok(&mut self, aspect: &str, found: impl Into<String>) {
        self.push(aspect, Verdict::Ok, found.into(), None);
    }

    pub(super) fn warn(&mut self, aspect: &str, found: impl Into<String>, advice: impl Into<String>) {
        self.push(aspect, Verdict::Warning, found.into(), Some(advice.into()));
    }

    pub(super) fn fail(&mut self, aspect: &str, found: impl Into<String>, advice: impl Into<String>) {
        self.push(aspect, Verdict::Failed, found.into(), Some(advice.into()));
    }

    /// `otherwise` when it is not `fine`, with the advice.
    pub(super) fn judge(
        &mut self,
        aspect: &str,
        found: impl Into<String>,
        fine: bool,
        otherwise: Verdict,
        advice: impl Into<String>,
    ) {
        match fine {
            true => self.ok(aspect, found),
            false => self.push(aspect, otherwise, found.into(), Some(advice.into())),
        }
    }

    fn push(&mut self, aspect: &str, verdict: Verdict, found: String, advice: Option<String>) {
        self.list.push(Check { name: format!("{} {aspect}", self.part), verdict, found, advice });
    }

    pub(super) fn into_list(self) -> Vec<Check> {
        self.list
    }
}

/// All that was found, part by part. Its `Display` is a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing failed.
    pub healthy: bool,
    /// Everything that was looked at.
    pub checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(checks: Vec<Check>) -> Self {
        Self { healthy: checks.iter().all(|check| check.verdict < Verdict::Failed), checks }
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
        for Check { name, verdict, found, advice } in &self.checks {
            writeln!(f, "{:<7}  {name:<width$}  {found}", verdict.name())?;
            if let Some(advice) = advice {
                writeln!(f, "{:<7}  {:<width$}  -> {advice}", "", "")?;
            }
        }
        writeln!(f, "{} failed, {} to look at", self.count(Verdict::Failed), self.count(Verdict::Warning))
    }
}

/// A version by its numbers, as far as they are numbers: "7.0.15" is 7, 0, 15; "3.13.0-rc.1" is 3, 13, 0.
pub(super) fn version(text: &str) -> Vec<u32> {
    let numbers = text.split(['.', '-', '+', ' ', '~']).map_while(|part| part.parse().ok());
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut checks = Checks::new("redis");
        checks.ok("version", "7.0.15");
        checks.judge("persistence", "appendonly no", false, Verdict::Warning, "set appendonly yes");
        checks.judge("role", "master", true, Verdict::Failed, "never said");
        Report::new(checks.into_list())
    }

    #[test]
    fn the_table_has_a_line_each_and_advice_below() {
        let lines = [
            "ok       redis version      7.0.15",
            "warning  redis persistence  appendonly no",
            "                            -> set appendonly yes",
            "ok       redis role         master",
            "0 failed, 1 to look at\n",
        ];
        assert_eq!(report().to_string(), lines.join("\n"));
    }

    #[test]
    fn a_warning_is_healthy_and_a_failure_is_not() {
        let mut report = report();
        assert!(report.healthy);
        report.checks[1].verdict = Verdict::Failed;
        assert!(!Report::new(report.checks).healthy);
        assert!(Report::new(Vec::new()).healthy);
    }

    #[test]
    fn json_names_verdicts_and_leaves_out_advice_that_is_not_there() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["healthy"], true);
        assert_eq!(
            json["checks"][1],
            serde_json::json!({
                "name": "redis persistence", "verdict": "warning", "found": "appendonly no",
                "advice": "set appendonly yes"
            })
        );
        assert!(json["checks"][0].get("advice").is_none());
    }

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(version("7.0.15"), [7, 0, 15]);
        assert_eq!(version("3.13.0-rc.1"), [3, 13, 0]);
        assert!(version("10.0") > version("9.9.9") && version("7.0.0") >= vec![7, 0]);
        assert!(version("unknown").is_empty());
    }
}
