// SPDX-License-Identifier: MPL-2.0

//! MCAP: its footer and summary, whether all chunks that they name are in the file, how many messages the topics have, and
//! whether `/bundle` speaks of all pictures.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use mcap::Summary;
use mcap::records::{ChunkIndex, Record, op};
use mcap::sans_io::linear_reader::{LinearReadEvent, LinearReader, LinearReaderOptions};
use mcap::sans_io::summary_reader::{SummaryReadEvent, SummaryReader, SummaryReaderOptions};

/// Records of the summary beyond this are taken for damage.
const MAX_RECORD: usize = 1 << 28;
/// The topic that tells which pictures belong together.
const BUNDLE: &str = "/bundle";
const VIDEO: &str = "foxglove.CompressedVideo";
/// Opcode and length in front of every record.
const RECORD_HEAD: u64 = 1 + 8;
/// Bytes of the record behind the data, whose body is a checksum.
const DATA_END: u64 = RECORD_HEAD + 4;
/// Bytes of the footer, whose body is two offsets and a checksum.
const FOOTER: u64 = RECORD_HEAD + 8 + 8 + 4;

/// What the topic of groups has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// There may be none.
    None,
    /// There is one for each picture.
    Each,
    /// There are some: of copies, pictures that only others need are in the file, too.
    Some,
}

/// Looks at what the file says of itself, and reads its last chunk.
///
/// # Errors
/// What is wrong with the file.
pub fn check(path: &Path, groups: Groups) -> Result<(), String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is no regular file".into());
    }
    let len = found.len();
    if len == 0 {
        return Err("it is empty".into());
    }
    let mut magic = [0; mcap::MAGIC.len()];
    if file.read_exact(&mut magic).is_err() || magic != mcap::MAGIC {
        return Err("it is no MCAP file".into());
    }
    let summary = summary(&mut file, len)
        .map_err(|error| {
            format!("it has no footer and summary that can be read: it was not finished ({error})")
        })?
        .ok_or("it has no summary")?;
    check_summary(&file, len)?;
    check_chunks(&file, len, &summary.chunk_indexes)?;
    check_counts(&summary, groups)
}

/// Compares the checksum of the summary, which stands behind the end of the data.
fn check_summary(file: &File, len: u64) -> Result<(), String> {
    let mut footer = [0; FOOTER as usize];
    let read = len.checked_sub(FOOTER + mcap::MAGIC.len() as u64).ok_or("it is too short for a footer")?;
    file.read_exact_at(&mut footer, read).map_err(|error| format!("its footer: {error}"))?;
    let footer = mcap::parse_record(op::FOOTER, &footer[RECORD_HEAD as usize..]);
    let Ok(Record::Footer(footer)) = footer else { return Err("its footer cannot be read".into()) };
    let from = footer.summary_start.saturating_sub(DATA_END);
    let options = LinearReaderOptions::default().with_validate_summary_section_crc(true);
    walk(file, from..len, options, |_| ())
        .map_err(|why| format!("its summary is not as it was written: {why}"))
}

/// Reads a part of the file that begins and ends with a record, or at its end; tells what each of them is.
fn walk(
    file: &File,
    part: Range<u64>,
    options: LinearReaderOptions,
    mut record: impl FnMut(u8),
) -> Result<(), String> {
    let options = options.with_skip_start_magic(true).with_record_length_limit(MAX_RECORD);
    let (mut reader, mut at) = (LinearReader::new_with_options(options), part.start);
    while let Some(event) = reader.next_event() {
        match event.map_err(|error| error.to_string())? {
            LinearReadEvent::Record { opcode, .. } => record(opcode),
            LinearReadEvent::ReadRequest(need) => {
                let need = need.min(part.end.saturating_sub(at) as usize);
                let read = file.read_at(reader.insert(need), at).map_err(|error| error.to_string())?;
                reader.notify_read(read);
                at += read as u64;
            }
        }
    }
    Ok(())
}

