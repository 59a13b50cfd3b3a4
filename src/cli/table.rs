//! CSV files as people have them: plain or gzipped whatever their name, with or without a byte-order mark,
//! separated by commas or, as spreadsheets in Argentina write them, by semicolons with decimal commas.

use crate::domain::decimal::{Decimal, DecimalError};
use csv::ByteRecord;
use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
    str,
};

/// How far the header line may reach.
const MAX_HEADER: u64 = 64 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Reading failed, or a gzip stream is damaged.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The header is not text.
    #[error("line 1: the header is not UTF-8 text")]
    Header,
    /// A column that must be there is not.
    #[error("line 1: there is no column `{0}`")]
    Missing(&'static str),
    /// A column is there twice, so it is unclear which one counts.
    #[error("line 1: the column `{0}` is there twice")]
    Twice(&'static str),
}

/// A row that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BadRow {
    /// Line of the file the row starts at; the header is line 1.
    pub line: u64,
    /// Column, empty when it is the whole row.
    pub field: &'static str,
    /// What is wrong, as a continuation of "line 7, precio: ".
    pub reason: String,
}

impl BadRow {
    pub(crate) fn new(line: u64, field: &'static str, reason: impl Into<String>) -> Self {
        Self { line, field, reason: reason.into() }
    }
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            "" => write!(f, "line {}: {}", self.line, self.reason),
            field => write!(f, "line {}, {field}: {}", self.line, self.reason),
        }
    }
}

/// Opens a file, unpacking it when its first bytes say gzip.
pub fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    unpacked(File::open(path)?)
}

/// The bytes of a reader, unpacked when they begin like gzip.
pub fn unpacked<R: Read + Send + 'static>(mut reader: R) -> io::Result<Box<dyn Read + Send>> {
    let mut start = Vec::with_capacity(GZIP_MAGIC.len());
    reader.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut start)?;
    let gzipped = start == GZIP_MAGIC;
    let whole = io::Cursor::new(start).chain(reader);
    // A gzip file may be several streams one after the other, as `cat a.gz b.gz` makes them.
    Ok(if gzipped {
        Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(whole)))
    } else {
        Box::new(whole)
    })
}

/// Drops carriage returns, and ends the last line when the file does not.
///
/// With every row ended by exactly one `\n`, the line a row starts at can be told from the line the reader stands
/// at after it. What the csv crate itself calls a row's line is off after blank lines and after `\r\n`.
struct Lines<R> {
    inner: R,
    ended: bool,
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let got = self.inner.read(buffer)?;
            if got == 0 {
                if self.ended || buffer.is_empty() {
                    return Ok(0);
                }
                self.ended = true;
                buffer[0] = b'\n';
                return Ok(1);
            }
            let mut kept = 0;
            for at in 0..got {
                if buffer[at] != b'\r' {
                    buffer[kept] = buffer[at];
                    kept += 1;
                }
            }
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

/// A CSV file whose header has been read.
pub struct Table<R: Read> {
    rows: csv::Reader<io::Chain<io::Cursor<Vec<u8>>, Lines<R>>>,
    record: ByteRecord,
    columns: Vec<String>,
    semicolons: bool,
}

impl<R: Read> Table<R> {
    /// Reads the header.
    pub fn new(reader: R) -> Result<Self, TableError> {
        let mut reader = Lines { inner: reader, ended: false };
        let mut start = Vec::new();
        // As much as the header needs, and the rest is chained behind it.
        while !start.contains(&b'\n') && (start.len() as u64) < MAX_HEADER {
            let before = start.len();
            reader.by_ref().take(4_096).read_to_end(&mut start)?;
            if start.len() == before {
                break;
            }
        }
        if start.starts_with(BOM) {
            start.drain(..BOM.len());
        }
        let first_line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let count = |wanted| first_line.iter().filter(|byte| **byte == wanted).count();
        let semicolons = count(b';') > count(b',');
        let mut rows = csv::ReaderBuilder::new()
            .delimiter(if semicolons { b';' } else { b',' })
            .has_headers(false)
            .flexible(true)
            .from_reader(io::Cursor::new(start).chain(reader));
        let mut record = ByteRecord::new();
        rows.read_byte_record(&mut record).map_err(io_error)?;
        let name = |field| str::from_utf8(field).map(|name| name.trim().to_lowercase());
        let columns = record.iter().map(name).collect::<Result<_, _>>().map_err(|_| TableError::Header)?;
        Ok(Self { rows, record, columns, semicolons })
    }

