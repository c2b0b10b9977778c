// SPDX-License-Identifier: MPL-2.0

//! The framer on whole, cut and damaged streams: every undamaged tag comes out, every byte is accounted for.

use flv::framer::MAX_WINDOW_BYTES;
use flv::tag::{MAX_BODY_BYTES, TAG_HEADER_BYTES};
use flv::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::Cell;

/// What a caller does: shows what has come, waits for more when told, cuts off what is told. Returns each step with
/// its place in the stream; checks that every step takes bytes or can be helped by more, so the loop ends.
#[track_caller]
fn drive(mut framer: Framer, stream: &[u8], chunks: &[usize]) -> Vec<(usize, Step)> {
    let mut chunks = chunks.iter().cycle();
    let (mut from, mut to, mut steps) = (0, 0, Vec::new());
    loop {
        let window = &stream[from..to];
        let end = to == stream.len();
        let step = framer.step(window, end);
        let bytes = match step {
            Step::End => break,
            Step::Need(bytes) => {
                assert!(!end, "{bytes} bytes are asked for at the end");
                assert!(bytes > window.len(), "{bytes} bytes are asked for, {} are there", window.len());
                assert!(bytes <= MAX_WINDOW_BYTES);
                // Asking again before they have all come must do no harm.
                to = stream.len().min(to + chunks.next().unwrap());
                continue;
            }
            Step::Header { bytes, .. } | Step::Tag { bytes, .. } | Step::Skip { bytes, .. } => bytes,
        };
        assert!(bytes > 0 && bytes <= window.len(), "{step:?} of {} bytes", window.len());
        steps.push((from, step));
        from += bytes;
    }
    assert_eq!(from, stream.len());
    steps
}

/// Where the tags lie, and how they read.
fn tags(steps: &[(usize, Step)]) -> Vec<(usize, TagHeader)> {
    let tag = |(at, step): &(usize, Step)| match step {
        Step::Tag { header, .. } => Some((*at, *header)),
        _ => None,
    };
    steps.iter().filter_map(tag).collect()
}

fn skips(steps: &[(usize, Step)]) -> Vec<(usize, Damage)> {
    let skip = |(_, step): &(usize, Step)| match step {
        Step::Skip { bytes, damage } => Some((*bytes, *damage)),
        _ => None,
    };
    steps.iter().filter_map(skip).collect()
}

const FILE_HEADER: [u8; 13] = *b"FLV\x01\x05\0\0\0\x09\0\0\0\0";

/// A stream of tags that remembers where they lie.
#[derive(Debug, Clone, Default)]
struct Stream {
    bytes: Vec<u8>,
    tags: Vec<(usize, TagHeader)>,
}

impl Stream {
    fn new(with_header: bool, tags: &[(TagType, u32, Vec<u8>)]) -> Self {
        let mut stream = Self::default();
        if with_header {
            stream.bytes.extend(FILE_HEADER);
        }
        for (tag_type, timestamp_ms, body) in tags {
            let header =
                TagHeader { tag_type: *tag_type, body_bytes: body.len() as u32, timestamp_ms: *timestamp_ms };
            stream.tags.push((stream.bytes.len(), header));
            stream.bytes.extend(header.to_bytes());
            stream.bytes.extend(body);
            stream.bytes.extend((header.bytes_before_trailer() as u32).to_be_bytes());
        }
        stream
    }

    fn trailer(&mut self, index: usize) -> &mut [u8] {
        let (at, header) = self.tags[index];
        &mut self.bytes[at + header.bytes_before_trailer()..][..4]
    }

    /// All tags but one; from `at` on they lie `by` bytes further back.
    fn expected(&self, without: Option<usize>, at: usize, by: usize) -> Vec<(usize, TagHeader)> {
        let others = self.tags.iter().enumerate().filter(|(i, _)| Some(*i) != without);
        others.map(|(_, (place, header))| (place + if *place >= at { by } else { 0 }, *header)).collect()
    }
}

fn tag_type() -> impl Strategy<Value = TagType> {
    prop_oneof![Just(TagType::Audio), Just(TagType::Video), Just(TagType::Script)]
}

