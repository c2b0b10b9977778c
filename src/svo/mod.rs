// SPDX-License-Identifier: MPL-2.0

//! ZED recordings (SVO2) into other files.
//!
//! - [`to_mp4`]: the command `svo-to-mp4`;
//! - [`grid`]: the command `svo-grid-to-mp4`, several of them in one picture;
//! - [`options`]: what is asked for, and every rule about it;
//! - [`convert`]: one recording into one file, for whoever has one or many;
//! - [`copy`]: without decoding; [`encode`]: one of its views, by a chain of elements with the settings of [`quality`];
//! - [`to_mcap`]: the command `svo-to-mcap`;
//! - `output`: the file that is made; [`progress`]: how far it is, for people;
//! - [`segment`]: the recordings that several cameras made of the same time;
//! - [`batch`]: any of these over whole data sets;
//! - [`inspect`]: what is in a recording; [`health`]: what is wrong with it;
//! - [`timeline`]: a picture of a segment.

pub mod batch;
mod chain;
pub mod convert;
pub mod copy;
pub mod encode;
pub mod grid;
pub mod health;
pub mod inspect;
pub mod options;
mod output;
pub mod progress;
pub mod quality;
pub mod segment;
pub mod timeline;
pub mod to_mcap;
pub mod to_mp4;

use gst::glib;

/// As people write it, with the nanoseconds that there are.
fn utc(unix_ns: u64) -> String {
    let whole = i64::try_from(unix_ns / 1_000_000_000).ok();
    let time = whole.and_then(|seconds| glib::DateTime::from_unix_utc(seconds).ok());
    let text = time.and_then(|time| time.format("%Y-%m-%dT%H:%M:%S").ok());
    text.map_or_else(String::new, |text| format!("{text}.{:09}Z", unix_ns % 1_000_000_000))
}
