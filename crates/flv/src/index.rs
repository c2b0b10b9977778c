// SPDX-License-Identifier: MPL-2.0

//! Where a file's key frames lie, in bounded memory.

/// A key frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeyFrame {
    /// The tag's timestamp in seconds, as FLV's index has it.
    pub time: f64,
    /// The tag's first byte in the file.
    pub position: u64,
}

/// At most `capacity` key frames; of more, every second, then every fourth ... is kept.
#[derive(Debug, Clone)]
pub struct KeyFrameIndex {
    entries: Vec<KeyFrame>,
    capacity: usize,
    stride: u64,
    seen: u64,
}

impl KeyFrameIndex {
    /// An empty index; `capacity` is at least 2.
    pub fn new(capacity: usize) -> Self {
        Self { entries: Vec::new(), capacity: capacity.max(2), stride: 1, seen: 0 }
    }

    /// Takes the next key frame.
    pub fn push(&mut self, key_frame: KeyFrame) {
        if self.seen.is_multiple_of(self.stride) {
            if self.entries.len() == self.capacity {
                let mut place = 0;
                self.entries.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
                self.stride *= 2;
            }
            // After thinning, this one may not be due any more.
            if self.seen.is_multiple_of(self.stride) {
                self.entries.push(key_frame);
            }
        }
        self.seen += 1;
    }

    /// What is kept, in order.
    pub fn entries(&self) -> &[KeyFrame] {
        &self.entries
    }
}
