//! SIGKILL: no warning, no last words.

use crate::support::dice::Dice;
use crate::support::shop::{Shop, catalogue};
use crate::support::tills::Tills;
use std::time::Duration;
use tokio::time::sleep;

const STOCK: u32 = 1_000_000;
const ROUNDS: usize = 20;
const TILLS: usize = 32;

#[tokio::test]
async fn killed_twenty_times_under_full_load_it_sells_each_basket_exactly_once() {
    let mut dice = Dice::new();
    let mut shop = Shop::open_with(&catalogue(STOCK), &[]).await;
    let tills = Tills::default();
    let mut found_sold = 0;
    for round in 1..=ROUNDS {
        let before = tills.acknowledged();
        let killer = async {
            // Some rounds die before their first sale, some in the middle of hundreds.
            if dice.below(4) > 0 {
                tills.sold_more(1).await;
            }
            sleep(Duration::from_micros(dice.below(300_000))).await;
            shop.server.signal("KILL");
        };
        tokio::join!(tills.sell(&shop, TILLS), killer);
        shop.server.ended().await;
        let sold = tills.acknowledged() - before;
        shop.start_again().await;
        let open = tills.ask_again(&shop).await;
        found_sold += open;
        eprintln!("round {round}: {sold} sales, then killed; {open} without an answer had been sold");
        tills.assert_exact(&shop.books().await, STOCK);
    }
    assert!(tills.acknowledged() > ROUNDS * TILLS, "{} sales are no load", tills.acknowledged());
    tills.assert_found(&shop).await;
    eprintln!("{} sales, {found_sold} of them found by repeating their key", tills.acknowledged());
    tills.assert_exact(&shop.close().await, STOCK);
}

#[tokio::test]
async fn killed_while_it_starts_it_starts_again() {
    let mut dice = Dice::new();
    let mut shop = Shop::open_with(&catalogue(STOCK), &[]).await;
    let tills = Tills::default();
    tokio::join!(tills.sell(&shop, TILLS), async {
        tills.sold_more(200).await;
        shop.server.signal("KILL");
    });
    shop.server.ended().await;
    let data_dir = shop.blend.data_dir().to_str().unwrap().to_owned();
    for _ in 0..8 {
        let args = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data_dir];
        let mut child = crate::support::process::program(&args)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Anywhere from the first instruction to the first requests.
        sleep(Duration::from_millis(dice.below(250))).await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    shop.start_again().await;
    tills.ask_again(&shop).await;
    tills.assert_exact(&shop.books().await, STOCK);
    tills.assert_found(&shop).await;
    shop.close().await;
}

#[tokio::test]
async fn an_import_that_is_killed_is_there_whole_or_not_at_all() {
    let mut dice = Dice::new();
    let blend = crate::support::process::Blend::new();
    let tenant = blend.tenant("Sur").await.to_string();
    let file = blend.write("catalogo.csv", catalogue(10)).display().to_string();
    let data_dir = blend.data_dir().to_str().unwrap().to_owned();
    let mut whole = false;
    for _ in 0..6 {
        let args = ["import", "--tenant", &tenant, &file, "--data-dir", &data_dir];
        let mut child = crate::support::process::program(&args)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        sleep(Duration::from_millis(dice.below(200))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let server = blend.serve().await;
        let token = blend.token(tenant.parse::<uuid::Uuid>().unwrap(), blend::http::Role::Cajero);
        let api = crate::support::api::Api::new(&server.url(), &token);
        let products = api.get("/api/v1/productos?limit=500").await.json.as_array().unwrap().len();
        assert!(products == 50 || (products == 0 && !whole), "{products} products, whole before: {whole}");
        whole = products == 50;
        if whole {
            assert_eq!(api.get("/api/v1/productos/scan/P01").await.raw("stock_actual"), "10");
        }
        assert!(server.sigterm().await.success());
        crate::support::ledger::assert_verified(&blend).await;
    }
}
