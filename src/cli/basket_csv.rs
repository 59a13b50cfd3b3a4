//! Baskets of a till: a CSV with `basket,store,at,sku,quantity`, sorted by time, where consecutive rows of one
//! basket are one sale. Read one basket at a time, so a year of tills needs no more memory than one sale.

use super::table::{BadRow, Table, TableError, shown};
use crate::domain::decimal::Decimal;
use std::io::Read;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Lines one basket may have. Anything longer is a file that is not what it says; without a bound it would be read
/// into memory as one sale.
const MAX_LINES: usize = 100_000;

/// One sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basket {
    /// The till's own number.
    pub id: String,
    /// Code of the store.
    pub store: String,
    /// When it was rung up.
    pub at: OffsetDateTime,
    /// What was bought: sku and quantity, in the order of the file.
    pub lines: Vec<(String, Decimal<3>)>,
    /// Line of the file it starts at.
    pub line: u64,
}

/// Why the next basket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BasketError {
    /// A row is wrong; its whole basket is left out, because half a sale is none. Reading goes on after it.
    #[error("{0}")]
    Row(BadRow),
    /// The file cannot be read any further.
    #[error(transparent)]
    File(#[from] TableError),
}

/// Iterator over the baskets of a file.
pub struct Baskets<R: Read> {
    table: Table<R>,
    columns: Columns,
    /// The first row of the basket after the one being read.
    ahead: Option<Line>,
    over: bool,
}

struct Columns {
    basket: usize,
    store: usize,
    at: usize,
    sku: usize,
    quantity: usize,
}

/// One row, with the basket id even when the rest of it is wrong: the basket is to be left out whole. The id is
/// empty when it cannot be told; such a row spoils the basket it stands in.
struct Line {
    basket: String,
    content: Result<Content, BadRow>,
}

struct Content {
    store: String,
    at: OffsetDateTime,
    sku: String,
    quantity: Decimal<3>,
    line: u64,
}

impl<R: Read> Baskets<R> {
    /// Reads the header.
    pub fn new(reader: R) -> Result<Self, TableError> {
        let table = Table::new(reader)?;
        let columns = Columns {
            basket: table.require("basket")?,
            store: table.require("store")?,
            at: table.require("at")?,
            sku: table.require("sku")?,
            quantity: table.require("quantity")?,
        };
        Ok(Self { table, columns, ahead: None, over: false })
    }

    fn read_line(&mut self) -> Result<Option<Line>, TableError> {
        let columns = &self.columns;
        let Some(row) = self.table.next_row()? else { return Ok(None) };
        let row = match row {
            Ok(row) => row,
            Err(bad) => {
                let basket = self.table.last(columns.basket).unwrap_or_default().trim().to_owned();
                return Ok(Some(Line { basket, content: Err(bad) }));
            }
        };
        let text = |column, name| {
            let text = row.text(Some(column), name)?.trim();
            if text.is_empty() { Err(BadRow::new(row.line, name, "is empty")) } else { Ok(text) }
        };
        let basket = match text(columns.basket, "basket") {
            Ok(basket) => basket.to_owned(),
            Err(bad) => return Ok(Some(Line { basket: String::new(), content: Err(bad) })),
        };
        let content = || {
            let at = text(columns.at, "at")?;
            let quantity = row.decimal::<3>(Some(columns.quantity), "quantity")?;
            Ok(Content {
                store: text(columns.store, "store")?.to_owned(),
                at: OffsetDateTime::parse(at, &Rfc3339).map_err(|_| {
                    BadRow::new(
                        row.line,
                        "at",
                        format!("`{}` is not a time like 2026-01-31T09:30:00Z", shown(at)),
                    )
                })?,
                sku: text(columns.sku, "sku")?.to_owned(),
                quantity: match quantity {
                    Some(quantity) if quantity >= Decimal::ZERO => quantity,
                    Some(_) => return Err(BadRow::new(row.line, "quantity", "is negative")),
                    None => return Err(BadRow::new(row.line, "quantity", "is empty")),
                },
                line: row.line,
            })
        };
        Ok(Some(Line { basket, content: content() }))
    }

