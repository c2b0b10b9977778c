// SPDX-License-Identifier: MPL-2.0

//! The application `cvmmap-streamer`: commands around the cv-mmap elements.
//!
//! - [`sim`]: a producer of test pictures, with faults on request;
//! - [`inspect`]: what a producer publishes, how fast and how torn;
//! - [`parse`]: access units in other forms;
//! - [`pattern`]: the test picture, and how a program reads its frame count;
//! - [`place`]: files that take a while to be written;
//! - [`run`]: RTP and RTMP from one encoder;
//! - [`control`]: a producer's control plane over NATS, for people;
//! - [`discover`]: which producers there are;
//! - [`doctor`]: what of this machine is usable;
//! - [`record`]: recordings of what `run` encodes, on request;
//! - [`mcap`]: MCAP files of cameras;
//! - [`mp4`]: MP4 files;
//! - [`receive`]: receivers that check what a streamer sends over RTP and RTMP;
//! - [`smoke`]: each row of the [`matrix`] to a server and back;
//! - [`suite`]: acceptance and fault rows over processes of all of these;
//! - [`svo`]: ZED recordings into other files;
//! - [`show`]: reports as JSON and as text;
//! - [`tell`]: stdout and stderr that may be closed pipes;
//! - [`redact`]: secrets of URLs;
//! - [`exit`]: the table of exit codes.

#![forbid(unsafe_code)]

pub mod control;
pub mod discover;
pub mod doctor;
pub mod exit;
pub mod inspect;
pub mod interrupt;
pub mod matrix;
pub mod mcap;
pub mod mp4;
pub mod parse;
pub mod pattern;
pub mod place;
pub mod receive;
pub mod record;
pub mod redact;
pub mod run;
pub mod show;
pub mod sim;
pub mod smoke;
pub mod suite;
pub mod svo;
pub mod tell;
