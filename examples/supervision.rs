//! Supervision in two minutes: `cargo run --example supervision`.
//!
//! A till actor counts what it sells. We let it panic, hang and fail, and read on the screen what the kit makes of
//! it: a fresh state, the same mailbox, a supervisor that decides when it is too much, and an end that loses nothing.

use blend::actors::kit::{
    Behaviour, Cx, Fault, Handle, Place, Registry, Reply, RestartPolicy, Spec, Strategy, Supervisor, shutdown,
};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// The state. It is built by a factory and thrown away after every failure, so what must survive lives elsewhere
/// (in Blend: in the journal and the ledger) and is read again in `started`.
struct Till {
    sold: u64,
}

/// What the till understands. Where an answer is expected the message carries a `Reply`.
enum Msg {
    Sell(u64, Reply<u64>),
    Panic(Reply<u64>),
    Hang(Reply<u64>),
    Fail(Reply<u64>),
    /// Answers much later, without holding up the mailbox.
    SellByCard(u64, Reply<u64>),
    CardAccepted(u64, Reply<u64>),
}

impl Behaviour for Till {
    const KIND: &'static str = "till";
    type Msg = Msg;

    async fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), Fault> {
        println!("    till: a new state, number {}", cx.incarnation());
        Ok(())
    }

    async fn handle(&mut self, msg: Msg, cx: &mut Cx<Self>) -> Result<(), Fault> {
        match msg {
            Msg::Sell(n, reply) | Msg::CardAccepted(n, reply) => {
                self.sold += n;
                reply.send(self.sold);
            }
            Msg::Panic(_reply) => panic!("the drawer is stuck"),
            Msg::Hang(_reply) => std::future::pending().await,
            Msg::Fail(_reply) => return Err(Fault::new("out of paper")),
            Msg::SellByCard(n, reply) => {
                // Runs beside the mailbox; its result comes back as a message, with the reply in it.
                cx.pipe(tokio::time::sleep(100 * MS), move |()| Msg::CardAccepted(n, reply));
            }
        }
        Ok(())
    }
}

/// Sends something that goes wrong, with a sale queued right behind it.
async fn try_it(title: &str, till: &Handle<Till>, wrong: fn(Reply<u64>) -> Msg) {
    println!("\n{title}");
    let (wrong, sale) = (till.ask(wrong), till.ask(|reply| Msg::Sell(1, reply)));
    println!("    the message that did it: {:?}", wrong.await);
    println!("    the sale queued behind:  {:?}", sale.await);
}

fn show(registry: &Registry) {
    for actor in registry.report() {
        println!(
            "    {:<6} {:<10} handled {:>2}  failed {}  restarts {}  last error: {}",
            actor.name,
            actor.state.as_str(),
            actor.handled,
            actor.failed,
            actor.restarts,
            actor.last_error.as_deref().unwrap_or("none")
        );
    }
}

async fn story() {
    // Panics are part of the story; one line each is enough.
    std::panic::set_hook(Box::new(|panic| {
        println!("    (panic: {})", panic.payload_as_str().unwrap_or("?"))
    }));

    // Three restarts within a minute, then the supervisor is asked; it grants one new start, then it gives up too.
    let policy =
        |max_restarts| RestartPolicy { max_restarts, backoff_min: 10 * MS, ..RestartPolicy::default() };
    let registry = Registry::new();
    let shop = Supervisor::new("shop", Strategy::OneForOne, policy(1), &registry);
    let spec = Spec::new("till", 8).limit(200 * MS).restart(policy(3));
    let till = shop.start(spec, Place::Here, || Till { sold: 0 });

    println!("1. Three sales");
    for n in 1..=3 {
        println!("    sold in all: {:?}", till.ask(|reply| Msg::Sell(n, reply)).await);
    }
    try_it("2. A panic: the asker is told, the state is new, the mailbox is kept", &till, Msg::Panic).await;
    try_it("3. A handler that hangs is cut short after 200 ms", &till, Msg::Hang).await;
    try_it("4. A handler that returns an error", &till, Msg::Fail).await;
    try_it(
        "5. The fourth failure: the budget is spent, the supervisor grants a new start",
        &till,
        Msg::Panic,
    )
    .await;
    show(&registry);

    println!("\n6. Eight places in the mailbox: the ninth and tenth sale are refused at once");
    let sales: Vec<_> = (0..10).map(|_| till.ask(|reply| Msg::Sell(1, reply))).collect();
    for sale in sales {
        print!("    {:?}", sale.await);
    }

    println!("\n\n7. A drain waits for the card payment that is still on its way");
    let card = till.ask(|reply| Msg::SellByCard(5, reply));
    println!("    drained: {}, card: {:?}", till.drain(Duration::from_secs(1)).await, card.await);
    println!("    who comes later: {:?}", till.ask(|reply| Msg::Sell(1, reply)).await);

    println!("\n8. A second till fails until nobody has an answer: the application is told to end");
    let spec = Spec::new("till-2", 8).restart(policy(0));
    let till = shop.start(spec, Place::Here, || Till { sold: 0 });
    let (wrong, waiting) = (till.ask(Msg::Fail), till.ask(|reply| Msg::Sell(1, reply)));
    println!("    the message that did it: {:?}", wrong.await);
    println!("    root failed: {}", shop.root_failed().await);
    println!("    {:?}", shutdown(&shop, &[&till], 100 * MS).await);
    println!("    the sale that waited:    {:?}", waiting.await);
    show(&registry);
}

fn main() {
    actix_rt::System::new().block_on(story());
}
