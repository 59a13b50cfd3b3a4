//! What is decided and on its way to the journal.

use super::voiding::VoidReply;
use super::{Caller, CheckoutResult, Denied, TenantState};
use crate::actors::journal_writer::Verdict;
use crate::actors::kit::Reply;
use crate::domain::erp::Followed;
use crate::domain::event::{Body, Event};
use crate::domain::ids::{EventId, SaleId, TenantId};
use crate::domain::import::ImportCounts;
use crate::domain::tenant::Tenant;
use crate::domain::time::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// An event that has no number yet, and who waits for it.
pub struct Draft {
    pub tenant: TenantId,
    pub at: Timestamp,
    pub caller: Caller,
    pub body: Body,
    pub done: Done,
}

/// A numbered event with the journal.
pub struct Sent {
    pub event: Arc<Event>,
    pub done: Done,
}

/// Numbered events that went to the journal together.
pub struct UnderWay {
    pub number: u64,
    pub sent: Vec<Sent>,
    /// What the journal said, kept until it has spoken about every batch before.
    pub outcome: Option<Verdict>,
}

impl Sent {
    /// Without its number again.
    pub fn taken_back(self) -> Draft {
        let event = Arc::unwrap_or_clone(self.event);
        let caller = Caller { user: event.user, request_id: event.request_id, trace: event.trace };
        Draft { tenant: event.tenant, at: event.at, caller, body: event.body, done: self.done }
    }
}

/// Who waits for an event to be durable.
pub enum Done {
    Sale(Reply<CheckoutResult>),
    Void(VoidReply),
    Tenant(Reply<Result<Tenant, Denied>>, Box<Tenant>),
    Import(Reply<Result<ImportCounts, Denied>>, ImportCounts),
    Delivery(Reply<Result<(), Denied>>),
    /// What was read from an ERP; the holds are what it took.
    Followed {
        reply: Reply<Result<Followed, Denied>>,
        followed: Box<Followed>,
        holds: Vec<SaleId>,
    },
    /// A part of something whose last event carries the reply.
    Part,
}

/// Gives a draft the next number of its tenant.
pub fn number(tenants: &mut HashMap<TenantId, TenantState>, draft: Draft) -> Sent {
    // A tenant that is being created has no state yet: its first event is number 1.
    let sequence = tenants.get_mut(&draft.tenant).map_or(1, |state| {
        state.sequence += 1;
        state.sequence
    });
    let event = Event {
        id: EventId(Uuid::now_v7()),
        tenant: draft.tenant,
        sequence,
        at: draft.at,
        user: draft.caller.user,
        request_id: draft.caller.request_id,
        trace: draft.caller.trace,
        body: draft.body,
    };
    Sent { event: Arc::new(event), done: draft.done }
}
