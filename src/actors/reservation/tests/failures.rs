//! What may go wrong between a decision and its answer.

use super::*;
use crate::domain::idempotency::KeyHash;
use crate::domain::reservation::{KeyUse, Outcome, Reserve};
use crate::domain::stock::{Level, Place as StockPlace};
use crate::ports::PortError;
use crate::ports::stock::Answer;
use crate::stock::memory::MemoryStock;
use futures_util::FutureExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn an_append_that_failed_for_certain_is_undone_entirely() {
    on_system(async {
        let mut shop = Shop::new(2);
        let world = World::with(shop.opened(10));
        for fate in [Fate::NotDurable, Fate::Full] {
            world.bus.next(&[fate]);
            let failed = append_error(world.sell(&shop, &[(0, 4), (1, 10)], Some("k")).await);
            assert!(!matches!(failed, AppendError::InDoubt(_)), "{failed}");
            assert_eq!(world.on_hand(&shop).await, [10, 10]);
        }
        // Key free, units back, numbers not burned.
        let retried = world.sell(&shop, &[(0, 10), (1, 10)], Some("k")).await.unwrap();
        assert!(!retried.replayed);
        assert_eq!(world.bus.sales()[0].sequence, 4);
        world.history_is_sound();
        assert_eq!(world.registry.find("reservation-0").unwrap().restarts, 0);
    });
}

#[test]
fn a_failed_batch_takes_all_its_sales_back_and_the_batches_behind_it_go_out_again() {
    on_system(async {
        let (mut shop, mut other) = (Shop::new(1), Shop::new(1));
        let mut events = shop.opened(20);
        events.extend(other.opened(10));
        let world = World::with(events);
        world.on_hand(&shop).await;
        world.bus.next(&[Fate::NotDurable]);
        world.bus.hold();
        let spawn = |shop: &Shop, count, key: &str| {
            actix_rt::spawn(world.shards.clone().checkout_owned(ask(shop, &[(0, count)], Some(key))))
        };
        let first = [spawn(&shop, 2, "a"), spawn(&other, 2, "a"), spawn(&shop, 3, "b")];
        world.bus.begun(1).await;
        let repeated = spawn(&shop, 2, "a");
        let mut behind = Vec::new();
        // One batch each, of which as many as allowed go to the journal writer and the rest stays.
        for sent in 1..=UNDER_WAY + 1 {
            behind.push(spawn(&shop, 1, &format!("c{sent}")));
            let at_the_writer = 1 + sent.min(UNDER_WAY - 1);
            until(|| world.shards.handles()[0].depth() == 4 + sent).await;
            until(|| world.registry.find("journal").unwrap().mailbox_depth == at_the_writer).await;
        }
        world.bus.release();
        for answer in first.into_iter().chain([repeated]) {
            let error = append_error(answer.await.unwrap().unwrap());
            assert!(matches!(error, AppendError::NotDurable(_)), "{error}");
        }
        // Those behind it were not tried: they go out again, in their order.
        for answer in behind {
            assert!(answer.await.unwrap().unwrap().is_ok());
        }
        let keys = world.bus.sales().iter().map(|event| key_of(event)).collect::<Vec<_>>();
        let expected: Vec<String> = (1..=UNDER_WAY + 1).map(|sent| format!("c{sent}")).collect();
        assert_eq!(keys, expected);
        let left = 20 - i64::try_from(expected.len()).unwrap();
        assert_eq!((world.on_hand(&shop).await, world.on_hand(&other).await), (vec![left], vec![10]));
        assert!(world.sell(&shop, &[(0, 1)], Some("c1")).await.is_ok_and(|sold| sold.replayed));
        world.history_is_sound();
    });
}

fn key_of(event: &Event) -> String {
    match &event.body {
        Body::SaleCreated { keyed: Some((key, _)), .. } => key.as_str().to_owned(),
        other => panic!("no sale with a key: {other:?}"),
    }
}

/// What must hold whenever nobody knows whether a sale was recorded: its key tells.
async fn the_key_tells(world: &World, shop: &Shop, durable: bool) {
    let again = world.sell(shop, &[(0, 4)], Some("k")).await.unwrap();
    assert_eq!(again.replayed, durable);
    assert_eq!(world.on_hand(shop).await, [6]);
    assert_eq!(world.bus.sales().iter().map(|event| sale_of(event).id).collect::<Vec<_>>(), [id_of(&again)]);
    // And it goes on: exactly the rest is for sale.
    assert!(world.sell(shop, &[(0, 6)], None).await.is_ok());
    assert!(matches!(world.sell(shop, &[(0, 1)], None).await, Err(Denied::Short(_))));
    world.history_is_sound();
}

