// SPDX-License-Identifier: MPL-2.0

//! One input, in a process of its own: talk goes to stderr, which is its log, and what the batch has to know as lines of
//! JSON to stdout. It ends when its stdin does.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tool::Tool;
use crate::exit::{Exit, Failure, Taken};
use crate::svo::convert::{Control, Event};
use crate::{interrupt, run, tell};

/// From one word about progress to the next.
const AT_MOST_EVERY: Duration = Duration::from_millis(100);

/// What such a process is told besides the arguments of the batch: in its environment, since nobody is to come across it
/// among the flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its input.
    pub input: PathBuf,
    /// It replaces what is there.
    pub replaces: bool,
    /// How many threads its encoder has; `None`: as many as it thinks fit.
    pub threads: Option<usize>,
}

const INPUT: &str = "CVMMAP_STREAMER_BATCH_INPUT";
const REPLACES: &str = "CVMMAP_STREAMER_BATCH_REPLACES";
const THREADS: &str = "CVMMAP_STREAMER_BATCH_THREADS";

impl Own {
    /// Tells a process.
    pub fn tell(&self, command: &mut Command) {
        command.env(INPUT, &self.input);
        for (name, value) in [(REPLACES, self.replaces.then_some(1)), (THREADS, self.threads)] {
            match value {
                Some(value) => command.env(name, value.to_string()),
                None => command.env_remove(name),
            };
        }
    }

    /// What this process was told; `None`: it is the batch.
    pub fn told() -> Option<Self> {
        let input = std::env::var_os(INPUT)?.into();
        let number = |name| std::env::var(name).ok()?.parse().ok();
        Some(Self { input, replaces: number(REPLACES).is_some(), threads: number(THREADS) })
    }
}

/// What the batch has to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// So many of so many.
    Progress(u64, u64),
    /// Something that it goes on in spite of.
    Notice(String),
    /// The output is there.
    Converted {
        /// For people.
        text: String,
        /// For machines.
        summary: Value,
    },
    /// Somebody else has made it meanwhile.
    Made,
    /// Somebody else makes it right now.
    Growing,
    /// Why there is none.
    Failed(String),
    /// There is none since this was to end.
    Interrupted,
}

fn say(word: &Word) {
    tell::result(serde_json::to_string(word).expect("words are JSON"));
}

/// Converts the input.
///
/// # Errors
/// As the command itself: the exit code is for who runs this by hand.
pub fn run(tool: &dyn Tool, input: &Path, replaces: bool) -> Result<(), Failure> {
    let result = convert(tool, input, replaces);
    say(&match &result {
        Ok(word) => word.clone(),
        Err(failure) if failure.exit == Exit::Interrupted => Word::Interrupted,
        Err(failure) => match failure.taken {
            Some(Taken::Made) => Word::Made,
            Some(Taken::Growing) => Word::Growing,
            None => Word::Failed(failure.to_string()),
        },
    });
    result.map(drop)
}

fn convert(tool: &dyn Tool, input: &Path, replaces: bool) -> Result<Word, Failure> {
    run::register_elements()?;
    let cancelled = interrupt::listen()?;
    let over = cancelled.clone();
    std::thread::spawn(move || {
        // The batch writes nothing: what comes is the end.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        over.store(true, Ordering::Relaxed);
    });
    let output = tool.output(input)?;
    // One that was not whole when the batch looked may be by now: another batch has made it.
    if replaces && !tool.overwrites() && tool.probe(input, &output).is_ok() {
        return Ok(Word::Made);
    }
    let mut told: Option<Instant> = None;
    let mut events = |event| match event {
        Event::Progress { done, total } => {
            if done == total || told.is_none_or(|told| told.elapsed() >= AT_MOST_EVERY) {
                told = Some(Instant::now());
                say(&Word::Progress(done, total));
            }
        }
        Event::Notice(text) => {
            tell::talk(&text);
            say(&Word::Notice(text));
        }
    };
    let mut control = Control { events: &mut events, cancelled: &cancelled };
    let converted = tool.convert(input, &output, replaces, &mut control)?;
    tell::talk(&converted.text);
    Ok(Word::Converted { text: converted.text, summary: converted.json })
}
