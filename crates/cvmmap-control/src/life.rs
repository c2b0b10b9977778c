// SPDX-License-Identifier: MPL-2.0

//! A producer's life as its status events and its frames show it, each turn told once.
//!
//! Events and frames come by different ways and in any order, and either may be missing: frame 0 may come before
//! ONLINE, the first frame after a loop before STREAM_RESET, and a reset that was asked for has no event at all.

use std::time::{Duration, Instant};

use crate::proto::{ModuleStatus, ModuleStatusEvent};

/// A reset's event and the frame count's fall belong together if they come within this time of each other.
pub const SAME_RESET: Duration = Duration::from_secs(2);
/// More resets than this do not wait for their other half.
const UNMATCHED: usize = 16;

/// What happened to a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It came: its event, or the first frames after it was away.
    Online,
    /// It went.
    Offline,
    /// Its stream started anew.
    Reset,
}

/// What told of it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A status event.
    Event,
    /// The frames themselves.
    Frames,
}

/// Joins events and frames.
#[derive(Debug, Default)]
pub struct Life {
    online: Option<bool>,
    /// Resets that one side has told of and the other has not, oldest first.
    unmatched: Vec<(Cause, Instant)>,
}

impl Life {
    /// A status event came; returns the turn that nothing has told of yet.
    pub fn event(&mut self, status: ModuleStatus, now: Instant) -> Option<Turn> {
        match status {
            ModuleStatus::Online => (self.online.replace(true) != Some(true)).then_some(Turn::Online),
            ModuleStatus::Offline => (self.online.replace(false) != Some(false)).then_some(Turn::Offline),
            ModuleStatus::StreamReset => self.reset(Cause::Event, now).then_some(Turn::Reset),
            ModuleStatus::Unknown => None,
        }
    }

    /// The frame count went backwards; tells whether no event has told of it yet.
    pub fn count_fell(&mut self, now: Instant) -> bool {
        self.reset(Cause::Frames, now)
    }

    /// A frame came; tells whether the producer was away until now.
    pub fn frame(&mut self) -> bool {
        self.online.replace(true) == Some(false)
    }

    fn reset(&mut self, cause: Cause, now: Instant) -> bool {
        self.unmatched.retain(|(_, at)| now.saturating_duration_since(*at) < SAME_RESET);
        match self.unmatched.iter().position(|(other, _)| *other != cause) {
            Some(half) => {
                self.unmatched.remove(half);
                false
            }
            None => {
                self.unmatched.truncate(UNMATCHED - 1);
                self.unmatched.push((cause, now));
                true
            }
        }
    }
}

/// A status event of the producer `instance`; `None` where it is another's, or cannot be read.
///
/// # Errors
/// Why it cannot be read.
pub fn parse_event(payload: &[u8], instance: Option<&str>) -> Result<Option<ModuleStatusEvent>, String> {
    let event: ModuleStatusEvent = prost::Message::decode(payload).map_err(|error| error.to_string())?;
    if ModuleStatus::try_from(event.status).map_or(true, |status| status == ModuleStatus::Unknown) {
        return Err(format!("status {} is none of 1 (online), 2 (offline), 3 (stream reset)", event.status));
    }
    // Keys are not unique: `cam.0` and `cam_0` share one.
    let ours = event.instance.is_empty() || instance.is_none_or(|instance| instance == event.instance);
    Ok(ours.then_some(event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ModuleStatus::{Offline, Online, StreamReset};
    use proptest::prelude::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_reset_is_told_once_whichever_side_is_first() {
        let start = Instant::now();
        let mut life = Life::default();
        // A loop whose first frame comes before its event, and one the other way round.
        assert!(life.count_fell(at(start, 0)));
        assert_eq!(life.event(StreamReset, at(start, 5)), None);
        assert_eq!(life.event(StreamReset, at(start, 1000)), Some(Turn::Reset));
        assert!(!life.count_fell(at(start, 1033)));
        // Asked for over NATS: no event. The next loop is another reset.
        assert!(life.count_fell(at(start, 2000)));
        assert!(life.count_fell(at(start, 5000)));
        assert_eq!(life.event(StreamReset, at(start, 5001)), None);
    }

    #[test]
    fn coming_and_going_are_told_once() {
        let now = Instant::now();
        let mut life = Life::default();
        assert_eq!(life.event(Online, now), Some(Turn::Online));
        assert_eq!(life.event(Online, now), None);
        assert!(!life.frame());
        assert_eq!(life.event(Offline, now), Some(Turn::Offline));
        assert_eq!(life.event(Offline, now), None);
        // Frame 0 before ONLINE.
        assert!(life.frame());
        assert_eq!(life.event(Online, now), None);
        let mut late = Life::default();
        assert!(!late.frame());
        assert_eq!(late.event(Online, now), None);
    }

    proptest! {
        #[test]
        fn resets_with_both_halves_count_once(
            resets in proptest::collection::vec((any::<bool>(), 0u64..900), 1..40)
        ) {
            let mut now = Instant::now();
            let mut life = Life::default();
            let mut told = 0;
            for (event_first, apart) in &resets {
                now += Duration::from_millis(2000);
                let second = now + Duration::from_millis(*apart);
                for (event, at) in [(*event_first, now), (!*event_first, second)] {
                    told += usize::from(if event {
                        life.event(StreamReset, at).is_some()
                    } else {
                        life.count_fell(at)
                    });
                }
            }
            prop_assert_eq!(told, resets.len());
        }
    }

    #[test]
    fn events_of_others_and_garbage_are_no_events() {
        use prost::Message;
        let event =
            |status, instance: &str| ModuleStatusEvent { status, instance: instance.into(), timestamp_ns: 1 };
        let parse = |event: ModuleStatusEvent| parse_event(&event.encode_to_vec(), Some("cam0"));
        assert!(parse(event(1, "cam0")).unwrap().is_some());
        assert!(parse(event(1, "")).unwrap().is_some());
        assert!(parse(event(1, "cam1")).unwrap().is_none());
        assert!(parse(event(4, "cam0")).unwrap_err().contains("status 4"));
        assert!(parse_event(&[0xff], None).is_err());
        assert!(parse_event(&[], None).is_err(), "an empty message has no status");
    }
}
