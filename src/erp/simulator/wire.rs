//! What a client sends in TDS 7.4: packets, logins, statements with their parameters. Little-endian inside of packets,
//! text as UTF-16.

use std::io;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// A cell or a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of any type.
    Null,
    Bit(bool),
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    /// Days since 1900-01-01 and ticks of 1/300 s.
    DateTime(i32, u32),
    /// Days since 0001-01-01 and units of 100 ns.
    DateTime2(u32, u64),
    /// Unscaled, with the number of places.
    Decimal(i128, u8),
    /// In 1/10,000.
    Money(i64),
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Bit,
    Int,
    BigInt,
    VarChar(u16),
    NVarChar(u16),
    Binary(u16),
    DateTime,
    /// Precision and scale.
    Decimal(u8, u8),
    Money,
}

/// A statement that a client sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whether it came as a call of `sp_executesql`.
    pub rpc: bool,
    /// The statement.
    pub sql: String,
    /// Its parameters, with their names.
    pub params: Vec<(String, Value)>,
}

impl Request {
    /// A parameter by name.
    pub fn param(&self, name: &str) -> Option<&Value> {
        self.params.iter().find(|(its, _)| its == name).map(|(_, value)| value)
    }
}

/// Largest message that is read: a statement with its parameters.
const LONGEST: usize = 4 << 20;

/// Reads packets up to the last one of a message: its type and body.
pub async fn read_message(socket: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut body = Vec::new();
    loop {
        let mut header = [0; 8];
        socket.read_exact(&mut header).await?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]])).saturating_sub(8);
        let start = body.len();
        if start + length > LONGEST {
            return Err(malformed("a message that is too long"));
        }
        body.resize(start + length, 0);
        socket.read_exact(&mut body[start..]).await?;
        if header[1] & 1 == 1 {
            return Ok((header[0], body));
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What is left of a message's body.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or_else(|| malformed("a message that ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| malformed("a message that ends early"))
    }

    fn u8(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> io::Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn text(&mut self, bytes: usize) -> io::Result<String> {
        let units = self.take(bytes)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        Ok(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
    }

    /// A value in chunks; `None` is NULL.
    fn chunks(&mut self) -> io::Result<Option<Vec<u8>>> {
        if u64::from_le_bytes(self.array()?) == u64::MAX {
            return Ok(None);
        }
        let mut value = Vec::new();
        loop {
            match u32::from_le_bytes(self.array()?) {
                0 => return Ok(Some(value)),
                length => value.extend_from_slice(self.take(length as usize)?),
            }
        }
    }

    fn param(&mut self) -> io::Result<(String, Value)> {
        let length = usize::from(self.u8()?) * 2;
        let name = self.text(length)?;
        self.u8()?;
        let kind = self.u8()?;
        let value = match kind {
            0x1F => Value::Null,
            0x26 | 0x68 | 0x6F => {
                self.u8()?;
                let length = usize::from(self.u8()?);
                fixed(kind, self.take(length)?)?
            }
            0x6A | 0x6C => {
                self.array::<2>()?;
                let scale = self.u8()?;
                let length = usize::from(self.u8()?);
                decimal(self.take(length)?, scale)?
            }
            0x2A => {
                let scale = self.u8()?;
                let length = usize::from(self.u8()?);
                datetime2(self.take(length)?, scale)?
            }
            0xE7 | 0xA7 | 0xA5 | 0xAD => {
                let most = self.u16()?;
                if matches!(kind, 0xE7 | 0xA7) {
                    self.array::<5>()?;
                }
                let bytes = match most {
                    0xFFFF => self.chunks()?,
                    _ => match self.u16()? {
                        0xFFFF => None,
                        length => Some(self.take(usize::from(length))?.to_vec()),
                    },
                };
                match bytes {
                    None => Value::Null,
                    Some(bytes) if kind == 0xE7 => Value::Text(Reader(&bytes).text(bytes.len())?),
                    Some(bytes) if kind == 0xA7 => {
                        Value::Text(bytes.iter().map(|b| char::from(*b)).collect())
                    }
                    Some(bytes) => Value::Bytes(bytes),
                }
            }
            other => return Err(malformed(&format!("a parameter of type {other:#04x}"))),
        };
        Ok((name, value))
    }

    /// The statement of a SQL batch (0x01) or of a call of `sp_executesql` (0x03).
    pub fn request(mut self, kind: u8) -> io::Result<Request> {
        let headers = u32::from_le_bytes(self.array()?) as usize;
        self.take(headers.saturating_sub(4))?;
        if kind == 1 {
            let length = self.0.len();
            return Ok(Request { rpc: false, sql: self.text(length)?, params: Vec::new() });
        }
        match self.u16()? {
            0xFFFF => self.u16().map(drop)?,
            length => self.text(usize::from(length) * 2).map(drop)?,
        }
        self.u16()?;
        let mut params = Vec::new();
        while !self.0.is_empty() {
            params.push(self.param()?);
        }
        let mut params = params.into_iter();
        let Some((_, Value::Text(sql))) = params.next() else {
            return Err(malformed("a call without a statement"));
        };
        params.next(); // their declarations
        Ok(Request { rpc: true, sql, params: params.collect() })
    }

    /// User, password and database of a LOGIN7.
    pub fn login(self) -> io::Result<[String; 3]> {
        let field = |index: usize| -> io::Result<&'a [u8]> {
            let at = 36 + index * 4;
            let number =
                |at: usize| self.0.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
            let (Some(offset), Some(length)) = (number(at), number(at + 2)) else {
                return Err(malformed("a login that ends early"));
            };
            self.0.get(offset..offset + length * 2).ok_or_else(|| malformed("a login that ends early"))
        };
        let text = |bytes: &[u8]| Reader(bytes).text(bytes.len());
        let password: Vec<u8> = field(2)?.iter().map(|byte| (byte ^ 0xA5).rotate_left(4)).collect();
        Ok([text(field(1)?)?, text(&password)?, text(field(8)?)?])
    }
}

