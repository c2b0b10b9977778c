// SPDX-License-Identifier: MPL-2.0

//! One FLV stream: from frames in the order of writing to buffers, each of them one tag.

use std::collections::VecDeque;

use flv::index::KeyFrame;
use flv::metadata::File;
use flv::tag::BodyHeader;
use flv::timeline::Backwards;
use flv::{
    AudioFormat, AudioPacket, Dialect, Envelope, FileHeader, KeyFrameIndex, Metadata, Stamp, TagType,
    Timeline, VideoPacket,
};

use super::CAT;
use super::config::{Audio, Config, Video};
use super::settings::Settings;

/// Key frames in a file's index; more are thinned.
const INDEX_CAPACITY: usize = 2048;
/// Of a file without video, a frame is in the index this often.
const AUDIO_INDEX_INTERVAL_NS: u64 = 1_000_000_000;

/// A frame that waits for its turn.
pub(super) struct Frame {
    pub buffer: gst::Buffer,
    /// Running time in nanoseconds.
    pub dts: i64,
    pub pts: i64,
    /// What has come with a caps event since the last frame.
    pub config: Option<Box<Config>>,
}

impl Frame {
    fn is_key(&self) -> bool {
        !self.buffer.flags().contains(gst::BufferFlags::DELTA_UNIT)
    }
}

/// Memories of an access unit that are shared: a buffer has 16, and head and trailer are two of them.
const MAX_SHARED: usize = 14;

/// What goes downstream.
pub(super) enum Out {
    Event(gst::Event),
    Buffer(gst::Buffer),
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stats {
    pub tags: u64,
    pub bytes: u64,
    pub video_tags: u64,
    pub audio_tags: u64,
    pub key_frames: u64,
    pub caps_changes: u64,
    pub timestamp_corrections: u64,
    pub dropped: u64,
}

impl Stats {
    pub fn structure(&self) -> gst::Structure {
        gst::Structure::builder("flvh265mux-stats")
            .field("tags", self.tags)
            .field("bytes", self.bytes)
            .field("video-tags", self.video_tags)
            .field("audio-tags", self.audio_tags)
            .field("key-frames", self.key_frames)
            .field("caps-changes", self.caps_changes)
            .field("timestamp-corrections", self.timestamp_corrections)
            .field("dropped", self.dropped)
            .build()
    }
}

/// What comes out, in order, and what is counted of it.
#[derive(Default)]
pub(super) struct Sink {
    pub out: VecDeque<Out>,
    pub stats: Stats,
}

/// What the header is made of.
#[derive(Default)]
pub(super) struct Tracks {
    pub video: Option<Video>,
    pub audio: Option<Audio>,
}

/// A track that is being written.
struct Written<C> {
    config: C,
    /// Its sequence header as it stands in `streamheader`; MP3 has none.
    header: Option<gst::Buffer>,
}

pub(super) struct Writer {
    settings: Settings,
    timeline: Timeline,
    metadata: Metadata,
    file_header: gst::Buffer,
    video: Option<Written<Video>>,
    /// Comes into force with the next key frame.
    next_video: Option<Video>,
    audio: Option<Written<Audio>>,
    file: Option<FileState>,
    position: u64,
}

/// What a file's header is rewritten from.
struct FileState {
    index: KeyFrameIndex,
    room: usize,
    first_ns: Option<u64>,
    end_ns: u64,
    last_entry_ns: Option<u64>,
}

impl Writer {
    /// Begins a stream: puts out caps, segment and the header tags. `file`: the header will be rewritten.
    pub fn begin(settings: Settings, tracks: Tracks, first_dts: i64, file: bool, sink: &mut Sink) -> Self {
        let backwards = Backwards {
            skip: settings.skip_backwards_streams,
            enforce: settings.enforce_increasing_timestamps,
        };
        let timeline = Timeline::new(first_dts, backwards);
        let streams = FileHeader { audio: tracks.audio.is_some(), video: tracks.video.is_some() };
        let mut metadata = Metadata {
            video: tracks.video.as_ref().map(Video::metadata),
            audio: tracks.audio.as_ref().map(Audio::metadata),
            encoder: settings.encoder.clone(),
            creator: settings.metadatacreator.clone(),
            file: None,
        };
        let file = file.then(|| {
            metadata.file = Some(File::default());
            FileState {
                index: KeyFrameIndex::new(INDEX_CAPACITY),
                room: file_room(&metadata),
                end_ns: 0,
                last_entry_ns: None,
                first_ns: None,
            }
        });
        let mut writer = Self {
            settings,
            timeline,
            metadata,
            file_header: header_buffer(streams.to_bytes().to_vec()),
            video: tracks.video.map(|config| Written { header: Some(video_header(&config, None)), config }),
            next_video: None,
            audio: tracks
                .audio
                .map(|config| Written { header: audio_header(&config, None, streams.video), config }),
            file,
            position: 0,
        };
        sink.out.push_back(Out::Event(writer.caps()));
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        let start = gst::ClockTime::from_nseconds(writer.timeline.shift_ns());
        segment.set_start(start);
        segment.set_position(start);
        sink.out.push_back(Out::Event(gst::event::Segment::new(&segment)));
        let head: Vec<gst::Buffer> = writer.head().collect();
        for buffer in head {
            writer.put(buffer, sink);
        }
        writer
    }

