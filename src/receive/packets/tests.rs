// SPDX-License-Identifier: MPL-2.0

//! Each rule broken once, and what is right.

use super::*;
use proptest::prelude::*;

const PT: u8 = 96;
const SSRC: u32 = 0x1234_5678;

fn packet(seq: u16, timestamp: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80, PT | u8::from(marker) << 7];
    bytes.extend(seq.to_be_bytes());
    bytes.extend(timestamp.to_be_bytes());
    bytes.extend(SSRC.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn judge(codec: Codec) -> Judge {
    Judge::new(Some(codec), PT, 0)
}

fn judge_with_parameter_sets() -> Judge {
    let mut judge = judge(Codec::H264);
    judge.know_parameter_sets();
    judge
}

const SPS: &[u8] = &[0x67, 0x42, 0xC0, 0x1E];
const PPS: &[u8] = &[0x68, 0xCE];
/// Both in one packet.
const SETS: &[u8] = &[0x78, 0, 4, 0x67, 0x42, 0xC0, 0x1E, 0, 2, 0x68, 0xCE];
const IDR: &[u8] = &[0x65, 0x88];
const INTER: &[u8] = &[0x41, 0x9A];

#[test]
fn a_sound_stream_passes_across_both_wraps() {
    let mut judge = judge(Codec::H264);
    let mut ended = Vec::new();
    let (mut seq, mut timestamp) = (0xFFFDu16, 0xFFFF_FFFFu32 - 3000);
    for n in 0..6 {
        let idr = n % 3 == 0;
        for (payload, marker) in if idr { vec![(SETS, false), (IDR, true)] } else { vec![(INTER, true)] } {
            let taken = judge.take(&packet(seq, timestamp, marker, payload), n).unwrap();
            assert!(taken.decode_at_ns.is_some());
            ended.extend(taken.ended);
            seq = seq.wrapping_add(1);
        }
        timestamp = timestamp.wrapping_add(3000);
    }
    let counted = judge.counted();
    assert_eq!((counted.packets, counted.access_units, counted.key_frames), (8, 6, 2));
    assert_eq!((counted.seq_gaps, counted.reordered, counted.duplicates), (0, 0, 0));
    assert!(judge.between_units() && ended.iter().all(|unit| !unit.damaged));
    assert_eq!(ended.iter().map(|unit| unit.arrival_unix_ns).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    let keys = [true, false, false, true, false, false];
    assert_eq!(ended.iter().map(|unit| unit.key).collect::<Vec<_>>(), keys);
    // 3000 ticks are a thirtieth of a second.
    let first = 3_600_000_000_000;
    let times: Vec<_> = ended.iter().map(|unit| unit.pts_ns - first).collect();
    assert_eq!(times, [0, 33_333_333, 66_666_666, 100_000_000, 133_333_333, 166_666_666]);
}

#[test]
fn rtcp_on_the_same_port_is_counted_and_no_packet() {
    let mut judge = judge(Codec::H264);
    for kind in [192, 200, 201, 202, 223] {
        assert_eq!(judge.take(&[0x81, kind, 0, 1, 0, 0, 0, 1], 0), Ok(Taken::default()));
    }
    assert_eq!((judge.counted().rtcp, judge.counted().packets), (5, 0));
    assert_eq!((judge.seen_payload_type(), judge.seen_codec()), (None, None));
    for (bytes, exit) in [([0x81, 191, 0, 1], 7), ([0x41, 200, 0, 1], 7)] {
        assert_eq!(judge.take(&bytes, 0).unwrap_err().exit as u8, exit);
    }
    assert_eq!(judge.take(&packet(0, 0, true, &[0x65])[..12], 0).unwrap_err().exit as u8, 7);
    assert_eq!((judge.seen_payload_type(), judge.seen_codec()), (Some(PT), None));
    judge.take(&packet(1, 0, true, IDR), 0).unwrap();
    assert_eq!(judge.seen_codec(), Some(Codec::H264));
}

#[test]
fn gaps_late_packets_and_duplicates_are_counted() {
    let mut judge = judge(Codec::H264);
    for (seq, timestamp) in [(10, 0), (11, 3000), (14, 12000), (12, 6000), (12, 6000), (15, 15000)] {
        judge.take(&packet(seq, timestamp, true, INTER), 0).unwrap();
    }
    let counted = judge.counted();
    let numbers = [counted.seq_gaps, counted.lost, counted.reordered, counted.duplicates];
    assert_eq!(numbers, [1, 1, 1, 1]);
}

#[test]
fn access_units_are_damaged_from_a_gap_to_the_next_whole_key_frame() {
    let mut judge = judge_with_parameter_sets();
    let slice = &[0x41, 0x1A][..];
    let packets = [
        (0, 0, true, IDR, vec![false]),
        (1, 1, true, INTER, vec![false]),
        // One is lost: what follows begins a picture, but may refer to it.
        (3, 3, true, INTER, vec![true]),
        (4, 4, true, IDR, vec![false]),
        (5, 5, true, INTER, vec![false]),
        // The end of one and the beginning of the next are lost.
        (6, 6, false, INTER, vec![]),
        (8, 7, true, slice, vec![true, true]),
        // The beginning of a key frame is lost.
        (10, 9, true, &[0x65, 0x18], vec![true]),
        (11, 10, true, INTER, vec![true]),
        // What is lost was before it.
        (13, 12, false, SETS, vec![]),
        (14, 12, false, IDR, vec![]),
        (15, 12, true, &[0x65, 0x18], vec![false]),
        // A key frame in which one is lost.
        (16, 13, false, IDR, vec![]),
        (18, 13, true, &[0x65, 0x18], vec![true]),
        (19, 14, true, INTER, vec![true]),
    ];
    for (seq, timestamp, marker, payload, expected) in packets {
        let taken = judge.take(&packet(seq, timestamp, marker, payload), 0).unwrap();
        let damaged: Vec<_> = taken.ended.iter().map(|unit| unit.damaged).collect();
        assert_eq!(damaged, expected, "packet {seq}");
    }
}

#[test]
fn joining_in_the_middle_is_no_error() {
    let fragment = |header| [0x7C, header, 0x88];
    let [start, middle, end] = [0x85, 0x05, 0x45].map(fragment);
    for first in 0..6u16 {
        let mut judge = judge(Codec::H264);
        let packets = [
            (false, SETS),
            (false, &start[..]),
            (false, &middle),
            (true, &end),
            (true, INTER),
            (true, INTER),
            (false, SETS),
            (false, &start),
            (true, &end),
        ];
        let mut decoded = Vec::new();
        for (seq, (marker, payload)) in (0..).zip(packets).skip(usize::from(first)) {
            let timestamp = [0, 0, 0, 0, 1, 2, 3, 3, 3][usize::from(seq)];
            let taken = judge.take(&packet(seq, timestamp, marker, payload), 0).unwrap();
            decoded.extend(taken.decode_at_ns.map(|_| seq));
            assert!(taken.ended.iter().all(|unit| !unit.damaged));
        }
        let expected = if first == 0 { 0..9 } else { 6..9 };
        assert_eq!(decoded, expected.collect::<Vec<_>>(), "from {first}");
    }
}

#[test]
fn what_comes_before_a_decoder_can_begin_is_not_for_it() {
    let h264 = (Codec::H264, &[SPS, PPS][..], IDR, INTER);
    let sets: &[&[u8]] = &[&[0x40, 1, 0x0C], &[0x42, 1, 1], &[0x44, 1, 0xC1]];
    let h265 = (Codec::H265, sets, &[0x26, 1, 0xAF][..], &[0x02, 1, 0xD0][..]);
    for (codec, sets, key, inter) in [h264, h265] {
        let mut judge = judge(codec);
        let mut seq = 0;
        let mut take = |judge: &mut Judge, marker, payload| {
            seq += 1;
            let timestamp = u32::from(seq) * u32::from(marker);
            judge.take(&packet(seq, timestamp + 1000, marker, payload), u64::from(seq)).unwrap()
        };
        assert_eq!(take(&mut judge, true, inter), Taken::default());
        // Each of the parameter sets but one, and a key frame, which nobody can decode.
        let (last, some) = sets.split_last().unwrap();
        for set in some {
            assert!(take(&mut judge, true, set).decode_at_ns.is_some());
        }
        for slice in [key, inter] {
            assert_eq!(take(&mut judge, true, slice), Taken::default());
        }
        assert!(take(&mut judge, true, last).decode_at_ns.is_some());
        assert_eq!(take(&mut judge, true, inter), Taken::default());
        let taken = take(&mut judge, true, key);
        assert!(taken.decode_at_ns.is_some() && taken.ended.len() == 1);
    }
    // Where the SDP has them, a key frame is enough.
    let mut judge = judge_with_parameter_sets();
    assert_eq!(judge.take(&packet(0, 0, true, INTER), 0).unwrap(), Taken::default());
    assert_eq!(judge.take(&packet(1, 1, true, IDR), 7).unwrap().ended[0].arrival_unix_ns, 7);
}

#[test]
fn a_lost_marker_ends_the_unit_with_the_next_one() {
    let mut judge = judge_with_parameter_sets();
    judge.take(&packet(0, 0, false, &[0x7C, 0x85, 0x88]), 0).unwrap();
    let taken = judge.take(&packet(2, 3000, true, INTER), 0).unwrap();
    assert_eq!(taken.ended.iter().map(|unit| unit.timestamp).collect::<Vec<_>>(), [0, 3000]);
}

#[test]
fn b_frames_may_step_back_as_far_as_allowed() {
    let order = [0u32, 9000, 3000, 6000, 18000, 12000, 15000];
    for (b_frames, back) in [(2, None), (1, Some("timestamp 6000 behind 3000: time went back"))] {
        let mut judge = Judge::new(Some(Codec::H264), PT, b_frames);
        let results: Result<Vec<_>, _> = order
            .iter()
            .zip(0..)
            .map(|(timestamp, seq)| judge.take(&packet(seq, *timestamp, true, INTER), 0))
            .collect();
        assert_eq!(results.err().map(|breach| breach.what).as_deref(), back);
    }
}

#[test]
fn the_codec_is_told_from_the_first_payload() {
    use Codec::{H264, H265};
    for (payload, codec) in [
        (&[0x40, 1, 0x0C][..], Some(H265)),
        (&[0x42, 1, 1], Some(H265)),
        (&[0x44, 1, 0xC1], Some(H265)),
        (&[0x60, 1, 0, 1], Some(H265)),
        (&[0x62, 1, 0x93, 1], Some(H265)),
        (&[0x02, 1, 0xD0], Some(H265)),
        (&[0x26, 1, 0xAF], Some(H265)),
        (SPS, Some(H264)),
        (IDR, Some(H264)),
        (INTER, Some(H264)),
        (&[0x01, 0x9A], Some(H264)),
        (&[0x06, 0x05, 0x80], Some(H264)),
        (&[0x7C, 0x85, 1], Some(H264)),
        (&[0x78, 0, 1, 0x67], Some(H264)),
        (&[0xFF, 0xFF], None),
        (&[], None),
    ] {
        assert_eq!(tell(payload), codec, "{payload:02x?}");
    }
}

/// Each line breaks one rule with its last packet: sequence number, timestamp, marker, payload.
#[test]
fn each_rule_broken_once() {
    type Packets<'a> = &'a [(u16, u32, bool, &'a [u8])];
    let h264: [(Packets, &str); 13] = [
        (&[(0, 5, true, IDR), (1, 4, true, INTER)], "timestamp 4 behind 5: time went back"),
        (&[(0, 5, true, IDR), (1, 5, true, INTER)], "timestamp 5 goes on behind its marker bit"),
        (
            &[(0, 5, false, IDR), (1, 6, true, INTER)],
            "timestamp 6 begins, but 5 had no marker bit at its end",
        ),
        (
            &[(0, 0, false, IDR), (1, 0, false, SPS)],
            "a h264 NAL unit of type 7 behind a slice of its access unit: packet 1, timestamp 0",
        ),
        (&[(0, 0, true, &[])], "a NAL unit of 0 bytes is shorter than its header"),
        (&[(0, 0, true, &[0x42, 1])], "NAL header byte 0x42 is of no h264 NAL unit"),
        (&[(0, 0, true, &[0x7C, 0x85])], "FU-A of 2 bytes"),
        (&[(0, 0, true, &[0x7C, 0xC5, 1])], "a fragment of type 5 is both start and end"),
        (&[(0, 0, false, IDR), (1, 0, true, &[0x7C, 0x05, 1])], "a fragment of type 5 without a start"),
        (
            &[(0, 0, false, &[0x7C, 0x85, 1]), (1, 0, true, &[0x5C, 0x01, 1])],
            "a fragment of type 1 goes on with one of type 5",
        ),
        (&[(0, 0, false, &[0x7C, 0x85, 1]), (1, 0, true, IDR)], "a fragmented NAL unit of type 5 has no end"),
        (&[(0, 0, true, &[0x78, 0, 9, 0x67])], "an aggregated NAL unit reaches beyond the 3 bytes left"),
        (&[(0, 0, true, &[0x7C, 0x85, 1])], "a marker bit inside a fragmented NAL unit of type 5"),
    ];
    let h265: [(Packets, &str); 5] = [
        (&[(0, 0, true, &[0x67, 0x42])], "layer 40, temporal id plus 1 = 2"),
        (&[(0, 0, true, &[0x62, 1, 0x93])], "fragmentation unit of 3 bytes"),
        (
            &[(0, 0, true, &[0x02, 1, 0xD0]), (1, 1, true, &[0x62, 1, 0x13, 1])],
            "a fragment of type 19 without a start",
        ),
        (&[(0, 0, true, &[0x60, 1])], "an aggregation of nothing"),
        (&[(0, 0, true, &[0x60, 1, 0, 2, 0x62, 1])], "NAL header byte 0x62 is of no h265 NAL unit"),
    ];
    let all = h264.iter().map(|row| (Codec::H264, row)).chain(h265.iter().map(|row| (Codec::H265, row)));
    for (codec, (packets, what)) in all {
        let mut judge = judge(codec);
        let (last, before) = packets.split_last().unwrap();
        for (seq, timestamp, marker, payload) in before {
            judge.take(&packet(*seq, *timestamp, *marker, payload), 0).unwrap();
        }
        let found = judge.take(&packet(last.0, last.1, last.2, last.3), 0).unwrap_err();
        assert_eq!(found.exit, Exit::Protocol);
        assert!(
            found.what.contains(what),
            "{}
{what}",
            found.what
        );
    }
}

#[test]
fn headers_that_are_not_of_the_stream_are_told_apart() {
    let sound = packet(1, 0, true, IDR);
    let with = |at: usize, value| {
        let mut bytes = sound.clone();
        bytes[at] = value;
        bytes
    };
    for (bytes, exit, what) in [
        (vec![], 7, "a datagram of 0 bytes: Not enough data"),
        (b"hello".to_vec(), 7, "a datagram of 5 bytes: Not enough data"),
        (with(0, 0x40), 7, "Unsupported RTP version 1"),
        (with(0, 0x8F), 7, "expected 72, actual 14"),
        (with(0, 0xA0), 7, "a datagram of 14 bytes"),
        (with(1, 0xE1), 3, "payload type 97 is not 96"),
        (with(8, 0), 7, "SSRC 0x00345678, but the stream began with 0x12345678"),
    ] {
        let mut judge = judge(Codec::H264);
        judge.take(&packet(0, 0xFFFF_0000, true, IDR), 0).unwrap();
        let found = judge.take(&bytes, 0).unwrap_err();
        assert_eq!(found.exit as u8, exit, "{}", found.what);
        assert!(
            found.what.contains(what),
            "{}
{what}",
            found.what
        );
    }
}

proptest! {
    #[test]
    fn random_packets_never_panic(
        codec in 0..3usize,
        packets: Vec<(u16, u32, bool, Vec<u8>)>,
        raw: Vec<Vec<u8>>,
    ) {
        let codec = [None, Some(Codec::H264), Some(Codec::H265)][codec];
        let mut judge = Judge::new(codec, PT, 0);
        for (seq, timestamp, marker, payload) in packets {
            let _ = judge.take(&packet(seq, timestamp, marker, &payload), 0);
        }
        for bytes in raw {
            let _ = judge.take(&bytes, 0);
        }
    }
}
