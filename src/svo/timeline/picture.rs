// SPDX-License-Identifier: MPL-2.0

//! The picture itself: lanes over one axis of time, a pixel column at a time, so that its size does not grow with the
//! recordings. What is wrong for a moment has a column all the same, and is told where one points at it.

use std::io::{self, Write};
use std::ops::Range;

use svg::Document;
use svg::node::element::{Group, Line, Path, Rectangle, Style, Text, Title, path::Data};

const LEFT: f64 = 90.0;
const COLUMNS: usize = 1000;
const RIGHT: f64 = 30.0;
const HEAD: f64 = 76.0;
const LANE: f64 = 56.0;
const BAR: f64 = 26.0;
/// Where there are as many columns for each frame, each is drawn.
const COLUMNS_PER_TICK: usize = 4;
/// As many things at one place are told.
const TOLD: usize = 4;
const NS: f64 = 1e9;
/// The curve of the spread is no higher than its lane at this or less.
const LEAST_SPREAD_NS: u64 = 1_000_000;

const STYLE: &str = "\
text { font: 12px sans-serif; fill: #222 } \
.title { font-size: 16px; font-weight: bold } .label { font-weight: bold } .small { fill: #666; font-size: 11px } \
.good { fill: #7fb3d9 } .missing { fill: #f0a030 } .damaged { fill: #c0392b } \
.tick { stroke: #1f5f8f; fill: none } .axis { stroke: #ddd } .window { fill: #f2f6ee } .spread { stroke: #555; fill: none }";

/// How a stretch of time is; of several in one column, the worst is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Frames are there, or a group has all of them.
    Good,
    /// Frames are not there.
    Missing,
    /// Frames cannot be decoded.
    Damaged,
}

impl State {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Missing => "missing",
            Self::Damaged => "damaged",
        }
    }
}

/// A stretch of time, in ns.
#[derive(Debug)]
pub struct Span {
    pub from_ns: u64,
    pub until_ns: u64,
    pub state: State,
    /// Is told where one points at it.
    pub what: String,
}

/// A row of the picture.
#[derive(Debug)]
pub struct Lane {
    pub label: String,
    /// In a line above it.
    pub told: String,
    pub spans: Vec<Span>,
    /// When frames or groups are, in ns.
    pub ticks: Vec<u64>,
}

/// A segment.
#[derive(Debug)]
pub struct Picture {
    pub title: String,
    pub told: String,
    /// The common window, in ns.
    pub window: Option<(u64, u64)>,
    pub lanes: Vec<Lane>,
    /// How far apart the frames of each group are: its time and that, in ns.
    pub spread: Vec<(u64, u64)>,
}

/// Where times lie in the picture.
struct Axis {
    from_ns: u64,
    until_ns: u64,
    /// Of which times are counted, in ns.
    zero_ns: u64,
}

impl Axis {
    fn new(picture: &Picture) -> Self {
        let spans = || picture.lanes.iter().flat_map(|lane| &lane.spans);
        let from_ns = spans().map(|span| span.from_ns).min().unwrap_or(0);
        let until_ns = spans().map(|span| span.until_ns).max().unwrap_or(0).max(from_ns.saturating_add(1));
        Self { from_ns, until_ns, zero_ns: picture.window.map_or(from_ns, |(first, _)| first) }
    }

    /// In columns.
    fn at(&self, ns: u64) -> f64 {
        ns.saturating_sub(self.from_ns) as f64 / (self.until_ns - self.from_ns) as f64 * COLUMNS as f64
    }

    fn columns(&self, span: &Span) -> Range<usize> {
        let first = (self.at(span.from_ns) as usize).min(COLUMNS - 1);
        first..(self.at(span.until_ns).ceil() as usize).clamp(first + 1, COLUMNS)
    }

    /// Seconds at which there are lines: a round number of them from one to the next.
    fn marks(&self) -> Vec<f64> {
        let [from, until] =
            [self.from_ns, self.until_ns].map(|ns| (i128::from(ns) - i128::from(self.zero_ns)) as f64 / NS);
        let rough = (until - from) / 8.0;
        let ten = 10f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].map(|n| n * ten).into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let (first, last) = ((from / step).ceil() as i64, (until / step).floor() as i64);
        (first..=last).map(|n| n as f64 * step).collect()
    }

    fn x(&self, seconds: f64) -> f64 {
        let behind = seconds * NS + (i128::from(self.zero_ns) - i128::from(self.from_ns)) as f64;
        LEFT + behind / (self.until_ns - self.from_ns) as f64 * COLUMNS as f64
    }
}

