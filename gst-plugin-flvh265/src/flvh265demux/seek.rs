// SPDX-License-Identifier: MPL-2.0

//! Where in a file a time lies: by an index, whose word is not taken for it, or by going from tag to tag.

use flv::{AudioFormat, AudioPacket, Dialect, Framer, Step, TagHeader, TagType, VideoPacket, Window};
use gst::prelude::*;

use super::demux::MAX_CONFIG_BYTES;
use super::index::{Candidate, Entry, Index};
use super::pieces::Pieces;
use super::state::Clock;
use super::track::{Config, Kind};

/// Read at once where tags are looked at without their bodies.
const GLANCE: u32 = 4096;
/// Read at once where a tag is searched.
const BLOCK: u32 = 1 << 16;
/// An index may be off by as much: some have presentation times, some are rounded.
const TOLERANCE_MS: i64 = 1000;
/// Tags at the head of a file among which sequence headers stand.
const FIRST_TAGS: usize = 16;
/// Tags right before a key frame among which its sequence header stands.
const TAGS_BEFORE: usize = 3;
/// Tags that are looked at from the end of the file on.
const LAST_TAGS: usize = 16;

/// Which key frame is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Snap {
    Before,
    After,
    Nearest,
}

impl From<gst::SeekFlags> for Snap {
    fn from(flags: gst::SeekFlags) -> Self {
        let accurate = flags.contains(gst::SeekFlags::ACCURATE) || !flags.contains(gst::SeekFlags::KEY_UNIT);
        match (flags.contains(gst::SeekFlags::SNAP_BEFORE), flags.contains(gst::SeekFlags::SNAP_AFTER)) {
            (false, true) if !accurate => Self::After,
            (true, true) if !accurate => Self::Nearest,
            _ => Self::Before,
        }
    }
}

/// The entries around a time.
#[derive(Debug, Default)]
struct Around {
    before: Option<Entry>,
    after: Option<Entry>,
}

/// A file, read through the sink pad by whoever has the stream lock.
pub(super) struct File<'a> {
    pad: &'a gst::Pad,
    block: Option<(u64, gst::MappedBuffer<gst::buffer::Readable>)>,
}

/// A tag's header and the first bytes of its body.
struct Glance {
    header: TagHeader,
    body: [u8; flv::tag::MAX_BODY_HEADER_BYTES],
    body_bytes: usize,
}

impl Glance {
    fn body(&self) -> &[u8] {
        &self.body[..self.body_bytes]
    }

    fn next(&self, position: u64) -> u64 {
        position + (self.header.bytes_before_trailer() + flv::tag::TRAILER_BYTES) as u64
    }

    fn is_config(&self) -> bool {
        let video = || matches!(Dialect::parse(self.body()), Ok((_, VideoPacket::SequenceHeader, _)));
        self.header.tag_type == TagType::Video && video()
    }

    /// Presentation minus decoding time, if decoding can begin here.
    fn begins(&self, kind: Kind) -> Option<i64> {
        match (kind, self.header.tag_type) {
            (Kind::Video, TagType::Video) => match Dialect::parse(self.body()).ok()?.1 {
                VideoPacket::Frame { key: true, composition_ms } => Some(composition_ms.into()),
                _ => None,
            },
            (Kind::Audio, TagType::Audio) => {
                let (_, packet, _) = AudioFormat::parse(self.body()).ok()?;
                (packet == AudioPacket::Frame).then_some(0)
            }
            _ => None,
        }
    }
}

impl<'a> File<'a> {
    pub fn new(pad: &'a gst::Pad) -> Self {
        Self { pad, block: None }
    }

