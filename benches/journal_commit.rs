//! One group commit of the journal, by the number of events in it; against the bare write and sync of the same bytes.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]

mod common;

use blend::bus::journal::{Journal, JournalSettings};
use blend::ports::clock::SystemClock;
use blend::resilience::retry::RetrySchedule;
use common::Shop;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn settings() -> JournalSettings {
    JournalSettings {
        max_bytes: 16 << 30,
        max_backlog: u64::MAX,
        retain_events: 0,
        tail_events: 1_000,
        tail_bytes: 1 << 20,
        retries: RetrySchedule::default(),
    }
}

fn commits(criterion: &mut Criterion) {
    // Beside the build, not in a memory file system: syncs must be real.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut shop = Shop::new();
    let mut group = criterion.benchmark_group("journal_commit");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    for size in [1, 8, 64, 512] {
        let batch = shop.sales(size, 1);
        group.throughput(Throughput::Elements(size as u64));
        let path = dir.path().join(format!("journal-{size}.db"));
        let mut log = runtime.block_on(async {
            let opened = Journal::open(&path, settings(), Arc::new(SystemClock)).await.unwrap();
            (opened.0.log())().await.unwrap()
        });
        group.bench_function(BenchmarkId::new("append", size), |bench| {
            bench.iter_custom(|rounds| {
                runtime.block_on(async {
                    let started = Instant::now();
                    for _ in 0..rounds {
                        log.append(&batch).await.unwrap();
                    }
                    started.elapsed()
                })
            });
        });
        drop(log);
        let mut bytes = Vec::new();
        batch.iter().for_each(|event| event.encode(&mut bytes).unwrap());
        let mut file = std::fs::File::create(dir.path().join("bare")).unwrap();
        group.bench_function(BenchmarkId::new("baseline: write and fdatasync", size), |bench| {
            bench.iter(|| {
                file.write_all(&bytes).unwrap();
                file.sync_data().unwrap();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, commits);
criterion_main!(benches);
