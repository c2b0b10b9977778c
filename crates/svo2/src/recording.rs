// SPDX-License-Identifier: MPL-2.0

//! A recording: which frames it has, and when they were taken.

use std::cell::LazyCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::container::{Bytes, Container, Entry, Found};
use crate::error::{OpenError, ReadError};
use crate::header::Header;
use crate::nal::{self, Codec};
use crate::reader::{Cursor, dump};
use crate::sensors::Sensors;
use crate::storage::Storage;
use crate::words;
use memchr::memmem;

pub(crate) const VIDEO: &str = "/side_by_side";
pub(crate) const CAMERA: &str = "Camera_SN";
pub(crate) const HEADER: &str = "svo_header";
/// As many frames are looked at for parameter sets before there are none.
const LOOKED_AT: usize = 1000;
/// Within so many bytes do pictures of other kinds begin: strips have their count and sizes before them.
const PREFIX: usize = 64;
const NS: u64 = 1_000_000_000;
/// No recording pauses for longer: it is the clock that was set, as by a change of its zone, which is of whole hours.
/// Durations of samples, 32 bits of MP4's, hold this many times over.
const LONGEST_STEP: u64 = 60 * 60 * NS;

/// An open recording, to be shared by its [`Reader`](crate::Reader)s.
pub struct Recording {
    pub(crate) container: Container,
    pub(crate) frames: Vec<Entry>,
    /// What was learnt of each frame.
    pub(crate) known: Vec<AtomicU32>,
    topic: String,
    header: Header,
    header_fault: Option<String>,
    nominal_ns: u64,
    /// Running times, where those of the frames do not always grow.
    corrected: Option<Vec<u64>>,
    codec: Codec,
    width: u32,
    height: u32,
}

impl Recording {
    /// Opens a recording: reads its index, its header, and frames up to the first with parameter sets.
    ///
    /// # Errors
    /// What the file is instead.
    pub fn open(path: &Path) -> Result<Arc<Self>, OpenError> {
        // Opening a pipe would wait for whoever writes to it.
        if !std::fs::metadata(path)?.is_file() {
            return Err(OpenError::NotAFile);
        }
        Self::from_file(File::open(path)?, path)
    }

    /// Like [`open`](Self::open), of a file that is open already; `path` is what it is called.
    ///
    /// # Errors
    /// What the file is instead.
    pub fn from_file(file: File, path: &Path) -> Result<Arc<Self>, OpenError> {
        let file = Arc::new(Storage::new(file));
        let opened = Self::of(file.clone(), path);
        // Whatever was made of what could be read, it may not be what the recording is.
        match file.refused() {
            Some(refused) => Err(io::Error::from(refused.clone()).into()),
            None => opened,
        }
    }

    fn of(file: Arc<Storage>, path: &Path) -> Result<Arc<Self>, OpenError> {
        check_magic(&file, path)?;
        let (container, video) = find_video(Container::open(file)?)?;
        let Video { topic, frames, header, mut cursor, .. } = video;
        let (codec, (width, height)) = look_at_the_stream(&container, &mut cursor, &frames)?;
        let (header, header_fault) = match header {
            Ok(header) => (header, None),
            Err(fault) => (Header::default(), Some(fault)),
        };
        let said = (header.width, header.height);
        if said != (0, 0) && said != (width, height) && said != (width / 2, height) {
            let (header, stream) = (format!("{}x{}", said.0, said.1), format!("{width}x{height}"));
            return Err(OpenError::Disagree { header, stream, codec });
        }
        let nominal_ns = nominal_ns(&header, &frames);
        remark_cameras(&container, &topic);
        remark_clock(&container, &frames);
        Ok(Arc::new(Self {
            known: frames.iter().map(|_| AtomicU32::default()).collect(),
            corrected: corrected(&frames, nominal_ns),
            container,
            frames,
            topic,
            header,
            header_fault,
            nominal_ns,
            codec,
            width,
            height,
        }))
    }

