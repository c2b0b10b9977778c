// SPDX-License-Identifier: MPL-2.0

//! MCAP files of cameras: which channels, schemas and times they have, whoever feeds them.
//!
//! Video is `foxglove.CompressedVideo`, calibration `foxglove.CameraCalibration`; what Foxglove has no schema for is in
//! [`proto`]; bodies are raw packets of the tracker, without a schema. What a message is about and when it was seen is
//! the caller's to say. Messages reach the disk a chunk at a time, each whole and about a second
//! long, so that a file that was cut short can be read up to its last chunk.

mod described;
#[rustfmt::skip] // as it is generated
#[allow(missing_docs)] // they are in the source, and in docs/svo-to-mcap.md
pub mod proto;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::str::FromStr;
use std::time::{Duration, Instant};

use ::mcap::records::MessageHeader;
use ::mcap::write::NoSeek;
use ::mcap::{McapError, WriteOptions};
use bytes::Bytes;
use foxglove::messages::{CompressedVideo, Timestamp};

pub use self::described::Described;

/// A message waits no longer for its chunk to be written.
const CHUNK: Duration = Duration::from_secs(1);
/// Nor does a chunk grow beyond this, in bytes before compression.
const CHUNK_BYTES: u64 = 4 << 20;
/// The libraries' own choice.
const DEFAULT_LEVEL: i32 = 0;
/// Encoded video hardly shrinks: of zstd, this is several times as fast as its default there, within 5 % of the size, and
/// all else shrinks somewhat.
const FAST_LEVEL: i32 = -30;
const NS: u64 = 1_000_000_000;

/// How chunks are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    #[default]
    Zstd,
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "none" => Ok(Self::None),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            _ => Err(format!("'{name}' is not none, lz4 or zstd")),
        }
    }
}

/// A topic of the file.
#[derive(Debug)]
pub struct Channel {
    id: u16,
    sequence: u32,
}

/// One picture of a video channel.
#[derive(Debug)]
pub struct Picture<'a> {
    /// When it was captured, in ns of the producer's clock.
    pub time_ns: u64,
    /// Name of the camera's frame of reference.
    pub frame_id: &'a str,
    /// `h264` or `h265`.
    pub format: &'a str,
    /// One Annex B access unit, with its parameter sets where it is a key frame; no picture is shown out of its order.
    pub unit: Bytes,
}

impl Picture<'_> {
    /// As the message that [`Writer::encoded`] takes: to be made where somebody has the time for a copy.
    pub fn encoded(self) -> Vec<u8> {
        prost::Message::encode_to_vec(&self.message())
    }

    fn message(self) -> CompressedVideo {
        CompressedVideo {
            timestamp: Some(timestamp(self.time_ns)),
            frame_id: self.frame_id.to_owned(),
            data: self.unit,
            format: self.format.to_owned(),
        }
    }
}

/// A file that grows.
pub struct Writer<W: Write> {
    file: ::mcap::Writer<NoSeek<BufWriter<W>>>,
    encoded: Vec<u8>,
    /// When the first message came that is in no chunk on the disk.
    waiting_since: Option<Instant>,
}

impl<W: Write> Writer<W> {
    /// Begins a file at the start of `out`.
    ///
    /// # Errors
    /// What `out` says.
    pub fn new(out: W, compression: Compression) -> io::Result<Self> {
        Self::with_level(out, compression, DEFAULT_LEVEL)
    }

    /// As [`new`](Self::new), for pictures that come as fast as they can be written: they hardly shrink, and what does
    /// shrinks somewhat less.
    ///
    /// # Errors
    /// What `out` says.
    pub fn fast(out: W, compression: Compression) -> io::Result<Self> {
        Self::with_level(out, compression, FAST_LEVEL)
    }

