// SPDX-License-Identifier: MPL-2.0

//! What is to be done about each input.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::discover::Found;
use super::report::{Outcome, Row};
use super::tool::Tool;
use crate::place::folder_of;

/// What becomes of outputs that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They stay.
    Kept,
    /// They stay if they are whole.
    Probed,
    /// They are made anew.
    Replaced,
    /// Nothing is made; whether they are whole is told.
    Reported,
}

/// What a batch does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// With what is there.
    pub existing: Existing,
    /// It only tells.
    pub dry: bool,
}

impl Mode {
    /// Whether anything is converted.
    pub fn writes(self) -> bool {
        !self.dry && self.existing != Existing::Reported
    }
}

/// An input to be converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Which row of the report it is.
    pub row: usize,
    /// The recording or segment.
    pub input: PathBuf,
    /// What it is called for people.
    pub name: String,
    /// It replaces a file that is there.
    pub replaces: bool,
}

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// All inputs, in their order.
    pub rows: Vec<Row>,
    /// Those to be converted.
    pub todo: Vec<Job>,
}

/// What is there under an output's name.
enum Is {
    Missing,
    File,
}

impl Plan {
    /// Looks at all outputs, with so many threads.
    pub fn new(tool: &dyn Tool, found: Vec<Found>, mode: Mode, threads: usize, stop: &AtomicBool) -> Self {
        let mut rows: Vec<Row> = found.into_iter().map(|found| row(tool, found)).collect();
        refuse_clashes(&mut rows);
        let outcomes = in_parallel(rows.len(), threads, |number| match stop.load(Ordering::Relaxed) {
            true => (rows[number].outcome.clone(), false),
            false => decide(tool, &rows[number], mode),
        });
        let mut todo = Vec::new();
        for (number, (outcome, replaces)) in outcomes.into_iter().enumerate() {
            let row = &mut rows[number];
            row.outcome = outcome;
            if let (Outcome::NotStarted, Some(input), Some(output)) = (&row.outcome, &row.input, &row.output)
            {
                let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
                todo.push(Job { row: number, input: input.clone(), name, replaces });
            }
        }
        Self { rows, todo }
    }
}

fn row(tool: &dyn Tool, found: Found) -> Row {
    let input = match found {
        Ok(input) => input,
        Err(problem) => return Row::new(problem.what, Outcome::Failed(problem.why)),
    };
    let mut row = Row::new(input.display().to_string(), Outcome::NotStarted);
    match tool.output(&input) {
        Ok(output) if output == input => {
            row.outcome = Outcome::Failed("the output would have the recording's own name".into());
        }
        Ok(output) => row.output = Some(output),
        Err(failure) => row.outcome = Outcome::Failed(failure.to_string()),
    }
    row.input = Some(input);
    row
}

/// Inputs that would write the same file are not converted, none of them: nobody knows which is meant.
fn refuse_clashes(rows: &mut [Row]) {
    let mut of_output: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        if let (Outcome::NotStarted, Some(output)) = (&row.outcome, &row.output) {
            of_output.entry(resolved(output)).or_default().push(number);
        }
    }
    for numbers in of_output.values().filter(|numbers| numbers.len() > 1) {
        for &number in numbers {
            let others = numbers.iter().filter(|&&other| other != number);
            let others: Vec<_> = others.map(|&other| format!("'{}'", rows[other].what)).collect();
            let output = rows[number].output.as_deref().unwrap_or(Path::new("")).display();
            rows[number].outcome =
                Outcome::Failed(format!("its output '{output}' would be that of {} too", others.join(", ")));
        }
    }
}

fn resolved(output: &Path) -> PathBuf {
    let folder = folder_of(output).canonicalize();
    match (output.canonicalize(), folder, output.file_name()) {
        (Ok(file), ..) => file,
        (Err(_), Ok(folder), Some(name)) => folder.join(name),
        _ => output.to_owned(),
    }
}

/// What becomes of an input, and whether it replaces a file.
fn decide(tool: &dyn Tool, row: &Row, mode: Mode) -> (Outcome, bool) {
    let (Outcome::NotStarted, Some(input), Some(output)) = (&row.outcome, &row.input, &row.output) else {
        return (row.outcome.clone(), false);
    };
    let is = match look(output) {
        Ok(is) => is,
        Err(why) => return (Outcome::Failed(format!("its output '{}': {why}", output.display())), false),
    };
    let convert = |why: &str, replaces| match mode.dry {
        true => (Outcome::ToConvert(why.to_owned()), replaces),
        false => (Outcome::NotStarted, replaces),
    };
    match (is, mode.existing) {
        (Is::Missing, Existing::Reported) => (Outcome::Missing, false),
        (Is::Missing, _) => convert("there is no output", false),
        (Is::File, Existing::Kept) => (Outcome::Skipped("its output exists".into()), false),
        (Is::File, Existing::Replaced) => convert("its output is replaced", true),
        (Is::File, Existing::Probed) => match tool.probe(input, output) {
            Ok(()) => (Outcome::Skipped("its output is whole".into()), false),
            Err(why) => convert(&format!("its output is not whole: {why}"), true),
        },
        (Is::File, Existing::Reported) => match tool.probe(input, output) {
            Ok(()) => (Outcome::Valid, false),
            Err(why) => (Outcome::Invalid(why), false),
        },
    }
}

