//! Which process looks after a connection or a webhook, where several share what is at rest.

use super::channel::Stored;
use crate::domain::ids::TenantId;
use futures_util::FutureExt as _;
use uuid::Uuid;

/// Claims, each on one thing of a tenant's. Where there can be no other process, all is granted.
///
/// Whoever has a claim writes; what a process writes whose claim was taken over meanwhile is refused, in the transaction
/// of the write itself. So one that was paused and goes on can change nothing that is at rest.
pub trait Leases: Send + Sync {
    /// Whether other processes may write as well.
    fn is_shared(&self) -> bool;

    /// This process looks after these from now on; says which, without those that another does.
    fn claim<'a>(&'a self, wanted: &'a [(TenantId, Uuid)]) -> Stored<'a, Vec<Uuid>>;

    /// The same for one; says whether.
    fn claim_one(&self, tenant: TenantId, id: Uuid) -> Stored<'_, bool> {
        async move { Ok(!self.claim(&[(tenant, id)]).await?.is_empty()) }.boxed()
    }

    /// Goes on with these; says which are somebody else's by now. To be called well within the life of a claim.
    fn hold<'a>(&'a self, held: &'a [(TenantId, Uuid)]) -> Stored<'a, Vec<Uuid>>;

    /// Others may have them at once.
    fn release<'a>(&'a self, held: &'a [(TenantId, Uuid)]) -> Stored<'a, ()>;
}
