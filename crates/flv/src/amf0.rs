// SPDX-License-Identifier: MPL-2.0

//! AMF0, as far as script data has it.

/// How deep values may be nested; real files have three levels.
pub const MAX_DEPTH: usize = 16;

/// An AMF0 value. The order of fields is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Marker 0, a double.
    Number(f64),
    /// Marker 1.
    Boolean(bool),
    /// Marker 2, or 12 where it is longer than 65535 bytes.
    String(String),
    /// Marker 3.
    Object(Vec<(String, Value)>),
    /// Marker 5.
    Null,
    /// Marker 6.
    Undefined,
    /// Marker 8; its count is a hint that is often wrong, and is ignored.
    EcmaArray(Vec<(String, Value)>),
    /// Marker 10.
    StrictArray(Vec<Value>),
    /// Marker 11: milliseconds since 1970, and a time zone that is always 0.
    Date(f64, i16),
}

/// Why bytes are no AMF0 value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Amf0Error {
    /// The bytes end within a value.
    #[error("the data ends within a value")]
    Truncated,
    /// A marker that script data does not have.
    #[error("marker {0} is no value of script data")]
    Marker(u8),
    /// Deeper than [`MAX_DEPTH`].
    #[error("values are nested deeper than {MAX_DEPTH} levels")]
    Depth,
    /// Objects end with an empty name and marker 9.
    #[error("an object ends with marker {0} instead of 9")]
    ObjectEnd(u8),
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<&str> for Value {
    fn from(string: &str) -> Self {
        Self::String(string.to_owned())
    }
}

impl Value {
    /// The fields of an object or ECMA array.
    pub fn fields(&self) -> &[(String, Value)] {
        match self {
            Self::Object(fields) | Self::EcmaArray(fields) => fields,
            _ => &[],
        }
    }

    /// A field of an object or ECMA array.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields().iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The elements of a strict array.
    pub fn elements(&self) -> &[Value] {
        match self {
            Self::StrictArray(elements) => elements,
            _ => &[],
        }
    }

    /// Appends the value.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => {
                out.push(0);
                out.extend(number.to_be_bytes());
            }
            Self::Boolean(boolean) => out.extend([1, *boolean as u8]),
            Self::String(string) => match u16::try_from(string.len()) {
                Ok(length) => {
                    out.push(2);
                    out.extend(length.to_be_bytes());
                    out.extend(string.bytes());
                }
                Err(_) => {
                    out.push(12);
                    out.extend((string.len() as u32).to_be_bytes());
                    out.extend(string.bytes());
                }
            },
            Self::Object(fields) => {
                out.push(3);
                write_fields(fields, out);
            }
            Self::Null => out.push(5),
            Self::Undefined => out.push(6),
            Self::EcmaArray(fields) => {
                out.push(8);
                out.extend((fields.len() as u32).to_be_bytes());
                write_fields(fields, out);
            }
            Self::StrictArray(elements) => {
                out.push(10);
                out.extend((elements.len() as u32).to_be_bytes());
                elements.iter().for_each(|element| element.write(out));
            }
            Self::Date(ms, zone) => {
                out.push(11);
                out.extend(ms.to_be_bytes());
                out.extend(zone.to_be_bytes());
            }
        }
    }

    /// Reads one value from the front of `bytes` and cuts it off.
    pub fn read(bytes: &mut &[u8]) -> Result<Self, Amf0Error> {
        read_value(bytes, 0)
    }
}

fn write_fields(fields: &[(String, Value)], out: &mut Vec<u8>) {
    for (name, value) in fields {
        // A name has a 16-bit length; longer ones are cut, at a character.
        let name = &name[..name.floor_char_boundary(0xffff)];
        out.extend((name.len() as u16).to_be_bytes());
        out.extend(name.bytes());
        value.write(out);
    }
    out.extend([0, 0, 9]);
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Amf0Error> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Amf0Error::Truncated)?;
    *bytes = rest;
    Ok(taken)
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Amf0Error> {
    let taken = take(bytes, N)?;
    Ok(taken.try_into().expect("N bytes were taken"))
}

fn string(bytes: &mut &[u8], length: usize) -> Result<String, Amf0Error> {
    // Files with Latin-1 titles exist; their other fields are worth having.
    Ok(String::from_utf8_lossy(take(bytes, length)?).into_owned())
}

fn read_fields(bytes: &mut &[u8], depth: usize) -> Result<Vec<(String, Value)>, Amf0Error> {
    let mut fields = Vec::new();
    loop {
        let length = u16::from_be_bytes(array(bytes)?);
        let name = string(bytes, length.into())?;
        if name.is_empty() {
            return match array(bytes)? {
                [9] => Ok(fields),
                [other] => Err(Amf0Error::ObjectEnd(other)),
            };
        }
        fields.push((name, read_value(bytes, depth + 1)?));
    }
}

fn read_value(bytes: &mut &[u8], depth: usize) -> Result<Value, Amf0Error> {
    if depth > MAX_DEPTH {
        return Err(Amf0Error::Depth);
    }
    let [marker] = array(bytes)?;
    Ok(match marker {
        0 => Value::Number(f64::from_be_bytes(array(bytes)?)),
        1 => Value::Boolean(array::<1>(bytes)? != [0]),
        2 => {
            let length = u16::from_be_bytes(array(bytes)?);
            Value::String(string(bytes, length.into())?)
        }
        3 => Value::Object(read_fields(bytes, depth)?),
        5 => Value::Null,
        6 => Value::Undefined,
        8 => {
            take(bytes, 4)?;
            Value::EcmaArray(read_fields(bytes, depth)?)
        }
        10 => {
            let count = u32::from_be_bytes(array(bytes)?) as usize;
            // Every element has a marker at least: a lying count reserves no memory.
            let mut elements = Vec::with_capacity(count.min(bytes.len()).min(4096));
            for _ in 0..count {
                elements.push(read_value(bytes, depth + 1)?);
            }
            Value::StrictArray(elements)
        }
        11 => Value::Date(f64::from_be_bytes(array(bytes)?), i16::from_be_bytes(array(bytes)?)),
        12 => {
            let length = u32::from_be_bytes(array(bytes)?);
            Value::String(string(bytes, length as usize)?)
        }
        other => return Err(Amf0Error::Marker(other)),
    })
}

/// A script tag's body: a name and its value.
pub fn read_script(body: &[u8]) -> Result<(String, Value), Amf0Error> {
    let mut rest = body;
    match Value::read(&mut rest)? {
        Value::String(name) => Ok((name, Value::read(&mut rest)?)),
        _ => Err(Amf0Error::Marker(body[0])),
    }
}

/// The body that [`read_script`] reads.
pub fn write_script(name: &str, value: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    Value::from(name).write(&mut body);
    value.write(&mut body);
    body
}
