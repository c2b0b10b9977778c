// SPDX-License-Identifier: MPL-2.0

//! Chunks whose indexes of messages lie or cannot be read: their own records tell what is in them. What that finds is
//! remarked upon, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::container::{Container, Entry, MAX_CHUNK, MESSAGE_HEAD, RECORD_HEAD};

/// Offset of an entry for a message that is lost: it has a number, and no place.
pub(crate) const LOST: u64 = u64::MAX;
/// No message of a frame is shorter.
const SHORTEST: u64 = (RECORD_HEAD + MESSAGE_HEAD + 64) as u64;
/// So many frames are given numbers without being found; statistics that count more are taken for damage.
const MOST_LOST: u64 = 1 << 20;
/// So many remarks are kept.
const REMARKED: usize = 20;

/// What a chunk's records have.
pub(crate) struct Walk {
    pub entries: Vec<Entry>,
    /// They were found up to the chunk's end.
    pub whole: bool,
}

/// By channel and offset as the index has them, where messages are instead.
type Places = BTreeMap<(u16, u64), Entry>;

/// What was learnt of chunks whose index is wrong.
#[derive(Default)]
pub(crate) struct Mended {
    walks: Mutex<BTreeMap<usize, Arc<Walk>>>,
    places: Mutex<BTreeMap<usize, Arc<Places>>>,
    /// Chunks of which neither index nor records have everything.
    torn: Mutex<BTreeSet<usize>>,
    /// Chunks whose checksum was compared.
    checked: Mutex<BTreeSet<usize>>,
    remarks: Mutex<Vec<String>>,
    /// How many remarks there are, for those who look often.
    remarked: AtomicUsize,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mended {
    /// Whether the checksum of a chunk was compared before; from now on it was.
    pub fn is_checked(&self, chunk: usize) -> bool {
        !lock(&self.checked).insert(chunk)
    }

    /// Bytes of memory for what walking found, and for the places of messages.
    pub fn memory(&self) -> usize {
        let walks =
            lock(&self.walks).values().map(|walk| size_of_val(walk.entries.as_slice())).sum::<usize>();
        let places = lock(&self.places).values().map(|places| places.len()).sum::<usize>();
        walks + places * size_of::<((u16, u64), Entry)>()
    }

    /// Says something of the recording, unless it was said before.
    pub fn remark(&self, text: String) {
        let mut remarks = lock(&self.remarks);
        if remarks.len() >= REMARKED || remarks.contains(&text) {
            return;
        }
        remarks.push(text);
        if remarks.len() + 1 == REMARKED {
            remarks.push("there is more that is wrong in the same ways".to_owned());
        }
        self.remarked.store(remarks.len(), Ordering::Release);
    }

    /// What was said since there were `seen`.
    pub fn remarks(&self, seen: usize) -> Vec<String> {
        if self.remarked.load(Ordering::Acquire) <= seen {
            return Vec::new();
        }
        lock(&self.remarks)[seen..].to_vec()
    }
}

impl Container {
    /// The messages of a chunk whose index cannot be read, by its records.
    pub(crate) fn found_without_index(&self, chunk: usize, lie: &str) -> Arc<Walk> {
        let walk = self.walked(chunk);
        if !walk.whole {
            lock(&self.mended.torn).insert(chunk);
        }
        let but = if walk.whole { "" } else { ", as far as it is whole" };
        self.mended.remark(format!("{lie}: the messages were found by walking through its chunk{but}"));
        walk
    }

    /// The messages of these channels, which are in order, in a chunk, by its records.
    pub(crate) fn walked_messages(&self, chunk: usize, channels: &[u16]) -> Vec<Entry> {
        let walk = self.walked(chunk);
        walk.entries.iter().filter(|entry| channels.binary_search(&entry.channel).is_ok()).copied().collect()
    }