impl Picture {
    /// Writes it as SVG.
    ///
    /// # Errors
    /// What the file says.
    pub fn write(&self, file: impl Write) -> io::Result<()> {
        svg::write(file, &self.document())
    }

    fn document(&self) -> Document {
        let axis = Axis::new(self);
        let rows = self.lanes.len() + usize::from(!self.spread.is_empty());
        let (width, bottom) = (LEFT + COLUMNS as f64 + RIGHT, HEAD + rows as f64 * LANE);
        let height = bottom + 40.0;
        let mut document = Document::new()
            .set("viewBox", (0.0, 0.0, width, height))
            .set("width", width)
            .set("height", height)
            .add(Style::new(STYLE))
            .add(rectangle(0.0, 0.0, width, height).set("fill", "white"));
        if let Some((first, last)) = self.window {
            let (from, until) = (axis.at(first), axis.at(last));
            let height = bottom - HEAD + 8.0;
            document = document.add(
                rectangle(LEFT + from, HEAD - 8.0, (until - from).max(1.0), height).set("class", "window"),
            );
        }
        for seconds in axis.marks() {
            let x = axis.x(seconds);
            let line = Line::new().set("x1", x).set("x2", x).set("y1", HEAD - 8.0).set("y2", bottom);
            document = document.add(line.set("class", "axis"));
            let label = text(x, bottom + 16.0, &format!("{} s", (seconds * 1e6).round() / 1e6), "small");
            document = document.add(label.set("text-anchor", "middle"));
        }
        document =
            document.add(text(LEFT, 22.0, &self.title, "title")).add(text(LEFT, 42.0, &self.told, "small"));
        document = legend(document);
        for (row, lane) in self.lanes.iter().enumerate() {
            document = document.add(lane.draw(&axis, HEAD + row as f64 * LANE));
        }
        if !self.spread.is_empty() {
            document = document.add(self.draw_spread(&axis, HEAD + self.lanes.len() as f64 * LANE));
        }
        document
    }

    fn draw_spread(&self, axis: &Axis, top: f64) -> Group {
        let most = self.spread.iter().map(|(_, ns)| *ns).max().unwrap_or(0);
        // Clocks that agree have no peaks.
        let scale = most.max(LEAST_SPREAD_NS) as f64;
        let mut columns = vec![None; COLUMNS];
        for &(time, ns) in &self.spread {
            let column = &mut columns[(axis.at(time) as usize).min(COLUMNS - 1)];
            *column = (*column).max(Some(ns));
        }
        let bottom = top + LANE - 10.0;
        let points = columns.into_iter().enumerate().filter_map(|(column, ns)| Some((column as f64, ns?)));
        let mut line = Data::new();
        for (n, (column, ns)) in points.enumerate() {
            let to = (LEFT + column, bottom - ns as f64 / scale * BAR);
            line = if n == 0 { line.move_to(to) } else { line.line_to(to) };
        }
        let told = format!("frames of a group are {:.3} ms apart at most", most as f64 / 1e6);
        Group::new()
            .add(text(8.0, top + LANE - 18.0, "spread", "label"))
            .add(text(LEFT, top + 14.0, &told, "small"))
            .add(Path::new().set("d", line).set("class", "spread"))
    }
}

impl Lane {
    fn draw(&self, axis: &Axis, top: f64) -> Group {
        let bar = top + LANE - BAR - 10.0;
        let mut group = Group::new().add(text(8.0, top + LANE - 18.0, &self.label, "label")).add(text(
            LEFT,
            top + 14.0,
            &self.told,
            "small",
        ));
        for (columns, state, what) in self.runs(axis) {
            let run = rectangle(LEFT + columns.start as f64, bar, columns.len() as f64, BAR)
                .set("class", state.class());
            group = group.add(if what.is_empty() { run } else { run.add(Title::new(what)) });
        }
        if self.ticks.len() * COLUMNS_PER_TICK <= COLUMNS {
            let ticks = self.ticks.iter().fold(Data::new(), |ticks, &time| {
                ticks
                    .move_to((LEFT + axis.at(time).min(COLUMNS as f64 - 1.0) + 0.5, bar))
                    .vertical_line_by(BAR)
            });
            group = group.add(Path::new().set("d", ticks).set("class", "tick"));
        }
        group
    }