    /// How many frames there are; one or more.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// When a frame was taken, in ns since 1970, as recorded.
    ///
    /// # Panics
    /// There is no such frame.
    pub fn unix_ns(&self, frame: usize) -> u64 {
        self.frames[frame].time_ns
    }

    /// Where the file has a frame's message, in bytes from its start; `None` where it lies in a compressed chunk, which
    /// is read as a whole.
    ///
    /// # Panics
    /// There is no such frame.
    pub fn offset(&self, frame: usize) -> Option<u64> {
        self.container.offset(&self.frames[frame])
    }

    /// The last frame that was taken at or before a time in ns since 1970; `None` where all were taken later.
    pub fn frame_at_unix(&self, unix_ns: u64) -> Option<usize> {
        match self.corrected {
            // The clock was set, or stood still.
            Some(_) => self.frames.iter().rposition(|entry| entry.time_ns <= unix_ns),
            None => self.frames.partition_point(|entry| entry.time_ns <= unix_ns).checked_sub(1),
        }
    }

    /// Running time of a frame in ns: since the first frame, and growing from each frame to the next.
    ///
    /// Where the recorded times do not grow, or by more than an hour (a clock that was set), a frame comes
    /// [`nominal_ns`](Self::nominal_ns) after the one before it.
    ///
    /// # Panics
    /// There is no such frame.
    pub fn running_ns(&self, frame: usize) -> u64 {
        match &self.corrected {
            Some(times) => times[frame],
            None => self.frames[frame].time_ns - self.frames[0].time_ns,
        }
    }

    /// When a frame was taken, in ns since 1970 by a clock that nobody sets: its running time behind the first frame's
    /// recorded time.
    ///
    /// # Panics
    /// There is no such frame.
    pub fn time_ns(&self, frame: usize) -> u64 {
        self.unix_ns(0).saturating_add(self.running_ns(frame))
    }

    /// The [time](Self::time_ns) of each frame, for [`group`](crate::group)s.
    pub fn times(&self) -> Vec<u64> {
        (0..self.frames()).map(|frame| self.time_ns(frame)).collect()
    }

    /// How long a frame is shown, in ns: until the next one comes.
    ///
    /// # Panics
    /// There is no such frame.
    pub fn duration_ns(&self, frame: usize) -> u64 {
        if frame + 1 < self.frames() {
            self.running_ns(frame + 1) - self.running_ns(frame)
        } else {
            self.nominal_ns
        }
    }

    /// Time from frame to frame, in ns, by the header's rate; the median of the recording where that is not there.
    pub fn nominal_ns(&self) -> u64 {
        self.nominal_ns
    }

    /// The last frame at or before a running time in ns, which is the one that is shown then; the first before all.
    pub fn frame_at(&self, running_ns: u64) -> usize {
        let (mut after, mut until) = (0, self.frames());
        while after < until {
            let middle = after.midpoint(until);
            if self.running_ns(middle) <= running_ns {
                after = middle + 1;
            } else {
                until = middle;
            }
        }
        after.saturating_sub(1)
    }

    /// Of the bitstream.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Width in pixels of both pictures side by side, and their height, as the bitstream has them.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// What the recording says of itself; all of it 0 and empty where that [cannot be read](Self::header_fault).
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Why the header cannot be read. Pictures can be all the same.
    pub fn header_fault(&self) -> Option<&str> {
        self.header_fault.as_deref()
    }

    /// Serial number of the camera, by the topic of its video.
    pub fn serial(&self) -> &str {
        serial_of(&self.topic)
    }

    /// Serial numbers of all cameras that the file has frames of. Those of [one](Self::serial) are read.
    pub fn cameras(&self) -> Vec<&str> {
        cameras(&self.container)
    }

    /// How the frames were found.
    pub fn found(&self) -> &Found {
        &self.container.found
    }

    /// The first read that the system refused since the recording is open, whoever met it: what was found of it afterwards
    /// may not be all.
    pub fn read_error(&self) -> Option<&ReadError> {
        self.container.refused()
    }

