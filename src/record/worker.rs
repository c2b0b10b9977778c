// SPDX-License-Identifier: MPL-2.0

//! The thread that writes one recording: into one file, or into several where one cannot hold it.
//!
//! Lock: `progress` is held for single reads and writes, and waited on for the end.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Notice;
use super::file::Track;
use super::place::create;
use super::queue::{Item, Popped, Queue};
use crate::place::Place;

/// How long it waits for the next item before it looks after the file.
const TICK: Duration = Duration::from_millis(250);
/// A key frame that does not come is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Makes the track of a new file.
pub type Opener = Box<dyn FnMut(File) -> Result<Box<dyn Track>, String> + Send>;

/// What both sides of a recording know of it.
#[derive(Debug)]
pub struct Recording {
    /// The way to the file.
    pub queue: Queue,
    progress: Mutex<Progress>,
    ended: Condvar,
}

/// How far it has come.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Final path of the file that grows, or of the last.
    pub path: String,
    /// Pictures that were written.
    pub written: u64,
    /// Body packets that were written.
    pub bodies: u64,
    /// Pictures that no file could hold.
    pub skipped: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// Nothing more happens.
    pub over: bool,
}

impl Recording {
    /// Nothing is written yet.
    pub fn new(queue: Queue, path: String) -> Self {
        let progress = Mutex::new(Progress { path, ..Progress::default() });
        Self { queue, progress, ended: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.lock().clone()
    }

    /// How far it came.
    pub fn progress_at_end(&self) -> Progress {
        Progress { over: true, ..self.progress() }
    }

    /// It failed, and why.
    pub fn set_error(&self, reason: String) -> String {
        self.lock().error = Some(reason.clone());
        reason
    }

    /// Wakes those who wait for the end.
    pub fn set_over(&self) {
        self.lock().over = true;
        self.ended.notify_all();
    }

    /// Waits for its end until `deadline`; tells whether it came.
    pub fn wait(&self, deadline: Instant) -> bool {
        let patience = deadline.saturating_duration_since(Instant::now());
        let waited = self.ended.wait_timeout_while(self.lock(), patience, |progress| !progress.over);
        waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0.over
    }
}

/// What the thread has.
pub struct Worker {
    recording: Arc<Recording>,
    /// Of the first file, after which the others are named.
    first: Place,
    place: Place,
    track: Option<Box<dyn Track>>,
    open: Opener,
    /// Something is in the file that has not got its name.
    begun: bool,
    /// Running time of the first picture and the last, in ns.
    span: Option<(i64, i64)>,
}

impl Worker {
    /// With the first file, which was made already.
    pub fn new(recording: Arc<Recording>, place: Place, track: Box<dyn Track>, open: Opener) -> Self {
        let first = place.clone();
        Self { recording, first, place, track: Some(track), open, begun: false, span: None }
    }

    /// What it writes.
    pub fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    /// Writes until the queue is closed and empty, or the file fails; tells how it ended.
    pub fn run(mut self, request_key_frame: &dyn Fn(), tell: &dyn Fn(Notice)) -> Notice {
        let result = self.write_all(request_key_frame, tell).and_then(|()| self.finish_file());
        // What may still wait is lost.
        self.recording.queue.abandon();
        let counts = self.recording.queue.counts();
        match result {
            Ok(()) => {
                let Progress { path, written, skipped, bodies, .. } = self.recording.progress();
                let length = self.span.map_or(0, |(first, last)| u64::try_from(last - first).unwrap_or(0));
                let (dropped, length) = (counts.dropped + skipped, Duration::from_nanos(length));
                let bodies_dropped = counts.bodies_dropped;
                Notice::Ended { path, frames: written, dropped, bodies, bodies_dropped, length }
            }
            Err(reason) => {
                self.track = None;
                let reason = self.left_behind(reason);
                Notice::Failed(self.recording.set_error(reason))
            }
        }
    }

    fn write_all(&mut self, request_key_frame: &dyn Fn(), tell: &dyn Fn(Notice)) -> Result<(), String> {
        let mut asked: Option<Instant> = None;
        loop {
            if !self.recording.queue.wants_key_frame() {
                asked = None;
            } else if asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
                request_key_frame();
                asked = Some(Instant::now());
            }
            match self.recording.queue.pop(TICK) {
                Popped::Item(item) => self.write(item, tell)?,
                Popped::Nothing => self.track().idle()?,
                Popped::Closed => return Ok(()),
            }
        }
    }

    fn track(&mut self) -> &mut Box<dyn Track> {
        self.track.as_mut().expect("it is replaced in one step")
    }

    fn write(&mut self, item: Item, tell: &dyn Fn(Notice)) -> Result<(), String> {
        let picture = match &item {
            Item::Video(unit) => Some((unit.key, unit.pts)),
            Item::Bodies(_) => None,
        };
        if !self.track().fits(&item) {
            if picture.is_none_or(|(key, _)| !key) {
                self.recording.lock().skipped += 1;
                return Ok(());
            }
            self.next_file(tell)?;
        }
        self.track().write(item)?;
        self.begun = true;
        if let Some((_, pts)) = picture {
            self.span = Some((self.span.map_or(pts, |(first, _)| first), pts));
        }
        let mut progress = self.recording.lock();
        match picture {
            Some(_) => progress.written += 1,
            None => progress.bodies += 1,
        }
        Ok(())
    }

    fn next_file(&mut self, tell: &dyn Fn(Notice)) -> Result<(), String> {
        self.finish_file()?;
        let place = self.first.next().map_err(|error| error.to_string())?;
        let file = create(&place).map_err(|refusal| refusal.to_string())?;
        self.place = place;
        self.track = Some((self.open)(file)?);
        let path = self.place.path();
        self.recording.lock().path.clone_from(&path);
        tell(Notice::Next(path));
        Ok(())
    }

    /// Makes the file whole and gives it its name.
    fn finish_file(&mut self) -> Result<(), String> {
        let Some(track) = self.track.take() else { return Ok(()) };
        if !self.begun {
            drop(track);
            return Err("it was ended before a key frame came: there is nothing to keep".into());
        }
        let file = track.finish()?;
        file.sync_data().map_err(|error| error.to_string())?;
        drop(file);
        self.place.publish().map_err(|error| format!("'{}': {error}", self.place.path()))?;
        self.begun = false;
        Ok(())
    }

    /// What a user finds on the disk after a failure.
    fn left_behind(&self, reason: String) -> String {
        if self.begun {
            return format!("{reason}; what was written is in '{}'", self.place.part_path());
        }
        self.place.discard();
        reason
    }
}