    /// As many bytes as there are, up to `into`'s length.
    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<usize, gst::FlowError> {
        let held = self
            .block
            .as_ref()
            .is_some_and(|(from, block)| at >= *from && at + into.len() as u64 <= from + block.size() as u64);
        if !held {
            let buffer = match self.pad.pull_range(at, GLANCE.max(into.len() as u32)) {
                Ok(buffer) => buffer,
                Err(gst::FlowError::Eos) => return Ok(0),
                Err(error) => return Err(error),
            };
            let mapped = buffer.into_mapped_buffer_readable().map_err(|_| gst::FlowError::Error)?;
            self.block = Some((at, mapped));
        }
        let (from, block) = self.block.as_ref().expect("it was read");
        let rest = block.as_slice().get((at - from) as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    /// `None`: the file ends before. `Some(None)`: no tag begins there.
    fn glance(&mut self, at: u64) -> Result<Option<Option<Glance>>, gst::FlowError> {
        const HEAD: usize = flv::tag::TAG_HEADER_BYTES;
        let mut bytes = [0; HEAD + flv::tag::MAX_BODY_HEADER_BYTES];
        let count = self.read(at, &mut bytes)?;
        let Some(head) = bytes[..count].first_chunk() else { return Ok(None) };
        let Ok(header) = TagHeader::parse(head) else { return Ok(Some(None)) };
        let mut body = [0; flv::tag::MAX_BODY_HEADER_BYTES];
        let body_bytes = (count - HEAD).min(header.body_bytes as usize);
        body[..body_bytes].copy_from_slice(&bytes[HEAD..][..body_bytes]);
        Ok(Some(Some(Glance { header, body, body_bytes })))
    }

    /// The first tag after `position` that is whole, where going on from the tag at `position` led to none.
    fn resync(&mut self, position: u64) -> Result<Option<u64>, gst::FlowError> {
        let mut pieces = Pieces::default();
        let mut framer = Framer::at_tag();
        let (mut at, mut need, mut end) = (position, 1, false);
        loop {
            while !end && pieces.len() < need {
                match self.pad.pull_range(at + pieces.len() as u64, BLOCK) {
                    Ok(buffer) if buffer.size() > 0 => pieces.push(&buffer)?,
                    Ok(_) | Err(gst::FlowError::Eos) => end = true,
                    Err(error) => return Err(error),
                }
            }
            match framer.step(&pieces, end) {
                Step::Need(_) | Step::End if end => return Ok(None),
                Step::Need(bytes) => need = bytes,
                Step::Tag { .. } if at > position => return Ok(Some(at)),
                Step::Header { bytes, .. } | Step::Tag { bytes, .. } | Step::Skip { bytes, .. } => {
                    pieces.cut(bytes);
                    at += bytes as u64;
                    need = 1;
                }
                Step::End => return Ok(None),
            }
        }
    }

    /// The timestamp of the last tag, found backwards from the end.
    pub fn last_timestamp(&mut self) -> Result<Option<u32>, gst::FlowError> {
        let Some(size) = self.pad.peer_query_duration::<gst::format::Bytes>() else { return Ok(None) };
        let mut end = *size;
        for _ in 0..LAST_TAGS {
            let Some((begin, tag)) = self.tag_before(end)? else { break };
            if tag.header.tag_type != TagType::Script {
                return Ok(Some(tag.header.timestamp_ms));
            }
            end = begin;
        }
        Ok(None)
    }

    /// Looks whether the index is right: a tag where decoding can begin, at about this time. Its sequence header may
    /// stand there before it.
    fn verify(&mut self, candidate: Candidate, kind: Kind) -> Result<Option<Entry>, gst::FlowError> {
        let Some(Some(mut tag)) = self.glance(candidate.position)? else { return Ok(None) };
        if tag.is_config() {
            let Some(Some(next)) = self.glance(tag.next(candidate.position))? else { return Ok(None) };
            tag = next;
        }
        let Some(composition_ms) = tag.begins(kind) else { return Ok(None) };
        let (ms, _) = Clock::near(candidate.ms).unwrap(tag.header.timestamp_ms, None);
        let right = ms.abs_diff(candidate.ms).min((ms + composition_ms).abs_diff(candidate.ms));
        let clock = Clock::at(ms, tag.header.timestamp_ms);
        let entry = Entry { position: candidate.position, pts_ms: ms + composition_ms, clock };
        Ok((right <= TOLERANCE_MS.unsigned_abs()).then_some(entry))
    }

    /// Finds where to begin for a time; `None`: nowhere, or the index is wrong and should be forgotten.
    pub fn find(
        &mut self,
        index: &mut Index,
        kind: Kind,
        target_ms: i64,
        snap: Snap,
    ) -> Result<Option<Entry>, gst::FlowError> {
        let mut around = Around::default();
        let mut from = None;
        if !index.described.is_empty() {
            match self.by_description(index, kind, target_ms)? {
                Some(found) if found.before.is_some() && found.after.is_some() => around = found,
                Some(found) => from = found.before,
                None => index.described.clear(),
            }
        }
        if around.before.is_none() {
            around = self.by_scanning(index, kind, target_ms, from)?;
        }
        let Around { before, after } = around;
        let found = match (snap, before, after) {
            (Snap::Before, before, after) => before.or(after),
            (Snap::After, Some(before), _) if before.pts_ms == target_ms => Some(before),
            (Snap::After, before, after) => after.or(before),
            (Snap::Nearest, Some(before), Some(after)) => {
                let nearer = target_ms - before.pts_ms <= after.pts_ms - target_ms;
                Some(if nearer { before } else { after })
            }
            (Snap::Nearest, before, after) => before.or(after),
        };
        if let Some(entry) = &found {
            self.look_for_configs(index, entry.position)?;
        }
        Ok(found)
    }

    /// What an index leads past: sequence headers at the head of the file, and right before its key frames.
    fn look_for_configs(&mut self, index: &mut Index, until: u64) -> Result<(), gst::FlowError> {
        if index.looked == 0 {
            let mut at = self.first_tag()?;
            for _ in 0..FIRST_TAGS {
                let Some(Some(tag)) = self.glance(at)? else { break };
                self.note_config(index, at, &tag)?;
                at = tag.next(at);
            }
        }
        let new = |position: &u64| (index.looked + 1..=until).contains(position);
        let places: Vec<u64> = index.described.iter().map(|entry| entry.position).filter(new).collect();
        for place in places {
            if let Some(Some(tag)) = self.glance(place)? {
                self.note_config(index, place, &tag)?;
            }
            let mut at = place;
            for _ in 0..TAGS_BEFORE {
                let Some((before, tag)) = self.tag_before(at)? else { break };
                self.note_config(index, before, &tag)?;
                at = before;
            }
        }
        index.looked = index.looked.max(until);
        Ok(())
    }

    /// The tag that ends where another begins, by its PreviousTagSize.
    fn tag_before(&mut self, end: u64) -> Result<Option<(u64, Glance)>, gst::FlowError> {
        let mut trailer = [0; flv::tag::TRAILER_BYTES];
        let Some(at) = end.checked_sub(flv::tag::TRAILER_BYTES as u64) else { return Ok(None) };
        if self.read(at, &mut trailer)? < trailer.len() {
            return Ok(None);
        }
        let size = u64::from(u32::from_be_bytes(trailer));
        let Some(begin) = at.checked_sub(size) else { return Ok(None) };
        let Some(Some(tag)) = self.glance(begin)? else { return Ok(None) };
        Ok((tag.header.bytes_before_trailer() as u64 == size).then_some((begin, tag)))
    }

    /// `None`: the index is wrong.
    fn by_description(
        &mut self,
        index: &Index,
        kind: Kind,
        target_ms: i64,
    ) -> Result<Option<Around>, gst::FlowError> {
        let mut around = Around::default();
        for candidate in index.described_before(target_ms) {
            let Some(entry) = self.verify(candidate, kind)? else { return Ok(None) };
            if entry.pts_ms <= target_ms {
                around.before = Some(entry);
                break;
            }
            around.after = Some(entry);
        }
        // Where the index is a little off, the next key frame is before the time too, and scanning finds it.
        if let Some(candidate) = index.described_after(target_ms).filter(|_| around.after.is_none()) {
            around.after = self.verify(candidate, kind)?.filter(|entry| entry.pts_ms > target_ms);
        }
        Ok(Some(around))
    }

    /// Goes from tag to tag, from the last place that is known or from `from`, until behind the time.
    fn by_scanning(
        &mut self,
        index: &mut Index,
        kind: Kind,
        target_ms: i64,
        from: Option<Entry>,
    ) -> Result<Around, gst::FlowError> {
        let mut around = Around::default();
        let known = index.seen_before(target_ms).take(4).collect::<Vec<_>>();
        let mut start = from;
        for candidate in known {
            if start.as_ref().is_some_and(|entry| entry.position >= candidate.position) {
                break;
            }
            match self.verify_seen(candidate, kind)? {
                Some(entry) if entry.pts_ms <= target_ms => {
                    start = Some(entry);
                    break;
                }
                _ => {}
            }
        }
        let (mut at, mut clock) = match &start {
            Some(entry) => (entry.position, entry.clock.clone()),
            None => (self.first_tag()?, Clock::default()),
        };
        let mut last_ms = [None; 2];
        let mut tag_at = None;
        loop {
            let glance = self.glance(at)?;
            if glance.is_none() && !self.lies_beyond_the_end(at) {
                break;
            }
            let Some(tag) = glance.flatten() else {
                match self.resync(tag_at.unwrap_or(at))? {
                    Some(next) if next > at || tag_at.is_some_and(|tag_at| next > tag_at) => at = next,
                    _ => break,
                }
                tag_at = None;
                continue;
            };
            tag_at = Some(at);
            self.note_config(index, at, &tag)?;
            let next = tag.next(at);
            let (track, frame) = match tag.header.tag_type {
                TagType::Video => (Kind::Video, is_video_frame(tag.body())),
                TagType::Audio => (Kind::Audio, tag.begins(Kind::Audio).is_some()),
                TagType::Script => (Kind::Audio, false),
            };
            if frame {
                let (ms, _) = clock.unwrap(tag.header.timestamp_ms, last_ms[track as usize]);
                last_ms[track as usize] = Some(ms);
                if let Some(composition_ms) = tag.begins(kind) {
                    index.push(kind, at, ms);
                    let pts_ms = ms + composition_ms;
                    let entry = Entry { position: at, pts_ms, clock: clock.clone() };
                    if pts_ms > target_ms {
                        around.after = Some(entry);
                        break;
                    }
                    around.before = Some(entry);
                }
            }
            at = next;
        }
        Ok(around)
    }

    /// A tag's size has led to where there is nothing any more.
    fn lies_beyond_the_end(&self, at: u64) -> bool {
        self.pad.peer_query_duration::<gst::format::Bytes>().is_some_and(|size| at > *size)
    }

    /// A place that was seen needs no other time than the one that was computed for it.
    fn verify_seen(&mut self, candidate: Candidate, kind: Kind) -> Result<Option<Entry>, gst::FlowError> {
        let Some(Some(tag)) = self.glance(candidate.position)? else { return Ok(None) };
        let Some(composition_ms) = tag.begins(kind) else { return Ok(None) };
        let Candidate { position, ms } = candidate;
        let clock = Clock::at(ms, tag.header.timestamp_ms);
        Ok(Some(Entry { position, pts_ms: ms + composition_ms, clock }))
    }

    fn first_tag(&mut self) -> Result<u64, gst::FlowError> {
        let mut bytes = [0; 9];
        if self.read(0, &mut bytes)? < bytes.len() {
            return Ok(0);
        }
        let header = flv::FileHeader::parse(&bytes);
        Ok(header.map_or(0, |(_, tags_at)| (tags_at + flv::tag::TRAILER_BYTES) as u64))
    }

    fn note_config(&mut self, index: &mut Index, at: u64, tag: &Glance) -> Result<(), gst::FlowError> {
        let payload = match tag.header.tag_type {
            TagType::Video => match Dialect::parse(tag.body()) {
                Ok((_, VideoPacket::SequenceHeader, payload)) => payload,
                _ => return Ok(()),
            },
            TagType::Audio => match AudioFormat::parse(tag.body()) {
                Ok((_, AudioPacket::SequenceHeader, payload)) => payload,
                _ => return Ok(()),
            },
            TagType::Script => return Ok(()),
        };
        let bytes = (tag.header.body_bytes as usize).saturating_sub(payload);
        if !(2..=MAX_CONFIG_BYTES).contains(&bytes) {
            return Ok(());
        }
        let mut record = vec![0; bytes];
        let from = at + (flv::tag::TAG_HEADER_BYTES + payload) as u64;
        if self.read(from, &mut record)? < bytes {
            return Ok(());
        }
        let config = match Dialect::parse(tag.body()) {
            Ok((dialect, ..)) if tag.header.tag_type == TagType::Video => {
                Config::video(dialect.codec(), record).ok()
            }
            _ => Some(Config::Aac { config: record }),
        };
        if let Some(config) = config {
            index.push_config(at, &config);
        }
        Ok(())
    }
}

fn is_video_frame(body: &[u8]) -> bool {
    matches!(Dialect::parse(body), Ok((_, VideoPacket::Frame { .. }, _)))
}

/// The end of a file, in milliseconds: as it is described, unless its last tag contradicts.
pub(super) fn duration_ms(described: Option<f64>, last: Option<u32>) -> Option<i64> {
    /// onMetaData counts the last frame's own duration too.
    const LAST_FRAME_MS: i64 = 2000;
    let described = described.map(|seconds| (seconds.min(1e12) * 1e3).round() as i64);
    let last = last.map(i64::from);
    match (described, last) {
        (Some(described), Some(last)) if (0..=LAST_FRAME_MS).contains(&(described - last)) => Some(described),
        (described, None) => described,
        (_, last) => last,
    }
}
