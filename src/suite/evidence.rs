// SPDX-License-Identifier: MPL-2.0

//! What a run of a suite leaves behind for machines: `docs/evidence.md` documents every field.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::exit::{Failure, configuration};

/// Of the summary; a field that goes or changes its meaning raises it.
pub const SCHEMA: u32 = 1;

/// How a measured value has to stand to its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Relation {
    /// At most the bound.
    #[serde(rename = "<=")]
    AtMost,
    /// At least the bound.
    #[serde(rename = ">=")]
    AtLeast,
    /// Exactly the bound.
    #[serde(rename = "==")]
    Equals,
}

/// Something that was asserted.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was measured, in words.
    pub what: String,
    /// `null` where it could not be measured, which fails the check.
    pub measured: Option<f64>,
    /// Between measured and bound.
    pub relation: Relation,
    /// What was asked for.
    pub bound: f64,
    /// Of both numbers.
    pub unit: &'static str,
    /// Whether it holds.
    pub ok: bool,
}

impl Check {
    /// Compares.
    pub fn new(
        what: impl Into<String>,
        measured: Option<f64>,
        relation: Relation,
        bound: f64,
        unit: &'static str,
    ) -> Self {
        let ok = measured.is_some_and(|measured| match relation {
            Relation::AtMost => measured <= bound,
            Relation::AtLeast => measured >= bound,
            Relation::Equals => measured == bound,
        });
        Self { what: what.into(), measured, relation, bound, unit, ok }
    }

    /// For people, where it does not hold.
    pub fn text(&self) -> String {
        let measured = self.measured.map_or_else(|| "nothing".into(), |value| value.to_string());
        let relation = match self.relation {
            Relation::AtMost => "at most ",
            Relation::AtLeast => "at least ",
            Relation::Equals => "",
        };
        format!("{}: {measured} {}, not {relation}{}", self.what, self.unit, self.bound)
    }
}

/// Something that was measured and has no bound.
#[derive(Debug, Clone, Serialize)]
pub struct Number {
    /// What was measured, in words.
    pub what: String,
    /// `null` where it could not be measured.
    pub value: Option<f64>,
    /// Of the value.
    pub unit: &'static str,
}

/// How a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything holds.
    Pass,
    /// Something does not, or could not be measured.
    Fail,
    /// It did not run.
    Skip,
}

impl Outcome {
    /// As in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// A row of the summary.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// As `--rows` takes it.
    pub name: String,
    /// How it ended.
    pub result: Outcome,
    /// Why, where that is no pass.
    pub reason: Option<String>,
    /// From the first process to the end of the last.
    pub seconds: f64,
    /// How numbers were judged, where a name does not say it.
    pub rules: Vec<String>,
    /// What was asserted.
    pub checks: Vec<Check>,
    /// What was measured besides.
    pub numbers: Vec<Number>,
    /// Arguments of every process, in the order they were started.
    pub commands: Vec<Vec<String>>,
    /// Relative to the run's folder.
    pub logs: Vec<PathBuf>,
}

/// What the suite ran on.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// That the process may use.
    pub cores: usize,
    /// Name and release.
    pub kernel: String,
    /// `x86_64`, `aarch64`
    pub architecture: &'static str,
    /// At run time.
    pub gstreamer: String,
    /// Load average of the last minute when the suite began.
    pub load: Option<f64>,
}

impl Machine {
    /// Looks.
    pub fn here() -> Self {
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        let (major, minor, micro, _) = gst::version();
        let load = std::fs::read_to_string("/proc/loadavg").ok();
        Self {
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
            architecture: std::env::consts::ARCH,
            gstreamer: format!("{major}.{minor}.{micro}"),
            load: load.and_then(|load| load.split_whitespace().next()?.parse().ok()),
        }
    }
}

/// The whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `acceptance` or `faults`.
    pub command: &'static str,
    /// Of the program.
    pub version: &'static str,
    /// UTC.
    pub started: String,
    /// Of the whole run.
    pub seconds: f64,
    /// What it ran on.
    pub machine: Machine,
    /// In the order they ran.
    pub rows: Vec<Row>,
    /// Rows.
    pub total: usize,
    /// Of these.
    pub pass: usize,
    /// Of these.
    pub fail: usize,
    /// Of these.
    pub skip: usize,
}

impl Summary {
    /// Counts the rows.
    pub fn count(&mut self) {
        let of = |result| self.rows.iter().filter(|row| row.result == result).count();
        (self.pass, self.fail, self.skip) = (of(Outcome::Pass), of(Outcome::Fail), of(Outcome::Skip));
        self.total = self.rows.len();
    }

    /// The last line on stdout.
    pub fn line(&self) -> String {
        let Self { total, pass, fail, skip, .. } = self;
        format!("total={total} pass={pass} fail={fail} skip={skip}")
    }

    /// Writes `summary.json` into the run's folder, whole or not at all.
    ///
    /// # Errors
    /// A [`Failure`] that names the file.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        let path = folder.join("summary.json");
        let failed = |error: std::io::Error| configuration(format!("{}: {error}", path.display()));
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

/// Unix seconds as UTC: `2026-03-18T11:59:41Z`.
pub fn utc(unix: u64) -> String {
    let (days, second) = ((unix / 86_400) as i64, unix % 86_400);
    // Howard Hinnant's civil_from_days: eras of 400 years that begin on the 1st of March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_seconds_as_utc() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_773_835_181, "2026-03-18T11:59:41Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(unix), text);
        }
    }

    #[test]
    fn a_check_holds_only_where_something_was_measured() {
        let check = |measured, relation| Check::new("x", measured, relation, 3.0, "frames").ok;
        assert!(check(Some(3.0), Relation::AtMost) && !check(Some(3.1), Relation::AtMost));
        assert!(check(Some(3.0), Relation::AtLeast) && !check(Some(2.9), Relation::AtLeast));
        assert!(check(Some(3.0), Relation::Equals) && !check(Some(2.0), Relation::Equals));
        assert!(!check(None, Relation::AtMost) && !check(Some(f64::NAN), Relation::AtMost));
        let told = Check::new("torn frames", Some(2.0), Relation::Equals, 0.0, "frames").text();
        assert_eq!(told, "torn frames: 2 frames, not 0");
    }
}
