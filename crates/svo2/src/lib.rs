// SPDX-License-Identifier: MPL-2.0

//! ZED recordings, read and written without the ZED SDK: `.svo2` files are MCAP files with H.264 or H.265 inside.
//!
//! - [`Recording`]: opens a file by its index, or by walking through it where that is missing or lies;
//! - [`Reader`]: its access units, and from where on a frame can be decoded;
//! - [`sensors`]: the IMU's samples;
//! - [`calibration`] and [`rectify`]: factory calibration, rectification maps and a remap of planes;
//! - [`group`]: which frames of several cameras belong together;
//! - [`nal`]: what the bitstream says of itself;
//! - [`sets`]: parameter sets with every key frame;
//! - [`sample`]: access units as MP4 has them;
//! - [`rvl`]: depth pictures as bytes, without loss;
//! - [`words`]: frames and their numbers as messages have them;
//! - [`Writer`]: synthetic recordings.
//!
//! Frames are shown in the order of the file: ZED recordings have no B-frames, and none are looked for.
//!
//! Sources: RadarML/open-svo2 and a university team's write-up; where they disagree, the bitstream and MCAP's own fields
//! win.
//!
//! ```no_run
//! use std::path::Path;
//! use svo2::{Reader, Recording};
//!
//! let recording = Recording::open(Path::new("a.svo2"))?;
//! let mut reader = Reader::new(recording.clone());
//! for frame in 0..recording.frames() {
//!     match reader.unit(frame) {
//!         Ok(unit) => println!("{} ns: {} bytes", recording.unix_ns(frame), unit.len()),
//!         Err(damage) => println!("{damage}"),
//!     }
//! }
//! # Ok::<(), svo2::OpenError>(())
//! ```

#![deny(unsafe_code)]

pub mod calibration;
mod container;
mod error;
pub mod group;
pub mod header;
mod mend;
pub mod nal;
mod reader;
mod recording;
pub mod rectify;
pub mod rvl;
pub mod sample;
pub mod sensors;
pub mod sets;
mod sps;
mod storage;
pub mod words;
pub mod writer;

pub use container::Found;
pub use error::{Damage, OpenError, ReadError};
pub use header::Header;
pub use nal::{Codec, Kind};
pub use reader::{Located, Reader};
pub use recording::Recording;
pub use sensors::{Sample, SensorReader, Sensors};
pub use writer::{Layout, Writer};
