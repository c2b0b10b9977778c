// SPDX-License-Identifier: MPL-2.0

//! Which track's next frame is written next.

/// What is known of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Decoding time of its next frame, in nanoseconds of running time, if that is there.
    pub dts: Option<i64>,
    /// No frame before this time will come.
    pub position: Option<i64>,
    /// No frame will come at all.
    pub ended: bool,
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This track's frame.
    Take(usize),
    /// This track's frame is the first that is there; an earlier one of another track may come.
    Wait {
        /// The track.
        track: usize,
        /// Its frame's decoding time.
        dts: i64,
    },
    /// Nothing is there.
    Nothing,
    /// All have ended and nothing is left.
    End,
}

/// Decides; of frames that are there with one time, the first track's goes first.
pub fn next(tracks: &[Head]) -> Next {
    let heads = tracks.iter().enumerate().filter_map(|(i, track)| Some((track.dts?, i)));
    let Some((dts, track)) = heads.min() else {
        return if tracks.iter().all(|track| track.ended) { Next::End } else { Next::Nothing };
    };
    let open = |track: &Head| {
        track.dts.is_none() && !track.ended && track.position.is_none_or(|position| position < dts)
    };
    if tracks.iter().any(open) { Next::Wait { track, dts } } else { Next::Take(track) }
}
