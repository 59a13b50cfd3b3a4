//! Checkouts that are reserved together, where the hot tier is a round trip away: those that come in while it is asked
//! about others are the next it is asked about.

use super::{Checkout, CheckoutResult, Msg, Reservation};
use crate::actors::kit::{Cx, Fault, Reply};
use crate::domain::reservation::{Outcome, Reserve};
use crate::domain::sale::Sale;

/// A sale that needs nothing but its units.
pub struct Candidate {
    pub checkout: Box<Checkout>,
    pub sale: Sale,
    pub reserve: Reserve,
    pub reply: Reply<CheckoutResult>,
}

impl Candidate {
    /// As it was asked for, to be decided anew.
    pub fn asked(self) -> Msg {
        Msg::Checkout(self.checkout, self.reply)
    }
}

impl Reservation {
    /// Adds to what is asked about together; the mailbox brings the rest of it first.
    pub(super) fn gather(&mut self, candidate: Candidate, cx: &mut Cx<Self>) {
        self.candidates.push(candidate);
        if self.candidates.len() == 1 {
            cx.notify(Msg::Reserve);
        }
    }

    /// Asks about all that have gathered.
    pub(super) async fn reserve(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        if self.lost {
            return Ok(()); // `mend` takes them.
        }
        let candidates = std::mem::take(&mut self.candidates);
        let commands: Vec<_> =
            candidates.iter().map(|candidate| (candidate.checkout.tenant, &candidate.reserve)).collect();
        let outcomes = match self.stock.reserve_all(&commands).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.lose(error)?;
                self.candidates = candidates;
                return Ok(());
            }
        };
        // A repeat finds the sale that it repeats only when that is recorded.
        let (reserved, rest): (Vec<_>, Vec<_>) =
            candidates.into_iter().zip(outcomes).partition(|(_, outcome)| *outcome == Outcome::Reserved);
        for (candidate, outcome) in reserved.into_iter().chain(rest) {
            self.conclude(candidate, outcome, cx)?;
        }
        Ok(())
    }
}