    /// Columns that are alike, and what is told of them.
    fn runs(&self, axis: &Axis) -> Vec<(Range<usize>, State, String)> {
        let mut columns: Vec<Option<State>> = vec![None; COLUMNS];
        for span in &self.spans {
            columns[axis.columns(span)]
                .iter_mut()
                .for_each(|column| *column = (*column).max(Some(span.state)));
        }
        let mut runs: Vec<(Range<usize>, State)> = Vec::new();
        for (column, state) in columns.into_iter().enumerate() {
            match (runs.last_mut(), state) {
                (Some((run, of)), Some(state)) if run.end == column && *of == state => run.end += 1,
                (_, Some(state)) => runs.push((column..column + 1, state)),
                (_, None) => (),
            }
        }
        let mut told: Vec<Vec<&str>> = vec![Vec::new(); runs.len()];
        for span in self.spans.iter().filter(|span| !span.what.is_empty()) {
            let first = axis.columns(span).start;
            let at = runs.partition_point(|(run, _)| run.end <= first);
            // A worse one may have its columns: then it is told there.
            told[at].push(&span.what);
        }
        let words = |told: Vec<&str>| match told.len() {
            0..=TOLD => told.join("\n"),
            many => format!("{}\nand {} more", told[..TOLD].join("\n"), many - TOLD),
        };
        runs.into_iter().zip(told).map(|((run, state), told)| (run, state, words(told))).collect()
    }
}

fn legend(document: Document) -> Document {
    let entries =
        [(State::Good, "frames"), (State::Missing, "missing"), (State::Damaged, "cannot be decoded")];
    let mut x = LEFT + COLUMNS as f64 - 280.0;
    entries.into_iter().fold(document, |document, (state, name)| {
        let at = x;
        x += 90.0;
        let square = rectangle(at, 13.0, 10.0, 10.0).set("class", state.class());
        document.add(square).add(text(at + 15.0, 22.0, name, "small"))
    })
}

fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    Rectangle::new().set("x", x).set("y", y).set("width", width).set("height", height)
}

fn text(x: f64, y: f64, content: &str, class: &str) -> Text {
    // What XML has no place for.
    let content: String = content.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    Text::new(content).set("x", x).set("y", y).set("class", class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from_ns: u64, until_ns: u64, state: State, what: &str) -> Span {
        Span { from_ns, until_ns, state, what: what.into() }
    }

    fn picture(spans: Vec<Span>) -> Picture {
        let lane = Lane { label: "zed1".into(), told: "a < b & \u{1}".into(), spans, ticks: vec![0, 10] };
        Picture {
            title: "t".into(),
            told: String::new(),
            window: Some((5, 20)),
            lanes: vec![lane],
            spread: vec![(5, 3)],
        }
    }

    #[test]
    fn the_worst_of_a_column_is_seen_and_all_of_it_is_told() {
        // A million nanoseconds over a thousand columns: what lasts one nanosecond has a column.
        let picture = picture(vec![
            span(0, 1_000_000, State::Good, ""),
            span(500_100, 500_101, State::Missing, "one"),
            span(500_900, 500_901, State::Damaged, "two"),
            span(800_000, 900_000, State::Missing, "three"),
        ]);
        let runs = picture.lanes[0].runs(&Axis::new(&picture));
        let states: Vec<_> =
            runs.iter().map(|(columns, state, what)| (columns.clone(), *state, what.as_str())).collect();
        assert_eq!(
            states,
            [
                (0..500, State::Good, ""),
                (500..501, State::Damaged, "one\ntwo"),
                (501..800, State::Good, ""),
                (800..900, State::Missing, "three"),
                (900..1000, State::Good, ""),
            ]
        );
    }

    #[test]
    fn its_size_does_not_grow_with_the_recording() {
        let mut spans = vec![span(0, 10_000_000, State::Good, "")];
        spans.extend((0..100_000).map(|n| span(100 * n, 100 * n + 50, State::Missing, "gap")));
        let written = picture(spans).document().to_string();
        assert!(written.len() < 200_000, "{}", written.len());
        assert!(written.contains("more"), "{written}");
    }

    #[test]
    fn what_xml_has_no_place_for_is_replaced() {
        let mut written = Vec::new();
        picture(vec![span(0, 9, State::Good, "a \"<&>\" b")]).write(&mut written).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(written.contains("a &lt; b &amp; \u{fffd}"), "{written}");
        assert!(written.contains("a \"&lt;&amp;&gt;\" b"), "{written}");
    }

    #[test]
    fn marks_are_round() {
        let axis = Axis { from_ns: 0, until_ns: 10_000_000_000, zero_ns: 1_000_000_000 };
        assert_eq!(axis.marks(), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!((axis.x(-1.0), axis.x(9.0)), (LEFT, LEFT + COLUMNS as f64));
    }
}
