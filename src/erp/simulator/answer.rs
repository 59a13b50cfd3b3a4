//! What the stand-in sends in TDS 7.4: packets, tokens, columns, cells.

use super::wire::{Type, Value};
use std::io;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const PACKET: usize = 4_096;

/// An answer on its way out, cut into packets.
#[derive(Default)]
pub struct Answer {
    pub bytes: Vec<u8>,
    packet: u8,
}

impl Answer {
    /// Sends what fills packets, and with `last` the rest too.
    pub async fn flush(&mut self, socket: &mut TcpStream, last: bool) -> io::Result<()> {
        let most = PACKET - 8;
        let mut from = 0;
        while self.bytes.len() - from > most || last {
            let take = (self.bytes.len() - from).min(most);
            let end = last && from + take == self.bytes.len();
            self.packet = self.packet.wrapping_add(1);
            let length = u16::try_from(take + 8).unwrap_or(u16::MAX).to_be_bytes();
            let mut packet = vec![4, u8::from(end), length[0], length[1], 0, 0, self.packet, 0];
            packet.extend_from_slice(&self.bytes[from..from + take]);
            socket.write_all(&packet).await?;
            from += take;
            if end {
                break;
            }
        }
        self.bytes.drain(..from);
        socket.flush().await
    }

    /// Sends what there is inside a packet that promises more, so that whoever reads is cut off in the middle.
    pub async fn cut(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        self.flush(socket, false).await?;
        socket.write_all(&[4, 0, 0x10, 0, 0, 0, 1, 0]).await?;
        socket.write_all(&self.bytes).await?;
        socket.flush().await
    }

    /// A token with a length of its own.
    pub fn token(&mut self, token: u8, body: &[u8]) {
        self.bytes.push(token);
        self.bytes.extend(length16(body.len()));
        self.bytes.extend_from_slice(body);
    }

    /// DONE, DONEPROC or DONEINPROC.
    pub fn done(&mut self, token: u8, status: u16, rows: u64) {
        self.bytes.push(token);
        self.bytes.extend(status.to_le_bytes());
        self.bytes.extend(0xC1_u16.to_le_bytes());
        self.bytes.extend(rows.to_le_bytes());
    }

    /// ERROR or INFO.
    pub fn message(&mut self, token: u8, number: u32, class: u8, text: &str) {
        let mut body = number.to_le_bytes().to_vec();
        body.extend([1, class]);
        body.extend(length16(text.encode_utf16().count()));
        body.extend(utf16(text));
        short_text(&mut body, "stand-in");
        short_text(&mut body, "");
        body.extend(1_u32.to_le_bytes());
        self.token(token, &body);
    }

    /// COLMETADATA.
    pub fn columns(&mut self, columns: &[(&str, Type)]) {
        self.bytes.push(0x81);
        self.bytes.extend(length16(columns.len()));
        for (name, kind) in columns {
            self.bytes.extend(0_u32.to_le_bytes());
            self.bytes.extend(9_u16.to_le_bytes());
            type_info(&mut self.bytes, *kind);
            short_text(&mut self.bytes, name);
        }
    }

    /// ROW. A value that does not fit its column goes out as NULL.
    pub fn row(&mut self, columns: &[(&str, Type)], row: &[Value]) {
        self.bytes.push(0xD1);
        for ((_, kind), value) in columns.iter().zip(row) {
            cell(&mut self.bytes, *kind, value);
        }
    }
}

fn length16(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// B_VARCHAR: a byte of length, in characters.
pub fn short_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.encode_utf16().count()).unwrap_or(u8::MAX));
    out.extend(utf16(text));
}

/// SQL_Latin1_General_CP1_CI_AS
pub const COLLATION: [u8; 5] = [0x09, 0x04, 0xD0, 0x00, 0x34];

fn type_info(out: &mut Vec<u8>, kind: Type) {
    match kind {
        Type::Bit => out.extend([0x68, 1]),
        Type::Int => out.extend([0x26, 4]),
        Type::BigInt => out.extend([0x26, 8]),
        Type::Money => out.extend([0x6E, 8]),
        Type::DateTime => out.extend([0x6F, 8]),
        Type::Decimal(precision, scale) => out.extend([0x6A, 17, precision, scale]),
        Type::Binary(length) => {
            out.push(0xAD);
            out.extend(length.to_le_bytes());
        }
        Type::VarChar(length) => {
            out.push(0xA7);
            out.extend(length.to_le_bytes());
            out.extend(COLLATION);
        }
        Type::NVarChar(length) => {
            out.push(0xE7);
            out.extend((length * 2).to_le_bytes());
            out.extend(COLLATION);
        }
    }
}

fn cell(out: &mut Vec<u8>, kind: Type, value: &Value) {
    let mut sized = |bytes: &[u8]| {
        out.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(bytes);
    };
    match (kind, value) {
        (Type::Bit, Value::Bit(bit)) => sized(&[u8::from(*bit)]),
        (Type::Int, Value::Int(number)) => sized(&i32::try_from(*number).unwrap_or(i32::MAX).to_le_bytes()),
        (Type::BigInt, Value::Int(number)) => sized(&number.to_le_bytes()),
        (Type::Money, Value::Money(money)) => {
            let bytes = money.to_le_bytes();
            sized(&[&bytes[4..], &bytes[..4]].concat());
        }
        (Type::DateTime, Value::DateTime(days, ticks)) => {
            sized(&[days.to_le_bytes(), ticks.to_le_bytes()].concat());
        }
        (Type::Decimal(..), Value::Decimal(unscaled, _)) => {
            let mut bytes = vec![u8::from(*unscaled >= 0)];
            bytes.extend(unscaled.unsigned_abs().to_le_bytes());
            sized(&bytes);
        }
        (Type::VarChar(_), Value::Text(text)) => {
            let latin = |c: char| u8::try_from(u32::from(c)).unwrap_or(b'?');
            let bytes: Vec<u8> = text.chars().map(latin).collect();
            out.extend(length16(bytes.len()));
            out.extend(bytes);
        }
        (Type::NVarChar(_), Value::Text(text)) => {
            let bytes = utf16(text);
            out.extend(length16(bytes.len()));
            out.extend(bytes);
        }
        (Type::Binary(_), Value::Bytes(bytes)) => {
            out.extend(length16(bytes.len()));
            out.extend(bytes);
        }
        (Type::VarChar(_) | Type::NVarChar(_) | Type::Binary(_), _) => out.extend([0xFF, 0xFF]),
        _ => out.push(0),
    }
}