#[test]
fn a_sale_that_takes_too_long_is_answered_as_unknown_and_its_key_tells_later() {
    in_virtual_time(async {
        let mut shop = Shop::new(1);
        let world = World::with(shop.opened(10));
        world.on_hand(&shop).await;
        world.bus.hold();
        let answer = world.shards.checkout(ask(&shop, &[(0, 4)], Some("k"))).await;
        assert!(matches!(answer, Err(AskError::TimedOut)), "{answer:?}");
        world.bus.release();
        the_key_tells(&world, &shop, true).await;
    });
}

#[test]
fn an_append_in_doubt_is_settled_by_what_turns_out_durable() {
    for durable in [true, false] {
        on_system(async move {
            let mut shop = Shop::new(1);
            let world = World::with(shop.opened(10));
            world.bus.next(&[Fate::InDoubt { durable }]);
            let error = append_error(world.sell(&shop, &[(0, 4)], Some("k")).await);
            assert!(matches!(error, AppendError::InDoubt(_)), "{error}");
            the_key_tells(&world, &shop, durable).await;
            assert_eq!(world.registry.find("journal").unwrap().restarts, 1);
        });
    }
}

#[test]
fn a_journal_writer_that_panics_in_a_commit_leaves_the_sale_in_doubt() {
    for durable in [true, false] {
        on_system(async move {
            let mut shop = Shop::new(1);
            let world = World::with(shop.opened(10));
            world.bus.next(&[Fate::Panic { durable }]);
            let error = append_error(world.sell(&shop, &[(0, 4)], Some("k")).await);
            assert!(matches!(error, AppendError::InDoubt(_)), "{error}");
            the_key_tells(&world, &shop, durable).await;
        });
    }
}

#[test]
fn a_shard_that_panics_while_a_batch_is_with_the_journal_finds_it_again() {
    for fate in [None, Some(Fate::NotDurable)] {
        on_system(async move {
            let mut shop = Shop::new(1);
            let trap = Arc::new(AtomicBool::new(false));
            let set = trap.clone();
            let bus = FakeBus::with(shop.opened(10));
            let stock: MakeStock = Arc::new(move || Box::new(Trapped(MemoryStock::new(9), set.clone())));
            let world = World::over(bus, FakeLedger::default(), stock);
            world.on_hand(&shop).await;
            world.bus.hold();
            world.bus.next(fate.as_slice());
            let sale = actix_rt::spawn(world.shards.clone().checkout_owned(ask(&shop, &[(0, 4)], Some("k"))));
            world.bus.begun(1).await;
            trap.store(true, Ordering::Relaxed);
            let asked = world.shards.stock(shop.id(), shop.units[0].id.0).await;
            assert!(matches!(asked, Err(AskError::Crashed)), "{asked:?}");
            assert!(matches!(sale.await.unwrap(), Err(AskError::Crashed)));
            // The rebuild waits for the journal's word about the batch before it looks.
            until(|| world.registry.find("reservation-0").is_some_and(|shard| shard.incarnation == 2)).await;
            world.bus.release();
            the_key_tells(&world, &shop, fate.is_none()).await;
        });
    }
}

/// Stock that panics once when it is looked at.
struct Trapped(MemoryStock, Arc<AtomicBool>);