/// Integers, bits and datetimes.
fn fixed(kind: u8, bytes: &[u8]) -> io::Result<Value> {
    let wrong = || malformed("a parameter of an odd length");
    Ok(match (kind, bytes.len()) {
        (_, 0) => Value::Null,
        (0x68, 1) => Value::Bit(bytes[0] != 0),
        (0x26, 1) => Value::Int(i64::from(bytes[0])),
        (0x26, 2) => Value::Int(i64::from(i16::from_le_bytes(bytes.try_into().map_err(|_| wrong())?))),
        (0x26, 4) => Value::Int(i64::from(i32::from_le_bytes(bytes.try_into().map_err(|_| wrong())?))),
        (0x26, 8) => Value::Int(i64::from_le_bytes(bytes.try_into().map_err(|_| wrong())?)),
        (0x6F, 8) => {
            let (days, ticks) = bytes.split_at(4);
            let days = i32::from_le_bytes(days.try_into().map_err(|_| wrong())?);
            Value::DateTime(days, u32::from_le_bytes(ticks.try_into().map_err(|_| wrong())?))
        }
        _ => return Err(wrong()),
    })
}

fn decimal(bytes: &[u8], scale: u8) -> io::Result<Value> {
    let Some((sign, magnitude)) = bytes.split_first() else { return Ok(Value::Null) };
    let mut wide = [0; 16];
    wide.get_mut(..magnitude.len())
        .ok_or_else(|| malformed("a decimal of an odd length"))?
        .copy_from_slice(magnitude);
    let magnitude = i128::from_le_bytes(wide);
    Ok(Value::Decimal(if *sign == 1 { magnitude } else { -magnitude }, scale))
}

fn datetime2(bytes: &[u8], scale: u8) -> io::Result<Value> {
    let Some(at) = bytes.len().checked_sub(3).filter(|at| *at <= 5) else {
        return if bytes.is_empty() {
            Ok(Value::Null)
        } else {
            Err(malformed("a datetime2 of an odd length"))
        };
    };
    let mut time = [0; 8];
    time[..at].copy_from_slice(&bytes[..at]);
    let units = u64::from_le_bytes(time) * 10_u64.pow(7_u32.saturating_sub(u32::from(scale)));
    Ok(Value::DateTime2(u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], 0]), units))
}
