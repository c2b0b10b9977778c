// SPDX-License-Identifier: MPL-2.0

//! Which inputs there are.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use walkdir::WalkDir;

use super::tool::Takes;
use crate::exit::{Failure, configuration};
use crate::place::folder_of;
use crate::svo::segment;

/// What recordings are called.
const RECORDINGS: &str = "*.svo2";
/// The column of a table that names segments.
const COLUMN: &[u8] = b"segment_dir";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const UTF_16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// Where inputs are looked for.
#[derive(Debug, clap::Args)]
pub struct Sources {
    #[command(flatten)]
    which: Which,
    /// What recordings in ROOT are called; with a '/' in it, where they are below ROOT [default: *.svo2]
    #[arg(long, value_name = "GLOB", conflicts_with_all = ["segment_dir", "segments_csv"])]
    pattern: Option<String>,
    /// Look into all folders below ROOT
    #[arg(long, conflicts_with_all = ["segment_dir", "segments_csv"])]
    recursive: bool,
    /// Folder that relative paths in the table start from [default: the table's]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["root", "segment_dir"])]
    csv_root: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Folder with recordings or segments
    root: Option<PathBuf>,
    /// Folder of a segment, repeated for more
    #[arg(long, value_name = "DIR")]
    segment_dir: Vec<PathBuf>,
    /// Table of segments: CSV with a column segment_dir
    #[arg(long, value_name = "FILE")]
    segments_csv: Option<PathBuf>,
}

/// Where something should be and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// A file or folder to be converted.
pub type Found = Result<PathBuf, Problem>;

/// All inputs, in an order that depends on nothing but their names, or on what was asked for.
///
/// # Errors
/// Where there is nothing to look at.
pub fn discover(sources: &Sources, takes: Takes) -> Result<Vec<Found>, Failure> {
    let segments = match (&sources.which.root, &sources.which.segments_csv) {
        (Some(root), _) => return below(root, sources.pattern.as_deref(), sources.recursive, takes),
        (None, Some(table)) => listed(table, sources.csv_root.as_deref())?,
        (None, None) => once(sources.which.segment_dir.iter().cloned().map(folder)),
    };
    Ok(match takes {
        Takes::Segments => segments,
        Takes::Recordings => segments.into_iter().flat_map(recordings_of).collect(),
    })
}

/// What is in a folder, or below it.
fn below(root: &Path, pattern: Option<&str>, recursive: bool, takes: Takes) -> Result<Vec<Found>, Failure> {
    let failed = |why: &dyn std::fmt::Display| configuration(format!("ROOT '{}': {why}", root.display()));
    let matcher = Matcher::new(pattern.unwrap_or(RECORDINGS))?;
    if root.is_file() {
        return Err(failed(&"it is a file; a batch is of what is in a folder"));
    }
    root.read_dir().map_err(|error| failed(&error))?;
    // Recordings lie one folder deeper than their segments.
    let depth = if takes == Takes::Segments { 2 } else { 1 };
    let walk = WalkDir::new(root).min_depth(1).max_depth(if recursive { usize::MAX } else { depth });
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for entry in walk.sort_by_file_name() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                found.push(Err(unreadable(&error)));
                continue;
            }
        };
        let path = entry.path();
        // A link to a recording is one; a link to a folder is not followed, and may lead in circles.
        if !path.is_file() || !matcher.matches(path.strip_prefix(root).unwrap_or(path)) {
            continue;
        }
        match takes {
            Takes::Recordings => found.push(Ok(path.to_owned())),
            Takes::Segments => {
                let folder = folder_of(path);
                if segment::numbered(path).is_some() && seen.insert(folder.to_owned()) {
                    found.push(Ok(folder.to_owned()));
                }
            }
        }
    }
    if found.is_empty() {
        let what = match takes {
            Takes::Recordings => "no recording in it",
            Takes::Segments => "no segment in it: no folder with SEGMENT_zedN.svo2",
        };
        let pattern = pattern.map(|pattern| format!(" that is called '{pattern}'")).unwrap_or_default();
        let more = if recursive { "" } else { "; --recursive looks into all folders below it" };
        return Err(failed(&format!("there is {what}{pattern}{more}")));
    }
    Ok(found)
}