    fn with_level(out: W, compression: Compression, level: i32) -> io::Result<Self> {
        let options = WriteOptions::new()
            // The libraries behind it take negative ones.
            .compression_level(level.cast_unsigned())
            .library(concat!("cvmmap-streamer ", env!("CARGO_PKG_VERSION")))
            .compression(match compression {
                Compression::None => None,
                Compression::Lz4 => Some(::mcap::Compression::Lz4),
                Compression::Zstd => Some(::mcap::Compression::Zstd),
            })
            // More would be taken from the encoder, and chunks are too small for them to help.
            .compression_threads(0)
            .chunk_size(Some(CHUNK_BYTES))
            // Each chunk has its own, and so has the summary.
            .calculate_data_section_crc(false)
            // A chunk is put together in memory: none lies half-written in the file.
            .disable_seeking(true);
        let file = options.create(NoSeek::new(BufWriter::new(out))).map_err(io_error)?;
        Ok(Self { file, encoded: Vec::new(), waiting_since: None })
    }

    /// A channel of pictures.
    ///
    /// # Errors
    /// What the file says.
    pub fn add_video(&mut self, topic: &str) -> io::Result<Channel> {
        self.add_messages::<CompressedVideo>(topic)
    }

    /// A channel of messages of one kind.
    ///
    /// # Errors
    /// What the file says.
    pub fn add_messages<M: Described>(&mut self, topic: &str) -> io::Result<Channel> {
        let descriptors = M::descriptors();
        let schema = self.file.add_schema(M::NAME, "protobuf", &descriptors).map_err(io_error)?;
        self.add(schema, topic, "protobuf", &BTreeMap::new())
    }

    /// A channel of body packets.
    ///
    /// # Errors
    /// What the file says.
    pub fn add_bodies(&mut self, topic: &str) -> io::Result<Channel> {
        let metadata = [
            ("packet_layout", "cvmmap_body_tracking_v1"),
            ("payload_format", "raw"),
            ("source_transport", "cv-mmap-body-pub"),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        self.add(0, topic, "cvmmap.body_tracking.v1", &metadata)
    }

    fn add(
        &mut self,
        schema: u16,
        topic: &str,
        encoding: &str,
        metadata: &BTreeMap<String, String>,
    ) -> io::Result<Channel> {
        let id = self.file.add_channel(schema, topic, encoding, metadata).map_err(io_error)?;
        Ok(Channel { id, sequence: 0 })
    }

    /// Appends a picture.
    ///
    /// # Errors
    /// What the file says; nothing more can be written then.
    pub fn video(&mut self, channel: &mut Channel, picture: Picture<'_>) -> io::Result<()> {
        self.message(channel, picture.time_ns, &picture.message())
    }

    /// Appends a message to a channel of its kind.
    ///
    /// # Errors
    /// As [`Writer::video`].
    pub fn message<M: Described>(
        &mut self,
        channel: &mut Channel,
        time_ns: u64,
        message: &M,
    ) -> io::Result<()> {
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        message.encode(&mut encoded).map_err(io::Error::other)?;
        let written = self.encoded(channel, time_ns, &encoded);
        self.encoded = encoded;
        written
    }

    /// Appends a message of the channel's kind that is encoded already, or a body packet as it came; `time_ns` is of the
    /// producer's clock.
    ///
    /// # Errors
    /// As [`Writer::video`].
    pub fn encoded(&mut self, channel: &mut Channel, time_ns: u64, message: &[u8]) -> io::Result<()> {
        self.file.write_to_known_channel(&channel.next(time_ns), message).map_err(io_error)?;
        self.keep_up()
    }

    /// Ends the chunk where it has waited long enough. To be called now and then while no message comes.
    ///
    /// # Errors
    /// As [`Writer::video`].
    pub fn idle(&mut self) -> io::Result<()> {
        if self.waiting_since.is_some_and(|since| since.elapsed() >= CHUNK) {
            self.waiting_since = None;
            self.file.flush().map_err(io_error)?;
        }
        Ok(())
    }

    fn keep_up(&mut self) -> io::Result<()> {
        self.waiting_since.get_or_insert_with(Instant::now);
        self.idle()
    }

    /// Writes the summary, which makes the file whole, and gives back what was written to.
    ///
    /// # Errors
    /// As [`Writer::video`].
    pub fn finish(mut self) -> io::Result<W> {
        self.file.finish().map_err(io_error)?;
        self.file.into_inner().into_inner().into_inner().map_err(io::IntoInnerError::into_error)
    }
}

impl Channel {
    fn next(&mut self, time_ns: u64) -> MessageHeader {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        MessageHeader { channel_id: self.id, sequence, log_time: time_ns, publish_time: time_ns }
    }
}

/// A time in ns since 1970 as messages have it. The format's seconds end in 2106.
pub fn timestamp(ns: u64) -> Timestamp {
    Timestamp::new(u32::try_from(ns / NS).unwrap_or(u32::MAX), (ns % NS) as u32)
}

/// The system's word behind the library's.
fn io_error(error: McapError) -> io::Error {
    match error {
        McapError::Io(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is cut where its writer stands.
    fn written(end: impl FnOnce(Writer<Vec<u8>>) -> Vec<u8>, compression: Compression) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), compression).unwrap();
        let mut video = writer.add_video("/camera/video").unwrap();
        for n in 0..3 {
            let unit = Bytes::from(vec![n; 100]);
            let picture =
                Picture { time_ns: 5 * NS + u64::from(n), frame_id: "camera", format: "h264", unit };
            writer.video(&mut video, picture).unwrap();
        }
        let mut bodies = writer.add_bodies("/camera/body").unwrap();
        writer.encoded(&mut bodies, 7, b"packet").unwrap();
        end(writer)
    }

