// SPDX-License-Identifier: MPL-2.0

//! What stands before `rml_rtmp`'s session, which trusts its peer: messages that would overflow the stack are refused,
//! and panics are errors.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use rml_rtmp::chunk_io::ChunkDeserializer;

/// Objects and arrays in a message, at most, counted by their marker bytes, of which other values have some too.
/// `rml_amf0` reads them by recursion, with less than a kilobyte of stack for each.
const MARKERS: usize = 1000;
const OBJECT: u8 = 3;
const ECMA_ARRAY: u8 = 8;
const STRICT_ARRAY: u8 = 10;

/// Message types.
const SET_CHUNK_SIZE: u8 = 1;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;

/// Reads the same chunks as the session, before it does.
pub(super) struct Gate {
    chunks: ChunkDeserializer,
}

impl Default for Gate {
    fn default() -> Self {
        Self { chunks: ChunkDeserializer::new() }
    }
}

impl Gate {
    /// Looks at the messages that end in these bytes, all of which are for the session if there is nothing wrong.
    pub fn check(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut next = bytes;
        while let Some(message) = self.chunks.get_next_message(next).map_err(|error| error.to_string())? {
            next = &[];
            match message.type_id {
                AUDIO | VIDEO => (),
                SET_CHUNK_SIZE => {
                    // As the session reads it; it refuses what is shorter.
                    if let Some(size) = message.data.first_chunk::<4>() {
                        let size = u32::from_be_bytes(*size) as usize;
                        self.chunks.set_max_chunk_size(size).map_err(|error| error.to_string())?;
                    }
                }
                kind => {
                    let nests = |byte: &&u8| matches!(**byte, OBJECT | ECMA_ARRAY | STRICT_ARRAY);
                    let markers = message.data.iter().filter(nests).count();
                    if markers > MARKERS {
                        let size = message.data.len();
                        return Err(format!(
                            "a message of type {kind} and {size} bytes may have {markers} values in each other"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `parse`, whose panic is an error without a backtrace: arithmetic on hostile lengths and times can panic.
pub(super) fn contained<T>(parse: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !CONTAINED.get() {
                hook(info);
            }
        }));
    });
    CONTAINED.set(true);
    let result = catch_unwind(AssertUnwindSafe(parse));
    CONTAINED.set(false);
    result.unwrap_or_else(|_| Err("a message that the parser gave up".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rml_rtmp::sessions::{ServerSession, ServerSessionConfig};

    /// A message of one chunk, behind one that makes chunks large.
    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 0, 4, SET_CHUNK_SIZE, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF];
        bytes.extend([3, 0, 0, 0]);
        bytes.extend(&(body.len() as u32).to_be_bytes()[1..]);
        bytes.extend([kind, 0, 0, 0, 0]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn nesting_is_refused_however_it_is_cut() {
        let bomb = [OBJECT, 0, 1, b'a'].repeat(MARKERS + 1);
        for kind in [15, 17, 18, 20, 22] {
            let bytes = message(kind, &bomb);
            for piece in [1, 100, bytes.len()] {
                let mut gate = Gate::default();
                let found = bytes.chunks(piece).find_map(|piece| gate.check(piece).err()).unwrap();
                let expected = "and 4004 bytes may have 1001 values in each other";
                assert_eq!(found, format!("a message of type {kind} {expected}"));
            }
        }
        // What video is made of does not matter.
        assert_eq!(Gate::default().check(&message(VIDEO, &bomb)), Ok(()));
    }

    /// On a test's thread, whose stack has a quarter of what the receiver's has.
    #[test]
    fn what_is_let_through_does_not_overflow_the_stack() {
        for level in
            [&[OBJECT, 0, 1, b'a'][..], &[ECMA_ARRAY, 0, 0, 0, 1, 0, 1, b'a'], &[STRICT_ARRAY, 9, 9, 9, 9]]
        {
            let bytes = message(18, &level.repeat(MARKERS));
            assert_eq!(Gate::default().check(&bytes), Ok(()));
            let (mut session, _) = ServerSession::new(ServerSessionConfig::new()).unwrap();
            let _ = session.handle_input(&bytes);
        }
    }

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(contained(|| Ok(1)), Ok(1));
        let found = contained(|| -> Result<(), String> { panic!("a bug") });
        assert_eq!(found, Err("a message that the parser gave up".into()));
    }
}
