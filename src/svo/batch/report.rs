// SPDX-License-Identifier: MPL-2.0

//! What came of it, for people and for machines.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::logs::Logs;
use super::plan::Mode;

/// What became of one input.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The output is there; what the command tells of it.
    Converted(Value),
    /// Nothing was to be done.
    Skipped(String),
    /// Somebody else makes the output right now.
    Busy,
    /// There is no output, or not a new one.
    Failed(String),
    /// It was begun and given up.
    Interrupted,
    /// Nothing was done about it.
    NotStarted,
    /// It would be converted.
    ToConvert(String),
    /// The output is there and whole.
    Valid,
    /// The output is there and not whole.
    Invalid(String),
    /// There is no output.
    Missing,
}

/// All of them, in the order of the summary.
const STATUS: [&str; 10] = [
    "converted",
    "to_convert",
    "skipped",
    "busy",
    "valid",
    "missing",
    "invalid",
    "failed",
    "interrupted",
    "not_started",
];

impl Outcome {
    /// For machines.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Converted(_) => "converted",
            Self::Skipped(_) => "skipped",
            Self::Busy => "busy",
            Self::Failed(_) => "failed",
            Self::Interrupted => "interrupted",
            Self::NotStarted => "not_started",
            Self::ToConvert(_) => "to_convert",
            Self::Valid => "valid",
            Self::Invalid(_) => "invalid",
            Self::Missing => "missing",
        }
    }

    /// Why, where there is something to say.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Skipped(why) | Self::Failed(why) | Self::ToConvert(why) | Self::Invalid(why) => Some(why),
            Self::Busy => Some("somebody else makes its output right now"),
            _ => None,
        }
    }
}

/// One input, or what is wrong in the place of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// For people.
    pub what: String,
    /// The recording or segment.
    pub input: Option<PathBuf>,
    /// What its output is called.
    pub output: Option<PathBuf>,
    /// Where it is told how it went.
    pub log: Option<PathBuf>,
    /// What became of it.
    pub outcome: Outcome,
}

impl Row {
    /// Of something that has no output yet.
    pub fn new(what: String, outcome: Outcome) -> Self {
        Self { what, input: None, output: None, log: None, outcome }
    }

    /// For people, who need not be told twice which input it is.
    pub fn text(&self) -> String {
        let what = match (&self.outcome, &self.output) {
            (Outcome::Invalid(_), Some(output)) => output.display().to_string(),
            _ => self.what.clone(),
        };
        let of_input = ["--input", "--segment-dir"].map(|flag| format!("{flag} '{}': ", self.what));
        let reason = self.outcome.reason().map(|why| {
            let rest = of_input.iter().find_map(|prefix| why.strip_prefix(prefix.as_str()));
            format!(": {}", rest.unwrap_or(why))
        });
        let status = self.outcome.status().replace('_', " ");
        format!("{status}: {what}{}", reason.unwrap_or_default())
    }

    fn json(&self) -> Value {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let summary = match &self.outcome {
            Outcome::Converted(summary) => Some(summary),
            _ => None,
        };
        json!({
            "what": self.what,
            "input": path(&self.input),
            "output": path(&self.output),
            "status": self.outcome.status(),
            "reason": self.outcome.reason(),
            "log": path(&self.log),
            "summary": summary,
        })
    }
}

/// What came of a batch.
#[derive(Debug)]
pub struct Report {
    command: &'static str,
    mode: Mode,
    /// `None`: nothing is converted.
    jobs: Option<usize>,
    logs: Option<PathBuf>,
    elapsed: Duration,
    rows: Vec<Row>,
}

impl Report {
    /// Of a batch that begins.
    pub fn new(command: &'static str, mode: Mode) -> Self {
        Self { command, mode, jobs: None, logs: None, elapsed: Duration::ZERO, rows: Vec::new() }
    }

    /// Conversions run, so many at once.
    pub fn runs(&mut self, jobs: usize, logs: &Logs) {
        self.jobs = Some(jobs);
        self.logs = Some(logs.folder().to_owned());
    }

    /// What became of each input, and how long that took.
    pub fn take(&mut self, rows: Vec<Row>, elapsed: Duration) {
        (self.rows, self.elapsed) = (rows, elapsed);
    }

    /// The inputs.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    fn count(&self, status: &str) -> usize {
        self.rows().filter(|row| row.outcome.status() == status).count()
    }

    /// A sum over what was converted.
    fn sum(&self, field: &str) -> u64 {
        let of = |row: &Row| match &row.outcome {
            Outcome::Converted(summary) => summary[field].as_u64(),
            _ => None,
        };
        self.rows().filter_map(of).sum()
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let mut json = Map::new();
        json.insert("command".into(), self.command.into());
        json.insert("inputs".into(), self.rows.len().into());
        json.insert("jobs".into(), self.jobs.into());
        for status in STATUS {
            json.insert(status.into(), self.count(status).into());
        }
        json.insert("frames".into(), self.sum("frames").into());
        json.insert("bytes".into(), self.sum("bytes").into());
        json.insert("elapsed_s".into(), self.elapsed.as_secs_f64().into());
        json.insert("log_dir".into(), json!(self.logs.as_ref().map(|path| path.display().to_string())));
        json.insert("results".into(), self.rows().map(Row::json).collect());
        json.into()
    }

    /// For people: what needs them, and how many there are of each.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for row in self.rows().filter(|row| self.is_told(row)) {
            let _ = writeln!(text, "{}", row.text());
        }
        for status in STATUS {
            let count = self.count(status);
            if count > 0 || status == "failed" {
                let more = match status {
                    "converted" => {
                        let (frames, mb) = (self.sum("frames"), self.sum("bytes") as f64 / 1e6);
                        let seconds = self.elapsed.as_secs_f64();
                        let rate = frames as f64 / seconds.max(1e-9);
                        format!("   {frames} frames, {mb:.1} MB, in {seconds:.1} s ({rate:.0} frames/s)")
                    }
                    _ => String::new(),
                };
                let _ = writeln!(text, "{:<11} {count:>6}{more}", status.replace('_', " "));
            }
        }
        if let Some(logs) = &self.logs {
            let _ = writeln!(text, "logs        {}", logs.display());
        }
        text.trim_end().to_owned()
    }

    fn is_told(&self, row: &Row) -> bool {
        match row.outcome {
            Outcome::Failed(_) | Outcome::Invalid(_) | Outcome::Busy | Outcome::ToConvert(_) => true,
            Outcome::Skipped(_) => self.mode.dry,
            _ => false,
        }
    }
}