fn any_stream() -> impl Strategy<Value = Stream> {
    let tag = (tag_type(), any::<u32>(), vec(any::<u8>(), 0..200));
    (any::<bool>(), vec(tag, 0..8)).prop_map(|(header, tags)| Stream::new(header, &tags))
}

/// Bodies in which nothing looks like a tag, so that it is certain what a search finds.
fn quiet_stream() -> impl Strategy<Value = Stream> {
    let tag = (tag_type(), any::<u32>(), vec(0x20u8.., 11..200));
    (any::<bool>(), vec(tag, 1..8)).prop_map(|(header, tags)| Stream::new(header, &tags))
}

fn any_chunks() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), Just(vec![1 << 20]), vec(1usize..300, 1..8)]
}

/// A size that is not the tag's.
fn lie() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..400, 0u32..400, 0..=MAX_BODY_BYTES as u32, Just(MAX_BODY_BYTES as u32)]
}

/// What cannot be told from a tag with a wrong PreviousTagSize: a size that leads to what reads as another tag, or
/// to the end of the stream.
fn is_plausible(bytes: &[u8], at: usize) -> bool {
    let header = TagHeader::parse(bytes[at..].first_chunk().unwrap());
    header.is_ok_and(|header| {
        let before = at + header.bytes_before_trailer();
        match bytes.get(before + 4..).and_then(|next| next.first_chunk()) {
            Some(next) => TagHeader::parse(next).is_ok(),
            None => (before..=before + 4).contains(&bytes.len()),
        }
    })
}

