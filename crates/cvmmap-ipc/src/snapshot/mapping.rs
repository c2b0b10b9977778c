// SPDX-License-Identifier: MPL-2.0

//! A mapping of a segment that another process may change, grow or truncate at any time.
//!
//! The memory is reached through raw pointers only: no reference to it is ever formed, since its bytes change under
//! every rule that a reference promises. Reads past the end of a file that shrank give zeros and set [`Mapping::lost`].

use std::fs::File;
use std::io;
use std::ptr;
use std::sync::atomic::{Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};

use super::sigbus::Guard;
use crate::metadata::METADATA_SIZE;

pub(crate) struct Mapping {
    // Field order is drop order: the range is unregistered before it is unmapped.
    guard: Guard,
    map: MmapRaw,
    writable: bool,
}

impl Mapping {
    /// Maps the first `len` bytes of a segment for reading.
    pub(crate) fn read_only(file: &File, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(len).map_raw_read_only(file)?;
        let guard = Guard::new(map.as_ptr() as usize, page_aligned(len), libc::PROT_READ)?;
        Ok(Self { guard, map, writable: false })
    }

    /// Maps the first `len` bytes of a segment for writing.
    pub(crate) fn read_write(file: &File, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(len).map_raw(file)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let guard = Guard::new(map.as_ptr() as usize, page_aligned(len), protection)?;
        Ok(Self { guard, map, writable: true })
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether pages were found missing; what was read since is not the segment's.
    pub(crate) fn lost(&self) -> bool {
        self.guard.lost()
    }

    /// The address of `len` bytes at `offset`, which must lie inside the mapping.
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len());
        assert!(inside, "{len} bytes at {offset} are not inside a mapping of {}", self.len());
        self.map.as_mut_ptr().wrapping_add(offset)
    }

    /// Copies bytes out.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len()).cast_const();
        // Pairs with the producer's ordering of its stores: reads after this see no older bytes than those before.
        fence(Ordering::Acquire);
        // SAFETY: `from` is valid for reads of `to.len()` bytes: checked by `at`, mapped while `self` lives, and holes
        // are filled by the SIGBUS guard. `to` is ours, so the ranges are distinct. The bytes may change meanwhile:
        // any value is valid for u8, and what was torn is found by the coherence rules.
        unsafe { copy(from, to.as_mut_ptr(), to.len()) };
        fence(Ordering::Acquire);
    }

    /// Copies the metadata out.
    pub(crate) fn read_metadata(&self) -> [u8; METADATA_SIZE] {
        let from = self.at(0, METADATA_SIZE).cast::<u64>();
        let mut bytes = [0; METADATA_SIZE];
        fence(Ordering::Acquire);
        for (i, word) in bytes.chunks_exact_mut(8).enumerate() {
            // SAFETY: inside the mapping as checked by `at`; mappings are page aligned, so words are aligned. Volatile,
            // so that two reads of the same metadata are two reads.
            let value = unsafe { from.add(i).read_volatile() };
            word.copy_from_slice(&value.to_ne_bytes());
        }
        fence(Ordering::Acquire);
        bytes
    }

    /// Whether the segment's bytes at `offset` are `expected` now.
    pub(crate) fn matches(&self, offset: usize, expected: &[u8]) -> bool {
        let found = self.at(offset, expected.len()).cast_const();
        // SAFETY: both are valid for reads of `expected.len()` bytes, as in `read`. memcmp takes raw pointers, so no
        // reference to the foreign bytes is formed.
        unsafe { libc::memcmp(found.cast(), expected.as_ptr().cast(), expected.len()) == 0 }
    }

    /// Copies bytes in.
    pub(crate) fn write(&self, offset: usize, from: &[u8]) {
        assert!(self.writable, "the mapping is read-only");
        let to = self.at(offset, from.len());
        // SAFETY: `to` is valid for writes of `from.len()` bytes: checked by `at`, mapped writable while `self` lives.
        // `from` is a live reference to our own memory, and none is ever formed to the mapping, so they are distinct.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        // Pairs with the reader's fences: what is written next (metadata, then the sync) is not seen before this.
        fence(Ordering::Release);
    }
}

/// From this size on a copy does not fit the caches of a core together with its source.
#[cfg(target_arch = "x86_64")]
const STREAM_FROM: usize = 1 << 20;

/// Copies `len` bytes; large ones past the cache.
///
/// A frame's bytes lie in another core's cache or in memory, and so do the buffer's old ones, which an ordinary store
/// fetches first. Stores that do not, from four pages at a time (the prefetcher stops where a page ends), take two
/// thirds of memcpy's time, and what the next element saves in reading is less than that.
///
/// # Safety
/// As for [`ptr::copy_nonoverlapping`], but for `from`, which may be written to meanwhile.
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    if len >= STREAM_FROM {
        // SAFETY: passed on to the caller.
        return unsafe { copy_past_cache(from, to, len) };
    }
    // SAFETY: passed on to the caller.
    unsafe { ptr::copy_nonoverlapping(from, to, len) };
}

