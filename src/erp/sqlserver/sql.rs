//! The statements. Each begins with a comment by which an operator finds it in the server's own views.
//!
//! Decimals and moments travel as text: the driver makes `money` a binary float, and a `datetime` comes back to the
//! server as another type that compares unequal for a third of all values. A millisecond text, cast to `datetime`, is
//! the same tick again.

use super::Isolation;
use crate::ports::erp::Strategy;
use std::fmt::Write as _;

/// How changes are found in each table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub strategy: Strategy,
    /// The rowversion column of the balances, if they are read by it.
    pub balances: Option<String>,
    /// And of the products.
    pub products: Option<String>,
}

impl Plan {
    pub fn by_version(&self) -> bool {
        self.balances.is_some() || self.products.is_some()
    }
}

/// Errors after which the same statement may be asked again at once: a scan without locks that met a page split, the
/// victim of a deadlock, a lock that was waited for in vain.
pub fn is_passing(code: Option<u32>) -> bool {
    matches!(code, Some(601 | 1205 | 1222))
}

/// What every session begins with.
pub fn session(isolation: Isolation) -> &'static [&'static str] {
    match isolation {
        Isolation::Nolock => &["SET LOCK_TIMEOUT 3000", "SET DEADLOCK_PRIORITY LOW"],
        Isolation::Snapshot => &[
            "SET LOCK_TIMEOUT 3000",
            "SET DEADLOCK_PRIORITY LOW",
            "SET TRANSACTION ISOLATION LEVEL SNAPSHOT",
        ],
    }
}

fn hint(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Nolock => " WITH (NOLOCK)",
        Isolation::Snapshot => "",
    }
}

const HEAD: &str = "SELECT CONVERT(varchar(23), GETDATE(), 126) AS RELOJ, DB_NAME() AS BASE,
    (SELECT CONVERT(varchar(23), create_date, 126) FROM sys.databases WHERE name = DB_NAME()) AS CREADA";

const HEAD_VERSION: &str = ", CONVERT(bigint, MIN_ACTIVE_ROWVERSION()) AS VERSION";

/// Everything that can be known without reading a row. Tables that the login may not read are not in the catalogue.
pub const PROBE: &str = "/* blend:probe */
SELECT CONVERT(varchar(23), GETDATE(), 126) AS RELOJ, DB_NAME() AS BASE,
    (SELECT CONVERT(varchar(23), create_date, 126) FROM sys.databases WHERE name = DB_NAME()) AS CREADA;
SELECT CONVERT(varchar(128), SERVERPROPERTY('ProductVersion')) AS PRODUCTO,
    CONVERT(bigint, compatibility_level) AS NIVEL, CONVERT(bigint, snapshot_isolation_state) AS SNAPSHOT,
    CONVERT(bigint, is_read_committed_snapshot_on) AS RCSI
FROM sys.databases WHERE name = DB_NAME();
SELECT CONVERT(varchar(128), o.name) AS TABLA, CONVERT(varchar(128), c.name) AS COLUMNA,
    CONVERT(varchar(128), TYPE_NAME(c.system_type_id)) AS TIPO
FROM sys.columns AS c JOIN sys.objects AS o ON o.object_id = c.object_id
WHERE o.object_id IN (OBJECT_ID('dbo.STK_SALDOS'), OBJECT_ID('dbo.STK_PRODUCTOS'));
SELECT t.TABLA, CONVERT(bigint, ISNULL(HAS_PERMS_BY_NAME('dbo.' + t.TABLA, 'OBJECT', 'SELECT'), 0)) AS LEE,
    CONVERT(bigint, ISNULL(HAS_PERMS_BY_NAME('dbo.' + t.TABLA, 'OBJECT', 'UPDATE'), 0)) AS ESCRIBE
FROM (VALUES ('STK_SALDOS'), ('STK_PRODUCTOS')) AS t (TABLA);";

const BALANCE: &str = "CONVERT(bigint, s.ID) AS ID, s.CODIGO AS CODIGO, s.TALLE AS TALLE, s.COLOR AS COLOR,
    CONVERT(varchar(40), s.CANTIDAD) AS CANTIDAD, s.SUCURSAL AS SUCURSAL,
    CONVERT(varchar(23), s.FECHA_ULTIMO_MOVIMIENTO, 126) AS FECHA";

const PRODUCT: &str = "p.CODIGO AS P_CODIGO, p.DESCRIPCION AS DESCRIPCION, p.RUBRO AS RUBRO,
    CONVERT(varchar(40), CONVERT(decimal(19, 4), p.PRECIO)) AS PRECIO,
    CONVERT(varchar(40), CONVERT(decimal(19, 4), p.COSTO)) AS COSTO, p.MARCA AS MARCA, p.PROVEEDOR AS PROVEEDOR,
    p.ACTIVO AS ACTIVO, CONVERT(varchar(23), p.FECHA_MODIFICACION, 126) AS P_FECHA";