    /// What is wrong or odd though frames are read in spite of it: those since there were `seen`. It may become more while
    /// the recording is read, by whomever, and is the same for each who asks.
    pub fn remarks(&self, seen: usize) -> Vec<String> {
        self.container.mended.remarks(seen)
    }

    /// Compares the checksum of a chunk's bytes with that it was written with.
    pub(crate) fn check_chunk(&self, chunk: usize, bytes: &Bytes) {
        if self.container.mended.is_checked(chunk) {
            return;
        }
        if let Some(what) = self.container.fault_of(chunk, bytes) {
            let frames = self.frames_of_chunk(chunk);
            let last = frames.end.saturating_sub(1);
            let frames = words::frames(frames.start, last);
            self.container.mended.remark(format!("the chunk with {frames} is not as it was written: {what}"));
        }
    }

    fn frames_of_chunk(&self, chunk: usize) -> Range<usize> {
        let before = |chunk| self.frames.partition_point(|entry| (entry.chunk as usize) < chunk);
        before(chunk)..before(chunk + 1)
    }

    pub(crate) fn sensor_topic(&self, sensors: Sensors) -> Option<&str> {
        let camera = self.topic.strip_suffix(VIDEO)?;
        let of_camera =
            |topic: &str| topic.strip_prefix(camera).is_some_and(|rest| sensors.topics().contains(&rest));
        self.topics().find(|topic| of_camera(topic))
    }

    /// All topics of the file.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.container.topics.values().map(String::as_str).collect::<BTreeSet<_>>().into_iter()
    }

    /// All topics of the file, and how many messages each has.
    pub fn messages(&self) -> impl Iterator<Item = (&str, u64)> {
        let topics = by_topic(&self.container);
        let counted = LazyCell::new(|| self.container.count());
        topics.into_iter().map(move |(topic, channels)| {
            let found = || channels.iter().filter_map(|channel| counted.get(channel)).sum();
            (topic, self.container.said(&channels).unwrap_or_else(found))
        })
    }

    /// Chunks of the file that are not as they were written, by their checksums: the frames that lie in each, and what
    /// is wrong. Reads the whole file. Not every writer leaves checksums, and files without chunks have none.
    pub fn check_chunks(&self) -> impl Iterator<Item = (Range<usize>, String)> {
        let faults =
            (0..self.container.chunks()).filter_map(|chunk| Some((chunk, self.container.fault(chunk)?)));
        faults.map(|(chunk, what)| (self.frames_of_chunk(chunk), what))
    }

    /// The bytes of the index in memory, with what was found of it by walking.
    pub fn index_bytes(&self) -> usize {
        let corrected = self.corrected.as_deref().map_or(0, size_of_val);
        let known = size_of_val(self.known.as_slice());
        corrected + known + size_of_val(self.frames.as_slice()) + self.container.memory()
    }
}

fn check_magic(file: &Storage, path: &Path) -> Result<(), OpenError> {
    let mut begins = [0; 16];
    let len = file.len()?.min(begins.len() as u64) as usize;
    file.read_exact_at(&mut begins[..len], 0).map_err(io::Error::from)?;
    let begins = &begins[..len];
    if begins.starts_with(mcap::MAGIC) {
        return Ok(());
    }
    Err(match path.extension() {
        _ if begins.is_empty() => OpenError::EmptyFile,
        Some(extension) if extension.eq_ignore_ascii_case("svo") => OpenError::Version1,
        _ => OpenError::NotMcap { found: dump(begins) },
    })
}

enum Missing {
    /// The indexes are not what they say; with the video by them, where they have one.
    Lies(String, Option<Box<Video>>),
    Video(OpenError),
}

/// What is needed to read frames.
struct Video {
    topic: String,
    /// One or more.
    frames: Vec<Entry>,
    header: Result<Header, String>,
    /// It has been at the first frame.
    cursor: Cursor,
    /// The statistics have another number of frames.
    miscounted: bool,
}

