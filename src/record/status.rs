// SPDX-License-Identifier: MPL-2.0

//! What is told of recordings: to people as it happens, and to whoever asks.

use std::time::Duration;

use cvmmap_control::proto::{ErrorCode, RecordingFormat, RecordingStatusResponse};

use super::queue::Counts;
use super::request::Format;
use super::worker::Progress;

/// What became of a recording, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// It waits for its first key frame, in this file.
    Started(String),
    /// It goes on in this file, since the one before cannot hold what comes.
    Next(String),
    /// The disk is late: bodies are dropped, and pictures up to a key frame. Told once for a recording.
    Behind,
    /// The file is whole.
    Ended {
        /// The last one's.
        path: String,
        /// Pictures in all of its files.
        frames: u64,
        /// Pictures that are missing in them.
        dropped: u64,
        /// Body packets in them.
        bodies: u64,
        /// Body packets that are missing.
        bodies_dropped: u64,
        /// From the first picture to the last.
        length: Duration,
    },
    /// It is over before its time.
    Failed(String),
}

/// One format's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whose.
    pub format: Format,
    /// Whether this session can record it at all.
    pub can_record: bool,
    /// A file grows, or waits for its first key frame.
    pub is_recording: bool,
    /// Of this recording, or the last.
    pub counts: Counts,
    /// Pictures that were written.
    pub written: u64,
    /// Body packets that were written.
    pub bodies: u64,
    /// The file's final path; of the last recording where none is under way. Empty before the first.
    pub path: String,
    /// Why it failed; empty where it did not.
    pub error: String,
}

impl Status {
    /// Before the first recording; whether there can be any is not known here.
    pub(super) fn unused(format: Format) -> Self {
        let counts = Counts { last_ok: true, ..Counts::default() };
        Self::of(format, counts, Progress { over: true, ..Progress::default() })
    }

    /// Whether there can be another is not known here.
    pub(super) fn of(format: Format, counts: Counts, progress: Progress) -> Self {
        let dropped = counts.dropped + progress.skipped;
        Self {
            format,
            can_record: false,
            is_recording: !progress.over,
            counts: Counts { dropped, last_ok: counts.last_ok && progress.error.is_none(), ..counts },
            written: progress.written,
            bodies: progress.bodies,
            path: progress.path,
            error: progress.error.unwrap_or_default(),
        }
    }

    /// As the contract has it.
    pub fn response(&self) -> RecordingStatusResponse {
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        RecordingStatusResponse {
            error: ErrorCode::Ok.into(),
            // The contract has no number for MP4.
            format: match self.format {
                Format::Mp4 => RecordingFormat::Unknown.into(),
                Format::Mcap => RecordingFormat::Mcap.into(),
            },
            can_record: self.can_record,
            is_recording: self.is_recording,
            is_paused: false,
            last_frame_ok: self.counts.last_ok,
            frames_ingested: count(self.counts.ingested),
            frames_encoded: count(self.written),
            active_path: self.path.clone(),
            error_message: self.error.clone(),
        }
    }
}
