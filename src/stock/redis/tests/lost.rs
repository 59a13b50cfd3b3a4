//! The hot tier loses something between two commands: nobody sells from what is left, and a load heals it.

use super::*;
use crate::domain::reservation::Outcome;
use crate::stock::redis::wire::Names;

/// Loads, takes one unit, lets something happen; then the next command must fail as passing, and a new instance must
/// work from what it is given.
async fn heals(home: &Arc<RedisHome>, what: &str, happens: impl AsyncFnOnce()) {
    let mut stock = home.new_stock()();
    load(&mut *stock, &[(1, 5), (2, 5)]).await.unwrap();
    let first = stock.reserve(TENANT, &ask(1, &[(1, 1)], Some(1))).await.unwrap();
    assert_eq!(first, Outcome::Reserved, "{what}");
    happens().await;
    let error = stock.reserve(TENANT, &ask(2, &[(1, 5)], Some(2))).await.unwrap_err();
    assert!(error.is_transient(), "{what}: {error}");
    // Nothing goes on with what this instance thinks it knows.
    assert!(settle(&mut *stock, TENANT, sale(1)).await.is_err(), "{what}");
    reload(home, what).await;
}

/// As the shard does: again with a new instance until the server is back.
async fn reload(home: &Arc<RedisHome>, what: &str) {
    let mut stock = home.new_stock()();
    for _ in 0..200 {
        let Err(error) = load(&mut *stock, &[(1, 4), (2, 5)]).await else { break };
        assert!(error.is_transient(), "{what}: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        stock = home.new_stock()();
    }
    let rest = stock.reserve(TENANT, &ask(3, &[(1, 4)], Some(1))).await.unwrap();
    assert_eq!(rest, Outcome::Reserved, "{what}");
    assert!(settle(&mut *stock, TENANT, sale(3)).await.unwrap(), "{what}");
    assert_eq!(level(&*stock, 1).await, (0, 0), "{what}");
    assert!(matches!(stock.reserve(TENANT, &ask(4, &[(1, 1)], None)).await.unwrap(), Outcome::Short(_)));
}

/// What is missing is neither zero nor full, and a load heals it.
#[tokio::test]
async fn d5_d14_d36_what_is_flushed_evicted_or_forgotten_is_loaded_again() {
    let server = RedisServer::start(&[]).await;
    let home = home(server.url()).await;
    let names = Names::default();
    let (book, one) = (names.book(TENANT), names.place(TENANT, place(1)));
    for words in [&["FLUSHALL"][..], &["DEL", &one], &["DEL", &book], &["HDEL", &book, "epoch"]] {
        heals(&home, &words.join(" "), async || server.run::<()>(words).await).await;
    }
    // Scripts that are flushed are loaded again on the way, as long as it is the same server: nobody notices.
    let mut stock = home.new_stock()();
    load(&mut *stock, &[(1, 5)]).await.unwrap();
    for n in 1..=5 {
        server.run::<()>(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(stock.reserve(TENANT, &ask(n, &[(1, 1)], None)).await.unwrap(), Outcome::Reserved);
        server.run::<()>(&["SCRIPT", "FLUSH"]).await;
        assert!(settle(&mut *stock, TENANT, sale(n)).await.unwrap());
    }
    assert_eq!(level(&*stock, 1).await, (0, 0));
    let broken = async || {
        let killed: u64 = server.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        assert!(killed > 0);
    };
    heals(&home, "CLIENT KILL", broken).await;
    // The same for what only reads.
    let mut stock = home.new_stock()();
    load(&mut *stock, &[(1, 5), (2, 5)]).await.unwrap();
    assert!(stock.check(TENANT, place(9)).await.unwrap().is_none());
    server.run::<()>(&["DEL", &one]).await;
    assert!(stock.check(TENANT, place(1)).await.is_err() && stock.levels(TENANT).await.is_err());
    assert!(stock.check(TENANT, place(2)).await.is_ok());
    server.run::<()>(&["FLUSHALL"]).await;
    assert!(stock.check(TENANT, place(9)).await.is_err(), "no stock was read from an empty server");
    assert!(stock.key_use(TENANT, KeyHash(1)).await.is_err(), "a key was free on an empty server");
}

#[tokio::test]
async fn d10_what_was_held_at_a_place_that_is_gone_does_not_come_back_alone() {
    let server = RedisServer::start(&[]).await;
    let home = home(server.url()).await;
    let one = Names::default().place(TENANT, place(1));
    for settles in [true, false] {
        let mut stock = home.new_stock()();
        load(&mut *stock, &[(1, 50)]).await.unwrap();
        stock.reserve(TENANT, &ask(1, &[(1, 2)], None)).await.unwrap();
        server.run::<()>(&["DEL", &one]).await;
        let ended = if settles {
            settle(&mut *stock, TENANT, sale(1)).await
        } else {
            stock.void(TENANT, sale(1)).await
        };
        assert!(ended.unwrap_err().to_string().contains("1 levels"));
        assert_eq!(server.run::<u64>(&["EXISTS", &one]).await, 0);
    }
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_empty_is_loaded_again() {
    let mut server = RedisServer::start(&[]).await;
    let home = home(server.url()).await;
    let server = &mut server;
    heals(&home, "SIGKILL", async move || server.kill_and_restart().await).await;
}

/// Callers wait while it is away, and hear of it when that takes too long.
#[tokio::test]
async fn a_load_waits_for_a_server_that_is_away_as_long_as_it_may() {
    let mut server = RedisServer::start(&[]).await;
    let patient = home(server.url()).await;
    let settings = RedisSettings { patience: Duration::ZERO, ..settings(server.url()) };
    let hasty = RedisHome::connect(&settings).await.unwrap();
    server.kill();
    let error = load(&mut *hasty.new_stock()(), &[(1, 5)]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let mut stock = patient.new_stock()();
    let mut loading = Box::pin(load(&mut *stock, &[(1, 5)]));
    let early = tokio::time::timeout(Duration::from_millis(200), &mut loading).await;
    assert!(early.is_err(), "{early:?}");
    let (loaded, ()) = tokio::join!(loading, server.kill_and_restart());
    loaded.unwrap();
    assert_eq!(level(&*stock, 1).await, (5, 0));
}

/// D15: it comes back from its file, with the right epoch and with units that are sold since.
#[tokio::test]
async fn d15_a_server_that_comes_back_from_an_old_file_is_not_believed() {
    let mut server = RedisServer::start(&[]).await;
    let home = home(server.url()).await;
    let mut others = home.new_stock()();
    let other = TenantId(Uuid::from_u128(77));
    others.load(other, vec![(place(1), quantity(5))]).await.unwrap();
    let server = &mut server;
    let happens = async || {
        // The file is written here; the unit is taken after it, and lost with the process.
        server.run::<()>(&["SAVE"]).await;
        others.reserve(other, &ask(1, &[(1, 5)], None)).await.unwrap();
        server.kill_and_restart().await;
        let key = Names::default().place(other, place(1));
        let back: String = server.run(&["GET", &key]).await;
        assert!(back.ends_with(" 5 0"), "the old file was to be read: {back}");
    };
    heals(&home, "old file", happens).await;
    // The first shard to come back brought scripts; they do not serve those who loaded before.
    for _ in 0..2 {
        assert!(others.reserve(other, &ask(2, &[(1, 5)], None)).await.is_err());
    }
}

/// D15 in a cluster: a replica takes over, perhaps without the last writes.
#[tokio::test]
async fn d15_a_replica_that_takes_over_is_not_believed() {
    const TENANTS: u128 = 40;
    let tenants = || (1..=TENANTS).map(|n| TenantId(Uuid::from_u128(n)));
    let mut cluster = RedisCluster::start().await;
    cluster.add_replica().await;
    let home = home(cluster.url()).await;
    let mut stock = home.new_stock()();
    for tenant in tenants() {
        stock.load(tenant, vec![(place(1), quantity(5))]).await.unwrap();
    }
    let [first, .., replica] = cluster.nodes() else { panic!("no nodes") };
    let there: usize = first.run(&["DBSIZE"]).await;
    assert!(there > 0, "no tenant on the first node");
    replica.run::<()>(&["CLUSTER", "FAILOVER", "TAKEOVER"]).await;
    // Until it hears of that, the first node goes on selling what nobody will believe.
    first.await_info(&["INFO", "replication"], &["role:slave"]).await;
    let mut refused = 0;
    for tenant in tenants() {
        let unit = stock.reserve(tenant, &ask(1, &[(1, 1)], None)).await;
        refused += unit.is_err_and(|error| error.is_transient()) as usize;
    }
    // Two keys a tenant.
    assert_eq!(refused, there / 2);
    'tenants: for tenant in tenants() {
        for _ in 0..200 {
            let mut again = home.new_stock()();
            if again.load(tenant, vec![(place(1), quantity(4))]).await.is_ok() {
                let unit = again.reserve(tenant, &ask(2, &[(1, 4)], None)).await.unwrap();
                assert_eq!(unit, Outcome::Reserved);
                continue 'tenants;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{tenant} could not be loaded again");
    }
}

#[tokio::test]
async fn d27_a_command_whose_outcome_is_unknown_ends_the_instance_and_is_fenced() {
    let server = RedisServer::start(&[]).await;
    let settings = RedisSettings { timeout: Duration::from_millis(100), ..settings(server.url()) };
    let home = RedisHome::connect(&settings).await.unwrap();
    let paused = async || server.run::<()>(&["CLIENT", "PAUSE", "400", "WRITE"]).await;
    heals(&home, "CLIENT PAUSE", paused).await;
}

/// D12: whoever loaded before has nothing to say any more, nor has a load that is older.
#[tokio::test]
async fn d12_an_older_load_is_fenced_whenever_it_comes() {
    let server = RedisServer::start(&[]).await;
    let home = home(server.url()).await;
    let (mut delayed, mut old) = (home.new_stock()(), home.new_stock()());
    load(&mut *old, &[(1, 5)]).await.unwrap();
    old.reserve(TENANT, &ask(1, &[(1, 2)], Some(1))).await.unwrap();
    let mut new = home.new_stock()();
    load(&mut *new, &[(1, 3)]).await.unwrap();
    for error in [
        old.key_use(TENANT, KeyHash(1)).await.unwrap_err(),
        old.void(TENANT, sale(1)).await.unwrap_err(),
        load(&mut *delayed, &[(1, 5)]).await.unwrap_err(),
    ] {
        assert!(error.is_transient() && error.to_string().contains("loaded anew"), "{error}");
    }
    assert_eq!(level(&*new, 1).await, (3, 0));
    // From another process, whose clock is behind: it learns the epoch from the refusal and is above it next time.
    let names = Names::default();
    let future = "9000000000000000";
    server.run::<()>(&["HSET", &names.book(TENANT), "epoch", future]).await;
    let other = super::home(server.url()).await;
    assert!(load(&mut *other.new_stock()(), &[(1, 1)]).await.unwrap_err().to_string().contains(future));
    load(&mut *other.new_stock()(), &[(1, 1)]).await.unwrap();
}

#[tokio::test]
async fn a_server_that_refuses_writes_says_why_and_nothing_is_half_done() {
    let server = RedisServer::start(&[]).await;
    let home = home(server.url()).await;
    let mut stock = home.new_stock()();
    load(&mut *stock, &[(1, 5), (2, 5)]).await.unwrap();
    stock.reserve(TENANT, &ask(1, &[(1, 1)], None)).await.unwrap();
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    // What frees memory goes on.
    assert!(settle(&mut *stock, TENANT, sale(1)).await.unwrap());
    let full = stock.reserve(TENANT, &ask(2, &[(1, 1), (2, 1)], None)).await.unwrap_err();
    assert!(full.is_transient() && full.to_string().contains("maxmemory"), "{full}");
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let mut again = home.new_stock()();
    load(&mut *again, &[(1, 4), (2, 5)]).await.unwrap();
    server.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let replica = again.reserve(TENANT, &ask(3, &[(1, 1)], None)).await.unwrap_err();
    assert!(replica.is_transient() && replica.to_string().contains("primary"), "{replica}");
    server.run::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    reload(&home, "REPLICAOF").await;
}
