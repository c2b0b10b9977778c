// SPDX-License-Identifier: MPL-2.0

//! What is told of a producer's life, by whichever of its events and its frames speaks first. No I/O here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cvmmap_control::Life;
use cvmmap_control::life::{Cause, Turn};
use cvmmap_control::proto::ModuleStatus;
use cvmmap_ipc::FrameId;

/// A frame that comes within this time after OFFLINE was on its way, and does not say that the producer is back. Two do.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// News that nobody posts while somebody else does; there are few threads, and each state is told once.
const MAX_NEWS: usize = 1024;

/// What `cvmmapsrc-state` messages tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// There is no segment, or nothing was ever announced.
    Waiting,
    /// Frames go out.
    Streaming,
    /// The segment is there, but nothing is announced any more.
    Stalled,
    /// The stream starts anew: an event said so, or the frame count went backwards.
    Reset,
    /// The producer came, or came back.
    Online,
    /// The producer said goodbye.
    Offline,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Streaming => "streaming",
            Self::Stalled => "stalled",
            Self::Reset => "reset",
            Self::Online => "online",
            Self::Offline => "offline",
        }
    }
}

/// One telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    pub state: State,
    pub cause: Cause,
    pub frame: Option<FrameId>,
}

impl News {
    pub fn cause_name(&self) -> &'static str {
        match self.cause {
            Cause::Event => "event",
            Cause::Frames => "frames",
        }
    }
}

/// Decides what is told, and keeps it in its order until it is posted.
#[derive(Debug, Default)]
pub(super) struct Telling {
    state: Option<State>,
    life: Life,
    /// When OFFLINE came, until a frame came after it.
    offline_since: Option<Instant>,
    /// An event told of a reset that no buffer shows yet.
    reset_due: bool,
    /// Resets that events told, less those whose fall of the count came too; the reader counts the falls.
    extra_resets: i64,
    news: VecDeque<News>,
    posting: bool,
}

impl Telling {
    pub fn state(&self) -> Option<State> {
        self.state
    }

    /// Whether silence has still to be told of.
    pub fn is_lively(&self) -> bool {
        matches!(self.state, Some(State::Streaming | State::Reset | State::Online))
    }

    /// Resets, of which the reader has seen `falls` of the count.
    pub fn resets(&self, falls: u64) -> u64 {
        falls.saturating_add_signed(self.extra_resets)
    }