    /// The column names, trimmed and in lower case.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Whether fields are separated by `;`, and decimals therefore may have a comma.
    pub const fn semicolons(&self) -> bool {
        self.semicolons
    }

    /// Position of a column.
    pub fn find(&self, name: &'static str) -> Result<Option<usize>, TableError> {
        let mut found = (0..).zip(&self.columns).filter(|(_, column)| *column == name).map(|(at, _)| at);
        match (found.next(), found.next()) {
            (at, None) => Ok(at),
            _ => Err(TableError::Twice(name)),
        }
    }

    /// Position of a column that must be there.
    pub fn require(&self, name: &'static str) -> Result<usize, TableError> {
        self.find(name)?.ok_or(TableError::Missing(name))
    }

    /// The next row that is not blank; `None` at the end.
    ///
    /// The row is refused when it has another number of fields than the header: a comma too many, usually an
    /// unquoted one in a name or a decimal, moves every later value into the wrong column.
    pub fn next_row(&mut self) -> Result<Option<Result<Row<'_>, BadRow>>, TableError> {
        if !self.rows.read_byte_record(&mut self.record).map_err(io_error)? {
            return Ok(None);
        }
        let inside = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        let line = self.rows.position().line().saturating_sub(1 + inside);
        let (has, wants) = (self.record.len(), self.columns.len());
        Ok(Some(if has == wants {
            Ok(Row { record: &self.record, line, semicolons: self.semicolons })
        } else {
            Err(BadRow::new(line, "", format!("has {has} fields, the header has {wants}")))
        }))
    }

    /// A field of the row read last, also when that row was refused; `None` when it is not there or not text.
    pub fn last(&self, column: usize) -> Option<&str> {
        str::from_utf8(self.record.get(column)?).ok()
    }
}

fn io_error(error: csv::Error) -> TableError {
    TableError::Io(error.into())
}

/// One row.
pub struct Row<'a> {
    record: &'a ByteRecord,
    semicolons: bool,
    /// Line of the file it starts at.
    pub line: u64,
}

impl<'a> Row<'a> {
    /// The text of a field as it stands; empty for a column the file does not have.
    pub fn text(&self, column: Option<usize>, name: &'static str) -> Result<&'a str, BadRow> {
        let bytes = column.and_then(|column| self.record.get(column)).unwrap_or_default();
        str::from_utf8(bytes)
            .map_err(|_| BadRow::new(self.line, name, "is not UTF-8 text; save the file as UTF-8"))
    }

    /// An exact decimal; `None` when the field is empty.
    pub fn decimal<const SCALE: u32>(
        &self,
        column: Option<usize>,
        name: &'static str,
    ) -> Result<Option<Decimal<SCALE>>, BadRow> {
        let text = self.text(column, name)?.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let bad = |reason: String| BadRow::new(self.line, name, reason);
        // Neither exponents nor thousands separators: a price list that has them was mangled by a spreadsheet.
        let plain =
            if self.semicolons && !text.contains('.') { text.replacen(',', ".", 1) } else { text.to_owned() };
        if plain.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b'-')) {
            return Err(bad(format!("`{}` is not a decimal number", shown(text))));
        }
        Decimal::parse(&plain).map(Some).map_err(|error| match error {
            DecimalError::TooPrecise => {
                bad(format!("`{}` has more than {SCALE} decimal places", shown(text)))
            }
            error => bad(format!("`{}` {error}", shown(text))),
        })
    }
}

