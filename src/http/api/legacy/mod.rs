//! `/api/v1/sync/legacy`: what agents of an old ERP push, how the pollers stand, and what waits for a decision.

mod held;
mod push;
mod status;

pub use held::{decide, held};
pub use push::push;
pub use status::{run, status};

use super::super::ApiError;
use super::Api;
use super::denied::answered;
use crate::actors::reservation::Caller;
use crate::domain::erp::{Batch, Follow, Followed, Resolution};
use crate::domain::ids::TenantId;
use std::sync::Arc;

/// Messages of one batch, and decisions of one request, at most.
const MOST: usize = 500;

fn read_source(text: &str, field: impl FnOnce() -> String) -> Result<Arc<str>, ApiError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 50 || !text.bytes().all(fine) {
        let rule = "Debe tener entre 1 y 50 letras, dígitos, puntos, guiones o guiones bajos";
        return Err(ApiError::field(field(), "formato", rule));
    }
    Ok(text.into())
}

async fn follow(
    api: &Api,
    tenant: TenantId,
    caller: Caller,
    source: Arc<str>,
    batch: Batch,
    resolutions: Vec<Resolution>,
) -> Result<Followed, ApiError> {
    let rules = api.pollers.rules(tenant, &source);
    answered(api.shards.follow(tenant, Follow { source, rules, batch, resolutions }, caller).await)
}
