//! One batch of sales into the ledger. Throughput is in sales.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]

mod common;

use blend::store::sqlite::Ledger;
use common::Shop;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::{Duration, Instant};

fn batches(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("ledger_batch");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    for (size, lines) in [(1, 1), (100, 1), (1_000, 1), (4_000, 1), (400, 10)] {
        let mut shop = Shop::new();
        let path = dir.path().join(format!("ledger-{size}-{lines}.db"));
        let mut store = runtime.block_on(async {
            let ledger = Ledger::open(&path).await.unwrap();
            let mut store = (ledger.store())().await.unwrap();
            store.apply(&shop.opened()).await.unwrap();
            store
        });
        group.throughput(Throughput::Elements(size as u64));
        let name = format!("{size} sales of {lines} lines");
        group.bench_function(BenchmarkId::from_parameter(name), |bench| {
            bench.iter_custom(|rounds| {
                runtime.block_on(async {
                    let mut spent = Duration::ZERO;
                    for _ in 0..rounds {
                        let batch = shop.sales(size, lines);
                        let started = Instant::now();
                        store.apply(&batch).await.unwrap();
                        spent += started.elapsed();
                    }
                    spent
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, batches);
criterion_main!(benches);