pub fn head(plan: &Plan) -> String {
    let version = if plan.by_version() { HEAD_VERSION } else { "" };
    format!("/* blend:head */ {HEAD}{version};")
}

/// A column's name, quoted.
fn quoted(name: &str) -> String {
    format!("[{}]", name.replace(']', "]]"))
}

fn joined(isolation: Isolation) -> String {
    let hint = hint(isolation);
    format!("FROM dbo.STK_SALDOS AS s{hint} LEFT JOIN dbo.STK_PRODUCTOS AS p{hint} ON p.CODIGO = s.CODIGO")
}

/// Clock, changed balances with their products, changed products, and some balances again: one round trip. `@P1` rows
/// of each at most; balances from `@P2` (by moment: behind row `@P3` of it, and `@P4` seconds before), products from
/// `@P5` (behind code `@P6`, and `@P7` seconds before).
pub fn poll(plan: &Plan, isolation: Isolation, again: &[i64]) -> String {
    let (joined, hint) = (joined(isolation), hint(isolation));
    let version = if plan.by_version() { HEAD_VERSION } else { "" };
    let mut sql = format!("/* blend:poll */ {HEAD}{version};\n");
    let balances = match plan.balances.as_deref().map(quoted) {
        Some(rv) => format!(
            "SELECT TOP (@P1) {BALANCE}, CONVERT(bigint, s.{rv}) AS VERSION, {PRODUCT} {joined}
             WHERE s.{rv} > CONVERT(binary(8), @P2) AND s.{rv} < MIN_ACTIVE_ROWVERSION() ORDER BY s.{rv}, s.ID;"
        ),
        None => format!(
            "SELECT TOP (@P1) {BALANCE}, {PRODUCT} {joined}
             WHERE s.FECHA_ULTIMO_MOVIMIENTO > DATEADD(second, -@P4, CAST(@P2 AS datetime))
                OR (s.FECHA_ULTIMO_MOVIMIENTO = DATEADD(second, -@P4, CAST(@P2 AS datetime)) AND s.ID > @P3)
             ORDER BY s.FECHA_ULTIMO_MOVIMIENTO, s.ID;"
        ),
    };
    let products = match plan.products.as_deref().map(quoted) {
        Some(rv) => format!(
            "SELECT TOP (@P1) {PRODUCT}, CONVERT(bigint, p.{rv}) AS P_VERSION FROM dbo.STK_PRODUCTOS AS p{hint}
             WHERE p.{rv} > CONVERT(binary(8), @P5) AND p.{rv} < MIN_ACTIVE_ROWVERSION() ORDER BY p.{rv}, p.CODIGO;"
        ),
        None => format!(
            "SELECT TOP (@P1) {PRODUCT} FROM dbo.STK_PRODUCTOS AS p{hint}
             WHERE p.FECHA_MODIFICACION > DATEADD(second, -@P7, CAST(@P5 AS datetime))
                OR (p.FECHA_MODIFICACION = DATEADD(second, -@P7, CAST(@P5 AS datetime)) AND p.CODIGO > @P6)
             ORDER BY p.FECHA_MODIFICACION, p.CODIGO;"
        ),
    };
    sql.push_str(&balances);
    sql.push('\n');
    sql.push_str(&products);
    if !again.is_empty() {
        sql.push('\n');
        sql.push_str(&some(isolation, again));
    }
    sql
}

/// The page of everything behind row `@P2`, `@P1` rows at most.
pub fn page(isolation: Isolation) -> String {
    let joined = joined(isolation);
    format!("/* blend:page */ SELECT TOP (@P1) {BALANCE}, {PRODUCT} {joined} WHERE s.ID > @P2 ORDER BY s.ID;")
}

/// Some balances as they are now.
pub fn rows(isolation: Isolation, ids: &[i64]) -> String {
    format!("/* blend:rows */ {}", some(isolation, ids))
}

/// Numbers stand in the text, for a list cannot be a parameter; each plan is used once, so none is kept.
fn some(isolation: Isolation, ids: &[i64]) -> String {
    let mut list = String::new();
    for id in ids {
        // Writing to a text does not fail.
        write!(list, "{}{id}", if list.is_empty() { "" } else { "," }).ok();
    }
    let joined = joined(isolation);
    format!("SELECT {BALANCE}, {PRODUCT} {joined} WHERE s.ID IN ({list}) OPTION (RECOMPILE);")
}