proptest! {
    #[test]
    fn any_tags_in_any_pieces_come_out_as_they_are(stream in any_stream(), chunks in any_chunks()) {
        let steps = drive(Framer::new(), &stream.bytes, &chunks);
        prop_assert_eq!(tags(&steps), stream.tags.clone());
        prop_assert_eq!(skips(&steps), []);
        let sound = |(_, step): &(usize, Step)| !matches!(step, Step::Tag { wrong_size: Some(_), .. });
        prop_assert!(steps.iter().all(sound));
        let headers = steps.iter().filter(|(_, step)| matches!(step, Step::Header { bytes: 13, .. })).count();
        prop_assert_eq!(headers, steps.len() - stream.tags.len());
    }

    #[test]
    fn a_tag_is_given_as_soon_as_its_last_byte_is_there(stream in any_stream()) {
        let mut framer = Framer::at_tag();
        for (at, header) in stream.tags {
            let bytes = header.bytes_before_trailer() + 4;
            let window = &stream.bytes[at..at + bytes];
            prop_assert!(matches!(framer.step(&window[..bytes - 1], false), Step::Need(_)));
            prop_assert_eq!(framer.step(window, false), Step::Tag { header, bytes, wrong_size: None });
        }
    }

    #[test]
    fn cut_stream_gives_every_whole_tag_and_nothing_else(stream in quiet_stream(), chunks in any_chunks()) {
        for cut in 0..=stream.bytes.len() {
            let steps = drive(Framer::new(), &stream.bytes[..cut], &chunks);
            let whole = |(at, header): &&(usize, TagHeader)| at + header.bytes_before_trailer() <= cut;
            let expected: Vec<_> = stream.tags.iter().take_while(whole).copied().collect();
            prop_assert_eq!(tags(&steps), expected, "cut at {}", cut);
            // The rest of a tag is given up as such, and named so where it begins.
            let first = skips(&steps).first().map(|(_, damage)| *damage);
            prop_assert!(matches!(first, None | Some(Damage::Truncated)), "{:?} at {}", first, cut);
        }
    }

    #[test]
    fn garbage_between_tags_costs_no_tag(
        stream in quiet_stream(),
        place in any::<prop::sample::Index>(),
        garbage in vec(any::<u8>(), 1..300),
        chunks in any_chunks(),
    ) {
        // Before the file's header, before any tag, or at the end.
        let mut places: Vec<_> = stream.tags.iter().map(|(at, _)| *at).collect();
        places.extend([0, stream.bytes.len()]);
        let at = *place.get(&places);
        let mut bytes = stream.bytes.clone();
        bytes.splice(at..at, garbage.iter().copied());
        let steps = drive(Framer::new(), &bytes, &chunks);
        prop_assert_eq!(tags(&steps), stream.expected(None, at, garbage.len()));
        let skipped: usize = skips(&steps).iter().map(|(bytes, _)| bytes).sum();
        // A file header behind garbage is skipped with it.
        let header = if at == 0 && stream.tags[0].0 > 0 { FILE_HEADER.len() } else { 0 };
        prop_assert_eq!(skipped, garbage.len() + header);
    }

    #[test]
    fn flipped_byte_in_a_tag_header_costs_only_its_tag(
        stream in quiet_stream(),
        index in any::<prop::sample::Index>(),
        offset in 0..TAG_HEADER_BYTES,
        flip in 1u8..,
        chunks in any_chunks(),
    ) {
        let index = index.index(stream.tags.len());
        let at = stream.tags[index].0;
        let mut bytes = stream.bytes.clone();
        bytes[at + offset] ^= flip;
        prop_assume!(!(1..4).contains(&offset) || !is_plausible(&bytes, at));
        let found = tags(&drive(Framer::new(), &bytes, &chunks));
        let others: Vec<_> = found.iter().filter(|(place, _)| *place != at).copied().collect();
        prop_assert_eq!(others, stream.expected(Some(index), 0, 0));
    }

    #[test]
    fn lying_size_costs_only_its_tag(
        stream in quiet_stream(),
        index in any::<prop::sample::Index>(),
        size in lie(),
        chunks in any_chunks(),
    ) {
        let index = index.index(stream.tags.len());
        let (at, header) = stream.tags[index];
        prop_assume!(size != header.body_bytes);
        let mut bytes = stream.bytes.clone();
        bytes[at + 1..at + 4].copy_from_slice(&size.to_be_bytes()[1..]);
        prop_assume!(!is_plausible(&bytes, at));
        let steps = drive(Framer::new(), &bytes, &chunks);
        prop_assert_eq!(tags(&steps), stream.expected(Some(index), 0, 0));
        let skipped: usize = skips(&steps).iter().map(|(bytes, _)| bytes).sum();
        prop_assert_eq!(skipped, header.bytes_before_trailer() + 4);
    }

    #[test]
    fn wrong_previous_tag_size_costs_no_tag_and_is_told(
        mut stream in quiet_stream(),
        index in any::<prop::sample::Index>(),
        size in any::<u32>(),
        chunks in any_chunks(),
    ) {
        let index = index.index(stream.tags.len());
        let (at, header) = stream.tags[index];
        prop_assume!(size as usize != header.bytes_before_trailer());
        stream.trailer(index).copy_from_slice(&size.to_be_bytes());
        let steps = drive(Framer::new(), &stream.bytes, &chunks);
        prop_assert_eq!(tags(&steps), stream.tags);
        let told = |(place, step): &(usize, Step)| match step {
            Step::Tag { wrong_size, .. } => wrong_size.map(|size| (*place, size)),
            _ => None,
        };
        prop_assert_eq!(steps.iter().filter_map(told).collect::<Vec<_>>(), [(at, size)]);
    }

    #[test]
    fn file_whose_previous_tag_sizes_are_all_zero_is_read_whole(mut stream in quiet_stream(), chunks in any_chunks()) {
        for index in 0..stream.tags.len() {
            stream.trailer(index).fill(0);
        }
        let steps = drive(Framer::new(), &stream.bytes, &chunks);
        prop_assert_eq!(tags(&steps), stream.tags);
        prop_assert_eq!(skips(&steps), []);
    }

    #[test]
    fn from_anywhere_all_tags_that_begin_there_are_found(
        stream in quiet_stream(),
        from in any::<prop::sample::Index>(),
        chunks in any_chunks(),
    ) {
        let from = from.index(stream.bytes.len());
        let steps = drive(Framer::anywhere(), &stream.bytes[from..], &chunks);
        let later = stream.tags.iter().filter(|(at, _)| *at >= from);
        let expected: Vec<_> = later.map(|(at, header)| (at - from, *header)).collect();
        prop_assert_eq!(tags(&steps), expected);
    }

    #[test]
    fn arbitrary_bytes_end_with_every_byte_accounted_for(
        // Bytes that tags are made of, so that some of it reads as tags.
        bytes in vec(prop_oneof![
            6 => Just(0u8), 2 => prop::sample::select(&[8u8, 9, 18, 11, 12, 13, 15][..]), 1 => any::<u8>(),
        ], 0..600),
        with_header in any::<bool>(),
        chunks in any_chunks(),
    ) {
        let stream = [&FILE_HEADER[..if with_header { 9 } else { 0 }], &bytes].concat();
        for framer in [Framer::new(), Framer::at_tag(), Framer::anywhere()] {
            drive(framer, &stream, &chunks);
        }
    }
}

