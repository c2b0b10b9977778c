// SPDX-License-Identifier: MPL-2.0

//! What a session tells: events and a status line for people on stderr, JSON lines for machines on stdout.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::meter::{Latency, Totals};
use super::rtmp::{Counters, Link};
use crate::record::{Format, Notice, Status};
use crate::{redact, tell};

/// Something that a person would ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The encoder in use.
    Encoder(String),
    /// The encoder changed.
    Fallback {
        /// Factory that was given up.
        from: String,
        /// Factory in use now.
        to: String,
        /// Why.
        reason: String,
    },
    /// The source's state.
    Source(String),
    /// The session description was written.
    Sdp(PathBuf),
    /// The RTMP branch.
    Rtmp(Link),
    /// A recording.
    Recording(Format, Notice),
    /// The NATS server came or went; the first attempt to reach it counts.
    Nats {
        /// Its address, without a password.
        server: String,
        /// Whether it is there.
        up: bool,
        /// Why not, where that is known.
        why: Option<String>,
    },
    /// Something that the session goes on in spite of.
    Warning(String),
    /// The session is ending, for this reason.
    Ending(&'static str),
}

impl Event {
    fn text(&self) -> String {
        match self {
            Self::Encoder(factory) => format!("encoding with {factory}"),
            Self::Fallback { from, to, reason } => {
                format!("warning: encoder {from} is given up for {to} ({reason})")
            }
            Self::Source(state) => format!("source: {state}"),
            Self::Sdp(path) => format!("session description written to {}", path.display()),
            Self::Rtmp(Link::Waiting(reason, wait)) => {
                let reason = redact::text(reason);
                format!("warning: rtmp: {reason}; next attempt in {:.2} s", wait.as_secs_f64())
            }
            Self::Rtmp(Link::GaveUp(reason)) => {
                format!("warning: rtmp: gave up: {}", redact::text(reason))
            }
            Self::Rtmp(link) => format!("rtmp: {}", link.name()),
            Self::Recording(format, notice) => notice_text(*format, notice),
            Self::Nats { server, up: true, .. } => format!("NATS: connected to {server}"),
            Self::Nats { server, up: false, why } => {
                let why = why.as_ref().map_or(String::new(), |why| format!(" ({why})"));
                format!("NATS: no server at {server}; recording on request is off until it answers{why}")
            }
            Self::Warning(text) => format!("warning: {text}"),
            Self::Ending(why) => format!("ending: {why}"),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Encoder(factory) => json!({"event": "encoder", "factory": factory}),
            Self::Fallback { from, to, reason } => {
                json!({"event": "encoder-fallback", "from": from, "to": to, "reason": reason})
            }
            Self::Source(state) => json!({"event": "source", "state": state}),
            Self::Sdp(path) => json!({"event": "sdp", "path": path}),
            Self::Rtmp(link) => {
                let (reason, wait) = match link {
                    Link::Waiting(reason, wait) => {
                        (Some(redact::text(reason)), Some(wait.as_millis() as u64))
                    }
                    Link::GaveUp(reason) => (Some(redact::text(reason)), None),
                    _ => (None, None),
                };
                json!({"event": "rtmp", "state": link.name(), "reason": reason, "wait_ms": wait})
            }
            Self::Recording(format, notice) => notice_json(*format, notice),
            Self::Nats { server, up, why } => {
                json!({"event": "nats", "server": server, "state": if *up { "up" } else { "away" }, "why": why})
            }
            Self::Warning(text) => json!({"event": "warning", "text": text}),
            Self::Ending(why) => json!({"event": "ending", "why": why}),
        }
    }
}

fn notice_text(format: Format, notice: &Notice) -> String {
    match notice {
        Notice::Started(path) => format!("recording: {format} to '{path}'"),
        Notice::Next(path) => format!("recording: {format} goes on in '{path}'"),
        Notice::Behind => {
            format!("warning: recording: {format}: the disk is late, what comes is dropped up to a key frame")
        }
        Notice::Ended { path, frames, dropped, bodies, bodies_dropped, length } => {
            let count = |count: u64, what: &str| {
                if count > 0 { format!(", {count} {what}") } else { String::new() }
            };
            let more =
                [(*dropped, "dropped"), (*bodies, "body packets"), (*bodies_dropped, "body packets dropped")];
            let more: String = more.iter().map(|(n, what)| count(*n, what)).collect();
            let seconds = length.as_secs_f64();
            format!("recording: {format} ended, '{path}': {frames} frames{more}, {seconds:.1} s")
        }
        Notice::Failed(reason) => format!("warning: recording: {format} failed: {reason}"),
    }
}

