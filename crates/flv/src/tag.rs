// SPDX-License-Identifier: MPL-2.0

//! The file header, the tag header, and what goes around a tag's payload (FLV 10.1, annex E.2 to E.4).

/// File header and the PreviousTagSize that follows it.
pub const FILE_HEADER_BYTES: usize = 13;
/// A tag's header.
pub const TAG_HEADER_BYTES: usize = 11;
/// PreviousTagSize after each tag.
pub const TRAILER_BYTES: usize = 4;
/// The largest body: its size has 24 bits.
pub const MAX_BODY_BYTES: usize = (1 << 24) - 1;
/// The longest body header: enhanced CodedFrames.
pub const MAX_BODY_HEADER_BYTES: usize = 8;

/// The streams that a file's header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// There are audio tags.
    pub audio: bool,
    /// There are video tags.
    pub video: bool,
}

/// Why a file header is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileHeaderError {
    /// The signature is not `FLV`.
    #[error("the file begins with {:02x?}, not with 'FLV'", .0)]
    Signature([u8; 3]),
    /// Where the tags begin, outside what a header can be.
    #[error("data offset {0} is not in 9..=65535")]
    DataOffset(u32),
}

impl FileHeader {
    /// Header and PreviousTagSize0.
    pub const fn to_bytes(self) -> [u8; FILE_HEADER_BYTES] {
        let flags = (self.audio as u8) << 2 | self.video as u8;
        [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]
    }

    /// Reads the first nine bytes; also tells how long the header is (9 in every file of version 1).
    pub fn parse(bytes: &[u8; 9]) -> Result<(Self, usize), FileHeaderError> {
        let [a, b, c, _version, flags, offset @ ..] = *bytes;
        if [a, b, c] != *b"FLV" {
            return Err(FileHeaderError::Signature([a, b, c]));
        }
        let offset = u32::from_be_bytes(offset);
        if !(9..=0xffff).contains(&offset) {
            return Err(FileHeaderError::DataOffset(offset));
        }
        Ok((Self { audio: flags & 4 != 0, video: flags & 1 != 0 }, offset as usize))
    }
}

/// What a tag holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagType {
    /// 8
    Audio = 8,
    /// 9
    Video = 9,
    /// 18: AMF0
    Script = 18,
}

/// The eleven bytes before a tag's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagHeader {
    /// What the body is.
    pub tag_type: TagType,
    /// Body size, at most [`MAX_BODY_BYTES`].
    pub body_bytes: u32,
    /// Decoding time in milliseconds, modulo 2^32.
    pub timestamp_ms: u32,
}

/// Why eleven bytes are no tag header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TagHeaderError {
    /// The first byte names no tag type (an encrypted tag is none either).
    #[error("tag type {0} is not 8, 9 or 18")]
    Type(u8),
    /// The stream id is always 0.
    #[error("stream id {0} is not 0")]
    StreamId(u32),
}

impl TagHeader {
    /// Reads a header.
    pub const fn parse(bytes: &[u8; TAG_HEADER_BYTES]) -> Result<Self, TagHeaderError> {
        let [kind, s2, s1, s0, t2, t1, t0, t3, i2, i1, i0] = *bytes;
        let tag_type = match kind {
            8 => TagType::Audio,
            9 => TagType::Video,
            18 => TagType::Script,
            other => return Err(TagHeaderError::Type(other)),
        };
        let stream_id = u32::from_be_bytes([0, i2, i1, i0]);
        if stream_id != 0 {
            return Err(TagHeaderError::StreamId(stream_id));
        }
        Ok(Self {
            tag_type,
            body_bytes: u32::from_be_bytes([0, s2, s1, s0]),
            timestamp_ms: u32::from_be_bytes([t3, t2, t1, t0]),
        })
    }

