// SPDX-License-Identifier: MPL-2.0

//! ZED recordings (SVO2) into other files.
//!
//! - [`to_mp4`]: the command `svo-to-mp4`;
//! - [`options`]: what is asked for, and every rule about it;
//! - [`convert`]: one recording into one file, for whoever has one or many;
//! - [`copy`]: without decoding; [`encode`]: one of its views, with the settings of [`quality`];
//! - [`progress`]: how far it is, for people;
//! - [`batch`]: any of these over whole data sets;
//! - [`inspect`]: what is in a recording.

pub mod batch;
pub mod convert;
pub mod copy;
pub mod encode;
pub mod inspect;
pub mod options;
pub mod progress;
pub mod quality;
pub mod to_mp4;
