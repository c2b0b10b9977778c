// SPDX-License-Identifier: MPL-2.0

//! The sync message: one ZeroMQ part of 48 bytes per published frame.

/// Size of a sync message in bytes.
pub const SYNC_SIZE: usize = 48;
/// Size of the NUL-padded label in bytes.
pub const LABEL_SIZE: usize = 24;
const MAGIC: u8 = 0x7D;
const MAJOR: u8 = 1;

/// What names a frame: its count and its capture stamp, as the sync message and the metadata both carry them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameId {
    /// The producer's frame count; starts again at 0 or 1 after a reset or a restart.
    pub count: u32,
    /// The capture stamp in ns: Unix time at live sources, media time at finite ones.
    pub timestamp_ns: u64,
}

/// A sync message: the frame that was just published, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncMessage {
    /// The frame that the segment now holds.
    pub frame: FrameId,
    /// The producer's instance name.
    pub label: String,
}

/// Why a message is no sync message. Consumers ignore and count such messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum SyncError {
    #[error("sync message has {0} bytes, {SYNC_SIZE} are needed")]
    Short(usize),
    #[error("sync message has magic {0:#04x}, not {MAGIC:#04x}")]
    Magic(u8),
    #[error("sync message has major version {0}, not {MAJOR}")]
    Version(u8),
    #[error("sync message's label is not NUL-padded ASCII")]
    BadLabel,
    #[error("label '{0}' is not ASCII of at most {LABEL_SIZE} bytes without NUL")]
    Label(String),
}

impl SyncMessage {
    /// Parses a message; bytes after the first 48 are left to later minor versions.
    ///
    /// # Errors
    /// [`SyncError`] names the field that is not as the contract wants it.
    pub fn parse(bytes: &[u8]) -> Result<Self, SyncError> {
        let bytes: &[u8; SYNC_SIZE] = bytes.first_chunk().ok_or(SyncError::Short(bytes.len()))?;
        if bytes[0] != MAGIC {
            return Err(SyncError::Magic(bytes[0]));
        }
        if bytes[2] != MAJOR {
            return Err(SyncError::Version(bytes[2]));
        }
        let label = &bytes[0x18..];
        let end = label.iter().position(|&b| b == 0).unwrap_or(LABEL_SIZE);
        let (label, padding) = label.split_at(end);
        if !label.is_ascii() || padding.iter().any(|&b| b != 0) {
            return Err(SyncError::BadLabel);
        }
        Ok(Self {
            frame: FrameId {
                count: u32::from_le_bytes(bytes[4..8].try_into().expect("4 bytes")),
                timestamp_ns: u64::from_le_bytes(bytes[0x10..0x18].try_into().expect("8 bytes")),
            },
            label: label.iter().map(|&b| b as char).collect(),
        })
    }

    /// Writes the message.
    ///
    /// # Errors
    /// [`SyncError::Label`] where the label does not fit.
    pub fn to_bytes(&self) -> Result<[u8; SYNC_SIZE], SyncError> {
        if self.label.len() > LABEL_SIZE || !self.label.is_ascii() || self.label.contains('\0') {
            return Err(SyncError::Label(self.label.clone()));
        }
        let mut bytes = [0; SYNC_SIZE];
        bytes[0] = MAGIC;
        bytes[2] = MAJOR;
        bytes[4..8].copy_from_slice(&self.frame.count.to_le_bytes());
        bytes[0x10..0x18].copy_from_slice(&self.frame.timestamp_ns.to_le_bytes());
        bytes[0x18..0x18 + self.label.len()].copy_from_slice(self.label.as_bytes());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: [u8; SYNC_SIZE] = [
        0x7d, 0, 1, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xd2, 2, 0x96, 0x49, 0, 0, 0, 0, b'c', b'a',
        b'm', b'0', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn golden_message() {
        let message =
            SyncMessage { frame: FrameId { count: 42, timestamp_ns: 1_234_567_890 }, label: "cam0".into() };
        assert_eq!(message.to_bytes().unwrap(), GOLDEN);
        assert_eq!(SyncMessage::parse(&GOLDEN).unwrap(), message);
    }

    #[test]
    fn what_is_no_sync_message_is_named() {
        let with = |at: usize, value: u8| {
            let mut bytes = GOLDEN;
            bytes[at] = value;
            SyncMessage::parse(&bytes).unwrap_err()
        };
        assert_eq!(SyncMessage::parse(&GOLDEN[..47]), Err(SyncError::Short(47)));
        assert_eq!(with(0, 0x7e), SyncError::Magic(0x7e));
        assert_eq!(with(2, 2), SyncError::Version(2));
        assert_eq!(with(0x18, 0xff), SyncError::BadLabel);
        assert_eq!(with(0x2f, 1), SyncError::BadLabel);
        let long = SyncMessage { frame: FrameId { count: 0, timestamp_ns: 0 }, label: "x".repeat(25) };
        assert!(matches!(long.to_bytes(), Err(SyncError::Label(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = SyncMessage::parse(&bytes);
        }

        #[test]
        fn messages_round_trip(count: u32, timestamp_ns: u64, label in "[ -~]{0,24}") {
            let message = SyncMessage { frame: FrameId { count, timestamp_ns }, label };
            prop_assert_eq!(SyncMessage::parse(&message.to_bytes().unwrap()).unwrap(), message);
        }
    }
}
