//! Whose word counts where, and what is too strange to be believed without being asked about.

use super::account::{Account, Held};
use crate::domain::decimal::Quantity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whose word counts at a location.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// The ERP's: what changes there changes here, beside what is sold here.
    #[default]
    Erp,
    /// Blend's: what changes there is reported and moves nothing.
    Blend,
    /// Both sell, and nothing is written back: changes there change here, and the two numbers are expected to differ
    /// by what Blend sells.
    Shared,
}

/// How readings are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whose word counts where nothing else is said.
    pub authority: Authority,
    /// Whose word counts at some branches.
    pub branch_authority: BTreeMap<Arc<str>, Authority>,
    /// The code of the location that a branch is, where it is not the branch's own name.
    pub branches: BTreeMap<Arc<str>, Arc<str>>,
    /// Whether an unknown branch opens a location; otherwise its balances are passed over and reported.
    pub create_locations: bool,
    /// A larger difference is held.
    pub max_jump: Quantity,
    /// As many balances that become zero in one batch are held ...
    pub mass_zero_rows: usize,
    /// ... if they are at least this share of the batch's differences.
    pub mass_zero_percent: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            authority: Authority::Erp,
            branch_authority: BTreeMap::new(),
            branches: BTreeMap::new(),
            create_locations: true,
            max_jump: Quantity::from_whole(10_000).unwrap_or_default(),
            mass_zero_rows: 20,
            mass_zero_percent: 50,
        }
    }
}

impl Rules {
    /// Whose word counts at a branch.
    pub fn authority_at(&self, branch: &str) -> Authority {
        self.branch_authority.get(branch).copied().unwrap_or(self.authority)
    }

    /// Whether so many zeros among so many differences are too many to be an afternoon's sales.
    pub fn is_mass_zero(&self, zeros: usize, differences: usize) -> bool {
        zeros >= self.mass_zero_rows.max(1) && zeros * 100 >= self.mass_zero_percent * differences
    }
}

/// What to move now, and why the rest has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// To be moved.
    pub delta: Quantity,
    /// Why that is not all of it.
    pub held: Option<Held>,
}

/// What the guards say of an account's difference. `fractions` tells whether parts of a piece make sense for the unit,
/// `mass_zero` whether its batch has too many zeros.
pub fn judge(
    account: &Account,
    authority: Authority,
    rules: &Rules,
    fractions: bool,
    mass_zero: bool,
) -> Verdict {
    let (seen, pending) = (account.seen(), account.pending());
    let all = Verdict { delta: pending, held: None };
    let hold = |held| Verdict { delta: Quantity::ZERO, held: Some(held) };
    if pending == Quantity::ZERO {
        return all;
    }
    if authority == Authority::Blend {
        return hold(Held::Drift);
    }
    if pending.is_fractional() && !fractions {
        return hold(Held::Fraction);
    }
    if account.confirmed == Some(seen) {
        return all;
    }
    if account.held == Some(Held::FirstSight) {
        return hold(Held::FirstSight);
    }
    if pending > rules.max_jump || pending < rules.max_jump.negated() {
        return hold(Held::Jump);
    }
    if mass_zero && seen == Quantity::ZERO {
        return hold(Held::MassZero);
    }
    if account.held == Some(Held::MassZero) && seen == Quantity::ZERO {
        return hold(Held::MassZero);
    }
    if seen < Quantity::ZERO {
        // Down to nothing it is only goods that are gone; below that somebody has to say what it means.
        let to_zero =
            if account.applied > Quantity::ZERO { account.applied.negated() } else { Quantity::ZERO };
        return Verdict { delta: to_zero, held: Some(Held::Negative) };
    }
    all
}