/// # Safety
/// As for [`copy`].
#[cfg(target_arch = "x86_64")]
unsafe fn copy_past_cache(from: *const u8, to: *mut u8, len: usize) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    const LINE: usize = 64;
    const PAGE: usize = 4096;
    const BLOCK: usize = 4 * PAGE;

    let head = to.align_offset(LINE).min(len);
    let blocks = (len - head) / BLOCK;
    let tail = head + blocks * BLOCK;
    // SAFETY: all offsets are below `len`, for which the caller promises both ranges. Stream stores need 16-byte
    // alignment, which `head` brings about. They are ordered before whatever comes next by the fence.
    unsafe {
        ptr::copy_nonoverlapping(from, to, head);
        for block in 0..blocks {
            for line in (0..PAGE).step_by(LINE) {
                for page in 0..BLOCK / PAGE {
                    let at = head + block * BLOCK + page * PAGE + line;
                    let source = from.add(at).cast::<__m128i>();
                    let target = to.add(at).cast::<__m128i>();
                    let line: [__m128i; LINE / 16] = std::array::from_fn(|i| _mm_loadu_si128(source.add(i)));
                    for (i, value) in line.into_iter().enumerate() {
                        _mm_stream_si128(target.add(i), value);
                    }
                }
            }
        }
        ptr::copy_nonoverlapping(from.add(tail), to.add(tail), len - tail);
        _mm_sfence();
    }
}

fn page_aligned(len: usize) -> usize {
    len.next_multiple_of(rustix::param::page_size())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    fn file_of(pages: usize) -> (File, usize) {
        let len = pages * rustix::param::page_size();
        let file = tempfile::tempfile().unwrap();
        file.set_len(len as u64).unwrap();
        (file, len)
    }

    #[test]
    fn a_file_cut_under_a_mapping_reads_as_zeros_and_is_marked_lost() {
        let (file, len) = file_of(4);
        let writer = Mapping::read_write(&file, len).unwrap();
        writer.write(0, &vec![7; len]);
        let reader = Mapping::read_only(&file, len).unwrap();
        let mut copy = vec![1; len];
        reader.read(0, &mut copy);
        assert!(copy.iter().all(|&b| b == 7) && !reader.lost());

        file.set_len((len / 2) as u64).unwrap();
        reader.read(0, &mut copy);
        assert!(reader.lost());
        assert!(copy[..len / 2].iter().all(|&b| b == 7) && copy[len / 2..].iter().all(|&b| b == 0));
        assert!(!reader.matches(len / 2, &[7]));
        // The writer's own pages are gone too, and writing to them is harmless.
        writer.write(len - 1, &[9]);
        assert!(writer.lost());
        // Another mapping of the same range of addresses starts with a clean mark.
        drop(reader);
        assert!(!Mapping::read_only(&file, len / 2).unwrap().lost());
    }

    #[test]
    fn copies_of_all_sizes_and_alignments_are_the_same_bytes() {
        let source: Vec<u8> = (0..3_000_000u32).map(|i| ((i * 31) >> 3) as u8).collect();
        for len in [0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 2_764_800, 2_900_001] {
            for offset in [0, 1, 16, 63] {
                let mut target = vec![0xEE; len + 128];
                let at = &mut target[offset..offset + len];
                // SAFETY: both ranges have `len` bytes and belong to distinct vectors.
                unsafe { copy(source.as_ptr().add(7), at.as_mut_ptr(), len) };
                assert!(target[offset..offset + len] == source[7..7 + len], "{len} bytes at {offset}");
                assert!(target[..offset].iter().chain(&target[offset + len..]).all(|&b| b == 0xEE));
            }
        }
    }

    #[test]
    fn many_mappings_come_and_go_on_many_threads() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let (file, len) = file_of(2);
                        let maps: Vec<_> = (0..3).map(|_| Mapping::read_only(&file, len).unwrap()).collect();
                        file.set_len(0).unwrap();
                        for map in &maps {
                            map.read(len - 8, &mut [1; 8]);
                            assert!(map.lost());
                        }
                    }
                });
            }
        });
    }

    #[test]
    #[should_panic(expected = "9 bytes at 4088 are not inside a mapping of 4096")]
    fn reads_outside_the_mapping_are_refused() {
        let (file, _) = file_of(1);
        Mapping::read_only(&file, 4096).unwrap().read(4088, &mut [0; 9]);
    }

    /// Runs only as the child of the next test.
    fn fault_outside_our_mappings() {
        let (ours, len) = file_of(1);
        let _installed = Mapping::read_only(&ours, len).unwrap();
        let (foreign, len) = file_of(1);
        let map = MmapOptions::new().len(len).map_raw_read_only(&foreign).unwrap();
        foreign.set_len(0).unwrap();
        // SAFETY: none can be promised, and that is the test: this address is not ours, so SIGBUS must kill us.
        unsafe { map.as_ptr().read_volatile() };
    }

    #[test]
    fn a_fault_at_a_foreign_address_still_ends_the_process() {
        const CHILD: &str = "CVMMAP_TEST_FOREIGN_FAULT";
        if std::env::var_os(CHILD).is_some() {
            return fault_outside_our_mappings();
        }
        let name = "snapshot::mapping::tests::a_fault_at_a_foreign_address_still_ends_the_process";
        let status = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--test-threads=1"])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
    }
}
