// SPDX-License-Identifier: MPL-2.0

//! Complaints, each once in a while: a server that sends garbage makes `rtmp2sink` log a critical warning for every few
//! bytes of it, megabytes in a second, and a network that is away makes `udpsink` post one for every packet.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use gst::glib;

use crate::tell;

/// The same text is not logged again before that.
const AGAIN: Duration = Duration::from_secs(5);
/// Texts that are remembered.
const TEXTS: usize = 32;

/// What was said lately.
#[derive(Debug)]
pub struct Said {
    every: Duration,
    texts: Vec<(String, Instant)>,
    held_back: u64,
}

impl Said {
    /// The same text is not said again before `every`.
    pub fn new(every: Duration) -> Self {
        Self { every, texts: Vec::new(), held_back: 0 }
    }

    /// Whether to say a text now, and how many of any text were held back before it.
    pub fn take(&mut self, text: &str, now: Instant) -> Option<u64> {
        self.texts.retain(|(_, at)| now.saturating_duration_since(*at) < self.every);
        if self.texts.len() >= TEXTS || self.texts.iter().any(|(said, _)| said == text) {
            self.held_back += 1;
            return None;
        }
        self.texts.push((text.to_owned(), now));
        Some(std::mem::take(&mut self.held_back))
    }
}

/// From now on GLib's messages go through here.
pub fn hold_back_repeats() {
    let said = Mutex::new(Said::new(AGAIN));
    glib::log_set_default_handler(move |domain, level, message| {
        // Theirs is what G_MESSAGES_DEBUG is for.
        if matches!(level, glib::LogLevel::Debug | glib::LogLevel::Info | glib::LogLevel::Message) {
            glib::log_default_handler(domain, level, Some(message));
            return;
        }
        let taken =
            said.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take(message, Instant::now());
        if let Some(held_back) = taken {
            glib::log_default_handler(domain, level, Some(message));
            if held_back > 0 {
                tell::talk(format_args!("({held_back} such messages were held back before)"));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_said_once_in_a_while() {
        let start = Instant::now();
        let mut said = Said::new(AGAIN);
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(said.take("a", at(0)), Some(0));
        assert!((1..1000).all(|ms| said.take("a", at(ms)).is_none()));
        assert_eq!(said.take("b", at(1000)), Some(999), "another text is said at once");
        assert_eq!(said.take("a", at(5000)), Some(0));
    }

    #[test]
    fn a_flood_of_different_texts_is_bounded() {
        let now = Instant::now();
        let mut said = Said::new(AGAIN);
        let told = (0..10_000).filter(|n| said.take(&format!("byte {n}"), now).is_some()).count();
        assert_eq!(told, TEXTS);
    }
}