fn unreadable(error: &walkdir::Error) -> Problem {
    let what = error.path().unwrap_or(Path::new("")).display().to_string();
    let why = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
    Problem { what, why: format!("it cannot be looked into: {why}") }
}

/// The folders that a table names.
fn listed(table: &Path, root: Option<&Path>) -> Result<Vec<Found>, Failure> {
    let failed =
        |why: &dyn std::fmt::Display| configuration(format!("--segments-csv '{}': {why}", table.display()));
    if table.is_dir() {
        return Err(failed(&"it is a folder"));
    }
    let bytes = std::fs::read(table).map_err(|error| failed(&error))?;
    // Spreadsheets put it in front of UTF-8, too.
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    if UTF_16.iter().any(|mark| text.starts_with(mark)) {
        return Err(failed(&"it is UTF-16; save it as CSV in UTF-8"));
    }
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text);
    let header = reader.byte_headers().map_err(|error| failed(&error))?;
    if header.len() <= 1 && header.iter().all(<[u8]>::is_empty) {
        return Err(failed(&"it is empty; its first line names the columns, of which one is 'segment_dir'"));
    }
    let column = header.iter().position(|name| name == COLUMN).ok_or_else(|| {
        let names: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
        let other = names.len() == 1 && names[0].contains([';', '\t']);
        let rule = if other { "; columns are separated by commas" } else { "" };
        failed(&format!("its first line has no column 'segment_dir', but {}{rule}", quoted(&names)))
    })?;
    let root = root.unwrap_or_else(|| folder_of(table));
    let mut rows = Vec::new();
    let mut lines = Lines::new(text);
    for record in reader.byte_records() {
        let record = record.map_err(|error| failed(&error))?;
        let line = lines.of(record.position().map_or(0, csv::Position::byte) as usize);
        let named = record.get(column).unwrap_or_default();
        let what = format!("{} line {line}", table.display());
        rows.push(match named {
            b"" => Err(Problem { what, why: "its segment_dir is empty".into() }),
            named => folder(root.join(OsStr::from_bytes(named)))
                .map_err(|problem| Problem { what, why: format!("'{}': {}", problem.what, problem.why) }),
        });
    }
    if rows.is_empty() {
        return Err(failed(&"it names its columns and nothing else: there are no rows"));
    }
    Ok(once(rows.into_iter()))
}

/// Counts the lines of a table up to its records.
struct Lines<'a> {
    text: &'a [u8],
    /// Up to here they were counted.
    at: usize,
    ended: usize,
}

impl<'a> Lines<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, ended: 0 }
    }

    /// The number of the line, counted from 1, on which a record begins, of records in their order. The reader tells where
    /// the one before ended: what is left of that line's end, and empty lines, lie between.
    fn of(&mut self, before: usize) -> usize {
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let begins = before + self.text[before..].iter().take_while(|byte| is_end(byte)).count();
        let ends = |at: &usize| match self.text[*at] {
            b'\n' => true,
            b'\r' => self.text.get(at + 1) != Some(&b'\n'),
            _ => false,
        };
        self.ended += (self.at..begins).filter(ends).count();
        self.at = begins;
        1 + self.ended
    }
}

fn quoted(names: &[std::borrow::Cow<str>]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    names.join(", ")
}

fn folder(path: PathBuf) -> Found {
    let why = match path.metadata() {
        Ok(found) if found.is_dir() => return Ok(path),
        Ok(_) => "it is no folder".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Problem { what: path.display().to_string(), why })
}

/// Each folder once, where it is named first.
fn once(folders: impl Iterator<Item = Found>) -> Vec<Found> {
    let mut seen = HashSet::new();
    let is_new = |found: &Found| {
        found.as_ref().map_or(true, |folder| seen.insert(folder.canonicalize().unwrap_or(folder.clone())))
    };
    folders.filter(is_new).collect()
}