/// Finds the frames, by walking where the indexes have none or lie.
fn find_video(mut container: Container) -> Result<(Container, Video), OpenError> {
    let mut video = indexed_video(&container);
    let summarized = container.found == Found::Indexed;
    if let Err(Missing::Video(_)) = video
        && summarized
    {
        container = container.scanned("its index has no frames".to_owned(), true);
        video = indexed_video(&container);
    }
    if let Err(Missing::Video(error)) = &video
        && container.is_indexed()
        // Files of something else, with a summary that says so, are not read to their end.
        && !(summarized && matches!(error, OpenError::NoVideo { .. }))
    {
        container = container.scanned("its indexes have no frames".to_owned(), false);
        video = indexed_video(&container);
    }
    let (why, indexed) = match video {
        Ok(video) => return Ok((container, video)),
        Err(Missing::Video(error)) => return Err(error),
        Err(Missing::Lies(why, indexed)) => (why, indexed),
    };
    let walked = container.scanned(why.clone(), false);
    match (indexed_video(&walked), indexed) {
        (Ok(video), Some(indexed)) if is_more(&video.frames, &container, &indexed) => Ok((walked, video)),
        (Ok(video), None) => Ok((walked, video)),
        (_, Some(indexed)) => {
            if indexed.miscounted {
                container.mended.remark(why);
            }
            Ok((container, *indexed))
        }
        (Err(Missing::Video(error)), None) => Err(error),
        (Err(Missing::Lies(why, _)), None) => Err(io::Error::other(why).into()),
    }
}

/// Whether what walking found is to be believed, and not an index that seems to lie. It is not where a record is bent:
/// walking ends there, or steps over it, while the index has the place of that frame, and of those behind it.
fn is_more(walked: &[Entry], container: &Container, indexed: &Video) -> bool {
    let (found, has) = (walked.len(), indexed.frames.len());
    // Where the statistics agree with the index, bytes that only look like another frame do not count.
    let agreed = container.said(&container.channels(&indexed.topic)) == Some(has as u64);
    let mut cursor = Cursor::default();
    let mut whole =
        || indexed.frames.iter().filter(|entry| cursor.message_at(container, entry).is_ok()).count();
    // Damage here and there leaves most of what an index has.
    found == has || found > has && !agreed || found / 2 > whole()
}

fn indexed_video(container: &Container) -> Result<Video, Missing> {
    let mut cursor = Cursor::default();
    let header = read_header(container, &mut cursor);
    let serial = header.as_ref().map_or(0, |header| header.serial);
    let of_header = format!("{CAMERA}{serial}{VIDEO}");
    let videos = || container.topics.values().filter(|topic| is_video(topic));
    // There may be several cameras.
    let video = videos().find(|topic| **topic == of_header).or_else(|| videos().next());
    let Some(topic) = video else {
        let topics = container.topics.values().map(|topic| format!("'{topic}'")).collect::<Vec<_>>();
        let topics = if topics.is_empty() { "none at all".to_owned() } else { topics.join(", ") };
        return Err(Missing::Video(OpenError::NoVideo { topics }));
    };
    let channels = container.channels(topic);
    let mut frames = container.all_entries(&channels);
    put_right(container, &channels, &mut frames);
    let found = frames.len();
    let said = container.said(&channels);
    let numbered = said.map_or(0, |said| container.number_lost(said, &mut frames));
    if numbered > 0 {
        container.mended.remark(format!(
            "its statistics count {} frames, and {found} were found: the others keep their numbers, and are damaged",
            found as u64 + numbered
        ));
    }
    let miscounted = said.filter(|&said| said != frames.len() as u64).map(|said| {
        let by = if container.is_indexed() { "its indexes" } else { "its records" };
        format!("its statistics count {said} frames and {by} {found}")
    });
    let is_miscounted = miscounted.is_some();
    let [Some(first), Some(last)] = [frames.first(), frames.last()] else {
        return Err(match miscounted {
            Some(why) => Missing::Lies(why, None),
            None => Missing::Video(OpenError::NoFrames { topic: topic.clone() }),
        });
    };
    let lie = miscounted.or_else(|| {
        // Walking finds what is there; an index may say anything.
        if !container.is_indexed() {
            return None;
        }
        // The first frame is looked at next, mostly in the chunk of the header.
        let checked = Cursor::default().message_at(container, last).and(cursor.message_at(container, first));
        checked.err().map(|what| format!("its index lies: {what}"))
    });
    let video = Video { topic: topic.clone(), frames, header, cursor, miscounted: is_miscounted };
    match lie {
        Some(why) => Err(Missing::Lies(why, Some(video.into()))),
        None => Ok(video),
    }
}