    fn next_basket(&mut self) -> Result<Option<Basket>, BasketError> {
        let first = match self.ahead.take() {
            Some(line) => line,
            None => match self.read_line()? {
                Some(line) => line,
                None => return Ok(None),
            },
        };
        let mut bad = None;
        let mut basket = match first.content {
            Ok(Content { store, at, sku, quantity, line }) => {
                Some(Basket { id: first.basket.clone(), store, at, lines: vec![(sku, quantity)], line })
            }
            Err(row) => {
                bad = Some(row);
                None
            }
        };
        while let Some(line) = self.read_line()? {
            if line.basket != first.basket && !line.basket.is_empty() {
                self.ahead = Some(line);
                break;
            }
            match (line.content, &mut basket) {
                (Ok(next), Some(basket)) => {
                    if next.store != basket.store {
                        bad.get_or_insert(BadRow::new(next.line, "store", "differs within one basket"));
                    } else if basket.lines.len() == MAX_LINES {
                        bad.get_or_insert(BadRow::new(next.line, "basket", "has too many lines"));
                    } else {
                        basket.lines.push((next.sku, next.quantity));
                    }
                }
                (Err(row), _) => {
                    bad.get_or_insert(row);
                }
                (Ok(_), None) => {}
            }
        }
        match (bad, basket) {
            (None, basket) => Ok(basket),
            (Some(row), _) => Err(BasketError::Row(row)),
        }
    }
}

impl<R: Read> Iterator for Baskets<R> {
    type Item = Result<Basket, BasketError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.next_basket().transpose();
        self.over = matches!(next, None | Some(Err(BasketError::File(_))));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &str = "basket,store,at,sku,quantity\n";

    fn read(text: &str) -> Vec<Result<Basket, String>> {
        let baskets = Baskets::new(text.as_bytes()).unwrap();
        baskets.map(|basket| basket.map_err(|error| error.to_string())).collect()
    }

    #[test]
    fn consecutive_rows_are_one_sale() {
        let text = "b1,7,2026-01-01T10:00:00Z,A,1\nb1,7,2026-01-01T10:00:00Z,B,0.250\nb2,7,2026-01-01T10:01:00Z,A,2\n";
        let baskets = read(&format!("{HEADER}{text}"));
        let [Ok(first), Ok(second)] = &baskets[..] else { panic!("{baskets:?}") };
        assert_eq!((first.id.as_str(), first.store.as_str(), first.line), ("b1", "7", 2));
        let quantity = |text| Decimal::parse(text).unwrap();
        assert_eq!(first.lines, [("A".into(), quantity("1")), ("B".into(), quantity("0.25"))]);
        assert_eq!((second.lines.len(), second.line), (1, 4));
    }

    #[test]
    fn a_wrong_row_leaves_out_its_whole_basket_and_no_other() {
        let text = "b1,7,2026-01-01T10:00:00Z,A,1\nb1,7,2026-01-01T10:00:00Z,B,x\nb1,7,2026-01-01T10:00:00Z,C,1\n\
                    b2,7,2026-01-01T10:01:00Z,A,2\nb3,7,yesterday,A,2\nb3,7,2026-01-01T10:01:00Z,A,2\n\
                    b4,7,2026-01-01T10:01:00Z,A,-1\nb5,7,2026-01-01T10:01:00Z,,1\n\
                    b6,7,2026-01-01T10:01:00Z,A,1\nb6,7\nb6,7,2026-01-01T10:01:00Z,B,1\n\
                    b7,7,2026-01-01T10:01:00Z,A,1\nb7,8,2026-01-01T10:01:00Z,A,1\n";
        let baskets = read(&format!("{HEADER}{text}"));
        let shown: Vec<_> =
            baskets.iter().map(|b| b.as_ref().map_or_else(Clone::clone, |b| b.id.clone())).collect();
        assert_eq!(
            shown,
            [
                "line 3, quantity: `x` is not a decimal number",
                "b2",
                "line 6, at: `yesterday` is not a time like 2026-01-31T09:30:00Z",
                "line 8, quantity: is negative",
                "line 9, sku: is empty",
                "line 11: has 2 fields, the header has 5",
                "line 14, store: differs within one basket",
            ]
        );
    }

    #[test]
    fn columns_may_be_in_any_order_but_must_be_there() {
        let baskets = read("quantity;sku;at;store;basket;till\n1,5;A;2026-01-01T10:00:00-03:00;7;b;9\n");
        assert_eq!(baskets[0].as_ref().unwrap().lines[0].1.units(), 1_500);
        assert!(matches!(Baskets::new("basket,sku\n".as_bytes()).err(), Some(TableError::Missing("store"))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_it(bytes in prop::collection::vec(any::<u8>(), 0..200), with_header: bool) {
            let bytes = if with_header { [HEADER.as_bytes(), &bytes].concat() } else { bytes };
            if let Ok(baskets) = Baskets::new(&bytes[..]) {
                prop_assert!(baskets.count() <= 200);
            }
        }
    }
}
