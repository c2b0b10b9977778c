// SPDX-License-Identifier: MPL-2.0

//! The compatibility matrix: the five ways in which pictures leave.

use crate::run::plan::{Codec, RtmpMode};

/// One way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// As users name it.
    pub name: &'static str,
    /// What is encoded.
    pub codec: Codec,
    /// How it is put into FLV; `None` for RTP.
    pub rtmp: Option<RtmpMode>,
}

/// All rows; each must work.
pub const ROWS: [Row; 5] = [
    Row { name: "rtp-h264", codec: Codec::H264, rtmp: None },
    Row { name: "rtp-h265", codec: Codec::H265, rtmp: None },
    Row { name: "rtmp-h264", codec: Codec::H264, rtmp: Some(RtmpMode::Enhanced) },
    Row { name: "rtmp-h265-enhanced", codec: Codec::H265, rtmp: Some(RtmpMode::Enhanced) },
    Row { name: "rtmp-h265-domestic", codec: Codec::H265, rtmp: Some(RtmpMode::Domestic) },
];

/// The row of a name, for clap.
///
/// # Errors
/// The names that there are.
pub fn parse(name: &str) -> Result<Row, String> {
    let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
    ROWS.iter()
        .find(|row| row.name == name)
        .copied()
        .ok_or_else(|| format!("it is none of {}", names.join(", ")))
}