    /// The header as it is written.
    pub const fn to_bytes(self) -> [u8; TAG_HEADER_BYTES] {
        let [_, s2, s1, s0] = self.body_bytes.to_be_bytes();
        let [t3, t2, t1, t0] = self.timestamp_ms.to_be_bytes();
        [self.tag_type as u8, s2, s1, s0, t2, t1, t0, t3, 0, 0, 0]
    }

    /// Header and body: what PreviousTagSize says of this tag.
    pub const fn bytes_before_trailer(self) -> usize {
        TAG_HEADER_BYTES + self.body_bytes as usize
    }
}

/// A body's own header: packet type, composition time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyHeader {
    bytes: [u8; MAX_BODY_HEADER_BYTES],
    len: u8,
}

impl BodyHeader {
    pub(crate) const fn new<const N: usize>(from: [u8; N]) -> Self {
        let mut bytes = [0; MAX_BODY_HEADER_BYTES];
        let mut i = 0;
        while i < N {
            bytes[i] = from[i];
            i += 1;
        }
        Self { bytes, len: N as u8 }
    }

    /// The bytes to write before the payload.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len.into()]
    }
}

/// A payload that no tag can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a payload of {0} bytes does not fit a tag, whose body has at most {MAX_BODY_BYTES} bytes")]
pub struct TooLarge(pub usize);

/// What goes around a payload to make it a tag: `head()`, the payload itself, `trailer()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    bytes: [u8; Envelope::MAX_BYTES],
    head: u8,
    payload: u32,
}

impl Envelope {
    /// Head and trailer of the longest envelope.
    pub const MAX_BYTES: usize = TAG_HEADER_BYTES + MAX_BODY_HEADER_BYTES + TRAILER_BYTES;

    /// The envelope of a payload of `payload` bytes.
    pub fn new(
        tag_type: TagType,
        timestamp_ms: u32,
        body: &BodyHeader,
        payload: usize,
    ) -> Result<Self, TooLarge> {
        let body = body.as_bytes();
        let body_bytes = payload.checked_add(body.len()).filter(|bytes| *bytes <= MAX_BODY_BYTES);
        let body_bytes = body_bytes.ok_or(TooLarge(payload))? as u32;
        let header = TagHeader { tag_type, body_bytes, timestamp_ms };
        let head = TAG_HEADER_BYTES + body.len();
        let mut bytes = [0; Self::MAX_BYTES];
        bytes[..TAG_HEADER_BYTES].copy_from_slice(&header.to_bytes());
        bytes[TAG_HEADER_BYTES..head].copy_from_slice(body);
        let size = (header.bytes_before_trailer() as u32).to_be_bytes();
        bytes[head..head + TRAILER_BYTES].copy_from_slice(&size);
        Ok(Self { bytes, head: head as u8, payload: payload as u32 })
    }

    /// What stands before the payload: tag header and body header.
    pub fn head(&self) -> &[u8] {
        &self.bytes[..self.head.into()]
    }

    /// What stands after it: PreviousTagSize.
    pub fn trailer(&self) -> &[u8] {
        &self.bytes[self.head.into()..][..TRAILER_BYTES]
    }

    /// Head and trailer in one piece, for those who cut it apart themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.head) + TRAILER_BYTES]
    }

    /// The whole tag, trailer included.
    pub fn tag_bytes(&self) -> usize {
        usize::from(self.head) + self.payload as usize + TRAILER_BYTES
    }

    /// The whole tag in a vector, for headers and tests.
    pub fn seal(&self, payload: &[u8]) -> Vec<u8> {
        assert_eq!(payload.len(), self.payload as usize, "the payload that the envelope was made for");
        [self.head(), payload, self.trailer()].concat()
    }
}

/// A script tag around an AMF0 body.
pub fn script_tag(timestamp_ms: u32, body: &[u8]) -> Result<Vec<u8>, TooLarge> {
    let envelope = Envelope::new(TagType::Script, timestamp_ms, &BodyHeader::new([]), body.len())?;
    Ok(envelope.seal(body))
}