const TAG: [u8; 16] = [9, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x57, 0, 0, 0, 12];

#[test]
fn stream_without_file_header_begins_with_its_first_tag() {
    assert_eq!(tags(&drive(Framer::new(), &TAG, &[1])).len(), 1);
    // The smallest tag is longer than what tells a file header.
    let empty = [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    assert!(matches!(drive(Framer::new(), &empty, &[1])[..], [(0, Step::Tag { bytes: 15, .. })]));
}

#[test]
fn tags_begin_where_the_data_offset_says() {
    let header = FileHeader { audio: true, video: false };
    let stream = [b"FLV\x01\x04\0\0\0\x0c", &b"abc\0\0\0\0"[..], &TAG].concat();
    for chunks in [&[1][..], &[1 << 20]] {
        let steps = drive(Framer::new(), &stream, chunks);
        assert_eq!(steps[0], (0, Step::Header { header, bytes: 16 }));
        assert_eq!(tags(&steps).len(), 1);
        assert_eq!(steps.len(), 2);
    }
}

#[test]
fn file_header_with_an_impossible_data_offset_is_skipped() {
    for offset in [[0, 0, 0, 8], [0xff; 4]] {
        let stream = [b"FLV\x01\x05", &offset[..], &[0; 4], &TAG].concat();
        let steps = drive(Framer::new(), &stream, &[1]);
        assert_eq!(steps[0], (0, Step::Skip { bytes: 9, damage: Damage::FileHeader }));
        assert_eq!(tags(&steps)[0].0, 13);
    }
}

#[test]
fn stream_may_end_within_or_after_its_file_header() {
    for cut in 1..=FILE_HEADER.len() {
        let steps = drive(Framer::new(), &FILE_HEADER[..cut], &[1]);
        match steps[..] {
            [(0, Step::Skip { bytes, damage: Damage::Truncated })] if cut < 9 => assert_eq!(bytes, cut),
            [(0, Step::Header { bytes, .. })] if cut >= 9 => assert_eq!(bytes, cut),
            _ => panic!("{steps:?} of {cut} bytes"),
        }
    }
    assert_eq!(drive(Framer::new(), &[], &[1]), []);
}

#[test]
fn second_file_in_the_stream_is_found_behind_its_header() {
    let file = [&FILE_HEADER[..], &TAG].concat();
    for (first, places) in [(&file[..], [13, 42]), (&TAG, [0, 29])] {
        let steps = drive(Framer::new(), &[first, &file].concat(), &[7]);
        assert_eq!(tags(&steps).iter().map(|(at, _)| *at).collect::<Vec<_>>(), places);
        let skipped: usize = skips(&steps).iter().map(|(bytes, _)| bytes).sum();
        assert_eq!(skipped, FILE_HEADER.len());
    }
}

/// The search looks at 4096 beginnings at a time.
#[test]
fn tag_is_found_wherever_it_lies_in_a_long_search() {
    for at in (4080..4112).chain(8180..8200) {
        let stream = [&vec![0x20; at][..], &TAG].concat();
        for chunks in [1 << 20, 100] {
            let found = tags(&drive(Framer::anywhere(), &stream, &[chunks]));
            assert_eq!(found.first().map(|(at, _)| *at), Some(at));
        }
    }
}

#[test]
fn stray_beginning_that_claims_16_mib_hides_no_tag_behind_it() {
    // After a loss, what reads as a tag's beginning: the search must not wait for all that it claims.
    let claim = [9, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0];
    let stream = [&b"lost"[..], &claim, &TAG.repeat(4)].concat();
    let mut framer = Framer::at_tag();
    let mut at = 0;
    let mut shown = 1;
    let first = loop {
        match framer.step(&stream[at..shown], false) {
            Step::Need(bytes) => shown = at + bytes,
            Step::Skip { bytes, .. } => at += bytes,
            Step::Tag { .. } => break at,
            step => panic!("{step:?}"),
        }
        assert!(shown <= stream.len(), "{shown} bytes are asked for before a tag is found");
    };
    assert_eq!(first, 15);
}

#[test]
fn stray_beginning_within_a_tag_does_not_cost_the_tag_while_it_comes() {
    let claim = [9, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0];
    let body = [&[0x20; 40][..], &claim, &[0x20; 40]].concat();
    let tag = Stream::new(false, &[(TagType::Video, 0, body)]).bytes;
    let found = tags(&drive(Framer::at_tag(), &[b"lost", &tag[..], &TAG].concat(), &[1]));
    assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [4, 4 + tag.len()]);
}

