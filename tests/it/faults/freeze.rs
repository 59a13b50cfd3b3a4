//! SIGSTOP: the process stands still and knows nothing of it.

use crate::support::shop::{Shop, catalogue};
use crate::support::tills::Tills;
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test]
async fn stopped_for_three_seconds_under_load_it_goes_on_and_nothing_is_lost() {
    let shop = Shop::open_with(&catalogue(1_000_000), &[]).await;
    let tills = Tills::default();
    let fault = async {
        tills.sold_more(200).await;
        shop.server.signal("STOP");
        // One more look may find answers that were on their way.
        sleep(Duration::from_millis(200)).await;
        let before = tills.acknowledged();
        sleep(Duration::from_secs(3)).await;
        assert_eq!(tills.acknowledged(), before, "it stands still");
        shop.server.signal("CONT");
        tills.sold_more(200).await;
        tills.stop();
    };
    tokio::join!(tills.sell(&shop, 32), fault);
    tills.ask_again(&shop).await;
    tills.assert_found(&shop).await;
    let ready = shop.till.get("/ready").await;
    assert_eq!(ready.json["status"], "ready", "{}", ready.json);
    tills.assert_exact(&shop.close().await, 1_000_000);
}