    /// Whether an event told of a reset that the next buffer has to show.
    pub fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.reset_due)
    }

    /// A status event; `true`: it is a reset that nothing has told of yet.
    pub fn event(&mut self, status: ModuleStatus, now: Instant) -> bool {
        let turn = self.life.event(status, now);
        match (status, turn) {
            (_, Some(Turn::Reset)) => {
                self.extra_resets += 1;
                self.reset_due = true;
                self.enter(State::Reset, Cause::Event, None);
                return true;
            }
            (_, Some(Turn::Offline)) => {
                self.offline_since = Some(now);
                self.enter(State::Offline, Cause::Event, None);
            }
            // One that had fallen silent without a word is told of again.
            (ModuleStatus::Online, turn)
                if turn.is_some() || matches!(self.state, Some(State::Waiting | State::Stalled)) =>
            {
                self.enter(State::Online, Cause::Event, None);
            }
            _ => (),
        }
        false
    }

    /// The frame count went backwards; `own`: since we had sought. `true`: nothing has told of it yet.
    pub fn count_fell(&mut self, frame: FrameId, own: bool, now: Instant) -> bool {
        if own {
            self.extra_resets -= 1;
            return false;
        }
        if self.state == Some(State::Offline) {
            self.back(frame);
        }
        let first = self.life.count_fell(now);
        if first {
            self.enter(State::Reset, Cause::Frames, Some(frame));
        } else {
            self.extra_resets -= 1;
        }
        first
    }

    /// A frame goes out; `true`: there was something to tell.
    pub fn frame(&mut self, frame: FrameId, now: Instant) -> bool {
        if self.offline_since.take().is_some_and(|since| now.saturating_duration_since(since) < ON_ITS_WAY) {
            return false;
        }
        let before = self.state;
        self.back(frame);
        self.enter(State::Streaming, Cause::Frames, Some(frame));
        before != self.state
    }

    /// No frame comes; `gone`: neither is there a segment.
    pub fn silent(&mut self, gone: bool) {
        // Said already, and by itself.
        if self.state != Some(State::Offline) {
            self.enter(if gone { State::Waiting } else { State::Stalled }, Cause::Frames, None);
        }
    }

    /// The next thing to post, if nobody else is posting; [`Telling::posted`] must follow.
    pub fn begin_post(&mut self) -> Option<News> {
        if self.posting {
            return None;
        }
        let news = self.news.pop_front();
        self.posting = news.is_some();
        news
    }

    pub fn posted(&mut self) {
        self.posting = false;
    }

    fn back(&mut self, frame: FrameId) {
        self.offline_since = None;
        if self.life.frame() {
            self.enter(State::Online, Cause::Frames, Some(frame));
        }
    }

    /// Tells of a new state; of a reset each time.
    fn enter(&mut self, state: State, cause: Cause, frame: Option<FrameId>) {
        if self.state.replace(state) == Some(state) && state != State::Reset {
            return;
        }
        if self.news.len() == MAX_NEWS {
            self.news.pop_front();
        }
        self.news.push_back(News { state, cause, frame });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ModuleStatus::{Offline, Online, StreamReset};

    const FRAME: FrameId = FrameId { count: 7, timestamp_ns: 1 };

    fn told(telling: &mut Telling) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(news) = telling.begin_post() {
            told.push(format!("{} {}", news.state.name(), news.cause_name()));
            telling.posted();
        }
        told
    }

    #[test]
    fn a_life_with_events_is_told_once() {
        let now = Instant::now();
        let mut telling = Telling::default();
        telling.silent(true);
        telling.event(Online, now);
        telling.frame(FRAME, now);
        telling.frame(FRAME, now);
        telling.event(Offline, now);
        // On its way when the event came.
        telling.frame(FRAME, now);
        telling.silent(false);
        telling.silent(true);
        telling.event(Offline, now);
        let lived = ["waiting frames", "online event", "streaming frames", "offline event"];
        assert_eq!(told(&mut telling), lived);
        // It comes back without a word; its word comes later.
        assert!(telling.count_fell(FRAME, false, now));
        telling.frame(FRAME, now);
        telling.event(Online, now);
        assert_eq!(told(&mut telling), ["online frames", "reset frames", "streaming frames"]);
    }

    #[test]
    fn frames_that_go_on_after_offline_are_streaming() {
        let now = Instant::now();
        let mut telling = Telling::default();
        telling.frame(FRAME, now);
        telling.event(Offline, now);
        telling.frame(FRAME, now);
        telling.frame(FRAME, now);
        assert_eq!(
            told(&mut telling),
            ["streaming frames", "offline event", "online frames", "streaming frames"]
        );
        // And one that comes long after was not on its way.
        telling.event(Offline, now);
        telling.frame(FRAME, now + ON_ITS_WAY);
        assert_eq!(telling.state(), Some(State::Streaming));
    }

    #[test]
    fn one_that_died_in_silence_is_online_again_by_its_event() {
        let now = Instant::now();
        let mut telling = Telling::default();
        telling.frame(FRAME, now);
        telling.silent(true);
        telling.event(Online, now);
        telling.event(Online, now);
        assert_eq!(told(&mut telling), ["streaming frames", "waiting frames", "online event"]);
    }

    #[test]
    fn resets_count_once_whoever_tells_first() {
        let now = Instant::now();
        let mut telling = Telling::default();
        telling.frame(FRAME, now);
        assert!(telling.event(StreamReset, now));
        assert!(telling.take_reset() && !telling.take_reset());
        assert!(!telling.count_fell(FRAME, false, now));
        assert_eq!(telling.resets(1), 1);
        assert!(telling.count_fell(FRAME, false, now));
        assert!(!telling.event(StreamReset, now));
        assert_eq!((telling.resets(2), telling.take_reset()), (2, false));
        // Ours is none; an event alone is one.
        assert!(!telling.count_fell(FRAME, true, now));
        assert_eq!(telling.resets(3), 2);
        assert!(telling.event(StreamReset, now));
        assert_eq!(telling.resets(3), 3);
        assert_eq!(told(&mut telling), ["streaming frames", "reset event", "reset frames", "reset event"]);
    }
}