    /// Writes an access unit, and before a key frame the sequence header where that is due. The error is one for the
    /// user.
    pub fn video_frame(&mut self, frame: Frame, sink: &mut Sink) -> Result<(), String> {
        let key = frame.is_key();
        if let Some(Config::Video(video)) = frame.config.map(|config| *config) {
            self.next_video = Some(video);
        }
        let Some(stamp) = self.stamp(frame.dts, frame.pts, sink) else { return Ok(()) };
        let position = self.position;
        if key {
            self.video_sequence_header(stamp, sink)?;
        }
        let Some(video) = &self.video else {
            gst::warning!(CAT, "dropping an access unit before the first key frame");
            sink.stats.dropped += 1;
            return Ok(());
        };
        let packet = VideoPacket::Frame { key, composition_ms: stamp.composition_ms };
        let header = video.config.dialect.header(packet);
        let tag = tag(TagType::Video, &stamp, &header, &frame.buffer, !key)?;
        sink.stats.video_tags += 1;
        if key {
            sink.stats.key_frames += 1;
            self.index(stamp, position, 0);
        }
        self.put(tag, sink);
        Ok(())
    }

    /// Writes an audio frame, and before it a new sequence header.
    pub fn audio_frame(&mut self, frame: Frame, sink: &mut Sink) -> Result<(), String> {
        let Some(stamp) = self.stamp(frame.dts, frame.pts, sink) else { return Ok(()) };
        if let Some(Config::Audio(config)) = frame.config.map(|config| *config)
            && self.audio.as_ref().is_none_or(|audio| !audio.config.is_same(&config))
        {
            let old = self.audio.as_ref().map(|audio| audio.config.format);
            if let Some(old) = old.filter(|old| old.codec_id() != config.format.codec_id()) {
                return Err(codec_change(old, config.format));
            }
            let header = audio_header(&config, Some(&stamp), self.video.is_some());
            self.metadata.audio = Some(config.metadata());
            self.audio = Some(Written { config, header: header.clone() });
            self.header_changed(header, old.is_some(), sink);
        }
        let Some(audio) = &self.audio else { return Ok(()) };
        let header = audio.config.format.header(AudioPacket::Frame);
        // Playback begins at a picture where there are pictures.
        let tag = tag(TagType::Audio, &stamp, &header, &frame.buffer, self.video.is_some())?;
        sink.stats.audio_tags += 1;
        if self.video.is_none() {
            self.index(stamp, self.position, AUDIO_INDEX_INTERVAL_NS);
        }
        self.put(tag, sink);
        Ok(())
    }

    /// Ends the stream: SequenceEnd, and a file's header again.
    pub fn end(&mut self, sink: &mut Sink) {
        if let Some(video) = self.video.as_ref().filter(|_| self.settings.end_of_sequence) {
            let last = self.timeline.last();
            let header = video.config.dialect.header(VideoPacket::SequenceEnd);
            let envelope = Envelope::new(TagType::Video, last.timestamp_ms, &header, 0);
            let mut buffer = gst::Buffer::from_slice(envelope.expect("no payload fits").seal(&[]));
            let tag = buffer.get_mut().expect("just made");
            set_times(tag, &last, None);
            tag.set_flags(gst::BufferFlags::DELTA_UNIT);
            self.put(buffer, sink);
        }
        let Some(file) = self.file.take() else { return };
        self.metadata.file = Some(File {
            duration: file.end_ns.saturating_sub(file.first_ns.unwrap_or(0)) as f64 / 1e9,
            size: self.position,
            key_frames: file.index.entries().to_vec(),
        });
        let Some(tag) = self.metadata.to_tag_of(file.room) else {
            gst::warning!(CAT, "onMetaData has outgrown its {} bytes, and is not rewritten", file.room);
            return;
        };
        let segment = gst::FormattedSegment::<gst::format::Bytes>::new();
        sink.out.push_back(Out::Event(gst::event::Segment::new(&segment)));
        sink.out.push_back(Out::Buffer(self.file_header.clone()));
        sink.out.push_back(Out::Buffer(header_buffer(tag)));
    }

