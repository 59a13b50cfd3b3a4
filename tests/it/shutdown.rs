//! Ending in order.

use crate::support::eventually;
use crate::support::ledger::assert_verified;
use crate::support::process::{Ended, program};
use crate::support::shop::{PLAIN, Shop, catalogue};
use crate::support::tills::Tills;
use blend::client::ClientError;
use hyper::Method;
use sqlx::{ConnectOptions as _, Connection as _};

#[tokio::test]
async fn sigterm_under_load_loses_nothing_and_leaves_nothing_to_do() {
    for signal in ["TERM", "INT"] {
        let mut shop = Shop::open_with(&catalogue(1_000_000), &[]).await;
        let tills = Tills::default();
        let ended = async {
            tills.sold_more(400).await;
            shop.server.signal(signal);
        };
        tokio::join!(tills.sell(&shop, 32), ended);
        let status = shop.server.ended().await;
        assert!(status.success(), "{status}");
        assert!(shop.server.stderr().contains("clean=true"), "{}", shop.server.stderr());
        let reply = shop.till.send(Method::GET, "/health", &[], "").await;
        assert!(matches!(reply, Err(ClientError::Connect(..))), "{reply:?}");

        // Not a single sale in the ledger that was not answered, nor one that is only in the journal.
        let books = assert_verified(&shop.blend).await;
        tills.assert_kept(&books);
        assert_eq!(
            books.journal_sales,
            i64::try_from(books.sales.len()).unwrap(),
            "the ledger has caught up"
        );
        let unanswered = tills.give_up_open();
        let extra =
            books.by_key().into_keys().filter(|key| unanswered.iter().any(|open| open == key)).count();
        assert_eq!(books.sales.len(), tills.acknowledged() + extra);
        assert_eq!(extra, 0, "requests under way are answered before the edge closes");
        for file in ["journal.db-wal", "ledger.db-wal"] {
            let left = std::fs::metadata(shop.blend.data_dir().join(file)).map_or(0, |file| file.len());
            assert_eq!(left, 0, "{file} holds what belongs into the file");
        }
    }
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let shop = Shop::open().await;
    let mut idle = shop.till.connection();
    let answer = idle.request(Method::GET, "/health", None, &[], bytes::Bytes::new()).await.unwrap();
    assert!(answer.status.is_success() && idle.is_open());
    let started = std::time::Instant::now();
    shop.close().await;
    // The deadline for requests under way is twenty seconds; an idle till is none.
    assert!(started.elapsed().as_secs() < 15, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_comes_back_with_everything_it_had() {
    let mut shop = Shop::open().await;
    let id = shop.sell(&[(PLAIN, "7")]).await.sale();
    for _ in 0..2 {
        shop.restart().await;
        let sale = shop.till.get(&format!("/api/v1/ventas/{id}")).await;
        assert_eq!((sale.status, sale.json["estado"].as_str()), (200, Some("registrada")));
        assert_eq!(shop.stock(PLAIN).await, "993");
    }
    assert_eq!(shop.close().await.sales.len(), 1);
}

#[tokio::test]
async fn sigterm_is_heard_before_the_shards_are_rebuilt() {
    let shop = Shop::open().await;
    let blend = shop.blend;
    assert!(shop.server.sigterm().await.success());
    // A catalogue that no shard can read keeps the server at its start for a while.
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(blend.data_dir().join("ledger.db"));
    let mut ledger = options.connect().await.unwrap();
    let kind = async |kind: &'static str, ledger: &mut sqlx::sqlite::SqliteConnection| {
        let update = sqlx::query("UPDATE units SET kind = $1 WHERE sku = 'P01'").bind(kind);
        update.execute(ledger).await.unwrap();
    };
    kind("misterio", &mut ledger).await;
    let log = blend.scratch("starting.log");
    let mut command = program(&["serve", "--listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(blend.data_dir()).stderr(std::fs::File::create(&log).unwrap());
    command.envs([("BLEND_SUPERVISION__MAX_RESTARTS", "1000"), ("BLEND_SERVER__SHUTDOWN_TIMEOUT_SECS", "1")]);
    let mut starting = Ended(command.spawn().unwrap());
    eventually("a shard is tried again", async || {
        std::fs::read_to_string(&log).unwrap().contains("rebuilding").then_some(())
    })
    .await;
    let pid = starting.0.id();
    let kill = std::process::Command::new("sh").arg("-c").arg(format!("kill -TERM {pid}")).status().unwrap();
    assert!(kill.success());
    let status = eventually("it ends", async || starting.0.try_wait().unwrap()).await;
    assert!(status.success(), "{status}: {}", std::fs::read_to_string(&log).unwrap());

    kind("general", &mut ledger).await;
    ledger.close().await.unwrap();
    let server = blend.serve().await;
    // Once is enough, and twice does no harm.
    server.signal("TERM");
    assert!(server.sigterm().await.success());
    assert_verified(&blend).await;
}