fn summary(file: &mut File, len: u64) -> Result<Option<Summary>, String> {
    let options = SummaryReaderOptions::default().with_file_size(len).with_record_length_limit(MAX_RECORD);
    let mut reader = SummaryReader::new_with_options(options);
    while let Some(event) = reader.next_event() {
        match event.map_err(|error| error.to_string())? {
            SummaryReadEvent::ReadRequest(need) => {
                let read = file.read(reader.insert(need)).map_err(|error| error.to_string())?;
                reader.notify_read(read);
            }
            SummaryReadEvent::SeekRequest(to) => {
                reader.notify_seeked(file.seek(to).map_err(|error| error.to_string())?);
            }
        }
    }
    Ok(reader.finish())
}

fn check_chunks(file: &File, len: u64, chunks: &[ChunkIndex]) -> Result<(), String> {
    for chunk in chunks {
        // One that has channels alone has no times.
        if chunk.message_index_offsets.is_empty() && chunk.message_end_time > 0 {
            return Err(format!(
                "its chunk at byte {} has no index of its messages",
                chunk.chunk_start_offset
            ));
        }
        let end = chunk.chunk_start_offset.checked_add(chunk.chunk_length);
        let end = end.and_then(|end| end.checked_add(chunk.message_index_length));
        if end.is_none_or(|end| end > len) {
            let start = chunk.chunk_start_offset;
            return Err(format!("its chunk at byte {start} ends behind the end of the file, at {len}"));
        }
    }
    let Some(last) = chunks.iter().max_by_key(|chunk| chunk.chunk_start_offset) else { return Ok(()) };
    let mut head = [0; RECORD_HEAD as usize];
    let read: io::Result<()> = file.read_exact_at(&mut head, last.chunk_start_offset);
    read.map_err(|error| format!("its last chunk: {error}"))?;
    let [opcode, length @ ..] = head;
    if opcode != op::CHUNK || u64::from_le_bytes(length).checked_add(RECORD_HEAD) != Some(last.chunk_length) {
        return Err(format!("at byte {} is not the chunk that its summary says", last.chunk_start_offset));
    }
    // That is what a power cut takes, if anything.
    let part =
        last.chunk_start_offset..last.chunk_start_offset + last.chunk_length + last.message_index_length;
    let options = LinearReaderOptions::default().with_skip_end_magic(true).with_validate_chunk_crcs(true);
    let mut indexes = 0;
    walk(file, part, options, |opcode| indexes += usize::from(opcode == op::MESSAGE_INDEX))
        .map_err(|why| format!("its last chunk is not as it was written: {why}"))?;
    match indexes == last.message_index_offsets.len() {
        true => Ok(()),
        false => Err("behind its last chunk are not the indexes that its summary says".into()),
    }
}

