//! Zeros that nobody sold: an import that went wrong, an ERP that answered nothing. Taking a whole catalogue off a
//! marketplace by mistake costs its listings their rank, so it is asked about first.

use serde::{Deserialize, Serialize};

/// When zeros are suspicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// So many at once, at least,
    #[serde(rename = "unidades")]
    pub units: usize,
    /// and so many of a hundred units of the connection.
    #[serde(rename = "porcentaje")]
    pub percent: usize,
}

impl Default for Guard {
    /// Ten units and a fifth of all.
    fn default() -> Self {
        Self { units: 10, percent: 20 }
    }
}

impl Guard {
    /// Whether so many units that drop to nothing at once, none of them by sales, out of so many in all are suspicious.
    pub const fn is_suspicious(self, unexplained: usize, of: usize) -> bool {
        unexplained >= self.units && unexplained.saturating_mul(100) >= of.saturating_mul(self.percent)
    }
}

#[test]
fn many_at_once_are_suspicious_and_few_or_a_small_part_are_not() {
    let guard = Guard::default();
    for (unexplained, of, expected) in
        [(9, 9, false), (10, 10, true), (10, 50, true), (10, 51, false), (500, 500, true), (0, 0, false)]
    {
        assert_eq!(guard.is_suspicious(unexplained, of), expected, "{unexplained} of {of}");
    }
}
