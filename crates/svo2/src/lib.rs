// SPDX-License-Identifier: MPL-2.0

//! ZED recordings, read without the ZED SDK: `.svo2` files are MCAP files with H.264 or H.265 inside.
//!
//! Sources: RadarML/open-svo2 and a university team's write-up; where they disagree, the bitstream and MCAP's own fields
//! win.

#![deny(unsafe_code)]

pub mod calibration;
pub mod rectify;