/// A value as an error message may quote it: short and on one line.
pub(crate) fn shown(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(40).map(clean).collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gz(text: &str) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    }

    fn all(bytes: Vec<u8>) -> Vec<(u64, String)> {
        let mut table = Table::new(unpacked(io::Cursor::new(bytes)).unwrap()).unwrap();
        let column = table.find("b").unwrap();
        let mut seen = Vec::new();
        while let Some(row) = table.next_row().unwrap() {
            let row = row.unwrap();
            seen.push((row.line, row.text(column, "b").unwrap().to_owned()));
        }
        seen
    }

    #[test]
    fn plain_packed_marked_and_semicolon_files_read_the_same() {
        let plain = "a,b\n1,x\n\n2,\"y\nz\"\n3,w\n";
        let want = vec![(2, "x".to_owned()), (4, "y\nz".to_owned()), (6, "w".to_owned())];
        assert_eq!(all(plain.into()), want);
        assert_eq!(all(gz(plain)), want);
        assert_eq!(all(format!("\u{feff}{plain}").into()), want);
        assert_eq!(all(plain.replace(',', ";").into()), want);
        assert_eq!(all(plain.replace('\n', "\r\n").into()), want);
        assert_eq!(all(plain.trim_end().into()), want);
        assert_eq!(all([gz("a,b\n1,x\n"), gz("2,y\n")].concat()).len(), 2);
        assert_eq!(all(plain.replace("a,b", " A , B ").into()), want);
    }

    #[test]
    fn a_file_of_one_or_no_byte_has_no_rows() {
        assert!(all(Vec::new()).is_empty());
        assert!(all(vec![0x1f]).is_empty());
    }

    #[test]
    fn damaged_gzip_is_an_error_not_an_end() {
        let mut bytes = gz(&format!("a,b\n{}", "1,x\n".repeat(100_000)));
        bytes.truncate(bytes.len() / 2);
        let mut table = Table::new(unpacked(io::Cursor::new(bytes)).unwrap()).unwrap();
        let end = loop {
            match table.next_row() {
                Ok(Some(_)) => {}
                end => break end.map(|_| ()),
            }
        };
        assert!(matches!(end, Err(TableError::Io(_))));
    }

    #[test]
    fn a_row_of_another_width_is_refused_with_its_line() {
        let mut table = Table::new("a,b\n1,2,3\n".as_bytes()).unwrap();
        let bad = table.next_row().unwrap().unwrap().err().unwrap();
        assert_eq!(bad.to_string(), "line 2: has 3 fields, the header has 2");
    }

    #[test]
    fn decimal_commas_need_semicolons() {
        let read = |text: &str| {
            let mut table = Table::new(text.as_bytes()).unwrap();
            let row = table.next_row().unwrap().unwrap().unwrap();
            row.decimal::<2>(Some(0), "p").map_err(|bad| bad.reason)
        };
        let cents = |units| Ok(Decimal::from_units(units));
        assert_eq!(read("p;q\n1234,50;x\n"), cents(123_450));
        assert_eq!(read("p;q\n 1234.5 ;x\n"), cents(123_450));
        assert_eq!(read("p,q\n\"1234,50\",x\n"), Err("`1234,50` is not a decimal number".into()));
        assert_eq!(read("p;q\n1.234,50;x\n"), Err("`1.234,50` is not a decimal number".into()));
        assert_eq!(read("p,q\n1e3,x\n"), Err("`1e3` is not a decimal number".into()));
        assert_eq!(read("p,q\n1.005,x\n"), Err("`1.005` has more than 2 decimal places".into()));
        assert_eq!(read("p,q\n,x\n"), Ok(None));
    }

    #[test]
    fn columns_are_found_once() {
        let table = Table::new("a,b,a\n".as_bytes()).unwrap();
        assert!(matches!(table.find("a"), Err(TableError::Twice("a"))));
        assert!(matches!(table.find("c"), Ok(None)));
        assert!(matches!(table.require("c"), Err(TableError::Missing("c"))));
    }
}
