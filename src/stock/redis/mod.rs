//! The hot tier in Redis 7: one server or a cluster, Lua scripts, keys that begin with `stock:{tenant}`.
//!
//! Each command is one script (`src/lua/`) and one round trip, and so are all sales that come in meanwhile. A sale of one
//! unit is `multi_reserve.lua` with one place: there is no second script that could decide otherwise.
//!
//! Redis may lose anything at any moment, and what it lost must read neither as zero nor as full:
//!
//! | what happens | what stops the next command |
//! |---|---|
//! | flushed, or the tenant's book evicted | no epoch in the book: fenced |
//! | a level evicted | the shard remembers the place, the script misses its level |
//! | loaded by somebody else; an old command that arrives late | another epoch in the book: fenced |
//! | restarted from an old file; a replica took over without the last writes | the scripts are not there ([`Loaded`]) |
//! | a time-out or a broken connection: the outcome is unknown | the shard forgets the tenant |
//!
//! All of it is an error, upon which the shard starts again with a new [`RedisStock`] and loads its tenants under an
//! epoch above the last. Epochs come from a clock that never goes back within the process and goes past what it meets,
//! and an instance takes its first one when it is made, before its shard reads the ledger: a load that was read
//! earlier and arrives later is refused.
//!
//! The client of a cluster sends a command again when an answer is late, so every script can be run twice: a reservation
//! is known by its sale, a movement by its number.
//!
//! What was left behind by tenants that are gone stays until Redis is flushed, which harms nobody.

mod errors;
mod home;
mod inspect;
mod outbox;
mod reply;
mod scripts;
#[cfg(test)]
mod tests;
mod wire;

pub use home::{RedisHome, RedisSettings};
pub use inspect::{Inspection, fields as info_fields};
pub use scripts::{Loaded, Script};

use crate::domain::decimal::Quantity;
use crate::domain::idempotency::KeyHash;
use crate::domain::ids::{SaleId, TenantId};
use crate::domain::reservation::{KeyUse, Outcome, Reserve};
use crate::domain::stock::{Level, Place};
use crate::ports::PortError;
use crate::ports::stock::{Answer, HotStock};
use futures_util::FutureExt;
use futures_util::future::try_join_all;
use reply::{Refusal, Reply};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use wire::{Book, Call};

/// Places in one script that loads or reads; it holds up everybody else for about two milliseconds.
const CHUNK: usize = 1_000;

/// Sales that are reserved or settled in one script; with a place or two each that takes about a millisecond.
const SALES_AT_ONCE: usize = 250;

/// Keys that are listed or forgotten in one script.
const KEYS_AT_ONCE: usize = 500;

/// Stock of the tenants of one shard, in Redis.
pub struct RedisStock {
    home: Arc<RedisHome>,
    /// Taken at the first load of a rebuild and kept: when Redis forgets them, everything is to be rebuilt.
    scripts: Option<Arc<Loaded>>,
    /// For the first load of each tenant.
    born: u64,
    begun: HashSet<TenantId>,
    tenants: HashMap<TenantId, Known>,
}

/// What is known of a tenant without asking. It is out of the map while a command is under way, so that one which
/// fails, or is not waited for, leaves a tenant that is not loaded.
struct Known {
    epoch: u64,
    /// Where there must be a level.
    places: HashSet<Place>,
    /// Open reservations and where they took from.
    open: HashMap<SaleId, Vec<Place>>,
    /// Settled keys that Redis remembers.
    settled: u64,
    /// Calls of `moved`.
    moves: u64,
}

impl RedisStock {
    pub(super) fn new(home: Arc<RedisHome>) -> Self {
        let born = home.next_epoch();
        Self { home, scripts: None, born, begun: HashSet::new(), tenants: HashMap::new() }
    }

    fn known(&self, tenant: TenantId) -> Result<&Known, PortError> {
        self.tenants.get(&tenant).ok_or_else(|| not_loaded(tenant))
    }

    fn take(&mut self, tenant: TenantId) -> Result<Known, PortError> {
        self.tenants.remove(&tenant).ok_or_else(|| not_loaded(tenant))
    }

