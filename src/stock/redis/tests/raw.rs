//! The scripts as anybody may call them: with arguments that this program would never send.

use super::*;
use crate::stock::redis::scripts::Script;
use futures_util::future::join_all;
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::collections::BTreeMap;

const BOOK: &str = "stock:{t}:book";
const A: &str = "stock:{t}:a:l";
const B: &str = "stock:{t}:b:l";

struct Raw {
    server: RedisServer,
    connection: MultiplexedConnection,
}

impl Raw {
    /// Epoch 10, with 10 of A and 1 of B.
    async fn loaded() -> Self {
        let server = RedisServer::start(&[]).await;
        let connection = server.connection().await;
        let raw = Self { server, connection };
        assert_eq!(raw.run(Script::Warmup, &[BOOK, A, B], &["10", "0", "1", "10", "1"]).await, [1]);
        raw
    }

    /// The reply as numbers; texts that are none count as 0.
    async fn run(&self, script: Script, keys: &[&str], args: &[&str]) -> Vec<i64> {
        self.try_run(script, keys, args).await.unwrap()
    }

    async fn try_run(
        &self,
        script: Script,
        keys: &[&str],
        args: &[&str],
    ) -> Result<Vec<i64>, redis::RedisError> {
        let mut command = redis::cmd("EVAL");
        command.arg(script.source("raw")).arg(keys.len()).arg(keys).arg(args);
        let reply: Vec<Value> = command.query_async(&mut self.connection.clone()).await?;
        let number = |value| redis::from_redis_value::<i64>(value).unwrap_or_default();
        Ok(reply.into_iter().map(number).collect())
    }

    /// Asks for one sale without a key: a quantity of each place, and whether there must be a level.
    async fn take(&self, sale: &str, args: &[&str], keys: &[&str]) -> Vec<i64> {
        self.take_of("10", &[sale, "", ""], args, keys).await
    }

    /// The same, of an epoch and with a key and its fingerprint: the reply to the sale, or that to the whole call.
    async fn take_of(&self, epoch: &str, sale: &[&str; 3], args: &[&str], keys: &[&str]) -> Vec<i64> {
        take_over(&self.connection, epoch, sale, args, keys).await
    }

    async fn get(&self, place: &str) -> String {
        self.server.run(&["GET", place]).await
    }

    /// Everything that is there.
    async fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        for key in self.server.run::<Vec<String>>(&["KEYS", "*"]).await {
            all.insert(key.clone(), self.server.run(&["DUMP", &key]).await);
        }
        all
    }
}

async fn take_over(
    connection: &MultiplexedConnection,
    epoch: &str,
    sale: &[&str; 3],
    args: &[&str],
    keys: &[&str],
) -> Vec<i64> {
    let (pairs, _) = args.as_chunks::<2>();
    let (count, numbers) = (keys.len().to_string(), (1..=keys.len()).map(|n| n.to_string()));
    let numbers: Vec<String> = numbers.collect();
    let mut all = vec![epoch];
    all.extend(pairs.iter().map(|[_, known]| *known));
    all.extend(sale);
    all.push(&count);
    all.extend(numbers.iter().zip(pairs).flat_map(|(number, [quantity, _])| [number.as_str(), quantity]));
    let mut command = redis::cmd("EVAL");
    command.arg(Script::MultiReserve.source("raw")).arg(keys.len() + 1).arg(BOOK).arg(keys).arg(&all);
    let reply: Vec<Value> = command.query_async(&mut connection.clone()).await.unwrap();
    let number = |value: &Value| redis::from_redis_value::<i64>(value.clone()).unwrap_or_default();
    match &reply[..] {
        [Value::Int(1), Value::Array(of_sale)] => of_sale.iter().map(number).collect(),
        other => other.iter().map(number).collect(),
    }
}