/// Counts the bytes that are looked at.
struct Counting<'a>(&'a [u8], &'a Cell<usize>);

impl Window for Counting<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn read(&self, at: usize, into: &mut [u8]) {
        self.1.set(self.1.get() + into.len());
        self.0.read(at, into);
    }
}

/// Each of them had the whole window searched again: 7 kB/s at claims of 1 MiB.
#[test]
fn many_false_beginnings_are_not_searched_over_and_over() {
    let claim = [9, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0];
    let stream = [&b"lost"[..], &claim.repeat(20_000), &TAG].concat();
    let read = Cell::new(0);
    let mut framer = Framer::at_tag();
    let (mut from, mut to, mut found) = (0, 0, 0);
    loop {
        match framer.step(&Counting(&stream[from..to], &read), to == stream.len()) {
            Step::Need(bytes) => to = stream.len().min(from + bytes),
            Step::Skip { bytes, .. } => from += bytes,
            Step::Tag { bytes, .. } => {
                from += bytes;
                found += 1;
            }
            Step::End => break,
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(found, 1);
    let times = read.get() / stream.len();
    assert!(times < 50, "each byte is looked at {times} times");
}

#[test]
fn largest_tag_with_a_wrong_previous_tag_size_is_given_with_the_next_header() {
    let envelope =
        Envelope::new(TagType::Video, 0, &AudioFormat::Aac.header(AudioPacket::Frame), MAX_BODY_BYTES - 2);
    let mut stream = envelope.unwrap().seal(&vec![0x20; MAX_BODY_BYTES - 2]);
    let whole = stream.len();
    stream[whole - 1] ^= 1;
    assert_eq!(Framer::at_tag().step(&stream[..], false), Step::Need(whole + TAG_HEADER_BYTES));
    // A search that is at most one byte short of it asks for the most.
    let Step::Need(most) = Framer::anywhere().step(&stream[..whole - 1], false) else {
        panic!("no tag is whole")
    };
    assert!((MAX_WINDOW_BYTES - 2..=MAX_WINDOW_BYTES).contains(&most));
    stream.extend(TAG);
    let found = tags(&drive(Framer::new(), &stream, &[1 << 20]));
    assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, whole]);
}

/// A size that is one too small leads to the last byte of PreviousTagSize, and 0x12 there looks like a script tag with
/// zeros behind it; the shortened frame was given.
#[test]
fn size_that_is_off_by_a_few_bytes_is_a_lie_though_a_tag_seems_to_follow() {
    for body in 200..600usize {
        for off in [-2i32, -1, 1, 2] {
            let header = |bytes| TagHeader { tag_type: TagType::Video, body_bytes: bytes, timestamp_ms: 40 };
            let mut stream = header(body as u32).to_bytes().to_vec();
            stream.extend(vec![0; body]);
            stream.extend((body as u32 + 11).to_be_bytes());
            let second = stream.len();
            stream.extend_from_within(..);
            let lie = header((body as i32 + off) as u32).to_bytes();
            stream[..lie.len()].copy_from_slice(&lie);
            let found = tags(&drive(Framer::new(), &stream, &[1 << 20]));
            assert_eq!(found, [(second, header(body as u32))], "{body} {off}");
        }
    }
}
