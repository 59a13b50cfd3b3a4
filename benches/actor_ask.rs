//! What the kit costs: an ask and a tell, beside the bare channels they stand for. All on one thread.

use blend::actors::kit::{
    Behaviour, Cx, Fault, Handle, Place, Registry, Reply, RestartPolicy, Spec, Strategy, Supervisor,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

struct Counter(u64);

enum Msg {
    Add(u64, Reply<u64>),
    Tick,
}

impl Behaviour for Counter {
    const KIND: &'static str = "counter";
    type Msg = Msg;

    async fn handle(&mut self, msg: Msg, _cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Add(n, reply) => {
                self.0 += n;
                reply.send(self.0);
            }
            Msg::Tick => self.0 += 1,
        }
        Ok(())
    }
}

/// Runs `work` with `n` on an actix system that has one counter, and returns how long it took.
fn timed<F: Future<Output = ()>>(
    limit: Option<Duration>,
    work: impl FnOnce(Handle<Counter>) -> F,
) -> Duration {
    actix_rt::System::new().block_on(async {
        let root = Supervisor::new("root", Strategy::OneForOne, RestartPolicy::default(), &Registry::new());
        let spec = Spec { handler_limit: limit, ..Spec::new("counter", 1024) };
        let counter = root.start(spec, Place::Here, || Counter(0));
        assert!(counter.ask(|reply| Msg::Add(0, reply)).await.is_ok());
        let begun = Instant::now();
        work(counter).await;
        begun.elapsed()
    })
}

async fn asks(counter: Handle<Counter>, n: u64) {
    for _ in 0..n {
        assert!(counter.ask(|reply| Msg::Add(1, reply)).await.is_ok());
    }
}

async fn bare_asks(n: u64) -> Duration {
    let (tx, mut rx) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(1024);
    let server = tokio::task::spawn_local(async move {
        let mut sum = 0;
        while let Some((n, reply)) = rx.recv().await {
            sum += n;
            reply.send(sum).ok();
        }
    });
    let begun = Instant::now();
    for _ in 0..n {
        let (reply, answer) = oneshot::channel();
        assert!(tx.send((1, reply)).await.is_ok());
        assert!(answer.await.is_ok());
    }
    let took = begun.elapsed();
    drop(tx);
    assert!(server.await.is_ok());
    took
}

fn kit(c: &mut Criterion) {
    let mut group = c.benchmark_group("actor");
    group.bench_function("bare mpsc + oneshot", |b| {
        b.iter_custom(|n| actix_rt::System::new().block_on(bare_asks(n)));
    });
    group.bench_function("ask", |b| b.iter_custom(|n| timed(None, |counter| asks(counter, n))));
    group.bench_function("ask, with a handler limit", |b| {
        b.iter_custom(|n| timed(Some(Duration::from_secs(5)), |counter| asks(counter, n)));
    });
    group.bench_function("tell, waiting for room", |b| {
        b.iter_custom(|n| {
            timed(None, |counter| async move {
                for _ in 0..n {
                    assert!(counter.tell(Msg::Tick).await.is_ok());
                }
                assert!(counter.drain(Duration::from_secs(5)).await);
            })
        });
    });
    group.throughput(Throughput::Elements(64));
    group.bench_function("64 concurrent asks", |b| {
        b.iter_custom(|n| {
            timed(None, |counter| async move {
                for _ in 0..n {
                    let answers = join_all((0..64).map(|_| counter.ask(|reply| Msg::Add(1, reply)))).await;
                    assert!(answers.iter().all(Result::is_ok));
                }
            })
        });
    });
    group.finish();
}

criterion_group!(benches, kit);
criterion_main!(benches);