/// Fractions, words, signs, numbers beyond 2^53 - 1: each refused by its number, before anything is touched.
#[tokio::test]
async fn d2_d3_d4_d8_what_is_no_quantity_has_its_own_code_and_writes_nothing() {
    let raw = Raw::loaded().await;
    let before = raw.all().await;
    let bad = [
        "1.5",
        "-3",
        "0",
        "abc",
        "",
        "1e3",
        "0x10",
        " 1",
        "1 ",
        "9007199254740992",
        "9007199254740993",
        "123456789012345678",
        "99999999999999999999999999",
        "nan",
        "inf",
        "-0",
        "1\n",
    ];
    for quantity in bad {
        // The bad one comes second, so the first would already be taken if it were not for the check.
        assert_eq!(raw.take("1", &["3", "1", quantity, "1"], &[A, B]).await, [-4, 2], "{quantity:?}");
    }
    for level in ["1.5", "abc", "", "9007199254740992", "-9007199254740992", "1e17"] {
        let reply = raw.run(Script::Warmup, &[BOOK, A, B], &["11", "0", "1", "5", level]).await;
        assert_eq!(reply, [-4, 5], "{level:?}");
        let reply = raw.run(Script::Move, &[BOOK, A], &["10", "1", "1", "1", level]).await;
        assert_eq!(reply, [-4, 5], "{level:?}");
    }
    assert_eq!(raw.all().await, before);
}

#[tokio::test]
async fn every_script_refuses_arguments_that_are_not_its_own() {
    let raw = Raw::loaded().await;
    raw.take("c", &["1", "1"], &[A]).await;
    let before = raw.all().await;
    let (e, id) = ("10", "ab");
    let calls: &[(Script, &[&str], &[&str], i64)] = &[
        (Script::MultiReserve, &[], &[], 0),
        (Script::MultiReserve, &[BOOK, A], &[e], 0),
        (Script::MultiReserve, &[BOOK], &[e, "no id", "", "", "0"], 2),
        (Script::MultiReserve, &[BOOK], &[e, id, "no id", "ab", "0"], 3),
        (Script::MultiReserve, &[BOOK], &[e, id, "ab", "", "0"], 4),
        (Script::MultiReserve, &[BOOK], &[e, id, "", ""], 5),
        (Script::MultiReserve, &[BOOK, A], &[e, "1", id, "", "", "2", "1", "1"], 6),
        (Script::MultiReserve, &[BOOK, A], &[e, "1", id, "", "", "1", "1"], 0),
        (Script::MultiReserve, &[BOOK, A], &[e, "2", id, "", "", "1", "1", "1"], 2),
        (Script::MultiReserve, &[BOOK, A, A], &[e, "1", "1", id, "", "", "1", "1", "1"], 3),
        (Script::Settle, &[BOOK], &[], 0),
        (Script::Settle, &[BOOK, A, A], &[e, "c"], 0),
        (Script::Settle, &[BOOK, A], &[e, "c", "-"], 3),
        (Script::Settle, &[BOOK, A], &[e, "-"], 2),
        (Script::Settle, &[BOOK], &[e, "c"], 2),
        (Script::Settle, &[BOOK, B], &[e, "c"], 2),
        (Script::Rollback, &[BOOK, B], &[e, "c"], 2),
        (Script::Rollback, &[BOOK], &[e, "c", "x"], 0),
        (Script::Warmup, &[BOOK, A], &["11", "0", "1"], 0),
        (Script::Warmup, &[BOOK], &["0", "0", "1"], 1),
        (Script::Warmup, &[BOOK], &["11", "x", "1"], 2),
        (Script::Warmup, &[BOOK], &["11", "0", "2"], 3),
        (Script::Warmup, &[BOOK, A, A], &["11", "0", "1", "1", "1"], 5),
        (Script::Move, &[BOOK, A], &[e, "1", "1", "1"], 0),
        (Script::Move, &[BOOK, A], &[e, "0", "1", "1", "1"], 2),
        (Script::Move, &[BOOK, A], &[e, "1", "1", "2", "1"], 4),
        (Script::Move, &[BOOK, A, A], &[e, "1", "1", "1", "1", "1"], 4),
        (Script::Check, &[BOOK, A], &[e, "1"], 0),
        (Script::KeyUse, &[BOOK], &[e, "*"], 2),
        (Script::RememberKey, &[BOOK], &[e, "a", "b", "c d"], 4),
        (Script::OldestKeys, &[BOOK], &[e, "-1", "5"], 2),
        (Script::OldestKeys, &[BOOK], &[e, "1", "10001"], 3),
        (Script::ForgetKeys, &[BOOK], &[e, "0", "5"], 2),
        (Script::ForgetKeys, &[BOOK], &[e, "1", "x"], 3),
    ];
    for (script, keys, args, argument) in calls {
        let reply = raw.run(*script, keys, args).await;
        assert_eq!(reply, [-4, *argument], "{script:?} {keys:?} {args:?}");
    }
    assert_eq!(raw.take("c", &["2", "1"], &[A]).await, [-4, 0], "the same sale with another quantity");
    assert_eq!(raw.all().await, before);
}

