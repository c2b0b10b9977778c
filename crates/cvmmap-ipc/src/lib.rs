// SPDX-License-Identifier: MPL-2.0

//! The cv-mmap wire, without GStreamer: producers put frames into POSIX shared memory and announce each over ZeroMQ.
//!
//! - [`Target`]: which producer a name or a `cvmmap://` URI means;
//! - [`Metadata`]: the 256 bytes at the head of a segment, versions 0.0, 1, 2.0 and 2.1;
//! - [`SyncMessage`]: the announcement of a frame;
//! - [`Reader`]: waits for announcements and takes coherent snapshots of foreign, changing memory;
//! - [`coherence`]: the rules by which a copy counts as coherent;
//! - [`segments()`]: which producers have segments on this machine;
//! - [`Producer`]: creates, grows, fills and unlinks a segment, and announces its frames.
//!
//! ```no_run
//! use cvmmap_ipc::{Coherence, Event, PlaneKind, Reader, ReaderConfig, Target, Verdict};
//!
//! let target: Target = "cam0".parse()?;
//! let mut reader = Reader::open(ReaderConfig::new(&target, Coherence::Verify))?;
//! let mut picture = Vec::new();
//! while let Event::Arrival(arrival) = reader.wait(None)? {
//!     let Ok(mut frame) = reader.begin(&arrival) else { continue };
//!     let left = *frame.metadata().plane(PlaneKind::Left).expect("every frame has it");
//!     picture.resize(left.size as usize, 0);
//!     if frame.copy_plane(&left, &mut picture) == Verdict::Accept {
//!         println!("frame {} of {} bytes", arrival.frame.count, picture.len());
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(unsafe_code)]

pub mod clock;
pub mod coherence;
pub mod metadata;
mod pace;
mod producer;
pub mod segments;
#[allow(unsafe_code)]
mod snapshot;
mod subscriber;
pub mod sync;
pub mod target;

pub use coherence::{Cause, Coherence, Verdict};
pub use metadata::{Metadata, MetadataError, Plane, PlaneKind, Version};
pub use producer::{FrameWriter, Producer, ProducerError};
pub use segments::{Scan, Segment, segments};
pub use snapshot::{
    Arrival, Counters, Event, Frame, Reader, ReaderConfig, ReaderError, Refusal, Region, SegmentInfo,
    peek_segment,
};
pub use subscriber::Waker;
pub use sync::{FrameId, SyncError, SyncMessage};
pub use target::{Target, TargetError};
