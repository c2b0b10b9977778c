// SPDX-License-Identifier: MPL-2.0

//! Frames and their numbers in messages for people.

/// `1 frame`, `2 frames`: so many of what is called `name`.
pub fn counted(count: usize, name: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {name}{plural}")
}

/// `1 frame was`, `2 frames were`.
pub fn counted_were(count: usize, name: &str) -> String {
    let were = if count == 1 { "was" } else { "were" };
    format!("{} {were}", counted(count, name))
}

/// `1 of 7 frames is`, `2 of 7 frames are`.
pub fn frames_missing(missing: usize, all: usize) -> String {
    let are = if missing == 1 { "is" } else { "are" };
    format!("{missing} of {} {are}", counted(all, "frame"))
}

/// `frame 7`, `frames 7 to 9`: from the first to the last, inclusive.
pub fn frames(first: usize, last: usize) -> String {
    if first == last { format!("frame {first}") } else { format!("frames {first} to {last}") }
}

/// `frame 7 is`, `frames 7 to 9 are`.
pub fn frames_are(first: usize, last: usize) -> String {
    let are = if first == last { "is" } else { "are" };
    format!("{} {are}", frames(first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([counted(1, "frame"), counted(0, "byte")], ["1 frame", "0 bytes"]);
        assert_eq!([counted_were(1, "frame"), counted_were(2, "frame")], ["1 frame was", "2 frames were"]);
        assert_eq!([frames_missing(1, 1), frames_missing(2, 7)], ["1 of 1 frame is", "2 of 7 frames are"]);
        assert_eq!([frames(7, 7), frames(7, 8)], ["frame 7", "frames 7 to 8"]);
        assert_eq!([frames_are(7, 7), frames_are(7, 8)], ["frame 7 is", "frames 7 to 8 are"]);
    }
}