#[tokio::test]
async fn every_script_is_fenced_and_what_is_half_loaded_cannot_be_used() {
    let raw = Raw::loaded().await;
    let calls = |epoch: &'static str| -> Vec<(Script, Vec<&str>, Vec<&str>)> {
        vec![
            (Script::MultiReserve, vec![BOOK, A], vec![epoch, "1", "1", "", "", "1", "1", "1"]),
            (Script::Settle, vec![BOOK], vec![epoch, "1"]),
            (Script::Rollback, vec![BOOK], vec![epoch, "1"]),
            (Script::Move, vec![BOOK, A], vec![epoch, "1", "1", "1", "1"]),
            (Script::Check, vec![BOOK, A], vec![epoch]),
            (Script::KeyUse, vec![BOOK], vec![epoch, "1"]),
            (Script::RememberKey, vec![BOOK], vec![epoch, "1", "1", "1"]),
            (Script::OldestKeys, vec![BOOK], vec![epoch, "0", "1"]),
            (Script::ForgetKeys, vec![BOOK], vec![epoch, "1", "1"]),
            (Script::Warmup, vec![BOOK, A], vec![epoch, "1", "1", "1"]),
        ]
    };
    let before = raw.all().await;
    for (script, keys, args) in calls("9").into_iter().chain(calls("11")) {
        assert_eq!(raw.run(script, &keys, &args).await, [-3, 10], "{script:?} {args:?}");
    }
    for epoch in ["9", "10"] {
        assert_eq!(raw.run(Script::Warmup, &[BOOK, A], &[epoch, "0", "1", "7"]).await, [-3, 10]);
    }
    assert_eq!(raw.all().await, before);
    // The first of three pieces: from here on nobody may act, not even under the new epoch.
    assert_eq!(raw.run(Script::Warmup, &[BOOK, A], &["12", "0", "0", "7"]).await, [1]);
    let loading = raw.all().await;
    for (script, keys, args) in calls("12").into_iter().chain(calls("10")) {
        let is_next_piece = script == Script::Warmup && args[0] == "12";
        if !is_next_piece {
            assert_eq!(raw.run(script, &keys, &args).await[0], -3, "{script:?} {args:?}");
        }
    }
    assert_eq!(raw.run(Script::Warmup, &[BOOK, B], &["12", "2", "1", "7"]).await, [-3, 12]);
    assert_eq!(raw.all().await, loading);
    assert_eq!(raw.run(Script::Warmup, &[BOOK], &["12", "1", "0"]).await, [1]);
    assert_eq!(raw.run(Script::Warmup, &[BOOK, B], &["12", "2", "1", "8"]).await, [1]);
    assert_eq!(raw.run(Script::Check, &[BOOK, A, B], &["12"]).await, [1, 1, 7, 0, 1, 8, 0]);
    assert_eq!(raw.server.run::<Vec<String>>(&["HKEYS", BOOK]).await, ["epoch"]);
    // A level of an older load is missing, whether it must be there or not.
    raw.server.run::<()>(&["SET", A, "10 99 0"]).await;
    assert_eq!(raw.take_of("12", &["1", "", ""], &["1", "1"], &[A]).await, [-2, 1]);
    assert_eq!(raw.take_of("12", &["1", "", ""], &["1", "0"], &[A]).await, [-1, 1, 0]);
}

/// D6, D7, D8, D33: one of the places is short, or named twice, or gone.
#[tokio::test]
async fn d6_d7_d33_a_sale_takes_all_or_nothing() {
    let raw = Raw::loaded().await;
    let before = raw.all().await;
    assert_eq!(raw.take("1", &["3", "1", "5", "1"], &[A, B]).await, [-1, 2, 1]);
    assert_eq!(raw.take("1", &["11", "1", "5", "1"], &[A, B]).await, [-1, 1, 10, 2, 1], "both are short");
    assert_eq!(raw.take("1", &["6", "1", "6", "1"], &[A, A]).await, [-4, 3], "the same place twice");
    assert_eq!(raw.take("1", &["3", "1", "5", "1"], &[A, "stock:{t}:x:l"]).await, [-2, 2]);
    assert_eq!(raw.all().await, before);
    assert_eq!(raw.take("1", &["3", "1", "1", "1"], &[A, B]).await, [1]);
    assert_eq!((raw.get(A).await, raw.get(B).await), ("10 10 3".into(), "10 1 1".into()));
    // Sent twice, taken once.
    let taken = raw.all().await;
    assert_eq!(raw.take("1", &["3", "1", "1", "1"], &[A, B]).await, [1]);
    assert_eq!(raw.all().await, taken);
}