/// The recordings in a segment's folder.
fn recordings_of(segment: Found) -> Vec<Found> {
    let folder = match segment {
        Ok(folder) => folder,
        Err(problem) => return vec![Err(problem)],
    };
    let problem = |why: String| vec![Err(Problem { what: folder.display().to_string(), why })];
    let entries = match folder.read_dir().and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => return problem(format!("it cannot be looked into: {error}")),
    };
    let matcher = Matcher::new(RECORDINGS).expect("a valid pattern");
    let mut names: Vec<_> = entries.iter().map(std::fs::DirEntry::file_name).collect();
    names.retain(|name| matcher.matches(name.as_ref()) && folder.join(name).is_file());
    names.sort();
    if names.is_empty() {
        return problem(format!("there is no {RECORDINGS} in it"));
    }
    names.into_iter().map(|name| Ok(folder.join(name))).collect()
}

/// A pattern for names or, with a '/', for paths below the root.
struct Matcher {
    glob: GlobMatcher,
    of_names: bool,
}

impl Matcher {
    fn new(pattern: &str) -> Result<Self, Failure> {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        let glob = glob.map_err(|error| Failure::usage(format!("--pattern: {error}")))?;
        Ok(Self { glob: glob.compile_matcher(), of_names: !pattern.contains('/') })
    }

    fn matches(&self, path: &Path) -> bool {
        match path.file_name().filter(|_| self.of_names) {
            Some(name) => self.glob.is_match(name),
            None => self.glob.is_match(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};

    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            create_dir_all(folder_of(&path)).unwrap();
            write(path, "").unwrap();
        }
        root
    }

    fn names(root: &Path, found: Vec<Found>) -> Vec<String> {
        let name = |found: Found| match found {
            Ok(path) => path.strip_prefix(root).unwrap_or(&path).display().to_string(),
            Err(problem) => {
                format!("{}: {}", problem.what, problem.why).replace(&root.display().to_string(), "ROOT")
            }
        };
        found.into_iter().map(name).collect()
    }

    #[test]
    fn recordings_are_found_by_their_names_and_in_their_order() {
        let root = tree(&["b.svo2", "a.svo2", "c.svo", "d.txt", "x/e.svo2", "x/y/f_left.svo2"]);
        let root = root.path();
        std::os::unix::fs::symlink(root, root.join("x/circle")).unwrap();
        std::os::unix::fs::symlink("b.svo2", root.join("link.svo2")).unwrap();
        let find =
            |pattern, recursive| names(root, below(root, pattern, recursive, Takes::Recordings).unwrap());
        assert_eq!(find(None, false), ["a.svo2", "b.svo2", "link.svo2"]);
        assert_eq!(find(None, true), ["a.svo2", "b.svo2", "link.svo2", "x/e.svo2", "x/y/f_left.svo2"]);
        assert_eq!(find(Some("[bc].svo*"), false), ["b.svo2", "c.svo"]);
        assert_eq!(find(Some("*_left.svo2"), true), ["x/y/f_left.svo2"]);
        assert_eq!(find(Some("x/*.svo2"), true), ["x/e.svo2"]);
        assert_eq!(find(Some("**/x/**/*.svo2"), true), ["x/e.svo2", "x/y/f_left.svo2"]);
    }

    #[test]
    fn segments_are_folders_with_recordings_of_their_name() {
        let root =
            tree(&["s/s_zed1.svo2", "s/s_zed2.svo2", "other/note.svo2", "x/t/t_zed10.svo", "u/u_zed.svo2"]);
        let root = root.path();
        let find = |pattern, recursive| below(root, pattern, recursive, Takes::Segments);
        assert_eq!(names(root, find(None, false).unwrap()), ["s"]);
        assert_eq!(names(root, find(Some("*.svo*"), true).unwrap()), ["s", "x/t"]);
        let one = below(&root.join("s"), None, false, Takes::Segments).unwrap();
        assert_eq!(names(root, one), ["s"]);
        let error = below(&root.join("other"), None, false, Takes::Segments).unwrap_err().to_string();
        assert!(error.contains("no segment in it") && error.contains("--recursive"), "{error}");
    }

