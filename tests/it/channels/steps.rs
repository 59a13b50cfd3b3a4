//! Killed in the middle of each step, with nothing lost and nothing twice.

use super::*;

/// Longer than the test takes to kill the server.
const LATE: Duration = Duration::from_secs(30);

/// Waits until the stand-in has been called once more.
async fn called(connected: &Connected, before: u64) {
    connected.there.until("it is called", || connected.there.counts().calls > before).await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_any_step_changes_nothing_in_the_end() {
    let mut connected = mapped(1_000).await;
    // The quantity that is on its way when everything ends: not begun, done without a word, cut.
    for (round, fault) in
        [Fault::Hang, Fault::Late(LATE), Fault::Slow(LATE), Fault::CutAfter].into_iter().enumerate()
    {
        let before = connected.there.counts().calls;
        connected.there.next(&[fault]);
        connected.shop.sell(&[(PLAIN, "1"), (OTHER, "2")]).await.sale();
        called(&connected, before).await;
        connected.shop.crash().await;
        connected.owner = connected.shop.caller(Role::Owner);
        connected.there.shows(PLAIN, 997 - round as i64).await;
        connected.settled().await;
    }
    // An order that is being looked up, or that was just told.
    let mut left = 1_000 - 4;
    for (id, fault) in [(1, Some(Fault::Hang)), (2, Some(Fault::Late(LATE))), (3, None)] {
        let before = connected.there.counts().calls;
        connected.there.next(fault.as_slice());
        connected.there.change(PLAIN, -2);
        left -= 2;
        assert_eq!(connected.tell("orders/create", &format!("{id}"), &order(id, 1, 2, false)).await.0, 200);
        if fault.is_some() {
            called(&connected, before).await;
        }
        connected.shop.crash().await;
        connected.owner = connected.shop.caller(Role::Owner);
        eventually("it is sold, once", async || {
            (connected.shop.stock(PLAIN).await == left.to_string()).then_some(())
        })
        .await;
        connected.settled().await;
    }
    // A cancellation, and everything being read back.
    connected.there.next(&[Fault::Hang]);
    connected.there.change(PLAIN, 2);
    connected.tell("orders/cancelled", "1c", &order(1, 1, 2, true)).await;
    connected.shop.crash().await;
    connected.owner = connected.shop.caller(Role::Owner);
    connected.there.next(&[Fault::Hang]);
    connected.order("resincronizar", "").await;
    connected.shop.crash().await;
    connected.owner = connected.shop.caller(Role::Owner);
    left += 2;
    eventually("it is taken back", async || {
        (connected.shop.stock(PLAIN).await == left.to_string()).then_some(())
    })
    .await;
    connected.there.no_more_faults();
    connected.settled().await;
    assert_eq!(connected.there.counts().violations, Vec::<String>::new());
    assert_eq!(connected.shop.close().await.sales.len(), 4 + 3);
}