    fn book(&self, tenant: TenantId, epoch: u64) -> Book<'_> {
        Book { names: self.home.names(), tenant, epoch }
    }

    async fn run(&self, tenant: TenantId, call: Call) -> Result<Reply, PortError> {
        let scripts = self.scripts.as_ref().ok_or_else(|| not_loaded(tenant))?;
        let value = self.home.run(scripts, &call).await?;
        Reply::read(value).map_err(|refusal| {
            if let Refusal::Fenced(Some(epoch)) = refusal {
                self.home.met(epoch);
            }
            refusal.of(tenant)
        })
    }

    /// One call for each tenant, or several when it has very many sales, all on their way at once.
    async fn reserve_each(&mut self, commands: &[(TenantId, &Reserve)]) -> Result<Vec<Outcome>, PortError> {
        let mut tenants: HashMap<TenantId, Vec<usize>> = HashMap::new();
        for (at, (tenant, _)) in commands.iter().enumerate() {
            tenants.entry(*tenant).or_default().push(at);
        }
        let (mut taken, mut calls) = (HashMap::new(), Vec::new());
        for (tenant, numbers) in tenants {
            let known = self.take(tenant)?;
            for piece in in_pieces(&numbers, |at| commands[at].1.demand.len()) {
                let part: Vec<&Reserve> = piece.iter().map(|at| commands[*at].1).collect();
                let book = self.book(tenant, known.epoch);
                let call = book.reserve(&part, |place| known.places.contains(&place));
                calls.push((tenant, piece.to_vec(), part, call));
            }
            taken.insert(tenant, known);
        }
        let asked = calls.into_iter().map(|(tenant, piece, part, call)| self.ask(tenant, piece, part, call));
        let answers = try_join_all(asked).await?;
        let mut all: Vec<Option<Outcome>> = vec![None; commands.len()];
        for (tenant, outcomes) in answers {
            for (at, outcome) in outcomes {
                let command = commands[at].1;
                if let (Outcome::Reserved, Some(known)) = (&outcome, taken.get_mut(&tenant)) {
                    let places = command.demand.iter().map(|(unit, _)| (*unit, command.location));
                    known.open.insert(command.sale, places.collect());
                }
                all[at] = Some(outcome);
            }
        }
        self.tenants.extend(taken);
        let all: Option<Vec<_>> = all.into_iter().collect();
        all.ok_or_else(|| PortError::Permanent("a reservation was not asked for".into()))
    }

    /// One of these calls, with the numbers that its commands have among all.
    async fn ask(
        &self,
        tenant: TenantId,
        numbers: Vec<usize>,
        commands: Vec<&Reserve>,
        call: Call,
    ) -> Result<(TenantId, Vec<(usize, Outcome)>), PortError> {
        let outcomes = self.run(tenant, call).await?.outcomes(&commands)?;
        Ok((tenant, numbers.into_iter().zip(outcomes).collect()))
    }

    /// The same for what ends reservations. One that this instance holds open and Redis does not was ended by the same
    /// command, which the client of a cluster may send twice.
    async fn settle_all(&mut self, sales: &[(TenantId, SaleId)]) -> Result<usize, PortError> {
        let mut batches: HashMap<TenantId, Vec<SaleId>> = HashMap::new();
        for (tenant, sale) in sales {
            batches.entry(*tenant).or_default().push(*sale);
        }
        let (mut settled, mut taken, mut calls) = (0, HashMap::new(), Vec::new());
        for (tenant, sales) in batches {
            let mut known = self.take(tenant)?;
            let mut open = sales.into_iter().filter_map(|sale| Some((sale, known.open.remove(&sale)?)));
            loop {
                let (mut sales, mut places) = (Vec::new(), Vec::new());
                let mut seen = HashSet::new();
                for (sale, of) in open.by_ref() {
                    sales.push(sale);
                    places.extend(of.into_iter().filter(|place| seen.insert(*place)));
                    if sales.len() == SALES_AT_ONCE || places.len() >= CHUNK {
                        break;
                    }
                }
                if sales.is_empty() {
                    break;
                }
                settled += sales.len();
                calls.push((tenant, self.book(tenant, known.epoch).settle(&sales, &places)));
            }
            drop(open);
            taken.insert(tenant, known);
        }
        let run = async |(tenant, call)| Ok::<_, PortError>((tenant, self.run(tenant, call).await?.done()?));
        for (tenant, keys) in try_join_all(calls.into_iter().map(run)).await? {
            if let Some(known) = taken.get_mut(&tenant) {
                known.settled = known.settled.max(keys.unwrap_or_default());
            }
        }
        self.tenants.extend(taken);
        Ok(settled)
    }

    async fn roll_back(&mut self, tenant: TenantId, sale: SaleId) -> Result<bool, PortError> {
        let mut known = self.take(tenant)?;
        let places = known.open.remove(&sale);
        if let Some(places) = &places {
            let call = self.book(tenant, known.epoch).rollback(sale, places);
            self.run(tenant, call).await?.done()?;
        }
        self.tenants.insert(tenant, known);
        Ok(places.is_some())
    }

    async fn start_over(
        &mut self,
        tenant: TenantId,
        levels: Vec<(Place, Quantity)>,
    ) -> Result<(), PortError> {
        self.tenants.remove(&tenant);
        if self.scripts.is_none() {
            self.scripts = Some(self.home.scripts_when_up().await?);
        }
        let epoch = if self.begun.insert(tenant) { self.born } else { self.home.next_epoch() };
        let places: HashSet<Place> = levels.iter().map(|(place, _)| *place).collect();
        let chunks = levels.len().div_ceil(CHUNK).max(1);
        for number in 0..chunks {
            let rest = &levels[number * CHUNK..];
            let chunk = &rest[..rest.len().min(CHUNK)];
            let call = self.book(tenant, epoch).warmup(chunk, number, number + 1 == chunks);
            self.run(tenant, call).await?.done()?;
        }
        let known = Known { epoch, places, open: HashMap::new(), settled: 0, moves: 0 };
        self.tenants.insert(tenant, known);
        Ok(())
    }

    async fn read(&self, tenant: TenantId, places: &[Place]) -> Result<Vec<Option<Level>>, PortError> {
        let known = self.known(tenant)?;
        let levels = self.run(tenant, self.book(tenant, known.epoch).check(places)).await?.levels()?;
        let is_gone =
            |(place, level): (&Place, &Option<Level>)| level.is_none() && known.places.contains(place);
        match places.iter().zip(&levels).filter(|pair| is_gone(*pair)).count() {
            0 if levels.len() == places.len() => Ok(levels),
            gone => Err(Refusal::Missing(gone).of(tenant)),
        }
    }

    async fn forget(
        &mut self,
        tenant: TenantId,
        in_ledger: &dyn Fn(SaleId) -> bool,
    ) -> Result<(), PortError> {
        let keep = self.home.keys_per_tenant();
        let mut known = self.take(tenant)?;
        while known.settled > keep as u64 {
            let book = self.book(tenant, known.epoch);
            let (first, sales) = self.run(tenant, book.oldest_keys(keep, KEYS_AT_ONCE)).await?.oldest()?;
            let count = sales.iter().take_while(|sale| sale.is_none_or(in_ledger)).count();
            if count == 0 {
                break;
            }
            let left = self.run(tenant, book.forget_keys(first, count)).await?.done()?;
            known.settled = left.unwrap_or_default();
            if count < sales.len() {
                break;
            }
        }
        self.tenants.insert(tenant, known);
        Ok(())
    }
}

