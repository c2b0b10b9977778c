// SPDX-License-Identifier: MPL-2.0

//! A recording: which frames it has, and when they were taken.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::container::{Container, Entry, Found};
use crate::error::OpenError;
use crate::header::Header;
use crate::nal::{self, Codec};
use crate::reader::{Cursor, hex};
use crate::sensors::Sensors;

pub(crate) const VIDEO: &str = "/side_by_side";
pub(crate) const CAMERA: &str = "Camera_SN";
pub(crate) const HEADER: &str = "svo_header";
/// As many frames are looked at for parameter sets before there are none.
const LOOKED_AT: usize = 1000;
const NS: u64 = 1_000_000_000;

/// An open recording, to be shared by its [`Reader`](crate::Reader)s.
pub struct Recording {
    pub(crate) container: Container,
    pub(crate) channel: u16,
    pub(crate) frames: Vec<Entry>,
    /// What was learnt of each frame.
    pub(crate) known: Vec<AtomicU32>,
    topic: String,
    header: Header,
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
        let file = File::open(path)?;
        check_magic(&file, path)?;
        let mut container = Container::open(file)?;
        let (channel, frames) = match find_frames(&container) {
            Err(Missing::Lies(why)) => {
                container.scan(why, false);
                find_frames(&container)
            }
            found => found,
        }
        .map_err(|missing| match missing {
            Missing::Lies(why) => OpenError::Io(io::Error::other(why)),
            Missing::Video(error) => error,
        })?;
        let topic = container.topics[&channel].clone();
        if frames.is_empty() {
            return Err(OpenError::NoFrames { topic });
        }
        let header = read_header(&container).unwrap_or_default();
        let (codec, (width, height)) = look_at_the_stream(&container, channel, &frames)?;
        let said = (header.width, header.height);
        if said != (0, 0) && said != (width, height) && said != (width / 2, height) {
            let (header, stream) = (format!("{}x{}", said.0, said.1), format!("{width}x{height}"));
            return Err(OpenError::Disagree { header, stream, codec });
        }
        let nominal_ns = nominal_ns(&header, &frames);
        Ok(Arc::new(Self {
            known: frames.iter().map(|_| AtomicU32::default()).collect(),
            corrected: corrected(&frames, nominal_ns),
            container,
            channel,
            frames,
            topic,
            header,
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

    /// Running time of a frame in ns: since the first frame, and growing from each frame to the next.
    ///
    /// Where the recorded times do not grow (a clock that was set), a frame comes [`nominal_ns`](Self::nominal_ns) after
    /// the one before it.
    ///
    /// # Panics
    /// There is no such frame.
    pub fn running_ns(&self, frame: usize) -> u64 {
        match &self.corrected {
            Some(times) => times[frame],
            None => self.frames[frame].time_ns - self.frames[0].time_ns,
        }
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

    /// What the recording says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Serial number of the camera, by the topic of its video.
    pub fn serial(&self) -> &str {
        self.topic.strip_prefix(CAMERA).and_then(|rest| rest.strip_suffix(VIDEO)).unwrap_or_default()
    }

    /// How the frames were found.
    pub fn found(&self) -> &Found {
        &self.container.found
    }

    pub(crate) fn sensor_channel(&self, sensors: Sensors) -> Option<u16> {
        let camera = self.topic.strip_suffix(VIDEO)?;
        let of_camera =
            |topic: &str| topic.strip_prefix(camera).is_some_and(|rest| sensors.topics().contains(&rest));
        self.container.topics.iter().find(|(_, topic)| of_camera(topic)).map(|(&channel, _)| channel)
    }

    /// All topics of the file.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.container.topics.values().map(String::as_str)
    }

    /// All topics of the file, and how many messages each has; `None` where an index lies.
    pub fn messages(&self) -> impl Iterator<Item = (&str, Option<u64>)> {
        self.container.topics.iter().map(|(&channel, topic)| {
            let said = self.container.counts.get(&channel).copied();
            let found = || self.container.all_entries(channel).ok().map(|entries| entries.len() as u64);
            (topic.as_str(), said.or_else(found))
        })
    }

    /// The bytes of the index in memory.
    pub fn index_bytes(&self) -> usize {
        size_of_val(self.frames.as_slice()) + size_of_val(self.known.as_slice())
    }
}

fn check_magic(file: &File, path: &Path) -> Result<(), OpenError> {
    let mut begins = [0; 16];
    let len = file.metadata()?.len().min(begins.len() as u64) as usize;
    file.read_exact_at(&mut begins[..len], 0)?;
    let begins = &begins[..len];
    if begins.starts_with(mcap::MAGIC) {
        return Ok(());
    }
    Err(match path.extension() {
        _ if begins.is_empty() => OpenError::EmptyFile,
        Some(extension) if extension.eq_ignore_ascii_case("svo") => OpenError::Version1,
        _ => OpenError::NotMcap { found: hex(begins) },
    })
}

enum Missing {
    /// The indexes are not what they say.
    Lies(String),
    Video(OpenError),
}

fn find_frames(container: &Container) -> Result<(u16, Vec<Entry>), Missing> {
    let video = |(_, topic): &(&u16, &String)| topic.starts_with(CAMERA) && topic.ends_with(VIDEO);
    let Some((&channel, _)) = container.topics.iter().find(video) else {
        let topics = container.topics.values().map(|topic| format!("'{topic}'")).collect::<Vec<_>>();
        let topics = if topics.is_empty() { "none".to_owned() } else { topics.join(", ") };
        return Err(Missing::Video(OpenError::NoVideo { topics }));
    };
    let frames = container.all_entries(channel).map_err(Missing::Lies)?;
    if let Some(&said) = container.counts.get(&channel)
        && said != frames.len() as u64
    {
        let found = frames.len();
        return Err(Missing::Lies(format!("its statistics count {said} frames and its indexes {found}")));
    }
    // Walking finds what is there; an index may say anything.
    if container.is_indexed() {
        let mut cursor = Cursor::default();
        for entry in [frames.first(), frames.last()].into_iter().flatten() {
            cursor
                .message(container, channel, entry)
                .map_err(|what| Missing::Lies(format!("its index lies: {what}")))?;
        }
    }
    Ok((channel, frames))
}

fn read_header(container: &Container) -> Option<Header> {
    let (&channel, _) = container.topics.iter().find(|(_, topic)| *topic == HEADER)?;
    let entry = (0..container.chunks()).find_map(|chunk| {
        let mut entries = Vec::new();
        container.entries(chunk, channel, &mut entries).ok()?;
        entries.into_iter().next()
    })?;
    let (bytes, at, len) = Cursor::default().message(container, channel, &entry).ok()?;
    let mut message = vec![0; len as usize];
    bytes.read_at(at, &mut message).ok()?;
    Header::parse(&message).ok()
}

/// Codec and picture size, by the first frame with parameter sets.
fn look_at_the_stream(
    container: &Container,
    channel: u16,
    frames: &[Entry],
) -> Result<(Codec, (u32, u32)), OpenError> {
    let mut cursor = Cursor::default();
    let mut first = None;
    for (number, entry) in frames.iter().enumerate().take(LOOKED_AT) {
        let Ok(unit) =
            cursor.locate(container, channel, entry, number).and_then(|unit| unit.begins(usize::MAX))
        else {
            continue;
        };
        if let Some(found) = needs_sdk(&unit) {
            return Err(OpenError::NeedsSdk { found });
        }
        if let Some(codec) = nal::detect(&unit)
            && let Some(size) = nal::picture_size(codec, &unit)
        {
            return Ok((codec, size));
        }
        first = first.or_else(|| Some(hex(&unit[..unit.len().min(8)])));
    }
    Err(OpenError::UnknownCodec { found: first.unwrap_or_else(|| "nothing that can be read".to_owned()) })
}

fn needs_sdk(payload: &[u8]) -> Option<&'static str> {
    const PNG: &[u8] = b"\x89PNG";
    const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
    const JPEG: &[u8] = &[0xff, 0xd8, 0xff];
    // JPEG strips may have their count or sizes before them.
    let strips = (0..=16).any(|at| payload.get(at..).is_some_and(|rest| rest.starts_with(JPEG)));
    match payload {
        _ if payload.starts_with(PNG) => Some("lossless (PNG)"),
        _ if payload.starts_with(ZSTD) => Some("lossless (ZSTD)"),
        _ if strips && !nal::starts(payload) => Some("JPEG"),
        _ => None,
    }
}

fn nominal_ns(header: &Header, frames: &[Entry]) -> u64 {
    if (1..=1000).contains(&header.fps) {
        return NS / u64::from(header.fps);
    }
    let steps = frames.windows(2).map(|pair| pair[1].time_ns.saturating_sub(pair[0].time_ns));
    let mut steps = steps.filter(|&step| step > 0).collect::<Vec<_>>();
    let middle = steps.len() / 2;
    if steps.is_empty() { NS / 30 } else { *steps.select_nth_unstable(middle).1 }
}

/// Times that grow, where those of the frames do not.
fn corrected(frames: &[Entry], nominal_ns: u64) -> Option<Vec<u64>> {
    if frames.is_sorted_by(|a, b| a.time_ns < b.time_ns) {
        return None;
    }
    let mut running = 0u64;
    let steps = frames.windows(2).map(|pair| {
        let step = pair[1].time_ns.checked_sub(pair[0].time_ns).filter(|&step| step > 0);
        running = running.saturating_add(step.unwrap_or(nominal_ns));
        running
    });
    Some(std::iter::once(0).chain(steps).collect())
}
