//! A ledger reader behind a circuit breaker: while the database is away, whoever asks is told at once.

use crate::domain::event::Event;
use crate::domain::ids::{SaleId, TenantId};
use crate::ports::PortError;
use crate::ports::ledger::{KeyCursor, KeyPage, LedgerReader, StoredSale, TenantSnapshot};
use crate::resilience::circuit_breaker::CircuitBreaker;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// The reader and its breaker.
pub struct GuardedReader {
    inner: Arc<dyn LedgerReader>,
    breaker: Arc<CircuitBreaker>,
}

impl GuardedReader {
    /// Around any reader.
    pub fn new(inner: Arc<dyn LedgerReader>, breaker: Arc<CircuitBreaker>) -> Self {
        Self { inner, breaker }
    }

    async fn guard<T>(&self, call: BoxFuture<'_, Result<T, PortError>>) -> Result<T, PortError> {
        let permit = self.breaker.enter().map_err(|left| {
            let seconds = left.as_secs().max(1);
            PortError::Transient(format!("the ledger is not asked for {seconds} s, it failed too often"))
        })?;
        let answer = call.await;
        if !matches!(answer, Err(PortError::Transient(_))) {
            permit.worked();
        }
        answer
    }
}

impl LedgerReader for GuardedReader {
    /// Not guarded: a shard that rebuilds has to wait for the ledger anyway, with a back-off of its own.
    fn snapshots(
        &self,
        shard: usize,
        shards: usize,
    ) -> BoxFuture<'_, Result<Vec<TenantSnapshot>, PortError>> {
        self.inner.snapshots(shard, shards)
    }

    /// Nor this, for the same reason.
    fn given_up(&self, shard: usize, shards: usize) -> BoxFuture<'_, Result<Vec<Arc<Event>>, PortError>> {
        self.inner.given_up(shard, shards)
    }

    fn sale(&self, tenant: TenantId, id: SaleId) -> BoxFuture<'_, Result<Option<StoredSale>, PortError>> {
        self.guard(self.inner.sale(tenant, id)).boxed()
    }

    fn sale_by_key<'a>(
        &'a self,
        tenant: TenantId,
        indexed: i64,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<StoredSale>, PortError>> {
        self.guard(self.inner.sale_by_key(tenant, indexed, key)).boxed()
    }

    fn key_hashes(
        &self,
        after: Option<KeyCursor>,
        limit: usize,
    ) -> BoxFuture<'_, Result<KeyPage, PortError>> {
        self.inner.key_hashes(after, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilience::circuit_breaker::{BreakerPolicy, BreakerState};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;
    use uuid::Uuid;

    /// Away until it has been asked so often.
    struct Away(AtomicU32);

    impl LedgerReader for Away {
        fn snapshots(&self, _: usize, _: usize) -> BoxFuture<'_, Result<Vec<TenantSnapshot>, PortError>> {
            async { Ok(Vec::new()) }.boxed()
        }
        fn given_up(&self, _: usize, _: usize) -> BoxFuture<'_, Result<Vec<Arc<Event>>, PortError>> {
            async { Ok(Vec::new()) }.boxed()
        }
        fn sale(&self, _: TenantId, _: SaleId) -> BoxFuture<'_, Result<Option<StoredSale>, PortError>> {
            async {
                match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
                    Ok(_) => Err(PortError::Transient("away".into())),
                    Err(_) => Ok(None),
                }
            }
            .boxed()
        }
        fn sale_by_key<'a>(
            &'a self,
            _: TenantId,
            _: i64,
            _: &'a str,
        ) -> BoxFuture<'a, Result<Option<StoredSale>, PortError>> {
            async { Err(PortError::Permanent("a refusal".into())) }.boxed()
        }
        fn key_hashes(&self, _: Option<KeyCursor>, _: usize) -> BoxFuture<'_, Result<KeyPage, PortError>> {
            async { Ok(KeyPage::default()) }.boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ledger_that_is_away_is_not_asked_for_a_while_and_then_again() {
        let policy = BreakerPolicy { failures: 2, pause: Duration::from_secs(5) };
        let breaker = Arc::new(CircuitBreaker::new("test", policy));
        let inner = Arc::new(Away(AtomicU32::new(2)));
        let reader = GuardedReader::new(inner.clone(), breaker.clone());
        let (tenant, sale) = (TenantId(Uuid::from_u128(1)), SaleId(Uuid::from_u128(2)));
        for _ in 0..2 {
            assert!(reader.sale(tenant, sale).await.unwrap_err().to_string().contains("away"));
        }
        // It would be answered by now, but nobody asks.
        let error = reader.sale(tenant, sale).await.unwrap_err();
        assert!(error.is_transient() && error.to_string().contains("5 s"), "{error}");
        assert!(reader.snapshots(0, 1).await.is_ok());
        tokio::time::advance(policy.pause).await;
        assert_eq!(reader.sale(tenant, sale).await.unwrap(), None);
        // Refusals are answers.
        for _ in 0..3 {
            assert!(reader.sale_by_key(tenant, 1, "k").await.is_err());
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