/// Runs of what fits into one script, where each has so many places.
fn in_pieces(numbers: &[usize], places: impl Fn(usize) -> usize) -> impl Iterator<Item = &[usize]> {
    let mut rest = numbers;
    std::iter::from_fn(move || {
        let (mut count, mut sum) = (0, 0);
        while count < rest.len().min(SALES_AT_ONCE) && (count == 0 || sum + places(rest[count]) <= CHUNK) {
            sum += places(rest[count]);
            count += 1;
        }
        let (piece, left) = rest.split_at(count);
        rest = left;
        (count > 0).then_some(piece)
    })
}

fn not_loaded(tenant: TenantId) -> PortError {
    PortError::Transient(format!("tenant {tenant} is not loaded"))
}

impl HotStock for RedisStock {
    fn begin(&mut self) {
        self.born = self.home.next_epoch();
        self.begun.clear();
        self.tenants.clear();
        // Those of another life of the server are of no use any more.
        self.scripts = None;
    }

    fn load(&mut self, tenant: TenantId, levels: Vec<(Place, Quantity)>) -> Answer<'_, ()> {
        self.start_over(tenant, levels).boxed_local()
    }

    fn reserve<'a>(&'a mut self, tenant: TenantId, command: &'a Reserve) -> Answer<'a, Outcome> {
        async move {
            let outcomes = self.reserve_each(&[(tenant, command)]).await?;
            outcomes.into_iter().next().ok_or_else(|| not_loaded(tenant))
        }
        .boxed_local()
    }

    fn is_far(&self) -> bool {
        true
    }

    fn reserve_all<'a>(&'a mut self, commands: &'a [(TenantId, &'a Reserve)]) -> Answer<'a, Vec<Outcome>> {
        self.reserve_each(commands).boxed_local()
    }

    fn settle<'a>(&'a mut self, sales: &'a [(TenantId, SaleId)]) -> Answer<'a, usize> {
        self.settle_all(sales).boxed_local()
    }

    fn void(&mut self, tenant: TenantId, sale: SaleId) -> Answer<'_, bool> {
        self.roll_back(tenant, sale).boxed_local()
    }

    fn moved<'a>(&'a mut self, tenant: TenantId, movements: &'a [(Place, Quantity)]) -> Answer<'a, bool> {
        async move {
            let mut known = self.take(tenant)?;
            known.moves += 1;
            let book = self.book(tenant, known.epoch);
            let (call, places) = book.moved(known.moves, movements, |place| known.places.contains(&place));
            let moved = self.run(tenant, call).await?.moved()?;
            if moved {
                known.places.extend(places);
            }
            self.tenants.insert(tenant, known);
            Ok(moved)
        }
        .boxed_local()
    }

    fn check(&self, tenant: TenantId, place: Place) -> Answer<'_, Option<Level>> {
        async move { Ok(self.read(tenant, &[place]).await?.into_iter().next().flatten()) }.boxed_local()
    }

    fn levels(&self, tenant: TenantId) -> Answer<'_, Vec<(Place, Level)>> {
        async move {
            let places: Vec<Place> = self.known(tenant)?.places.iter().copied().collect();
            let mut all = Vec::with_capacity(places.len());
            for chunk in places.chunks(CHUNK) {
                let levels = self.read(tenant, chunk).await?;
                all.extend(chunk.iter().zip(levels).filter_map(|(place, level)| Some((*place, level?))));
            }
            Ok(all)
        }
        .boxed_local()
    }

    fn key_use(&self, tenant: TenantId, key: KeyHash) -> Answer<'_, Option<KeyUse>> {
        async move {
            let book = self.book(tenant, self.known(tenant)?.epoch);
            self.run(tenant, book.key_use(key)).await?.key_use()
        }
        .boxed_local()
    }

    fn remember_key(&mut self, tenant: TenantId, key: KeyHash, used: KeyUse) -> Answer<'_, ()> {
        async move {
            let mut known = self.take(tenant)?;
            let reply = self.run(tenant, self.book(tenant, known.epoch).remember_key(key, used)).await?;
            known.settled = reply.done()?.unwrap_or_default();
            self.tenants.insert(tenant, known);
            Ok(())
        }
        .boxed_local()
    }

    fn forget_keys<'a>(
        &'a mut self,
        tenant: TenantId,
        in_ledger: &'a dyn Fn(SaleId) -> bool,
    ) -> Answer<'a, ()> {
        self.forget(tenant, in_ledger).boxed_local()
    }
}