fn notice_json(format: Format, notice: &Notice) -> Value {
    let mut value = json!({"event": "recording", "format": format.name()});
    let fields = match notice {
        Notice::Started(path) => json!({"state": "started", "path": path}),
        Notice::Next(path) => json!({"state": "next", "path": path}),
        Notice::Behind => json!({"state": "behind"}),
        Notice::Ended { path, frames, dropped, bodies, bodies_dropped, length } => json!({
            "state": "ended", "path": path, "frames": frames, "dropped": dropped,
            "bodies": bodies, "bodies_dropped": bodies_dropped,
            "seconds": length.as_secs_f64(),
        }),
        Notice::Failed(reason) => json!({"state": "failed", "reason": reason}),
    };
    extend(&mut value, &fields);
    value
}

fn extend(value: &mut Value, more: &Value) {
    let fields = more.as_object().cloned().unwrap_or_default();
    value.as_object_mut().expect("an object").extend(fields);
}

/// The session at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Since the start.
    pub elapsed: Duration,
    /// Counts since the start.
    pub totals: Totals,
    /// Published and not handed on by the source, and of these the torn ones; replaced in the queue.
    pub dropped: Dropped,
    /// From capture to the wire, or to the encoder's output where there is no RTP.
    pub latency: Option<Latency>,
    /// What the source is doing.
    pub source: String,
    /// Factory in use.
    pub encoder: String,
    /// Whether RTP is sent.
    pub rtp: bool,
    /// What the RTMP branch is doing, what became of access units there, and how many connections carried any.
    pub rtmp: Option<(Link, Counters, u32)>,
    /// What is or was recorded, per format.
    pub recordings: Vec<Status>,
}

/// Pictures that were not encoded.
#[derive(Debug, Default, Clone, Copy)]
pub struct Dropped {
    /// By the source, for whatever cause.
    pub source: u64,
    /// Of these, since they were torn or not shown to be whole.
    pub torn: u64,
    /// Replaced by a later one before the encoder took them.
    pub queue: u64,
}

impl Snapshot {
    fn json(&self) -> Value {
        let ms = |ns: u64| ns as f64 / 1e6;
        let latency = self.latency.map(|latency| {
            let to = if self.rtp { "rtp" } else { "encoder" };
            json!({"to": to, "p50": ms(latency.p50_ns), "p99": ms(latency.p99_ns), "last": ms(latency.last_ns)})
        });
        let rtmp = self.rtmp.as_ref().map(|(link, counters, connections)| {
            json!({
                "state": link.name(), "sent": counters.sent, "bytes": counters.bytes,
                "dropped": counters.dropped, "connections": connections,
            })
        });
        let recordings = self.recordings.iter().map(|status| {
            json!({
                "format": status.format.name(), "recording": status.is_recording, "path": status.path,
                "frames": status.written, "dropped": status.counts.dropped, "bodies": status.bodies,
                "error": (!status.error.is_empty()).then_some(&status.error),
            })
        });
        json!({
            "seconds": self.elapsed.as_secs_f64(),
            "frames_in": self.totals.frames_in,
            "frames_encoded": self.totals.frames_encoded,
            "frames_out": self.totals.frames_out,
            "key_frames": self.totals.key_frames,
            "bytes": self.totals.bytes,
            "dropped": {"source": self.dropped.source, "torn": self.dropped.torn, "queue": self.dropped.queue},
            "latency_ms": latency,
            "source": self.source,
            "encoder": self.encoder,
            "rtp": self.rtp.then(|| json!({"packets": self.totals.rtp_packets})),
            "rtmp": rtmp,
            "recordings": recordings.collect::<Vec<_>>(),
        })
    }
}

/// Rates between two snapshots.
struct Rates {
    fps_in: f64,
    fps_out: f64,
    kbps: f64,
}

fn rates(before: Option<&Snapshot>, now: &Snapshot) -> Rates {
    let earlier = before.map(|before| (before.elapsed, before.totals)).unwrap_or_default();
    let seconds = now.elapsed.saturating_sub(earlier.0).as_secs_f64().max(1e-3);
    let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
    Rates {
        fps_in: per_second(now.totals.frames_in, earlier.1.frames_in),
        fps_out: per_second(now.totals.frames_out, earlier.1.frames_out),
        kbps: per_second(now.totals.bytes, earlier.1.bytes) * 8.0 / 1000.0,
    }
}

/// Where events and status go.
pub struct Reporter {
    json: bool,
    silent: bool,
    line: ProgressBar,
    last: Option<Snapshot>,
}

impl Reporter {
    /// Draws a status line where stderr is a terminal.
    pub fn new(json: bool) -> Self {
        let line = ProgressBar::new_spinner();
        line.set_style(ProgressStyle::with_template("{msg}").expect("a valid template"));
        Self { json, silent: false, line, last: None }
    }

    /// Tells nothing.
    pub fn silent() -> Self {
        Self { json: false, silent: true, line: ProgressBar::hidden(), last: None }
    }