fn check_counts(summary: &Summary, wanted: Groups) -> Result<(), String> {
    let stats = summary.stats.as_ref().ok_or("its summary has no counts")?;
    let counts = &stats.channel_message_counts;
    let (sum, chunks) =
        (counts.values().fold(0u64, |sum, count| sum.saturating_add(*count)), summary.chunk_indexes.len());
    if sum != stats.message_count {
        return Err(format!("it has {} messages, and its topics {sum}", stats.message_count));
    }
    if stats.chunk_count as usize != chunks {
        return Err(format!("it has {} chunks, and its summary tells of {chunks}", stats.chunk_count));
    }
    let count = |id: &u16| counts.get(id).copied().unwrap_or_default();
    let is_video = |schema: &str| schema == VIDEO;
    let mut pictures = BTreeMap::new();
    let mut groups: Option<u64> = None;
    for (id, channel) in &summary.channels {
        if channel.topic == BUNDLE {
            groups = Some(groups.unwrap_or_default() + count(id));
        } else if channel.schema.as_ref().is_some_and(|schema| is_video(&schema.name)) {
            let pictures = pictures.entry(&channel.topic).or_insert(0u64);
            *pictures = pictures.saturating_add(count(id));
        }
    }
    if pictures.values().all(|pictures| *pictures == 0) {
        return Err("it has no pictures".into());
    }
    let groups = match groups {
        None if wanted == Groups::None => return Ok(()),
        None => return Err(format!("it has no topic {BUNDLE}")),
        Some(0) => return Err(format!("{BUNDLE} has no groups")),
        Some(_) if wanted == Groups::Some => return Ok(()),
        Some(groups) => groups,
    };
    // A group has one picture of each camera at most.
    match pictures.into_iter().find(|(_, pictures)| *pictures > groups) {
        Some((topic, pictures)) => {
            Err(format!("{BUNDLE} has {groups} groups, and {topic} {pictures} pictures"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mcap::WriteOptions;
    use mcap::records::MessageHeader;

    use super::*;

    /// Two chunks of so many pictures of two cameras and groups; `None`: there is no such topic.
    fn file(pictures: [u32; 2], groups: Option<u32>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer =
            WriteOptions::new().chunk_size(None).compression(None).create(file.reopen().unwrap()).unwrap();
        let video = writer.add_schema(VIDEO, "protobuf", b"schema").unwrap();
        let mut topics = vec![("/zed1/video", video, pictures[0]), ("/zed2/video", video, pictures[1])];
        topics.extend(groups.map(|groups| (BUNDLE, 0, groups)));
        for (topic, schema, count) in topics {
            let channel_id = writer.add_channel(schema, topic, "protobuf", &BTreeMap::new()).unwrap();
            for sequence in 0..count {
                let time = u64::from(sequence);
                let header = MessageHeader { channel_id, sequence, log_time: time, publish_time: time };
                writer.write_to_known_channel(&header, &[7; 50]).unwrap();
            }
            writer.flush().unwrap();
        }
        writer.finish().unwrap();
        file
    }

    #[test]
    fn a_whole_file_is_one_with_a_group_for_each_picture() {
        assert_eq!(check(file([5, 4], Some(5)).path(), Groups::Each), Ok(()));
        assert_eq!(check(file([5, 4], None).path(), Groups::None), Ok(()));
        assert_eq!(check(file([5, 9], Some(4)).path(), Groups::Some), Ok(()));
        for (pictures, groups, wanted, part) in [
            ([5, 4], None, Groups::Each, "no topic /bundle"),
            ([5, 4], Some(4), Groups::Each, "/bundle has 4 groups, and /zed1/video 5 pictures"),
            ([5, 6], Some(5), Groups::None, "/zed2/video 6"),
            ([5, 6], Some(0), Groups::Some, "/bundle has no groups"),
            ([5, 6], None, Groups::Some, "no topic /bundle"),
            ([0, 0], Some(5), Groups::Each, "no pictures"),
        ] {
            let error = check(file(pictures, groups).path(), wanted).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_was_cut_short_or_overwritten_is_not_whole() {
        let file = file([5, 4], Some(5));
        let whole = std::fs::read(file.path()).unwrap();
        for len in 0..whole.len() {
            std::fs::write(file.path(), &whole[..len]).unwrap();
            assert!(check(file.path(), Groups::Each).is_err(), "{len} of {} bytes", whole.len());
        }
        // A chunk that was overwritten, and a file whose middle is missing.
        std::fs::write(file.path(), &whole).unwrap();
        let told = summary(&mut file.reopen().unwrap(), whole.len() as u64).unwrap().unwrap();
        let last = told.chunk_indexes.iter().map(|chunk| chunk.chunk_start_offset as usize).max().unwrap();
        let zeros = [&whole[..last], &[0; 20], &whole[last + 20..]].concat();
        std::fs::write(file.path(), zeros).unwrap();
        let error = check(file.path(), Groups::Each).unwrap_err();
        assert!(error.contains("not the chunk"), "{error}");
        // What was never written, or was changed since: in the last chunk, in its indexes, in the summary.
        let chunk =
            told.chunk_indexes.iter().find(|chunk| chunk.chunk_start_offset as usize == last).unwrap();
        let index = last + chunk.chunk_length as usize;
        let summary = index + chunk.message_index_length as usize + DATA_END as usize;
        for (at, part) in [(index - 30, "last chunk"), (index, "last chunk"), (summary + 40, "summary")] {
            let changed = [&whole[..at], &[!whole[at]], &whole[at + 1..]].concat();
            std::fs::write(file.path(), changed).unwrap();
            let error = check(file.path(), Groups::Each).unwrap_err();
            assert!(error.contains(part), "{at}: {error}");
        }
        std::fs::write(file.path(), [&whole[..100], &whole[300..]].concat()).unwrap();
        assert!(check(file.path(), Groups::Each).is_err());
        std::fs::write(file.path(), "no MCAP at all").unwrap();
        assert_eq!(check(file.path(), Groups::Each).unwrap_err(), "it is no MCAP file");
    }
}