    fn walked(&self, chunk: usize) -> Arc<Walk> {
        if let Some(walk) = lock(&self.mended.walks).get(&chunk) {
            return walk.clone();
        }
        let walk = Arc::new(self.walk(chunk, |_, _| ()));
        lock(&self.mended.walks).entry(chunk).or_insert(walk).clone()
    }

    /// Where the message of an entry is, if not where the index has it: that of the same time, or the one in its turn where
    /// the chunk has as many as the index.
    pub(crate) fn place(&self, entry: &Entry) -> Option<Entry> {
        let chunk = entry.chunk as usize;
        let known = lock(&self.mended.places).get(&chunk).cloned();
        let places = known.unwrap_or_else(|| {
            let places = Arc::new(self.places(chunk));
            lock(&self.mended.places).entry(chunk).or_insert(places).clone()
        });
        let place = places.get(&(entry.channel, entry.offset)).copied()?;
        if place != *entry {
            let at = self.chunk_at_file(chunk);
            self.mended.remark(format!(
                "the index of messages of the chunk at {at} of the file lies: they were found by walking through it"
            ));
        }
        Some(place)
    }

    fn places(&self, chunk: usize) -> Places {
        let mut said = Vec::new();
        if !self.is_chunk_indexed(chunk) || self.said_by_index(chunk, |_| true, &mut said).is_err() {
            return Places::new();
        }
        let walk = self.walked(chunk);
        // In their order; and by time, `None` where several have the same.
        let mut found = BTreeMap::<u16, Vec<&Entry>>::new();
        let mut at_time = BTreeMap::<(u16, u64), Option<&Entry>>::new();
        for entry in &walk.entries {
            found.entry(entry.channel).or_default().push(entry);
            at_time
                .entry((entry.channel, entry.time_ns))
                .and_modify(|place| *place = None)
                .or_insert(Some(entry));
        }
        let mut counts = BTreeMap::<u16, usize>::new();
        said.iter().for_each(|entry| *counts.entry(entry.channel).or_default() += 1);
        let mut numbers = BTreeMap::<u16, usize>::new();
        let mut places = Places::new();
        for entry in &said {
            let number = numbers.entry(entry.channel).or_default();
            let in_turn = || {
                let found = found.get(&entry.channel).filter(|found| found.len() == counts[&entry.channel]);
                found.and_then(|found| found.get(*number).copied())
            };
            let at_its_time = at_time.get(&(entry.channel, entry.time_ns)).copied().flatten();
            let place = at_its_time.or_else(in_turn);
            places.extend(place.map(|&place| ((entry.channel, entry.offset), place)));
            *number += 1;
        }
        places
    }

    /// Puts entries for messages that are lost where they were, so that those behind keep their numbers: as many as the
    /// statistics count, if all that was lost lies in one place. Returns how many.
    pub(crate) fn number_lost(&self, said: u64, entries: &mut Vec<Entry>) -> u64 {
        let torn = lock(&self.mended.torn).clone();
        let missing = said.saturating_sub(entries.len() as u64);
        let (Some(&first), Some(&last)) = (torn.first(), torn.last()) else { return 0 };
        let room: u64 = torn.iter().map(|&chunk| self.chunk_len(chunk).min(MAX_CHUNK)).sum();
        let fits = missing <= MOST_LOST && missing * SHORTEST <= room;
        if !fits || last - first + 1 != torn.len() {
            return 0;
        }
        let behind = entries.partition_point(|entry| entry.chunk as usize <= first);
        let (Some(before), Some(after)) = (behind.checked_sub(1).map(|at| entries[at]), entries.get(behind))
        else {
            return 0;
        };
        let step = after.time_ns.saturating_sub(before.time_ns) / (missing + 1);
        let lost = (1..=missing).map(|number| Entry {
            time_ns: before.time_ns + number * step,
            offset: LOST,
            chunk: first as u32,
            channel: before.channel,
        });
        entries.splice(behind..behind, lost.collect::<Vec<_>>());
        missing
    }
}