    /// Tells an event.
    pub fn event(&self, event: &Event) {
        if self.silent {
            return;
        }
        if self.json {
            let mut value = json!({"type": "event"});
            extend(&mut value, &event.json());
            tell::result(&value);
        }
        let text = event.text();
        self.line.suspend(|| tell::talk(text));
    }

    /// Tells how things are.
    pub fn status(&mut self, now: Snapshot) {
        let rates = rates(self.last.as_ref(), &now);
        if self.json {
            let mut value = json!({
                "type": "status", "fps_in": rates.fps_in, "fps_out": rates.fps_out, "bitrate_kbps": rates.kbps,
            });
            extend(&mut value, &now.json());
            tell::result(&value);
        }
        self.line.set_message(line(&now, &rates));
        self.line.tick();
        self.last = Some(now);
    }

    /// Tells how it was; `exit` is the process's exit code.
    pub fn summary(&self, end: &Snapshot, exit: u8) {
        self.line.finish_and_clear();
        if self.silent {
            return;
        }
        if self.json {
            let mut value = json!({"type": "summary", "exit": exit});
            extend(&mut value, &end.json());
            tell::result(&value);
        }
        tell::talk(format_args!(
            "{} frames read, {} encoded, {} torn, {} dropped in {:.1} s",
            end.totals.frames_in,
            end.totals.frames_out,
            end.dropped.torn,
            end.dropped.source + end.dropped.queue,
            end.elapsed.as_secs_f64()
        ));
    }
}

fn line(now: &Snapshot, rates: &Rates) -> String {
    let ms = |ns: u64| ns as f64 / 1e6;
    let mut text = format!(
        "{} | in {:.1} out {:.1} fps | {:.0} kbit/s | dropped {} torn {}",
        now.source,
        rates.fps_in,
        rates.fps_out,
        rates.kbps,
        now.dropped.source + now.dropped.queue,
        now.dropped.torn
    );
    if let Some(latency) = now.latency {
        text += &format!(" | latency {:.1} ms (p99 {:.1})", ms(latency.p50_ns), ms(latency.p99_ns));
    }
    if now.rtp {
        text += " | rtp sending";
    }
    if let Some((link, counters, _)) = &now.rtmp {
        text += &format!(" | rtmp {} dropped {}", link.name(), counters.dropped);
    }
    for status in now.recordings.iter().filter(|status| status.is_recording) {
        text += &format!(" | {} {} frames", status.format, status.written);
        if status.counts.dropped > 0 {
            text += &format!(" dropped {}", status.counts.dropped);
        }
    }
    text + " | " + &now.encoder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(seconds: u64, frames: u64) -> Snapshot {
        Snapshot {
            elapsed: Duration::from_secs(seconds),
            totals: Totals {
                frames_in: frames,
                frames_out: frames,
                bytes: frames * 1000,
                ..Totals::default()
            },
            dropped: Dropped { source: 3, torn: 2, queue: 1 },
            latency: Some(Latency { p50_ns: 8_000_000, p99_ns: 12_500_000, last_ns: 9_000_000 }),
            source: "streaming".into(),
            encoder: "x264enc".into(),
            rtp: true,
            rtmp: Some((Link::Waiting("refused".into(), Duration::from_secs(1)), Counters::default(), 0)),
            recordings: Vec::new(),
        }
    }

    #[test]
    fn the_line_has_rates_of_the_last_interval() {
        let (before, now) = (snapshot(10, 300), snapshot(12, 360));
        let shown = line(&now, &rates(Some(&before), &now));
        assert_eq!(
            shown,
            "streaming | in 30.0 out 30.0 fps | 240 kbit/s | dropped 4 torn 2 | latency 8.0 ms (p99 12.5) \
             | rtp sending | rtmp waiting dropped 0 | x264enc"
        );
    }

    #[test]
    fn machines_get_every_field() {
        let value = snapshot(10, 300).json();
        assert_eq!(value["latency_ms"]["to"], "rtp");
        assert_eq!(value["dropped"]["torn"], 2);
        assert_eq!(value["rtmp"]["state"], "waiting");
        let event = Event::Rtmp(Link::Waiting("refused".into(), Duration::from_millis(250))).json();
        assert_eq!((&event["reason"], &event["wait_ms"]), (&json!("refused"), &json!(250)));
    }

    #[test]
    fn a_server_that_repeats_secrets_does_not_put_them_into_logs() {
        let reason = || "publish denied: rtmp://u:hunter2@h/live/cam0?token=s3cret".to_owned();
        for link in [Link::Waiting(reason(), Duration::ZERO), Link::GaveUp(reason())] {
            let event = Event::Rtmp(link);
            for told in [event.text(), event.json().to_string()] {
                assert!(told.contains("publish denied: rtmp://u:***@h/live/cam0?***"), "{told}");
            }
        }
    }
}
