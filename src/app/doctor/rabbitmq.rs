//! RabbitMQ as the bus needs it: a virtual host in which Blend may declare, publish and consume, and a broker that
//! confirms.

use super::address::Address;
use super::report::{Checks, Verdict, version};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Error};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The largest greeting that is read. RabbitMQ's has about 500 bytes.
const GREETING: u64 = 16_384;

/// AMQP reply-success (AMQP 0-9-1, 1.2).
const GOODBYE: u16 = 200;

/// Looks at the broker of a url. `confirm_limit` is how long it may take to confirm a message.
pub(super) async fn probe(url: &str, confirm_limit: Duration, checks: &mut Checks) {
    let encrypted = url.starts_with("amqps://");
    let address = Address::of(url, if encrypted { 5671 } else { 5672 });
    address.judge_encryption(encrypted, "use amqps:// in RABBITMQ_URL (bus.url)", checks);
    let Some(stream) = address.is_reached("RABBITMQ_URL (bus.url)", checks).await else { return };
    match encrypted {
        true => checks.ok("version", "not asked for over TLS; 3.8 or later is needed"),
        false => judge_version(greeting(stream).await.ok().flatten().as_deref(), checks),
    }
    let name = ConnectionProperties::default().with_connection_name("blend doctor".into());
    let connection = match Connection::connect(url, name).await {
        Ok(connection) => connection,
        Err(error) => {
            let advice = "correct user, password or virtual host in RABBITMQ_URL (bus.url); the virtual host / is written %2f; the \
                          user guest is let in from the broker's own machine only";
            address.refused(error, advice, checks);
            return;
        }
    };
    checks.ok("login", format!("accepted, virtual host {}", connection.status().vhost()));
    if let Err(error) = try_out(&connection, confirm_limit, checks).await {
        checks.fail(
            "permissions",
            address.hide(error),
            "give the user its virtual host: rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'",
        );
    }
    // It may be gone already, for the reason that was just told.
    connection.close(GOODBYE, "done".into()).await.ok();
}

/// The version in the broker's greeting, which the driver keeps to itself: method Start of class Connection, with a
/// table of the server's properties (AMQP 0-9-1, 4.2.5.5 and 4.2.2).
async fn greeting(mut stream: TcpStream) -> std::io::Result<Option<String>> {
    stream.write_all(b"AMQP\0\0\x09\x01").await?;
    let mut header = [0_u8; 7];
    stream.read_exact(&mut header).await?;
    let length = u64::from(u32::from_be_bytes([header[3], header[4], header[5], header[6]]));
    let mut payload = Vec::new();
    stream.take(length.min(GREETING)).read_to_end(&mut payload).await?;
    Ok(version_in(&payload))
}

/// The field "version" of a table: its name behind its length, `S` for a long text, and the text behind its length.
fn version_in(table: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"\x07versionS";
    let at = table.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let (length, text) = table[at..].split_first_chunk::<4>()?;
    let text = text.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}

fn judge_version(found: Option<&str>, checks: &mut Checks) {
    match found {
        Some(number) => checks.judge(
            "version",
            number,
            version(number) >= vec![3, 8],
            Verdict::Failed,
            "use RabbitMQ 3.8 or later: quorum queues came with it",
        ),
        None => checks.fail(
            "version",
            "not told: this is no AMQP 0-9-1 broker",
            "point RABBITMQ_URL (bus.url) at the broker's AMQP port, usually 5672; 15672 is its web page",
        ),
    }
}

/// Declares a queue of its own, sends it a message and takes it away. Each step's success is told as it is made.
async fn try_out(connection: &Connection, limit: Duration, checks: &mut Checks) -> Result<(), Error> {
    let channel = connection.create_channel().await?;
    let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), own, FieldTable::default()).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let confirmed = timeout(limit, publish(&channel, queue.name().as_str())).await;
    let advice = "look at the broker's alarms (rabbitmq-diagnostics alarms) and its log; publishers are stopped while memory or \
                  disk is short";
    match confirmed {
        Ok(confirmed) => {
            let confirmed = confirmed?;
            checks.ok("permissions", "declares and publishes");
            let found =
                if confirmed { "come" } else { "the broker refused a message, or could not route it" };
            checks.judge("confirms", found, confirmed, Verdict::Failed, advice);
        }
        Err(_) => {
            let blocked = connection.status().blocked();
            let found = if blocked { "none: the broker has stopped publishers" } else { "none came in time" };
            checks.fail("confirms", found, advice);
            // A broker that stopped publishers reads nothing more from this connection, and takes the queue away with it.
            return Ok(());
        }
    }
    channel.queue_delete(queue.name().clone(), QueueDeleteOptions::default()).await?;
    channel.close(GOODBYE, "done".into()).await
}

/// Whether the broker took a message and had a queue for it.
async fn publish(channel: &Channel, queue: &str) -> Result<bool, Error> {
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default();
    let sent = channel.basic_publish("".into(), queue.into(), mandatory, b"blend doctor", properties).await?;
    let confirmation = sent.await?;
    Ok(confirmation.is_ack() && confirmation.take_message().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_a_greeting_and_nowhere_else() {
        let mut table =
            b"\x00\x0a\x00\x0a\0\x09\0\0\0\x3a\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.13.7"
                .to_vec();
        assert_eq!(version_in(&table).as_deref(), Some("3.13.7"));
        table.pop();
        assert_eq!(version_in(&table), None, "cut off");
        assert_eq!((version_in(b"HTTP/1.1 400 version"), version_in(b"")), (None, None));
    }

    #[test]
    fn old_brokers_and_other_programs_fail() {
        let judged = |found| {
            let mut checks = Checks::new("rabbitmq");
            judge_version(found, &mut checks);
            checks.into_list()[0].verdict
        };
        assert_eq!((judged(Some("3.8.0")), judged(Some("4.1.2"))), (Verdict::Ok, Verdict::Ok));
        assert_eq!((judged(Some("3.7.28")), judged(None)), (Verdict::Failed, Verdict::Failed));
    }
}