impl HotStock for Trapped {
    fn load(&mut self, tenant: TenantId, levels: Vec<(StockPlace, Quantity)>) -> Answer<'_, ()> {
        self.0.load(tenant, levels)
    }
    fn reserve<'a>(&'a mut self, tenant: TenantId, command: &'a Reserve) -> Answer<'a, Outcome> {
        self.0.reserve(tenant, command)
    }
    fn settle<'a>(&'a mut self, sales: &'a [(TenantId, SaleId)]) -> Answer<'a, usize> {
        self.0.settle(sales)
    }
    fn void(&mut self, tenant: TenantId, sale: SaleId) -> Answer<'_, bool> {
        self.0.void(tenant, sale)
    }
    fn moved<'a>(
        &'a mut self,
        tenant: TenantId,
        movements: &'a [(StockPlace, Quantity)],
    ) -> Answer<'a, bool> {
        self.0.moved(tenant, movements)
    }
    fn check(&self, tenant: TenantId, place: StockPlace) -> Answer<'_, Option<Level>> {
        assert!(!self.1.swap(false, Ordering::Relaxed), "the trap is sprung");
        self.0.check(tenant, place)
    }
    fn levels(&self, tenant: TenantId) -> Answer<'_, Vec<(StockPlace, Level)>> {
        self.0.levels(tenant)
    }
    fn key_use(&self, tenant: TenantId, key: KeyHash) -> Answer<'_, Option<KeyUse>> {
        self.0.key_use(tenant, key)
    }
    fn remember_key(&mut self, tenant: TenantId, key: KeyHash, used: KeyUse) -> Answer<'_, ()> {
        self.0.remember_key(tenant, key, used)
    }
    fn forget_keys<'a>(
        &'a mut self,
        tenant: TenantId,
        in_ledger: &'a dyn Fn(SaleId) -> bool,
    ) -> Answer<'a, ()> {
        self.0.forget_keys(tenant, in_ledger)
    }
}

/// Stock that is gone, for whatever is asked of it, until it is loaded again.
struct Fading(MemoryStock, Arc<AtomicBool>);

impl Fading {
    fn check(&self) -> Result<(), PortError> {
        match self.1.load(Ordering::Relaxed) {
            true => Err(PortError::Transient("the hot tier is gone".into())),
            false => Ok(()),
        }
    }
}

macro_rules! fading {
    ($self:ident, $call:expr) => {{
        if let Err(error) = $self.check() {
            return std::future::ready(Err(error)).boxed_local();
        }
        $call
    }};
}

impl HotStock for Fading {
    fn load(&mut self, tenant: TenantId, levels: Vec<(StockPlace, Quantity)>) -> Answer<'_, ()> {
        self.1.store(false, Ordering::Relaxed);
        self.0.load(tenant, levels)
    }
    fn reserve<'a>(&'a mut self, tenant: TenantId, command: &'a Reserve) -> Answer<'a, Outcome> {
        fading!(self, self.0.reserve(tenant, command))
    }
    fn settle<'a>(&'a mut self, sales: &'a [(TenantId, SaleId)]) -> Answer<'a, usize> {
        fading!(self, self.0.settle(sales))
    }
    fn void(&mut self, tenant: TenantId, sale: SaleId) -> Answer<'_, bool> {
        fading!(self, self.0.void(tenant, sale))
    }
    fn moved<'a>(
        &'a mut self,
        tenant: TenantId,
        movements: &'a [(StockPlace, Quantity)],
    ) -> Answer<'a, bool> {
        fading!(self, self.0.moved(tenant, movements))
    }
    fn check(&self, tenant: TenantId, place: StockPlace) -> Answer<'_, Option<Level>> {
        fading!(self, self.0.check(tenant, place))
    }
    fn levels(&self, tenant: TenantId) -> Answer<'_, Vec<(StockPlace, Level)>> {
        fading!(self, self.0.levels(tenant))
    }
    fn key_use(&self, tenant: TenantId, key: KeyHash) -> Answer<'_, Option<KeyUse>> {
        fading!(self, self.0.key_use(tenant, key))
    }
    fn remember_key(&mut self, tenant: TenantId, key: KeyHash, used: KeyUse) -> Answer<'_, ()> {
        fading!(self, self.0.remember_key(tenant, key, used))
    }
    fn forget_keys<'a>(
        &'a mut self,
        tenant: TenantId,
        in_ledger: &'a dyn Fn(SaleId) -> bool,
    ) -> Answer<'a, ()> {
        fading!(self, self.0.forget_keys(tenant, in_ledger))
    }
}

struct FadingWorld {
    world: World,
    gone: Arc<AtomicBool>,
}

impl FadingWorld {
    fn with(durable: Vec<Arc<Event>>) -> Self {
        let gone = Arc::new(AtomicBool::new(false));
        let set = gone.clone();
        let stock: MakeStock = Arc::new(move || Box::new(Fading(MemoryStock::new(9), set.clone())));
        Self { world: World::over(FakeBus::with(durable), FakeLedger::default(), stock), gone }
    }

