//! Which process looks after a connection or a webhook, where several share what is at rest.

use super::channel::Stored;
use crate::domain::ids::TenantId;
use uuid::Uuid;

/// Claims, each on one thing of a tenant's. Where there can be no other process, all is granted.
///
/// Whoever has a claim writes; what a process writes whose claim was taken over meanwhile is refused, in the transaction
/// of the write itself. So one that was paused and goes on can change nothing that is at rest.
pub trait Leases: Send + Sync {
    /// Whether other processes may write as well.
    fn is_shared(&self) -> bool;

    /// This process looks after it from now on; false while another does.
    fn claim(&self, tenant: TenantId, id: Uuid) -> Stored<'_, bool>;

    /// Goes on with these; says which are somebody else's by now. To be called well within the life of a claim.
    fn hold<'a>(&'a self, held: &'a [(TenantId, Uuid)]) -> Stored<'a, Vec<Uuid>>;

    /// Others may have it at once.
    fn release(&self, tenant: TenantId, id: Uuid) -> Stored<'_, ()>;
}