/// D11: given back by the reservation, once; and what is settled stays so.
#[tokio::test]
async fn d11_a_reservation_ends_once() {
    let raw = Raw::loaded().await;
    raw.take("1", &["3", "1"], &[A]).await;
    for code in [1, 0, 0] {
        assert_eq!(raw.run(Script::Rollback, &[BOOK, A], &["10", "1"]).await, [code]);
        assert_eq!(raw.get(A).await, "10 10 0");
    }
    raw.take("2", &["4", "1"], &[A]).await;
    assert_eq!(raw.run(Script::Settle, &[BOOK, A], &["10", "2"]).await, [1, 0]);
    for (script, reply) in [(Script::Settle, &[1, 0][..]), (Script::Rollback, &[0])] {
        assert_eq!(raw.run(script, &[BOOK, A], &["10", "2"]).await, reply);
        assert_eq!(raw.get(A).await, "10 6 0");
    }
    // A movement that is sent twice counts once.
    for _ in 0..2 {
        assert_eq!(raw.run(Script::Move, &[BOOK, A], &["10", "1", "1", "1", "5"]).await, [1]);
        assert_eq!(raw.get(A).await, "10 11 0");
    }
}

/// D3: Redis writes Lua numbers above 10^14 as powers of ten.
#[tokio::test]
async fn d3_the_largest_quantities_stay_what_they_are() {
    let raw = Raw::loaded().await;
    let most = "9007199254740991";
    assert_eq!(
        raw.run(Script::Warmup, &[BOOK, A, B], &["11", "0", "1", most, "-9007199254740991"]).await,
        [1]
    );
    assert_eq!((raw.get(A).await, raw.get(B).await), (format!("11 {most} 0"), format!("11 -{most} 0")));
    assert_eq!(raw.take_of("11", &["1", "", ""], &[most, "1"], &[A]).await, [1]);
    assert_eq!(raw.get(A).await, format!("11 {most} {most}"));
    assert_eq!(raw.run(Script::Move, &[BOOK, B], &["11", "1", "1", "1", "-1"]).await, [-7, 1]);
    // What is held when movements bring the level to the bound is taken no further.
    assert_eq!(raw.run(Script::Warmup, &[BOOK, A], &["12", "0", "1", "5"]).await, [1]);
    assert_eq!(raw.take_of("12", &["1", "", ""], &["5", "1"], &[A]).await, [1]);
    let down = ["12", "1", "1", "1", "-5", "1", "-9007199254740991"];
    assert_eq!(raw.run(Script::Move, &[BOOK, A], &down).await, [1]);
    assert_eq!(raw.run(Script::Settle, &[BOOK, A], &["12", "1"]).await, [1, 0]);
    assert_eq!(raw.get(A).await, format!("12 -{most} 0"));
}

/// D13: nothing expires, and a sale does not make it.
#[tokio::test]
async fn d13_no_key_expires() {
    let raw = Raw::loaded().await;
    raw.take("1", &["3", "1"], &[A]).await;
    raw.run(Script::Settle, &[BOOK, A], &["10", "1"]).await;
    for key in raw.all().await.keys() {
        assert_eq!(raw.server.run::<i64>(&["TTL", key]).await, -1, "{key}");
    }
}

#[tokio::test]
async fn d9_a_script_cannot_reach_what_is_not_declared_as_its_own() {
    let cluster = RedisCluster::start().await;
    let client = redis::cluster::ClusterClient::new([cluster.url()]).unwrap();
    let mut connection = client.get_async_connection().await.unwrap();
    let mut command = redis::cmd("EVAL");
    command.arg(Script::Check.source("raw")).arg(2).arg("stock:{t}:book").arg("stock:{u}:a:l").arg("10");
    let refused = command.query_async::<Value>(&mut connection).await.unwrap_err();
    assert!(refused.to_string().to_lowercase().contains("slot"), "{refused}");
}

