// SPDX-License-Identifier: MPL-2.0

//! MP4: its tables, whether all samples that they name are in the file, and the last of them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use mp4_atom::{Atom, FourCC, Ftyp, Header, Moov, ReadAtom, ReadFrom, Stbl, StszSamples};

/// Tables beyond this are taken for damage: they would have to be held in memory.
const MAX_TABLES: u64 = 1 << 28;

/// Looks at the tables and at the last picture.
///
/// # Errors
/// What is wrong with the file.
pub fn check(path: &Path) -> Result<(), String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is no regular file".into());
    }
    let len = found.len();
    if len == 0 {
        return Err("it is empty".into());
    }
    let moov = tables(&mut file, len)?.ok_or("it has no tables: it was not finished")?;
    let video = FourCC::new(b"vide");
    let track = moov.trak.iter().find(|track| track.mdia.hdlr.handler == video);
    let last = last_sample(&track.ok_or("it has no video")?.mdia.minf.stbl, len)?;
    let mut sample = vec![0; (last.end - last.start) as usize];
    let read = file.seek(SeekFrom::Start(last.start)).and_then(|_| file.read_exact(&mut sample));
    read.map_err(|error| format!("its last picture: {error}"))?;
    check_lengths(&sample)
}

/// Walks over the boxes of the file.
fn tables(file: &mut File, len: u64) -> Result<Option<Moov>, String> {
    let (mut at, mut moov) = (0, None);
    while at < len {
        let no_mp4 = |error: mp4_atom::Error| match at {
            0 => "it is no MP4 file".to_owned(),
            _ => format!("what begins at byte {at} is no part of an MP4 file: {error}"),
        };
        file.seek(SeekFrom::Start(at)).map_err(|error| error.to_string())?;
        let header = Header::read_from(file).map_err(no_mp4)?;
        if at == 0 && header.kind != Ftyp::KIND {
            return Err("it is no MP4 file".into());
        }
        let body = file.stream_position().map_err(|error| error.to_string())?;
        let end = header.size.map_or(Some(len), |size| body.checked_add(size as u64));
        let end = end.filter(|&end| end <= len).ok_or_else(|| {
            let of = header.size.unwrap_or_default();
            format!("it was cut short: {} of {of} bytes of its '{}' are there", len - body, header.kind)
        })?;
        if header.kind == Moov::KIND {
            if end - body > MAX_TABLES {
                return Err(format!("its tables have {} bytes, more than can be true", end - body));
            }
            let read = Moov::read_atom(&header, file);
            moov = Some(read.map_err(|error| format!("its tables cannot be read: {error}"))?);
        }
        at = end;
    }
    Ok(moov)
}

/// Where the last sample lies; all of them have to lie in the file.
fn last_sample(tables: &Stbl, len: u64) -> Result<Range<u64>, String> {
    let (count, size): (usize, &dyn Fn(usize) -> u32) = match &tables.stsz.samples {
        StszSamples::Identical { count, size } => (*count as usize, &|_| *size),
        StszSamples::Different { sizes } => (sizes.len(), &|sample| sizes[sample]),
    };
    if count == 0 {
        return Err("it has no pictures".into());
    }
    let offsets: Vec<u64> = match (&tables.co64, &tables.stco) {
        (Some(wide), _) => wide.entries.clone(),
        (None, Some(narrow)) => narrow.entries.iter().map(|&offset| u64::from(offset)).collect(),
        (None, None) => Vec::new(),
    };
    let (mut sample, mut last) = (0, 0..0);
    let mut runs = tables.stsc.entries.iter().peekable();
    let mut in_chunk = 0;
    for (chunk, &offset) in (1..).zip(&offsets) {
        while let Some(run) = runs.next_if(|run| run.first_chunk <= chunk) {
            in_chunk = run.samples_per_chunk;
        }
        last.end = offset;
        for _ in 0..in_chunk {
            if sample == count {
                break;
            }
            last = last.end..last.end.saturating_add(u64::from(size(sample)));
            sample += 1;
            if last.end > len {
                return Err(format!(
                    "picture {sample} of {count} ends at byte {}, and the file at {len}",
                    last.end
                ));
            }
        }
    }
    if sample < count {
        return Err(format!("its tables say where {sample} of {count} pictures are"));
    }
    Ok(last)
}

/// An access unit is NAL units with their lengths in front, of four bytes in all files of ours, and none ends with a
/// zero (ITU-T H.264, 7.4.1; H.265, 7.4.2.1): that is a part that was never written.
fn check_lengths(mut sample: &[u8]) -> Result<(), String> {
    let wrong = || "its last picture is not whole".to_owned();
    while !sample.is_empty() {
        let (length, rest) = sample.split_first_chunk::<4>().ok_or_else(wrong)?;
        let (unit, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(wrong)?;
        sample = unit.last().filter(|&&byte| byte != 0).map(|_| rest).ok_or_else(wrong)?;
    }
    Ok(())
}