/// Where the index of a chunk lies about its first frame, it is not believed in the others' either: frames are where the
/// chunk has them. Chunks that would have to be decompressed for that are left to whoever reads them.
fn put_right(container: &Container, channels: &[u16], frames: &mut Vec<Entry>) {
    let mut cursor = Cursor::default();
    let mut lies = |of_chunk: &[Entry]| {
        let chunk = of_chunk[0].chunk as usize;
        let checked = container.is_chunk_indexed(chunk) && container.is_chunk_plain(chunk);
        checked && cursor.message_at(container, &of_chunk[0]).is_err()
    };
    // What they become, up to `known`: there may be very many such chunks.
    let (mut right, mut known, mut end) = (Vec::new(), 0, 0);
    for of_chunk in frames.chunk_by(|one, next| one.chunk == next.chunk) {
        let start = end;
        end += of_chunk.len();
        if !lies(of_chunk) {
            continue;
        }
        right.extend_from_slice(&frames[known..start]);
        known = end;
        let places: Vec<_> = of_chunk.iter().map(|entry| container.place(entry)).collect();
        let walked = container.walked_messages(of_chunk[0].chunk as usize, channels);
        // What is not found one by one may be there all the same, be it in other numbers.
        if walked.len() > places.iter().flatten().count() {
            right.extend(walked);
        } else {
            right.extend(of_chunk.iter().zip(places).map(|(entry, place)| place.unwrap_or(*entry)));
        }
    }
    if known > 0 {
        right.extend_from_slice(&frames[known..]);
        right.shrink_to_fit();
        *frames = right;
    }
}

fn serial_of(topic: &str) -> &str {
    topic.strip_prefix(CAMERA).and_then(|rest| rest.strip_suffix(VIDEO)).unwrap_or_default()
}

/// Of those that have frames, as far as the file says how many.
fn cameras(container: &Container) -> Vec<&str> {
    let videos = by_topic(container).into_iter().filter(|(topic, _)| is_video(topic));
    videos
        .filter(|(_, channels)| container.has_messages(channels))
        .map(|(topic, _)| serial_of(topic))
        .collect()
}

fn is_video(topic: &str) -> bool {
    topic.starts_with(CAMERA) && topic.ends_with(VIDEO)
}

/// The channels of each topic.
fn by_topic(container: &Container) -> BTreeMap<&str, Vec<u16>> {
    let mut topics = BTreeMap::<&str, Vec<u16>>::new();
    for (&channel, topic) in &container.topics {
        topics.entry(topic).or_default().push(channel);
    }
    topics
}

fn remark_cameras(container: &Container, topic: &str) {
    let cameras = cameras(container);
    if cameras.len() > 1 {
        let names = cameras.iter().map(|serial| format!("SN{serial}")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "it has the frames of {} cameras ({names}): those of SN{} are read, and the others left out",
            cameras.len(),
            serial_of(topic)
        );
        container.mended.remark(text);
    }
}

/// Where the recorded times cannot be true.
fn remark_clock(container: &Container, frames: &[Entry]) {
    let mut odd = (1..frames.len()).filter(|&frame| step(&frames[frame - 1..=frame]).is_none());
    let Some(frame) = odd.next() else { return };
    let (was, is) = (frames[frame - 1].time_ns, frames[frame].time_ns);
    let seconds = was.abs_diff(is) as f64 / NS as f64;
    let what = match is.cmp(&was) {
        Ordering::Equal => "stand still".to_owned(),
        Ordering::Less => format!("step back by {seconds:.3} s"),
        Ordering::Greater => format!("jump by {seconds:.3} s"),
    };
    let more = match odd.count() {
        0 => String::new(),
        more => format!(", and at {} more", words::counted(more, "frame")),
    };
    container.mended.remark(format!(
        "the recorded times {what} at frame {frame}{more}: a clock that was set; frames go on at the camera's rate"
    ));
}