    fn lose(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    fn never_restarted(&self) {
        assert_eq!(self.world.registry.find("reservation-0").unwrap().restarts, 0);
        self.world.history_is_sound();
    }
}

#[test]
fn a_hot_tier_that_is_lost_is_rebuilt_while_callers_wait() {
    on_system(async {
        let mut shop = Shop::new(2);
        let fading = FadingWorld::with(shop.opened(10));
        let world = &fading.world;
        // Whatever meets the loss first.
        fading.lose();
        assert!(!world.sell(&shop, &[(0, 4)], Some("k")).await.unwrap().replayed);
        fading.lose();
        assert!(world.sell(&shop, &[(0, 4)], Some("k")).await.unwrap().replayed);
        fading.lose();
        assert_eq!(world.on_hand(&shop).await, [6, 10]);
        fading.lose();
        let unit = world.shards.stock(shop.id(), shop.units[0].id.0).await.unwrap().unwrap().unwrap();
        assert_eq!(unit.places[0].1, whole(6));
        fading.lose();
        assert!(matches!(world.sell(&shop, &[(0, 7)], None).await, Err(Denied::Short(_))));
        fading.never_restarted();
    });
}

#[test]
fn what_is_under_way_when_the_hot_tier_is_lost_is_answered_and_counted() {
    for fate in [None, Some(Fate::NotDurable)] {
        on_system(async move {
            let mut shop = Shop::new(1);
            let fading = FadingWorld::with(shop.opened(10));
            let world = &fading.world;
            world.on_hand(&shop).await;
            world.bus.hold();
            world.bus.next(fate.as_slice());
            let sell = |count, key: &str| {
                actix_rt::spawn(world.shards.clone().checkout_owned(ask(&shop, &[(0, count)], Some(key))))
            };
            let first = sell(4, "a");
            world.bus.begun(1).await;
            fading.lose();
            let second = sell(6, "b");
            until(|| world.shards.handles()[0].depth() == 2).await;
            world.bus.release();
            let sold = first.await.unwrap().unwrap();
            assert_eq!(sold.is_ok(), fate.is_none());
            assert!(second.await.unwrap().unwrap().is_ok());
            let left = if fate.is_none() { 0 } else { 4 };
            assert_eq!(world.on_hand(&shop).await, [left]);
            fading.never_restarted();
        });
    }
}

#[test]
fn a_warm_up_rebuilds_and_is_answered_when_it_is_done() {
    on_system(async {
        let mut shop = Shop::new(1);
        let fading = FadingWorld::with(shop.opened(10));
        assert!(fading.world.sell(&shop, &[(0, 3)], None).await.is_ok());
        fading.lose();
        assert_eq!(fading.world.shards.warm_up(shop.id()).await.unwrap().unwrap(), 1);
        assert!(matches!(
            fading.world.shards.warm_up(Shop::new(0).id()).await,
            Ok(Err(Denied::UnknownTenant))
        ));
        assert!(!fading.gone.load(Ordering::Relaxed), "it was loaded");
        assert_eq!(fading.world.on_hand(&shop).await, [7]);
        fading.never_restarted();
    });
}

#[test]
fn a_key_that_another_node_used_is_known_after_the_hot_tier_was_rebuilt() {
    on_system(async {
        let mut shop = Shop::new(1);
        let mut other = Shop::new(1);
        let fading = FadingWorld::with(shop.opened(10));
        let world = &fading.world;
        // The filter is full: a key that it does not have is taken for new.
        let complete =
            || world.registry.find("reservation-0").unwrap().observed["key_filter_complete"] == true;
        world.on_hand(&shop).await;
        until(complete).await;
        // The log is lost, another node sells under the key, and the log is ours again.
        world.bus.next(&[Fate::InDoubt { durable: false }]);
        assert!(world.journal.lane(1).append(other.opened(1)).await.is_err());
        assert_eq!(world.journal.barrier().await, Ok(2));
        let theirs = shop.sold_at(0, &[(0, 4)], Some("k"));
        assert_eq!(world.journal.lane(2).append(vec![theirs]).await, Ok(()));
        world.catch_up();
        fading.lose();
        let again = world.sell(&shop, &[(0, 4)], Some("k")).await;
        assert!(!again.is_ok_and(|sold| !sold.replayed), "it was sold twice");
        assert_eq!(world.on_hand(&shop).await, [6]);
        fading.never_restarted();
    });
}
