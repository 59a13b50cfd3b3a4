//! What the statements of the adapter find in the two tables, and what goes wrong with an answer.

use super::server::Step;
use super::shop::{Balance, Fault, Product, Tables};
use super::ticks::{text_of, ticks_of};
use super::wire::{Request, Type, Value};

/// Makes an answer go wrong.
pub fn spoil(steps: Vec<Step>, fault: Option<Fault>) -> Vec<Step> {
    let after_rows = |rows: usize, end: Step| {
        let mut left = rows;
        let mut cut: Vec<Step> = Vec::new();
        for step in steps.clone() {
            if matches!(step, Step::Row(_)) {
                if left == 0 {
                    break;
                }
                left -= 1;
            }
            cut.push(step);
        }
        cut.push(end);
        cut
    };
    match fault {
        Some(Fault::Stall(pause)) => [vec![Step::Sleep(pause)], steps].concat(),
        Some(Fault::CutAfterRows(rows)) => after_rows(rows, Step::Cut),
        Some(Fault::ErrorAfterRows(number, rows)) => {
            after_rows(rows, Step::Error(number, 13, format!("Error {number} after some rows.")))
        }
        _ => steps,
    }
}

const BALANCE: &[(&str, Type)] = &[
    ("ID", Type::BigInt),
    ("CODIGO", Type::VarChar(50)),
    ("TALLE", Type::VarChar(10)),
    ("COLOR", Type::VarChar(20)),
    ("CANTIDAD", Type::VarChar(40)),
    ("SUCURSAL", Type::VarChar(10)),
    ("FECHA", Type::VarChar(23)),
    ("VERSION", Type::BigInt),
];

const PRODUCT: &[(&str, Type)] = &[
    ("P_CODIGO", Type::VarChar(50)),
    ("DESCRIPCION", Type::VarChar(200)),
    ("RUBRO", Type::VarChar(50)),
    ("PRECIO", Type::VarChar(40)),
    ("COSTO", Type::VarChar(40)),
    ("MARCA", Type::VarChar(50)),
    ("PROVEEDOR", Type::VarChar(100)),
    ("ACTIVO", Type::Bit),
    ("P_FECHA", Type::VarChar(23)),
    ("P_VERSION", Type::BigInt),
];

impl Tables {
    pub(super) fn head(&self, now: i64) -> Vec<Step> {
        let columns = vec![
            ("RELOJ", Type::VarChar(23)),
            ("BASE", Type::NVarChar(128)),
            ("CREADA", Type::VarChar(23)),
            ("VERSION", Type::BigInt),
        ];
        let version = i64::try_from(self.version + 1).unwrap_or(i64::MAX);
        let row = vec![
            Value::Text(text_of(now)),
            Value::Text("LinceIndumentaria".to_owned()),
            Value::Text(text_of(self.created)),
            Value::Int(version),
        ];
        vec![Step::Columns(columns), Step::Row(row)]
    }

    pub(super) fn poll(&self, request: &Request, now: i64, skip: Option<i64>) -> Vec<Step> {
        let number = |name: &str| match request.param(name) {
            Some(Value::Int(number)) => *number,
            _ => 0,
        };
        let text = |name: &str| match request.param(name) {
            Some(Value::Text(text)) => text.clone(),
            _ => String::new(),
        };
        let most = usize::try_from(number("@P1")).unwrap_or(0);
        let mut steps = self.head(now);
        let mut balances: Vec<(&i64, &Balance)> = self.balances.iter().collect();
        if request.sql.contains("s.[RV] >") {
            let after = number("@P2").unsigned_abs();
            balances.retain(|(_, balance)| balance.version > after);
            balances.sort_by_key(|(id, balance)| (balance.version, **id));
        } else {
            let from = (ticks_of(&text("@P2")).saturating_sub(number("@P4") * 300), number("@P3"));
            balances.retain(|(id, balance)| balance.moved.is_some_and(|moved| (moved, **id) > from));
            balances.sort_by_key(|(id, balance)| (balance.moved, **id));
        }
        steps.push(Step::Columns([BALANCE, PRODUCT].concat()));
        let visible = balances.into_iter().filter(|(id, _)| Some(**id) != skip);
        steps.extend(visible.take(most).map(|(id, balance)| Step::Row(self.joined(*id, balance))));
        let mut products: Vec<(&String, &Product)> = self.products.iter().collect();
        if request.sql.contains("p.[RV] >") {
            let after = number("@P5").unsigned_abs();
            products.retain(|(_, product)| product.version > after);
            products.sort_by_key(|(_, product)| product.version);
        } else {
            let from = (ticks_of(&text("@P5")).saturating_sub(number("@P7") * 300), text("@P6"));
            products.retain(|(code, product)| {
                product.modified.is_some_and(|at| (at, code.as_str()) > (from.0, &from.1))
            });
            products.sort_by_key(|(code, product)| (product.modified, (*code).clone()));
        }
        steps.push(Step::Columns(PRODUCT.to_vec()));
        steps.extend(
            products
                .into_iter()
                .take(most)
                .map(|(code, product)| Step::Row(product_row(code, Some(product)))),
        );
        if request.sql.contains("s.ID IN (") {
            steps.extend(self.rows(&request.sql));
        }
        steps
    }

