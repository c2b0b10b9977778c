// SPDX-License-Identifier: MPL-2.0

//! Whether an encoder still puts out what is put in.

use std::time::{Duration, Instant};

/// Frames that an encoder may take while nothing comes out.
pub const PATIENCE: u32 = 60;
/// An encoder hangs that has not come back from a frame for so long, and while as many frames more came.
pub const HANGS: Duration = Duration::from_secs(3);
/// Where there is no other encoder, one that worked so far is waited for so many times as long.
const LAST: u32 = 10;

/// Counts frames on their way through an encoder.
#[derive(Debug)]
pub struct Watch {
    /// Taken since something came out.
    taken: u32,
    /// Offered since anything moved.
    offered: u32,
    /// When anything last moved.
    moved: Instant,
    delivered: bool,
}

impl Watch {
    /// Nothing was offered yet.
    pub fn new(now: Instant) -> Self {
        Self { taken: 0, offered: 0, moved: now, delivered: false }
    }

    /// A frame is there for the encoder; `Err` tells why it makes no sense to wait for this encoder. `last`: there is
    /// no other.
    ///
    /// # Errors
    /// The reason, for people.
    pub fn offer(&mut self, now: Instant, last: bool) -> Result<(), String> {
        let times = if last && self.delivered { LAST } else { 1 };
        if self.taken >= PATIENCE * times {
            return Err(format!("nothing came out for {} frames that went in", self.taken));
        }
        let held = now.saturating_duration_since(self.moved);
        if self.offered >= PATIENCE * times && held > HANGS * times {
            return Err(format!("nothing came out for {} frames, it hangs", self.offered));
        }
        if self.offered == 0 {
            self.moved = now;
        }
        self.offered = self.offered.saturating_add(1);
        Ok(())
    }

    /// The encoder takes a frame.
    pub fn take(&mut self, now: Instant) {
        self.taken = self.taken.saturating_add(1);
        (self.offered, self.moved) = (0, now);
    }

    /// Something came out.
    pub fn output(&mut self, now: Instant) {
        (self.taken, self.offered, self.moved) = (0, 0, now);
        self.delivered = true;
    }

    /// Whether anything ever came out.
    pub fn delivered(&self) -> bool {
        self.delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(33);

    /// Frames that are offered until the watch says no; `takes`: the encoder takes each.
    fn patience(watch: &mut Watch, start: Instant, last: bool, takes: bool) -> u32 {
        (1..)
            .take_while(|n| {
                let now = start + FRAME * *n;
                let patient = watch.offer(now, last).is_ok();
                if patient && takes {
                    watch.take(now);
                }
                patient
            })
            .count() as u32
    }

    #[test]
    fn sixty_frames_go_in_before_an_encoder_is_given_up() {
        let now = Instant::now();
        assert_eq!(patience(&mut Watch::new(now), now, false, true), 60);
        assert_eq!(
            patience(&mut Watch::new(now), now, true, true),
            60,
            "the last one too, where it never worked"
        );
    }

    #[test]
    fn an_encoder_that_hangs_is_given_up_after_three_seconds() {
        let now = Instant::now();
        let frames = patience(&mut Watch::new(now), now, false, false);
        assert!((90..95).contains(&frames), "{frames}");
    }

    #[test]
    fn frames_that_come_faster_than_an_encoder_begins_are_no_sign() {
        let now = Instant::now();
        let mut watch = Watch::new(now);
        assert!((0..1000).all(|n| watch.offer(now + Duration::from_micros(n), false).is_ok()));
        let later = now + Duration::from_secs(60);
        watch.take(later);
        assert!(watch.offer(later, false).is_ok(), "a pause of the source is none either");
    }

    #[test]
    fn an_encoder_that_goes_silent_later_is_given_up_too() {
        for (last, frames) in [(false, 60), (true, 600)] {
            let now = Instant::now();
            let mut watch = Watch::new(now);
            for _ in 0..1000 {
                assert!(watch.offer(now, last).is_ok());
                watch.take(now);
                watch.output(now);
            }
            assert_eq!(patience(&mut watch, now, last, true), frames);
        }
    }
}
