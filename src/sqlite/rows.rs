//! Many rows as the few parameters of one statement.
//!
//! A statement per row costs a hop to the connection's thread each; a statement with thousands of parameters costs
//! an allocation each. So a batch travels as two values: a JSON array with one array of numbers and texts per row,
//! and one blob with each row's ids side by side. SQL takes them apart:
//!
//! ```sql
//! INSERT INTO t (id, tenant_id, total)
//! SELECT substr($2, e.key * 32 + 1, 16), substr($2, e.key * 32 + 17, 16), e.value ->> 0 FROM jsonb_each($1) e
//! ```
//!
//! `jsonb_each` gives a row as JSONB, whose columns are read in place; `json_each` would turn each row into text that
//! every `->>` takes apart again.

use serde::Serialize;

/// A batch of rows under construction. Taken and used again, it begins with room for as much.
#[derive(Default)]
pub struct Rows {
    json: Vec<u8>,
    blob: Vec<u8>,
    count: usize,
}

impl Rows {
    /// Adds a row: its ids (or other bytes, the same width in every row) and its other columns as a tuple or slice.
    pub fn push(&mut self, bytes: &[&[u8]], columns: &impl Serialize) -> Result<(), serde_json::Error> {
        self.json.push(if self.count == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut self.json, columns)?;
        for part in bytes {
            self.blob.extend_from_slice(part);
        }
        self.count += 1;
        Ok(())
    }

    /// How many rows there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The JSON and the blob, leaving the batch empty.
    pub fn take(&mut self) -> (String, Vec<u8>) {
        self.json.extend_from_slice(if self.count == 0 { b"[]" } else { b"]" });
        self.count = 0;
        // serde_json writes UTF-8 only.
        let json = String::from_utf8(take_full(&mut self.json)).unwrap_or_default();
        (json, take_full(&mut self.blob))
    }
}

/// The bytes, leaving room for as many: the next batch is about as large, and growing to it would copy it again and
/// again.
fn take_full(bytes: &mut Vec<u8>) -> Vec<u8> {
    let room = Vec::with_capacity(bytes.len());
    std::mem::replace(bytes, room)
}