fn read_header(container: &Container, cursor: &mut Cursor) -> Result<Header, String> {
    let channels = container.channels(HEADER);
    if channels.is_empty() {
        return Err(format!("the file has no topic '{HEADER}'"));
    }
    let mut entries = Vec::new();
    for chunk in 0..container.chunks() {
        container.entries(chunk, &channels, &mut entries);
        if let Some(entry) = entries.first() {
            return Header::parse(&cursor.message(container, entry)?.read()?);
        }
    }
    Err(format!("topic '{HEADER}' is empty"))
}

/// Codec and picture size, by the first frame with parameter sets.
fn look_at_the_stream(
    container: &Container,
    cursor: &mut Cursor,
    frames: &[Entry],
) -> Result<(Codec, (u32, u32)), OpenError> {
    let mut first = None;
    for (number, entry) in frames.iter().enumerate().take(LOOKED_AT) {
        let unit = cursor.locate(container, entry, number);
        let unit = match unit.and_then(|unit| unit.begins(usize::MAX)) {
            Ok(unit) => unit,
            Err(damage) => {
                first.get_or_insert_with(|| damage.to_string());
                continue;
            }
        };
        if let Some(found) = needs_sdk(&unit) {
            return Err(OpenError::NeedsSdk { found });
        }
        let codec = nal::detect(&unit);
        if let Some(codec) = codec
            && let Some(size) = nal::picture_size(codec, &unit)
        {
            return Ok((codec, size));
        }
        first.get_or_insert_with(|| match codec {
            Some(codec) => {
                format!("frame {number} has some of {codec}, without a size that pictures can have")
            }
            None => {
                let begins = dump(&unit[..unit.len().min(16)]);
                format!("frame {number} has {} bytes and begins with {begins}", unit.len())
            }
        });
    }
    let looked_at = frames.len().min(LOOKED_AT);
    Err(OpenError::UnknownCodec { looked_at, found: first.unwrap_or_default() })
}

/// Pictures of other kinds, by the magic of their formats.
fn needs_sdk(payload: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 3] = [
        (b"\x89PNG\r\n\x1a\n", "lossless (PNG)"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "lossless (ZSTD)"),
        (&[0xff, 0xd8, 0xff], "JPEG"),
    ];
    let begins = &payload[..payload.len().min(PREFIX)];
    let found = KINDS.iter().find(|(magic, _)| memmem::find(begins, magic).is_some());
    found.filter(|_| !nal::starts(payload)).map(|&(_, name)| name)
}

fn nominal_ns(header: &Header, frames: &[Entry]) -> u64 {
    if (1..=1000).contains(&header.fps) {
        return NS / u64::from(header.fps);
    }
    let mut steps = frames.windows(2).filter_map(step).collect::<Vec<_>>();
    let middle = steps.len() / 2;
    if steps.is_empty() { NS / 30 } else { *steps.select_nth_unstable(middle).1 }
}

/// From one frame to the next, where that can be true.
fn step(pair: &[Entry]) -> Option<u64> {
    let step = pair[1].time_ns.checked_sub(pair[0].time_ns);
    step.filter(|step| (1..=LONGEST_STEP).contains(step))
}

/// Times that grow, where those of the frames do not.
fn corrected(frames: &[Entry], nominal_ns: u64) -> Option<Vec<u64>> {
    if frames.windows(2).all(|pair| step(pair).is_some()) {
        return None;
    }
    let mut running = 0u64;
    let steps = frames.windows(2).map(|pair| {
        running = running.saturating_add(step(pair).unwrap_or(nominal_ns));
        running
    });
    Some(std::iter::once(0).chain(steps).collect())
}
