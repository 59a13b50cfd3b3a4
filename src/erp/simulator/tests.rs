//! The stand-in as an independent client sees it: the driver that Blend uses.

use super::*;
use std::sync::Arc;
use std::time::Duration;
use tiberius::numeric::Numeric;
use tiberius::{AuthMethod, Client, ColumnData, Config, EncryptionLevel, ToSql};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

const COLUMNS: [(&str, Type); 9] = [
    ("ID", Type::Int),
    ("CODIGO", Type::VarChar(50)),
    ("CANTIDAD", Type::Decimal(10, 2)),
    ("PRECIO", Type::Money),
    ("FECHA", Type::DateTime),
    ("ACTIVO", Type::Bit),
    ("RV", Type::Binary(8)),
    ("NOTA", Type::NVarChar(20)),
    ("GRANDE", Type::BigInt),
];

fn row(number: i64) -> Vec<Value> {
    vec![
        Value::Int(number),
        Value::Text(format!("REM-{number:03} ñ")),
        Value::Decimal(1_234 + i128::from(number), 2),
        Value::Money(150_000_000 + number),
        Value::DateTime(46_344, 10_800_000),
        Value::Bit(number % 2 == 0),
        Value::Bytes(number.to_be_bytes().to_vec()),
        Value::Text("€uro".to_owned()),
        Value::Int(number << 40),
    ]
}

async fn server() -> SqlServerStandIn {
    let handler: Handler = Arc::new(|request: &Request| {
        let mut steps = vec![Step::Columns(COLUMNS.to_vec())];
        match request.sql.as_str() {
            "ONE" => steps.push(Step::Row(row(3))),
            "NULLS" => steps.push(Step::Row(vec![Value::Null; 9])),
            "MANY" => steps.extend((1..=5_000).map(|number| Step::Row(row(number)))),
            "TWO RESULTS" => {
                steps.push(Step::Row(row(1)));
                steps.push(Step::Columns(COLUMNS[..1].to_vec()));
                steps.push(Step::Columns(COLUMNS[..1].to_vec()));
                steps.push(Step::Row(vec![Value::Int(7)]));
            }
            "UPDATE" => return vec![Step::Done(3)],
            "PRINT" => return vec![Step::Info("hola".to_owned())],
            sql => return vec![Step::Error(208, 16, format!("Invalid object name in {sql}"))],
        }
        steps
    });
    let login = Login { user: "sa".to_owned(), password: "Añ1!".to_owned() };
    SqlServerStandIn::start("127.0.0.1:0", login, handler).await.unwrap()
}

async fn connect(
    server: &SqlServerStandIn,
    password: &str,
) -> Result<Client<Compat<TcpStream>>, tiberius::error::Error> {
    let mut config = Config::new();
    config.host("127.0.0.1");
    config.port(server.address().port());
    config.authentication(AuthMethod::sql_server("sa", password));
    config.encryption(EncryptionLevel::NotSupported);
    config.command_timeout(Some(Duration::from_secs(5)));
    let socket = TcpStream::connect(config.get_addr()).await.unwrap();
    Box::pin(Client::connect(config, socket.compat_write())).await
}

#[tokio::test]
async fn logins_are_checked_and_twenty_may_be_in_at_once() {
    let server = server().await;
    let refused = connect(&server, "bad").await.err().unwrap();
    assert_eq!(refused.code(), Some(18_456));
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(connect(&server, "Añ1!").await.unwrap());
    }
    for client in &mut clients {
        assert_eq!(client.simple_query("ONE").await.unwrap().into_first_result().await.unwrap().len(), 1);
    }
    assert_eq!(server.logins(), 20);
    // One that connects and says nothing keeps nobody from coming in.
    let _half_open = TcpStream::connect(server.address()).await.unwrap();
    assert!(connect(&server, "Añ1!").await.is_ok());
}

#[tokio::test]
async fn every_type_and_every_null_arrives_in_batches_and_calls_of_any_size() {
    let server = server().await;
    let mut client = connect(&server, "Añ1!").await.unwrap();
    let one = client.query("ONE", &[&1_i32]).await.unwrap().into_row().await.unwrap().unwrap();
    assert_eq!((one.get::<i32, _>("ID"), one.get::<&str, _>("CODIGO")), (Some(3), Some("REM-003 ñ")));
    assert_eq!(one.get::<Numeric, _>("CANTIDAD").map(|number| number.value()), Some(1_237));
    assert_eq!((one.get::<bool, _>("ACTIVO"), one.get::<&str, _>("NOTA")), (Some(false), Some("€uro")));
    assert_eq!(one.get::<&[u8], _>("RV"), Some(&3_u64.to_be_bytes()[..]));
    assert_eq!(one.get::<i64, _>("GRANDE"), Some(3 << 40));
    assert!(matches!(one.cells().nth(4).unwrap().1, ColumnData::DateTime(Some(_))));
    let nulls = client.simple_query("NULLS").await.unwrap().into_row().await.unwrap().unwrap();
    assert!(nulls.get::<i32, _>(0).is_none() && nulls.get::<&str, _>(1).is_none());
    assert!(nulls.get::<Numeric, _>(2).is_none());
    assert!(nulls.get::<bool, _>(5).is_none() && nulls.get::<&[u8], _>(6).is_none());
    assert!(nulls.get::<i64, _>(8).is_none());
    let batch = client.simple_query("MANY").await.unwrap().into_first_result().await.unwrap();
    let call = client.query("MANY", &[&1_i32]).await.unwrap().into_first_result().await.unwrap();
    assert_eq!((batch.len(), call.len()), (5_000, 5_000));
    let several = client.query("TWO RESULTS", &[&1_i32]).await.unwrap().into_results().await.unwrap();
    assert_eq!(several.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 1]);
    assert_eq!(client.execute("UPDATE", &[&1_i32]).await.unwrap().total(), 3);
    assert!(
        client.simple_query("PRINT").await.unwrap().into_results().await.unwrap().iter().all(Vec::is_empty)
    );
    let unknown = async { client.query("SELECT 1", &[]).await?.into_results().await };
    let unknown = unknown.await.err().unwrap();
    assert_eq!(unknown.code(), Some(208));
}

#[tokio::test]
async fn parameters_of_every_kind_are_decoded() {
    struct Nothing;
    impl ToSql for Nothing {
        fn to_sql(&self) -> ColumnData<'_> {
            ColumnData::I32(None)
        }
    }
    let server = server().await;
    let mut client = connect(&server, "Añ1!").await.unwrap();
    let (long, amount, none) =
        ("x".repeat(5_000), Numeric::new_with_scale(-12_345, 2), Option::<String>::None);
    let params: [&dyn ToSql; 9] =
        [&1_i32, &-5_i64, &"str ñ", &true, &vec![1_u8, 2], &Nothing, &long.as_str(), &amount, &none];
    drop(client.query("ONE", &params).await.unwrap().into_results().await.unwrap());
    let statements = server.take_statements();
    let [Request { rpc: true, params, .. }] = &statements[..] else { panic!("{statements:?}") };
    let values: Vec<Value> = params.iter().map(|(_, value)| value.clone()).collect();
    assert_eq!(
        values,
        [
            Value::Int(1),
            Value::Int(-5),
            Value::Text("str ñ".to_owned()),
            Value::Bit(true),
            Value::Bytes(vec![1, 2]),
            Value::Null,
            Value::Text(long.clone()),
            Value::Decimal(-12_345, 2),
            Value::Null,
        ]
    );
    assert_eq!(statements[0].param("@P3"), Some(&Value::Text("str ñ".to_owned())));
}