    pub(super) fn page(&self, request: &Request, skip: Option<i64>) -> Vec<Step> {
        let number = |name: &str| match request.param(name) {
            Some(Value::Int(number)) => *number,
            _ => 0,
        };
        let most = usize::try_from(number("@P1")).unwrap_or(0);
        let mut steps = vec![Step::Columns([BALANCE, PRODUCT].concat())];
        let after = number("@P2");
        let rows = self.balances.iter().filter(|(id, _)| **id > after && Some(**id) != skip).take(most);
        steps.extend(rows.map(|(id, balance)| Step::Row(self.joined(*id, balance))));
        steps
    }

    pub(super) fn rows(&self, sql: &str) -> Vec<Step> {
        let list = sql.split("s.ID IN (").nth(1).and_then(|rest| rest.split(')').next()).unwrap_or_default();
        let ids = list.split(',').filter_map(|id| id.trim().parse::<i64>().ok());
        let mut steps = vec![Step::Columns([BALANCE, PRODUCT].concat())];
        let found = ids.filter_map(|id| Some((id, self.balances.get(&id)?)));
        steps.extend(found.map(|(id, balance)| Step::Row(self.joined(id, balance))));
        steps
    }

    fn joined(&self, id: i64, balance: &Balance) -> Vec<Value> {
        let mut row = vec![
            Value::Int(id),
            Value::Text(balance.code.clone()),
            optional(balance.size.as_ref()),
            optional(balance.color.as_ref()),
            Value::Text(places(balance.quantity, 100, 2)),
            Value::Text(balance.branch.clone()),
            balance.moved.map_or(Value::Null, |ticks| Value::Text(text_of(ticks))),
            Value::Int(i64::try_from(balance.version).unwrap_or(i64::MAX)),
        ];
        row.extend(product_row(&balance.code, self.products.get(&balance.code)));
        row
    }

    pub(super) fn probe(&self, now: i64) -> Vec<Step> {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut steps = self.head(now);
        steps.push(Step::Columns(vec![
            ("PRODUCTO", Type::VarChar(128)),
            ("NIVEL", Type::BigInt),
            ("SNAPSHOT", Type::BigInt),
            ("RCSI", Type::BigInt),
        ]));
        steps.push(Step::Row(vec![text("15.0.2000.5"), Value::Int(150), Value::Int(0), Value::Int(0)]));
        steps.push(Step::Columns(vec![
            ("TABLA", Type::VarChar(128)),
            ("COLUMNA", Type::VarChar(128)),
            ("TIPO", Type::VarChar(128)),
        ]));
        if self.may_select {
            let mut columns = vec![
                ("STK_PRODUCTOS", "CODIGO", "varchar"),
                ("STK_PRODUCTOS", "DESCRIPCION", "varchar"),
                ("STK_PRODUCTOS", "RUBRO", "varchar"),
                ("STK_PRODUCTOS", "PRECIO", "money"),
                ("STK_PRODUCTOS", "COSTO", "money"),
                ("STK_PRODUCTOS", "MARCA", "varchar"),
                ("STK_PRODUCTOS", "PROVEEDOR", "varchar"),
                ("STK_PRODUCTOS", "FECHA_MODIFICACION", "datetime"),
                ("STK_PRODUCTOS", "ACTIVO", "bit"),
                ("STK_SALDOS", "ID", "int"),
                ("STK_SALDOS", "CODIGO", "varchar"),
                ("STK_SALDOS", "TALLE", "varchar"),
                ("STK_SALDOS", "COLOR", "varchar"),
                ("STK_SALDOS", "CANTIDAD", "decimal"),
                ("STK_SALDOS", "SUCURSAL", "varchar"),
                ("STK_SALDOS", "FECHA_ULTIMO_MOVIMIENTO", "datetime"),
                ("STK_SALDOS", "USUARIO_MODIFICACION", "varchar"),
            ];
            if self.versioned {
                columns.extend([("STK_PRODUCTOS", "RV", "timestamp"), ("STK_SALDOS", "RV", "timestamp")]);
            }
            let row = |(table, column, kind): (&str, &str, &str)| {
                Step::Row(vec![text(table), text(column), text(kind)])
            };
            steps.extend(columns.into_iter().map(row));
        }
        steps.push(Step::Columns(vec![
            ("TABLA", Type::VarChar(128)),
            ("LEE", Type::BigInt),
            ("ESCRIBE", Type::BigInt),
        ]));
        for table in ["STK_SALDOS", "STK_PRODUCTOS"] {
            let right = |may: bool| Value::Int(i64::from(may));
            steps.push(Step::Row(vec![text(table), right(self.may_select), right(self.may_write)]));
        }
        steps
    }
}

fn product_row(code: &str, product: Option<&Product>) -> Vec<Value> {
    let Some(product) = product else { return vec![Value::Null; PRODUCT.len()] };
    vec![
        Value::Text(code.to_owned()),
        Value::Text(product.description.clone()),
        optional(product.category.as_ref()),
        Value::Text(places(product.price, 10_000, 4)),
        product.cost.map_or(Value::Null, |cost| Value::Text(places(cost, 10_000, 4))),
        optional(product.brand.as_ref()),
        optional(product.supplier.as_ref()),
        product.active.map_or(Value::Null, Value::Bit),
        product.modified.map_or(Value::Null, |ticks| Value::Text(text_of(ticks))),
        Value::Int(i64::try_from(product.version).unwrap_or(i64::MAX)),
    ]
}

fn optional(text: Option<&String>) -> Value {
    text.map_or(Value::Null, |text| Value::Text(text.clone()))
}

fn places(units: i64, one: i64, width: usize) -> String {
    let sign = if units < 0 { "-" } else { "" };
    format!("{sign}{}.{:0width$}", units.abs() / one, units.abs() % one)
}