    #[test]
    fn nothing_to_look_at_is_an_error() {
        let root = tree(&["a.txt"]);
        let root = root.path();
        for (path, pattern, part) in [
            (root.join("nosuch"), None, "No such file"),
            (root.join("a.txt"), None, "it is a file"),
            (root.to_owned(), None, "no recording in it;"),
            (root.to_owned(), Some("*.svo3"), "is called '*.svo3'"),
            (root.to_owned(), Some("[a"), "--pattern"),
        ] {
            let error = below(&path, pattern, false, Takes::Recordings).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_table_names_each_segment_once_and_what_is_wrong_with_its_lines() {
        let root = tree(&["s/s_zed1.svo2", "t/t_zed1.svo2", "other/s/x"]);
        let root = root.path();
        let table = root.join("segments.csv");
        let list = |text: &str, from: Option<&Path>| {
            write(&table, text).unwrap();
            listed(&table, from).map(|found| names(root, found)).map_err(|error| error.to_string())
        };
        let rows = "\u{feff}name, segment_dir ,note\n1,t,\"a, b\"\n2,s\n\n3,./t\n4,,\n5,nosuch,\n6\n7,segments.csv,\n";
        assert_eq!(
            list(rows, None).unwrap(),
            [
                "t",
                "s",
                "ROOT/segments.csv line 6: its segment_dir is empty",
                "ROOT/segments.csv line 7: 'ROOT/nosuch': No such file or directory (os error 2)",
                "ROOT/segments.csv line 8: its segment_dir is empty",
                "ROOT/segments.csv line 9: 'ROOT/segments.csv': it is no folder",
            ]
        );
        // Lines are an editor's, however they end, and whatever a field has in it.
        let rows = "\u{feff}note,segment_dir\n\n\"a\nb\",s\n\n\nc,gone\n\"d\n\n\",\ne,\n";
        for ends in ["\n", "\r\n", "\r"] {
            let found = list(&rows.replace('\n', ends), None).unwrap();
            let lines = [
                "ROOT/segments.csv line 7: 'ROOT/gone'",
                "ROOT/segments.csv line 8: its",
                "ROOT/segments.csv line 11: its",
            ];
            assert_eq!((found.len(), found[0].as_str()), (4, "s"), "{ends:?}");
            assert!(
                found[1..].iter().zip(lines).all(|(found, line)| found.starts_with(line)),
                "{ends:?}: {found:?}"
            );
        }
        assert_eq!(list("segment_dir\ns\n", Some(&root.join("other"))).unwrap(), ["other/s"]);
        let absolute = format!("segment_dir\n{}\n", root.join("s").display());
        assert_eq!(list(&absolute, Some(Path::new("/nosuch"))).unwrap(), ["s"]);
        let error = list("dir,note\ns,\n", None).unwrap_err();
        assert!(error.ends_with("no column 'segment_dir', but 'dir', 'note'"), "{error}");
        let error = list("dir;segment_dir\n1;s\n", None).unwrap_err();
        assert!(error.ends_with("but 'dir;segment_dir'; columns are separated by commas"), "{error}");
        assert!(list("segment_dir\n", None).unwrap_err().contains("there are no rows"));
        for empty in ["", "\u{feff}", "\n\n", " \r\n"] {
            let error = list(empty, None).unwrap_err();
            assert!(error.contains("it is empty") && error.contains("'segment_dir'"), "{empty:?}: {error}");
        }
        write(&table, b"\xff\xfes\0").unwrap();
        assert!(listed(&table, None).unwrap_err().to_string().contains("UTF-16"));
        assert!(listed(&root.join("nosuch.csv"), None).unwrap_err().to_string().contains("No such file"));
    }
}