fn look(output: &Path) -> Result<Is, String> {
    match output.metadata() {
        Ok(found) if found.is_file() => Ok(Is::File),
        Ok(found) if found.is_dir() => Err("it is a folder, not a file".into()),
        Ok(_) => Err("it is no regular file".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Is::Missing),
        Err(error) => Err(error.to_string()),
    }
}

/// Calls a function with each number below `count`; the results are in that order.
fn in_parallel<T: Send>(count: usize, threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(count)));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let result = work(number);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::super::discover::Problem;
    use super::super::tool::{Converted, Takes};
    use super::*;
    use crate::exit::Failure;
    use crate::svo::convert::Control;

    /// Outputs are `NAME.out`, and whole where they say so.
    struct Fake;

    impl Tool for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }

        fn takes(&self) -> Takes {
            Takes::Recordings
        }

        fn overwrites(&self) -> bool {
            false
        }

        fn output(&self, input: &Path) -> Result<PathBuf, Failure> {
            match input.file_stem().is_some_and(|stem| stem == "none") {
                true => Err(Failure::usage("no output")),
                false => Ok(input.with_extension("out")),
            }
        }

        fn probe(&self, _: &Path, output: &Path) -> Result<(), String> {
            let text = std::fs::read_to_string(output).unwrap();
            if text == "whole" { Ok(()) } else { Err(text) }
        }

        fn convert(&self, _: &Path, _: &Path, _: bool, _: &mut Control) -> Result<Converted, Failure> {
            unreachable!("plans convert nothing")
        }
    }

    fn plan(folder: &Path, mode: Mode) -> Plan {
        let mut found: Vec<Found> = ["a.x", "b.x", "c.x", "d.x", "d.y", "none.x", "e.out", "f.x"]
            .map(|name| Ok(folder.join(name)))
            .into();
        found.push(Err(Problem { what: "table line 3".into(), why: "empty".into() }));
        Plan::new(&Fake, found, mode, 3, &AtomicBool::new(false))
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.out"), "whole").unwrap();
        std::fs::write(folder.path().join("c.out"), "torn").unwrap();
        std::fs::create_dir(folder.path().join("f.out")).unwrap();
        folder
    }

    /// What becomes of a, b and c, and the names to be converted.
    fn decided(existing: Existing, dry: bool) -> (Vec<Outcome>, Vec<(String, bool)>) {
        let folder = folder();
        let plan = plan(folder.path(), Mode { existing, dry });
        let rows: Vec<Outcome> = plan.rows.iter().map(|row| row.outcome.clone()).collect();
        for (row, part) in [
            (3, "d.y' too"),
            (4, "d.x' too"),
            (5, "no output"),
            (6, "own name"),
            (7, "a folder"),
            (8, "empty"),
        ] {
            assert!(matches!(&rows[row], Outcome::Failed(why) if why.contains(part)), "{:?}", rows[row]);
        }
        (rows[..3].to_vec(), plan.todo.into_iter().map(|job| (job.name, job.replaces)).collect())
    }

    #[test]
    fn what_is_there_decides_what_is_done() {
        let skipped = |why: &str| Outcome::Skipped(why.into());
        let job = |name: &str, replaces| (name.to_owned(), replaces);
        let not_started = || Outcome::NotStarted;
        let (rows, todo) = decided(Existing::Kept, false);
        assert_eq!(rows, [not_started(), skipped("its output exists"), skipped("its output exists")]);
        assert_eq!(todo, [job("a.out", false)]);
        let (rows, todo) = decided(Existing::Probed, false);
        assert_eq!(rows, [not_started(), skipped("its output is whole"), not_started()]);
        assert_eq!(todo, [job("a.out", false), job("c.out", true)]);
        let (rows, todo) = decided(Existing::Replaced, false);
        assert_eq!(rows, [not_started(), not_started(), not_started()]);
        assert_eq!(todo, [job("a.out", false), job("b.out", true), job("c.out", true)]);
        let (rows, todo) = decided(Existing::Reported, false);
        assert_eq!(rows, [Outcome::Missing, Outcome::Valid, Outcome::Invalid("torn".into())]);
        assert_eq!(todo, []);
        let (rows, todo) = decided(Existing::Probed, true);
        let convert = |why: &str| Outcome::ToConvert(why.into());
        let torn = convert("its output is not whole: torn");
        assert_eq!(rows, [convert("there is no output"), skipped("its output is whole"), torn]);
        assert_eq!(todo, []);
    }

    #[test]
    fn who_is_interrupted_decides_nothing() {
        let folder = folder();
        let found = vec![Ok(folder.path().join("c.x"))];
        let mode = Mode { existing: Existing::Reported, dry: false };
        let plan = Plan::new(&Fake, found, mode, 2, &AtomicBool::new(true));
        assert_eq!(plan.rows[0].outcome, Outcome::NotStarted);
    }
}
