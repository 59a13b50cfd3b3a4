//! The seller's warehouses. A connection may be bound to one of them (its `place`, a `store_id`): then it reads and writes
//! what is there, and the others stay as they are.
//!
//! What MercadoLibre documents is how stock is read and written. What becomes of a warehouse that a write does not name
//! is not said, so every write names all of them, as they were read, under the version that was read with them.

use super::mapping::{Depot, Depots};
use super::{Endpoint, Meli};
use crate::domain::channel::{Culprit, Refused, Verdict};

fn refused(verdict: Verdict, cause: String) -> Refused {
    Refused { verdict, cause, request: String::new(), response: String::new() }
}

impl Meli {
    /// The warehouse that the connection is bound to, if it is to one.
    pub(super) async fn depot(&mut self) -> Result<Option<Depot>, Refused> {
        let Some(store) = self.store.clone() else { return Ok(None) };
        if self.depot.is_none() {
            let path = format!("/users/{}/stores/search?tags=stock_location", self.seller);
            let (found, _): (Depots, _) = self.get(&path, Endpoint::Reading).await?;
            let Some(depot) = found.results.iter().find(|depot| depot.id == store) else {
                let known: Vec<&str> = found.results.iter().map(|depot| &*depot.id).collect();
                let cause = format!(
                    "the seller has no warehouse {store} with stock (there are: {}): connect again with one of these as \
                     ubicacion_externa, or without",
                    known.join(", ")
                );
                return Err(refused(Verdict::Broken, cause));
            };
            self.depot = Some(depot.clone());
        }
        Ok(self.depot.clone())
    }

    /// Of a seller without warehouses no connection can be bound to one.
    pub(super) fn check_place(&self) -> Result<(), Refused> {
        if self.store.is_some() && self.warehouses == Some(false) {
            let cause = "the seller keeps no stock in warehouses: connect again without ubicacion_externa";
            return Err(refused(Verdict::Broken, cause.into()));
        }
        Ok(())
    }

    /// Items of such a seller have no stock of their own.
    pub(super) fn not_in_a_warehouse(&self, item: &str) -> Refused {
        let message = format!("the stock of {item} is in warehouses: map the unit to UP:... instead");
        let culprit = Culprit { index: Some(0), code: "not_in_warehouse".into(), message: message.clone() };
        Refused { request: item.into(), ..refused(Verdict::Rejected(vec![culprit]), message) }
    }
}
