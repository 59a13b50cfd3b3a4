//! The moments of a sale at which a node can die, a connection break, or everything stand still: before and after each
//! of the steps that leave a trace outside. Whichever it is, each basket is sold once and the laws hold.
//!
//! A proxy between the node and its servers finds the moment in the bytes that pass, so the program itself knows
//! nothing of it.

use super::{POSTGRES, RABBITMQ, REDIS, Servers, Way};
use crate::support::dice::Dice;
use crate::support::process::signal;
use crate::support::proxy::{Act, Gate, Side};
use crate::support::tills::Tills;
use std::sync::Arc;
use std::time::Duration;

const STOCK: u32 = 1_000_000;
const TILLS: usize = 8;
/// Longer than the node waits for any of its servers: what is held up comes when nobody counts on it any more.
const DELAY: Duration = Duration::from_millis(2_500);

/// AMQP 0-9-1: `basic.publish` (60, 40) to the exchange, its name with its length before it.
const PUBLISH: &[u8] = b"\x00\x3c\x00\x28\x00\x00\x0cblend_events";
/// `basic.ack` (60, 80); of what a node sends, only the ledger's has it.
const ACKNOWLEDGE: &[u8] = b"\x00\x3c\x00\x50";
/// A checkout's script.
const SCRIPT: &[u8] = b"EVALSHA";
/// A ledger transaction's end.
const COMMIT: &[u8] = b"COMMIT";

struct Moment {
    name: &'static str,
    at: Way,
    pattern: &'static [u8],
    side: Side,
    passes_first: bool,
    /// Such requests that may pass before, at most.
    later: u64,
}

const fn moment(
    name: &'static str,
    at: Way,
    pattern: &'static [u8],
    side: Side,
    passes_first: bool,
    later: u64,
) -> Moment {
    Moment { name, at, pattern, side, passes_first, later }
}

const MOMENTS: [Moment; 10] = [
    moment("before the script", REDIS, SCRIPT, Side::Request, false, 40),
    moment("after the script", REDIS, SCRIPT, Side::Reply, false, 40),
    moment("before it is published", RABBITMQ, PUBLISH, Side::Request, false, 40),
    moment("after it is published", RABBITMQ, PUBLISH, Side::Request, true, 40),
    moment("before it is confirmed", RABBITMQ, PUBLISH, Side::Reply, false, 40),
    moment("after it is confirmed", RABBITMQ, PUBLISH, Side::Reply, true, 40),
    moment("before the ledger commits", POSTGRES, COMMIT, Side::Request, false, 4),
    moment("after the ledger has committed", POSTGRES, COMMIT, Side::Reply, false, 4),
    moment("before it is acknowledged", RABBITMQ, ACKNOWLEDGE, Side::Request, false, 4),
    moment("after it is acknowledged", RABBITMQ, ACKNOWLEDGE, Side::Request, true, 4),
];

/// Sells through every moment; `act` makes what happens there, given the node's process id.
async fn every_moment(act: impl Fn(u32) -> Act) {
    let mut dice = Dice::new();
    let servers = Servers::start().await;
    let (node, proxies) = servers.node_behind_proxies().await;
    let mut shop = servers.shop_on(node, STOCK).await;
    let tills = Tills::default();
    for moment in MOMENTS {
        let (before, proxy, act) = (tills.acknowledged(), (moment.at)(&proxies), act(shop.server.id()));
        let kills = matches!(act, Act::Do(_));
        let Moment { name, pattern, side, passes_first, later, .. } = moment;
        proxy.arm(Gate { pattern, skip: dice.below(later), side, passes_first, act: act.clone() });
        tokio::join!(tills.sell(&shop, TILLS), async {
            proxy.reached().await;
            if !kills {
                // It heals without anybody's doing.
                tills.sold_more(20).await;
                tills.stop();
            }
        });
        if kills {
            shop.server.ended().await;
            shop.start_again().await;
        }
        let open = tills.ask_again(&shop).await;
        eprintln!("{act:?} {name}: {} sales, {open} found by asking again", tills.acknowledged() - before);
        tills.assert_exact(&shop.books().await, STOCK);
    }
    tills.assert_found(&shop).await;
    tills.assert_exact(&shop.close().await, STOCK);
}

#[tokio::test]
async fn d26_d27_a_node_may_die_at_every_moment() {
    every_moment(|node| Act::Do(Arc::new(move || signal("KILL", node)))).await;
}

#[tokio::test]
async fn d26_d27_a_connection_may_break_at_every_moment() {
    every_moment(|_| Act::Cut).await;
}

#[tokio::test]
async fn d26_d27_everything_may_come_late_at_every_moment() {
    every_moment(|_| Act::Delay(DELAY)).await;
}