    #[test]
    fn messages_come_back_with_their_times_and_channels() {
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let file = written(|writer| writer.finish().unwrap(), compression);
            let messages: Vec<_> =
                ::mcap::MessageStream::new(&file).unwrap().collect::<Result<_, _>>().unwrap();
            let told = |n: usize| {
                let message = &messages[n];
                assert_eq!(message.log_time, message.publish_time);
                (message.channel.topic.as_str(), message.sequence, message.log_time)
            };
            assert_eq!(told(2), ("/camera/video", 2, 5 * NS + 2));
            assert_eq!(told(3), ("/camera/body", 0, 7));
            let schema = messages[0].channel.schema.as_ref().unwrap();
            assert_eq!(
                (schema.name.as_str(), schema.encoding.as_str()),
                ("foxglove.CompressedVideo", "protobuf")
            );
            assert!(messages[3].channel.schema.is_none());
            assert_eq!(&*messages[3].data, b"packet");
        }
    }

    #[test]
    fn messages_of_ours_have_their_schema_with_them() {
        let mut writer = Writer::new(Vec::new(), Compression::None).unwrap();
        let mut imu = writer.add_messages::<proto::Imu>("/zed1/imu").unwrap();
        let sample = proto::Imu { timestamp: Some(timestamp(9)), boot_time_ns: 4, ..proto::Imu::default() };
        writer.message(&mut imu, 9, &sample).unwrap();
        let file = writer.finish().unwrap();
        let message = ::mcap::MessageStream::new(&file).unwrap().next().unwrap().unwrap();
        let schema = message.channel.schema.as_ref().unwrap();
        assert_eq!((schema.name.as_str(), schema.encoding.as_str()), ("cvmmap_streamer.Imu", "protobuf"));
        assert_eq!(<proto::Imu as prost::Message>::decode(&*message.data).unwrap(), sample);
    }

    #[test]
    fn a_disk_that_is_full_is_told_in_the_systems_words() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = Writer::new(Full, Compression::None).unwrap();
        let mut bodies = writer.add_bodies("/camera/body").unwrap();
        writer.encoded(&mut bodies, 7, &[0; 100_000]).unwrap();
        assert_eq!(writer.finish().err().unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn times_beyond_the_formats_last_second_are_its_last() {
        assert_eq!(timestamp(u64::MAX).sec(), u32::MAX);
        assert_eq!((timestamp(3 * NS + 4).sec(), timestamp(3 * NS + 4).nsec()), (3, 4));
    }
}
