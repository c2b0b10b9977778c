// SPDX-License-Identifier: MPL-2.0

//! What a recording, and the library itself, are told to be: lines `key=value`.

use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

/// The line behind which a recording's keys are; whatever is in front of it belongs to other readers.
const HEAD: &str = "zed-standin recording\n";

/// Keys and values; `#` begins a comment.
#[derive(Default, Clone)]
pub struct Script(HashMap<String, String>);

impl Script {
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let pairs = lines.filter_map(|line| line.split_once('='));
        Self(pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect())
    }

    /// `None`: no recording of ours.
    pub fn of_recording(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let at = bytes.windows(HEAD.len()).rposition(|window| window == HEAD.as_bytes())?;
        Some(Self::parse(&String::from_utf8_lossy(&bytes[at + HEAD.len()..])))
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    pub fn number<T: FromStr>(&self, key: &str) -> Option<T> {
        let text = self.text(key)?;
        Some(text.parse().unwrap_or_else(|_| panic!("zed-standin: {key}={text}")))
    }

    /// Whether a frame is in a list such as `3,10-12`.
    pub fn has(&self, key: &str, frame: i32) -> bool {
        let items = self.text(key).into_iter().flat_map(|list| list.split(','));
        items.map(str::trim).any(|item| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            (first.parse().unwrap_or(i32::MAX)..=last.parse().unwrap_or(i32::MIN)).contains(&frame)
        })
    }

    /// The number behind a frame in a list such as `7:18,9:3`.
    pub fn at(&self, key: &str, frame: i32) -> Option<i32> {
        let items = self.text(key).into_iter().flat_map(|list| list.split(','));
        items
            .filter_map(|item| item.trim().split_once(':'))
            .find(|(at, _)| at.parse() == Ok(frame))
            .and_then(|(_, code)| code.parse().ok())
    }

    /// Keys of a group that begin with `prefix`.
    pub fn names(&self, prefix: &str) -> Vec<&str> {
        self.0.keys().filter_map(|key| key.strip_prefix(prefix)).collect()
    }
}
