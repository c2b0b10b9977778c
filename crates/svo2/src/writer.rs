// SPDX-License-Identifier: MPL-2.0

//! Writes recordings: for tests, and for people who want one without a camera.

use std::collections::BTreeMap;
use std::io::{Seek, Write};

use mcap::records::MessageHeader;
use mcap::{McapResult, WriteOptions};
use serde_json::json;

use crate::header::Header;
use crate::recording::{CAMERA, HEADER, VIDEO};
use crate::sensors::{Sample, Sensors};

const FOOTER: &str = "svo_footer";
const KEY: i32 = 3;

/// How a recording is laid out.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Compression of the chunks.
    pub compression: Option<mcap::Compression>,
    /// Bytes of a chunk before compression, about; `None`: no chunks, and therefore no indexes.
    pub chunk_size: Option<u64>,
}

impl Default for Layout {
    fn default() -> Self {
        Self { compression: None, chunk_size: Some(4 << 20) }
    }
}

/// A recording that grows.
pub struct Writer<W: Write + Seek> {
    file: mcap::Writer<W>,
    header: Header,
    /// By topic: its channel and the times of its messages.
    topics: BTreeMap<String, Topic>,
    last_key: u32,
}

struct Topic {
    channel: u16,
    times: Vec<u64>,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a recording at the start of `out`. The header's width is that of both pictures side by side.
    ///
    /// # Errors
    /// What `out` says.
    pub fn new(out: W, header: Header, layout: &Layout) -> McapResult<Self> {
        let options = WriteOptions::new()
            .profile("")
            .library("libmcap stereolabs")
            .compression(layout.compression)
            .use_chunks(layout.chunk_size.is_some())
            .chunk_size(layout.chunk_size);
        let file = options.create(out)?;
        let mut writer = Self { file, header, topics: BTreeMap::new(), last_key: 0 };
        let message = writer.header.message();
        writer.add(HEADER, "sl_type", "jsonschema", "json", 0, &message)?;
        Ok(writer)
    }

    /// Adds a frame: one Annex B access unit of both pictures side by side, and when it was taken, in ns since 1970.
    ///
    /// # Errors
    /// What `out` says.
    pub fn frame(&mut self, unix_ns: u64, unit: &[u8], key: bool) -> McapResult<()> {
        let topic = self.topic(VIDEO);
        let number = self.topics.get(&topic).map_or(0, |topic| topic.times.len() as u32);
        if key {
            self.last_key = number;
        }
        let size = u32::try_from(unit.len()).ok().filter(|size| size.checked_add(60).is_some());
        let len = unit.len() as u64;
        let size = size.ok_or(mcap::McapError::RecordTooLarge { opcode: mcap::records::op::MESSAGE, len })?;
        let mut message = Vec::with_capacity(unit.len() + 64);
        message.extend((size + 60).to_le_bytes());
        message.extend(size.to_le_bytes());
        message.extend(unit);
        let mut footer = [0; 56];
        let mut put = |at: usize, bytes: &[u8]| footer[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &self.header.width.to_le_bytes());
        put(0x04, &self.header.height.to_le_bytes());
        put(0x18, &unix_ns.to_le_bytes());
        put(0x20, &size.to_le_bytes());
        put(0x24, &if key { KEY } else { 0 }.to_le_bytes());
        put(0x28, &self.last_key.to_le_bytes());
        put(0x2c, &number.to_le_bytes());
        message.extend(footer);
        self.add(&topic, "zed_sdk_encoded", "", "zed_sdk_encoded", unix_ns, &message)
    }

    /// Adds a sample of the IMU at its own time.
    ///
    /// # Errors
    /// What `out` says.
    pub fn sample(&mut self, sensors: Sensors, sample: &Sample) -> McapResult<()> {
        let topic = self.topic(sensors.topics()[0]);
        self.add(&topic, "sl_type", "jsonschema", "json", sample.unix_ns, &sample.message(sensors))
    }

    /// Writes the footer and the indexes. Without it, the file is one that was cut short.
    ///
    /// # Errors
    /// What `out` says.
    pub fn finish(mut self) -> McapResult<W> {
        let times = self.topics.iter().map(|(topic, messages)| (topic.clone(), json!(messages.times)));
        let times = times.collect::<serde_json::Map<_, _>>();
        let message = serde_json::to_vec(&times).expect("numbers are JSON");
        self.add(FOOTER, "sl_type", "jsonschema", "json", 0, &message)?;
        self.file.finish()?;
        Ok(self.file.into_inner())
    }

    fn topic(&self, name: &str) -> String {
        format!("{CAMERA}{}{name}", self.header.serial)
    }

    fn add(
        &mut self,
        topic: &str,
        schema: &str,
        schema_encoding: &str,
        encoding: &str,
        time_ns: u64,
        message: &[u8],
    ) -> McapResult<()> {
        if !self.topics.contains_key(topic) {
            let schema = self.file.add_schema(schema, schema_encoding, b"{}")?;
            let channel = self.file.add_channel(schema, topic, encoding, &BTreeMap::new())?;
            self.topics.insert(topic.to_owned(), Topic { channel, times: Vec::new() });
        }
        let topic = self.topics.get_mut(topic).expect("it was just added");
        let header = MessageHeader {
            channel_id: topic.channel,
            sequence: topic.times.len() as u32,
            log_time: time_ns,
            publish_time: time_ns,
        };
        topic.times.push(time_ns);
        self.file.write_to_known_channel(&header, message)
    }
}
