// SPDX-License-Identifier: MPL-2.0

//! An MCAP file of the live layout: the encoder's video, and body packets.

use std::fs::File;

use bytes::Bytes;

use super::annexb::AnnexB;
use super::file::Track;
use super::queue::{Item, Unit};
use super::request::McapOptions;
use crate::mcap::{Channel, Picture, Writer};
use crate::run::plan::Codec;

/// Stamps may step back by so much within a file, as clocks do that are set right; by more, as at the start of a replay
/// that loops, another file begins. In ns.
const STEP_BACK_NS: u64 = 1_000_000_000;

/// The file.
pub struct McapTrack {
    writer: Writer<File>,
    convert: AnnexB,
    codec: Codec,
    frame_id: String,
    video: Channel,
    body_topic: String,
    bodies: Option<Channel>,
    /// Of the last picture: of messages of one time, readers would not know the order.
    last_ns: Option<u64>,
}

impl McapTrack {
    /// Begins the file.
    ///
    /// # Errors
    /// What the file says, or the name of an element that is missing.
    pub fn new(file: File, codec: Codec, options: &McapOptions) -> Result<Self, String> {
        let mut writer = Writer::new(file, options.compression).map_err(|error| error.to_string())?;
        Ok(Self {
            video: writer.add_video(&options.topic).map_err(|error| error.to_string())?,
            writer,
            convert: AnnexB::new(codec)?,
            codec,
            frame_id: options.frame_id.clone(),
            body_topic: options.body_topic.clone(),
            bodies: None,
            last_ns: None,
        })
    }

    fn picture(&mut self, unit: &Unit) -> Result<(), String> {
        let buffer = self.convert.convert(unit)?;
        let time_ns = self.last_ns.map_or(unit.capture_ns, |last| unit.capture_ns.max(last + 1));
        self.last_ns = Some(time_ns);
        let bytes = buffer.into_mapped_buffer_readable().map_err(|_| "a picture cannot be read")?;
        let picture = Picture {
            time_ns,
            frame_id: &self.frame_id,
            format: self.codec.name(),
            unit: Bytes::from_owner(bytes),
        };
        self.writer.video(&mut self.video, picture).map_err(|error| error.to_string())
    }
}

impl Track for McapTrack {
    fn fits(&self, item: &Item) -> bool {
        match (item, self.last_ns) {
            // Whoever reads the file needs a key frame first.
            (Item::Video(unit), Some(last)) => {
                !unit.key || last <= unit.capture_ns.saturating_add(STEP_BACK_NS)
            }
            _ => true,
        }
    }

    fn write(&mut self, item: Item) -> Result<(), String> {
        match item {
            Item::Video(unit) => self.picture(&unit),
            Item::Bodies(bodies) => {
                let failed = |error: std::io::Error| error.to_string();
                let channel = match &mut self.bodies {
                    Some(channel) => channel,
                    none => none.insert(self.writer.add_bodies(&self.body_topic).map_err(failed)?),
                };
                self.writer.bodies(channel, bodies.time_ns, &bodies.packet).map_err(failed)
            }
        }
    }

    fn idle(&mut self) -> Result<(), String> {
        self.writer.idle().map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>) -> Result<File, String> {
        self.writer.finish().map_err(|error| error.to_string())
    }
}