    fn stamp(&mut self, dts: i64, pts: i64, sink: &mut Sink) -> Option<Stamp> {
        let stamp = self.timeline.stamp(dts, pts);
        match stamp {
            None => {
                gst::warning!(CAT, "dropping a frame that goes backwards: DTS {dts} ns of running time");
                sink.stats.dropped += 1;
            }
            Some(Stamp { corrected: true, timestamp_ms, composition_ms, .. }) => {
                // Of a stream whose every frame is late, once is enough.
                let first = sink.stats.timestamp_corrections == 0;
                let level = if first { gst::DebugLevel::Warning } else { gst::DebugLevel::Debug };
                gst::log_with_level!(
                    CAT,
                    level,
                    "DTS {dts} and PTS {pts} ns of running time become {timestamp_ms} + {composition_ms} ms"
                );
                sink.stats.timestamp_corrections += 1;
            }
            Some(_) => {}
        }
        stamp
    }

    /// Before a key frame: a new configuration, or the old one again.
    fn video_sequence_header(&mut self, stamp: Stamp, sink: &mut Sink) -> Result<(), String> {
        if let Some(config) = self.next_video.take()
            && self.video.as_ref().is_none_or(|video| !video.config.is_same(&config))
        {
            let old = self.video.as_ref().map(|video| video.config.dialect);
            if let Some(old) = old.filter(|old| *old != config.dialect) {
                return Err(codec_change(old.codec(), config.dialect.codec()));
            }
            let header = video_header(&config, Some(&stamp));
            self.metadata.video = Some(config.metadata());
            self.video = Some(Written { config, header: Some(header.clone()) });
            self.header_changed(Some(header), old.is_some(), sink);
        } else if self.settings.repeat_sequence_header
            && let Some(video) = &self.video
            && sink.stats.key_frames > 0
        {
            let mut buffer = video_header(&video.config, Some(&stamp));
            // Not flagged as a header, which rtmp2sink may drop.
            buffer.get_mut().expect("just made").unset_flags(gst::BufferFlags::HEADER);
            self.put(buffer, sink);
        }
        Ok(())
    }

    /// A new sequence header, in the caps and in the stream.
    fn header_changed(&mut self, header: Option<gst::Buffer>, changed: bool, sink: &mut Sink) {
        sink.stats.caps_changes += u64::from(changed);
        let streams = FileHeader { audio: self.audio.is_some(), video: self.video.is_some() };
        self.file_header = header_buffer(streams.to_bytes().to_vec());
        sink.out.push_back(Out::Event(self.caps()));
        if let Some(header) = header {
            self.put(header, sink);
        }
    }

    fn index(&mut self, stamp: Stamp, position: u64, interval_ns: u64) {
        let Some(file) = &mut self.file else { return };
        if file.last_entry_ns.is_some_and(|last| stamp.dts_ns < last + interval_ns) {
            return;
        }
        file.last_entry_ns = Some(stamp.dts_ns);
        // The tag's time without its wrap.
        file.index.push(KeyFrame { time: (stamp.dts_ns / 1_000_000) as f64 / 1e3, position });
    }

    /// onMetaData; a file's keeps the room of the one that replaces it.
    fn metadata_buffer(&self) -> gst::Buffer {
        let roomy = self.file.as_ref().and_then(|file| self.metadata.to_tag_of(file.room));
        header_buffer(roomy.unwrap_or_else(|| self.metadata.to_tag()))
    }

    fn head(&self) -> impl Iterator<Item = gst::Buffer> {
        let video = self.video.as_ref().and_then(|video| video.header.clone());
        let audio = self.audio.as_ref().and_then(|audio| audio.header.clone());
        [self.file_header.clone(), self.metadata_buffer()].into_iter().chain(video).chain(audio)
    }

    fn caps(&self) -> gst::Event {
        let headers = gst::Array::new(self.head());
        gst::event::Caps::new(&gst::Caps::builder("video/x-flv").field("streamheader", headers).build())
    }

    fn put(&mut self, buffer: gst::Buffer, sink: &mut Sink) {
        let bytes = buffer.size() as u64;
        self.position += bytes;
        sink.stats.bytes += bytes;
        sink.stats.tags += 1;
        if let (Some(file), Some(pts), Some(dts)) = (&mut self.file, buffer.pts(), buffer.dts()) {
            let end = pts + buffer.duration().unwrap_or(gst::ClockTime::ZERO);
            file.end_ns = file.end_ns.max(end.nseconds());
            file.first_ns.get_or_insert(dts.nseconds());
        }
        sink.out.push_back(Out::Buffer(buffer));
    }
}

fn header_buffer(bytes: Vec<u8>) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(bytes);
    buffer.get_mut().expect("just made").set_flags(gst::BufferFlags::HEADER);
    buffer
}

