// SPDX-License-Identifier: MPL-2.0

//! Frames that are looked for in a recording: as long as it is wanted, and as the system reads the file.

use svo2::{Kind, Reader};

use super::convert::Control;
use crate::exit::Failure;

/// Frames from one look at the flag to the next.
const STEP: usize = 64;

/// What the first of these frames has, in their order, of which `wanted` makes something; `None` also where the system does
/// not read the file any more.
///
/// # Errors
/// It is cancelled.
pub fn first<T>(
    reader: &mut Reader,
    frames: impl Iterator<Item = usize>,
    control: &Control,
    mut wanted: impl FnMut(&mut Reader, usize) -> Option<T>,
) -> Result<Option<T>, Failure> {
    for (looked_at, frame) in frames.enumerate() {
        if looked_at.is_multiple_of(STEP) {
            control.check()?;
        }
        let found = wanted(reader, frame);
        if found.is_some() {
            return Ok(found);
        }
        if reader.recording().read_error().is_some() {
            break;
        }
    }
    Ok(None)
}

/// The first of these frames, in their order, at which decoding can begin.
///
/// # Errors
/// It is cancelled.
pub fn entry(
    reader: &mut Reader,
    frames: impl Iterator<Item = usize>,
    control: &Control,
) -> Result<Option<usize>, Failure> {
    first(reader, frames, control, |reader, frame| is_entry(reader, frame).then_some(frame))
}

/// Whether decoding can begin at a frame.
pub fn is_entry(reader: &mut Reader, frame: usize) -> bool {
    matches!(reader.kind(frame), Ok(Kind::Entry { .. }))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::atomic::{AtomicBool, Ordering};

    use svo2::Recording;

    use super::*;
    use crate::exit::Exit;
    use crate::sim::svo2::Recording as Sim;

    /// Key frames are 0 and 150 of 300.
    fn recording(folder: &tempfile::TempDir) -> (Reader, File) {
        let path = folder.path().join("a.svo2");
        let sim = Sim { frames: 300, gop: 150, size: (160, 120), ..Sim::default() };
        sim.create(&path, &AtomicBool::new(false)).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        (Reader::new(Recording::open(&path).unwrap()), file)
    }

    #[test]
    fn it_looks_both_ways_until_it_is_cancelled_or_the_file_ends() {
        gst::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (mut reader, file) = recording(&folder);
        let cancelled = AtomicBool::new(false);
        let control = Control { events: &mut |_| (), cancelled: &cancelled };
        let mut entry = |frames: &mut dyn Iterator<Item = usize>| super::entry(&mut reader, frames, &control);
        assert_eq!(entry(&mut (1..300)).unwrap(), Some(150));
        assert_eq!(entry(&mut (0..150).rev()).unwrap(), Some(0));
        assert_eq!(entry(&mut (151..300)).unwrap(), None);

        let mut looked_at = 0;
        let found = first(&mut reader, (0..299).rev(), &control, |_, frame| -> Option<()> {
            looked_at += 1;
            cancelled.store(frame < 280, Ordering::Relaxed);
            None
        });
        assert_eq!(found.unwrap_err().exit, Exit::Interrupted);
        assert_eq!(looked_at, STEP);

        cancelled.store(false, Ordering::Relaxed);
        file.set_len(100).unwrap();
        looked_at = 0;
        let found = first(&mut reader, (0..299).rev(), &control, |reader, frame| {
            looked_at += 1;
            reader.unit(frame).ok()
        });
        assert_eq!((found.unwrap(), looked_at), (None, 1));
    }
}