/// 64 tills, each on a connection of its own, want the last units of one place.
#[tokio::test]
async fn d34_concurrent_tills_sell_exactly_what_there_is() {
    const TILLS: usize = 64;
    const EACH: usize = 20;
    const UNITS: usize = 500;
    let server = RedisServer::start(&[]).await;
    let raw = Raw { connection: server.connection().await, server };
    let units = UNITS.to_string();
    assert_eq!(raw.run(Script::Warmup, &[BOOK, A], &["10", "0", "1", &units]).await, [1]);
    let till = async |till: usize| {
        let connection = raw.server.connection().await;
        let mut counts = (0, 0);
        for n in 0..EACH {
            let sale = format!("{:x}", till * EACH + n);
            match take_over(&connection, "10", &[&sale, "", ""], &["1", "1"], &[A]).await[..] {
                [1] => counts.0 += 1,
                [-1, 1, 0] => counts.1 += 1,
                ref reply => panic!("{reply:?}"),
            }
        }
        counts
    };
    let (sold, refused) = join_all((0..TILLS).map(till))
        .await
        .into_iter()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!((sold, refused), (UNITS, TILLS * EACH - UNITS));
    assert_eq!(raw.get(A).await, format!("10 {UNITS} {UNITS}"));
}

/// D29: the key is bound in the step that takes the units, and freed by the one that gives them back.
#[tokio::test]
async fn d29_a_key_is_used_once() {
    let raw = Raw::loaded().await;
    let take = async |sale: &str, fingerprint: &str| {
        raw.take_of("10", &[sale, "fe", fingerprint], &["1", "1"], &[A]).await
    };
    assert_eq!(take("1", "aa").await, [1]);
    assert_eq!(take("2", "aa").await, [-5, 1]);
    assert_eq!(take("3", "bb").await, [-6]);
    assert_eq!(raw.run(Script::Rollback, &[BOOK, A], &["10", "1"]).await, [1]);
    assert_eq!(take("4", "bb").await, [1]);
    assert_eq!(raw.run(Script::Settle, &[BOOK, A], &["10", "4"]).await, [1, 1]);
    assert_eq!(take("5", "bb").await, [-5, 4]);
    assert_eq!(raw.get(A).await, "10 9 0");
    assert_eq!(raw.run(Script::OldestKeys, &[BOOK], &["10", "0", "9"]).await, [1, 1, 4]);
    for _ in 0..2 {
        assert_eq!(raw.run(Script::ForgetKeys, &[BOOK], &["10", "1", "1"]).await, [1, 0]);
    }
    assert_eq!(take("6", "cc").await, [1]);
}

/// Sales of one call meet each other as if each had been asked for alone.
#[tokio::test]
async fn d34_sales_that_are_asked_for_together_share_what_there_is() {
    let raw = Raw::loaded().await;
    let keys = [BOOK, A, B];
    let args = [
        &["10", "1", "1"][..],
        &["1", "", "", "1", "1", "6"],
        &["2", "fe", "aa", "2", "1", "1", "2", "1"],
        &["3", "fe", "aa", "1", "1", "1"],
        &["4", "fe", "bb", "1", "1", "1"],
        &["5", "", "", "2", "1", "4", "2", "1"],
        &["6", "", "", "1", "1", "x"],
        &["7", "", "", "0"],
        &["1", "", "", "1", "1", "6"],
    ]
    .concat();
    let mut command = redis::cmd("EVAL");
    command.arg(Script::MultiReserve.source("raw")).arg(keys.len()).arg(&keys).arg(&args);
    let reply: Vec<Value> = command.query_async(&mut raw.connection.clone()).await.unwrap();
    let of_sale = |value: &Value| match value {
        Value::Array(parts) => {
            parts.iter().map(|part| redis::from_redis_value(part.clone()).unwrap_or_default()).collect()
        }
        _ => Vec::new(),
    };
    let replies: Vec<Vec<i64>> = reply[1..].iter().map(of_sale).collect();
    assert_eq!(replies, [&[1][..], &[1], &[-5, 2], &[-6], &[-1, 1, 3, 2, 0], &[-4, 1], &[1], &[1]]);
    assert_eq!((raw.get(A).await, raw.get(B).await), ("10 10 7".into(), "10 1 1".into()));
}