/// In `streamheader`; a delta unit, since playback begins at the picture and not here. `stamp`: in mid-stream.
fn video_header(config: &Video, stamp: Option<&Stamp>) -> gst::Buffer {
    let header = config.dialect.header(VideoPacket::SequenceHeader);
    sequence_header(TagType::Video, header, &config.record, stamp, true)
}

fn audio_header(config: &Audio, stamp: Option<&Stamp>, delta: bool) -> Option<gst::Buffer> {
    let header = config.format.header(AudioPacket::SequenceHeader);
    let record = config.record.as_ref()?;
    Some(sequence_header(TagType::Audio, header, record, stamp, delta))
}

fn sequence_header(
    tag_type: TagType,
    header: BodyHeader,
    record: &[u8],
    stamp: Option<&Stamp>,
    delta: bool,
) -> gst::Buffer {
    let timestamp_ms = stamp.map_or(0, |stamp| stamp.timestamp_ms);
    let envelope = Envelope::new(tag_type, timestamp_ms, &header, record.len());
    let mut buffer = header_buffer(envelope.expect("records are checked to be small").seal(record));
    let tag = buffer.get_mut().expect("just made");
    if delta {
        tag.set_flags(gst::BufferFlags::DELTA_UNIT);
    }
    if let Some(stamp) = stamp {
        // A header is there before its frame, whenever that is shown.
        set_times(tag, &Stamp { pts_ns: stamp.dts_ns, ..*stamp }, None);
    }
    buffer
}

/// Room for an index, and for what a track that joins late adds.
fn file_room(metadata: &Metadata) -> usize {
    let mut full = metadata.clone();
    let dialect = full.video.map_or(Dialect::Enhanced, |video| video.dialect);
    full.video =
        Some(flv::metadata::Video { dialect, size: Some((1, 1)), framerate: Some(1.), bitrate: Some(1) });
    let (format, rate) = full.audio.map_or((AudioFormat::Aac, 1), |audio| (audio.format, audio.rate));
    full.audio = Some(flv::metadata::Audio { format, rate, stereo: true, bitrate: Some(1) });
    full.file_room(INDEX_CAPACITY)
}

fn codec_change(old: impl std::fmt::Debug, new: impl std::fmt::Debug) -> String {
    format!("the codec changes from {old:?} to {new:?}, but FLV's cannot within a stream")
}

fn set_times(tag: &mut gst::BufferRef, stamp: &Stamp, duration: Option<gst::ClockTime>) {
    tag.set_pts(gst::ClockTime::from_nseconds(stamp.pts_ns));
    tag.set_dts(gst::ClockTime::from_nseconds(stamp.dts_ns));
    tag.set_duration(duration);
}

/// A tag around a payload whose memory is shared.
fn tag(
    tag_type: TagType,
    stamp: &Stamp,
    header: &BodyHeader,
    payload: &gst::BufferRef,
    delta: bool,
) -> Result<gst::Buffer, String> {
    let envelope = Envelope::new(tag_type, stamp.timestamp_ms, header, payload.size());
    let envelope = envelope.map_err(|error| error.to_string())?;
    if payload.n_memory() > MAX_SHARED {
        gst::debug!(gst::CAT_PERFORMANCE, "merging an access unit of {} memories", payload.n_memory());
    }
    // Head and trailer are parts of one piece of memory.
    let bytes = envelope.as_bytes();
    let mut memory =
        gst::Memory::with_size(bytes.len()).into_mapped_memory_writable().expect("system memory");
    memory.copy_from_slice(bytes);
    let mut memory = memory.into_memory();
    let head = envelope.head().len();
    let trailer = memory.share(head..);
    memory.get_mut().expect("not in a buffer yet").resize(..head);
    let mut buffer = gst::Buffer::new();
    let tag = buffer.get_mut().expect("just made");
    tag.append_memory(memory);
    // Metas are kept: the capture time is one.
    let what = gst::BufferCopyFlags::MEMORY | gst::BufferCopyFlags::META;
    payload.copy_into(tag, what, ..).expect("memory that can be shared");
    tag.append_memory(trailer);
    set_times(tag, stamp, payload.duration());
    let mut flags = payload.flags() & gst::BufferFlags::DISCONT;
    flags.set(gst::BufferFlags::DELTA_UNIT, delta);
    tag.set_flags(flags);
    Ok(buffer)
}
