// SPDX-License-Identifier: MPL-2.0

//! What an RTP stream of H.264 (RFC 6184) or H.265 (RFC 7798) may carry, judged packet by packet, without I/O.

use rtp_types::RtpPacket;

use super::nal::Codec;
use super::{Breach, Exit};

/// RTP clock of both payload formats, in Hz.
pub(super) const CLOCK_RATE: u32 = 90_000;
/// The unwrapped time of the first packet, so that B-frames may come before it.
const ORIGIN: i64 = 3600 * CLOCK_RATE as i64;
/// Sequence numbers that are remembered, to tell a duplicate from a late packet.
const REMEMBERED: usize = 1024;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const AGGREGATION: u8 = 48;
const FRAGMENTATION: u8 = 49;

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Counted {
    pub packets: u64,
    pub bytes: u64,
    pub ssrc: Option<u32>,
    /// How often sequence numbers were left out.
    pub seq_gaps: u64,
    /// How many of them never came.
    pub lost: u64,
    /// Packets that came after one with a higher sequence number.
    pub reordered: u64,
    pub duplicates: u64,
    /// Whose marker bit came.
    pub access_units: u64,
    pub key_frames: u64,
    /// RTP timestamps.
    pub first_timestamp: Option<u32>,
    pub last_timestamp: Option<u32>,
}

/// An access unit whose packets have all come, or of which the last ones were lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// RTP timestamp as it came.
    pub timestamp: u32,
    pub pts_ns: u64,
    /// When the first of its packets came.
    pub arrival_unix_ns: u64,
    pub key: bool,
    pub skipped_leading: bool,
    ticks: i64,
    /// A slice has begun.
    sliced: bool,
    /// It began where it should, without a gap before.
    whole: bool,
}

/// What to do with a packet.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Where decoding can have begun: the packet is for the decoder, at this time.
    pub decode_at_ns: Option<u64>,
    /// Access units that end with, or before, this packet.
    pub ended: Vec<Unit>,
}

/// The state of a fragmented NAL unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fragment {
    None,
    Of(u8),
    /// Packets were lost; it may or may not go on.
    Unknown,
}

/// The rules of one RTP stream.
#[derive(Debug)]
pub(super) struct Judge {
    codec: Option<Codec>,
    payload_type: u8,
    b_frames: u32,
    counted: Counted,
    /// Highest sequence number, unwrapped.
    highest: i64,
    remembered: Vec<i64>,
    unit: Option<Unit>,
    /// Timestamp of the last access unit that ended, as it came and unwrapped.
    last_ticks: Option<(u32, i64)>,
    highest_ticks: i64,
    /// Access units in a row that are shown before the highest so far.
    below: u32,
    fragment: Fragment,
    decodable: bool,
}

fn broken<T>(what: impl Into<String>) -> Result<T, Breach> {
    Err(Breach::protocol(what))
}

/// The codec whose rules the first bytes of a payload fit; H.264 where both do.
fn tell(payload: &[u8]) -> Option<Codec> {
    [Codec::H264, Codec::H265].into_iter().find(|codec| {
        let packed = match codec {
            Codec::H264 => [STAP_A, FU_A],
            Codec::H265 => [AGGREGATION, FRAGMENTATION],
        };
        codec.nal_type(payload).is_ok() || codec.raw_type(payload).is_ok_and(|kind| packed.contains(&kind))
    })
}

/// Where a packet stands among those that came before.
enum Place {
    Next,
    AfterGap,
    /// Late or twice: not for the decoder.
    Old,
}

impl Judge {
    pub fn new(codec: Option<Codec>, payload_type: u8, b_frames: u32) -> Self {
        Self {
            codec,
            payload_type,
            b_frames,
            counted: Counted::default(),
            highest: 0,
            remembered: vec![i64::MIN; REMEMBERED],
            unit: None,
            last_ticks: None,
            highest_ticks: 0,
            below: 0,
            fragment: Fragment::None,
            decodable: false,
        }
    }

    pub fn counted(&self) -> &Counted {
        &self.counted
    }

    /// As told, or as the first payload looks.
    pub fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// Every sequence number came.
    pub fn lossless(&self) -> bool {
        self.counted.seq_gaps == 0 && self.counted.reordered == 0
    }

    /// No access unit has begun whose end has not come.
    pub fn between_units(&self) -> bool {
        self.unit.is_none()
    }

    /// What has come of an access unit whose end did not.
    pub fn rest(&mut self) -> Option<Unit> {
        self.unit.take().filter(|_| self.decodable)
    }

    /// Takes in a datagram that came at `arrival_unix_ns`.
    pub fn take(&mut self, datagram: &[u8], arrival_unix_ns: u64) -> Result<Taken, Breach> {
        let packet = RtpPacket::parse(datagram)
            .map_err(|error| Breach::protocol(format!("a datagram of {} bytes: {error}", datagram.len())))?;
        if packet.payload_type() != self.payload_type {
            let what = format!("payload type {} is not {}", packet.payload_type(), self.payload_type);
            return Err(Breach { exit: Exit::PayloadType, what });
        }
        let ssrc = *self.counted.ssrc.get_or_insert(packet.ssrc());
        if packet.ssrc() != ssrc {
            return broken(format!("SSRC {:#010x}, but the stream began with {ssrc:#010x}", packet.ssrc()));
        }
        self.counted.packets += 1;
        self.counted.bytes += datagram.len() as u64;
        let codec = match self.codec {
            Some(codec) => codec,
            None => {
                let payload = packet.payload();
                let shown = &payload[..payload.len().min(4)];
                let Some(codec) = tell(payload) else {
                    return broken(format!("payload {shown:02x?} is neither H.264 nor H.265"));
                };
                *self.codec.insert(codec)
            }
        };
        let mut taken = Taken::default();
        match self.place(packet.sequence_number()) {
            Place::Old => return Ok(taken),
            Place::AfterGap => {
                self.fragment = Fragment::Unknown;
                if let Some(unit) = &mut self.unit {
                    unit.whole = false;
                }
            }
            Place::Next => (),
        }
        self.counted.first_timestamp.get_or_insert(packet.timestamp());
        self.counted.last_timestamp = Some(packet.timestamp());
        self.begin_or_go_on(&packet, arrival_unix_ns, &mut taken)?;
        self.payload(codec, &packet)?;
        if packet.marker_bit() {
            if let Fragment::Of(kind) = self.fragment {
                self.fragment = Fragment::Unknown;
                self.end_unit(&mut taken);
                return broken(format!("a marker bit inside a fragmented NAL unit of type {kind}"));
            }
            self.counted.access_units += 1;
            self.counted.key_frames += u64::from(self.unit.as_ref().is_some_and(|unit| unit.key));
            taken.decode_at_ns = self.decode_at();
            self.end_unit(&mut taken);
        } else {
            taken.decode_at_ns = self.decode_at();
        }
        Ok(taken)
    }

    fn decode_at(&self) -> Option<u64> {
        self.unit.as_ref().filter(|_| self.decodable).map(|unit| unit.pts_ns)
    }

    fn end_unit(&mut self, taken: &mut Taken) {
        if let Some(unit) = self.unit.take() {
            self.last_ticks = Some((unit.timestamp, unit.ticks));
            if self.decodable {
                taken.ended.push(unit);
            }
        }
    }

    fn place(&mut self, number: u16) -> Place {
        if self.counted.packets == 1 {
            self.highest = i64::from(number);
            self.remember(self.highest);
            return Place::Next;
        }
        let step = number.wrapping_sub(self.highest as u16) as i16;
        let unwrapped = self.highest + i64::from(step);
        if step <= 0 {
            if self.remembered[unwrapped.rem_euclid(REMEMBERED as i64) as usize] == unwrapped {
                self.counted.duplicates += 1;
            } else {
                self.counted.reordered += 1;
                self.counted.lost = self.counted.lost.saturating_sub(1);
                self.remember(unwrapped);
            }
            return Place::Old;
        }
        self.highest = unwrapped;
        self.remember(unwrapped);
        if step == 1 {
            return Place::Next;
        }
        self.counted.seq_gaps += 1;
        self.counted.lost += step as u64 - 1;
        Place::AfterGap
    }

    fn remember(&mut self, number: i64) {
        self.remembered[number.rem_euclid(REMEMBERED as i64) as usize] = number;
    }

    /// Timestamps: one per access unit, which a marker bit ends.
    fn begin_or_go_on(&mut self, packet: &RtpPacket, arrival: u64, taken: &mut Taken) -> Result<(), Breach> {
        let timestamp = packet.timestamp();
        let lost = self.fragment == Fragment::Unknown;
        let mut unmarked = None;
        if let Some(unit) = &self.unit {
            if unit.timestamp == timestamp {
                return Ok(());
            }
            if unit.whole && !lost {
                unmarked = Some(format!(
                    "timestamp {timestamp} begins, but {} had no marker bit at its end",
                    unit.timestamp
                ));
            }
            self.end_unit(taken);
        }
        let ticks = match self.last_ticks {
            None => ORIGIN,
            Some((last, ticks)) => ticks + i64::from(timestamp.wrapping_sub(last) as i32),
        };
        // Jumps of hostile timestamps add up beyond 64 bits of nanoseconds.
        let pts_ns = (ticks.max(0) as u128 * 1_000_000_000 / u128::from(CLOCK_RATE)) as u64;
        self.unit = Some(Unit {
            timestamp,
            pts_ns,
            arrival_unix_ns: arrival,
            key: false,
            skipped_leading: false,
            ticks,
            sliced: false,
            whole: !lost,
        });
        if let Some(unmarked) = unmarked {
            return broken(unmarked);
        }
        self.in_order(timestamp, ticks)
    }

    /// Timestamps rise from one access unit to the next, but for B-frames, which are sent behind what is shown later.
    fn in_order(&mut self, timestamp: u32, ticks: i64) -> Result<(), Breach> {
        let Some((last, last_ticks)) = self.last_ticks else {
            self.highest_ticks = ticks;
            return Ok(());
        };
        if ticks == last_ticks {
            return broken(format!("timestamp {timestamp} goes on behind its marker bit"));
        }
        if ticks > self.highest_ticks {
            self.highest_ticks = ticks;
            self.below = 0;
            return Ok(());
        }
        self.below += 1;
        if self.below > self.b_frames {
            return broken(format!("timestamp {timestamp} behind {last}: time went back"));
        }
        Ok(())
    }

    /// NAL units, and what they make of the access unit.
    fn payload(&mut self, codec: Codec, packet: &RtpPacket) -> Result<(), Breach> {
        let begun = match codec {
            Codec::H264 => self.h264(packet.payload()),
            Codec::H265 => self.h265(packet.payload()),
        };
        let begun = begun.map_err(|error| {
            Breach::protocol(format!("{codec} payload of packet {}: {error}", packet.sequence_number()))
        })?;
        let unit = self.unit.as_mut().expect("begun with the packet");
        for kind in begun {
            // Senders that put parameter sets before each slice of a key frame do this; depayloaders cut it in two.
            if unit.sliced && codec.precedes_slices(kind) {
                let (timestamp, number) = (packet.timestamp(), packet.sequence_number());
                let what = format!("a {codec} NAL unit of type {kind} behind a slice of its access unit");
                return broken(format!("{what}: packet {number}, timestamp {timestamp}"));
            }
            unit.sliced |= codec.is_slice(kind);
            unit.key |= codec.is_key(kind);
            unit.skipped_leading |= codec.is_skipped_leading(kind);
            self.decodable |= codec.is_key(kind) || codec.is_parameter_set(kind);
        }
        Ok(())
    }

    /// The types of NAL units that begin in a payload.
    fn h264(&mut self, payload: &[u8]) -> Result<Vec<u8>, String> {
        let codec = Codec::H264;
        match codec.raw_type(payload)? {
            FU_A => {
                let &[indicator, header, _, ..] = payload else {
                    return Err(format!("FU-A of {} bytes", payload.len()));
                };
                let kind = codec.nal_type(&[indicator & 0x60 | header & 0x1F])?;
                self.fragment(kind, header)
            }
            STAP_A => {
                self.no_fragment()?;
                aggregated(codec, &payload[1..])
            }
            _ => {
                self.no_fragment()?;
                Ok(vec![codec.nal_type(payload)?])
            }
        }
    }

    fn h265(&mut self, payload: &[u8]) -> Result<Vec<u8>, String> {
        let codec = Codec::H265;
        match codec.raw_type(payload)? {
            FRAGMENTATION => {
                let &[_, temporal, header, _, ..] = payload else {
                    return Err(format!("fragmentation unit of {} bytes", payload.len()));
                };
                let kind = codec.nal_type(&[(header & 0x3F) << 1, temporal])?;
                self.fragment(kind, header)
            }
            AGGREGATION => {
                self.no_fragment()?;
                aggregated(codec, &payload[2..])
            }
            _ => {
                self.no_fragment()?;
                Ok(vec![codec.nal_type(payload)?])
            }
        }
    }

    fn no_fragment(&mut self) -> Result<(), String> {
        match std::mem::replace(&mut self.fragment, Fragment::None) {
            Fragment::Of(kind) => Err(format!("a fragmented NAL unit of type {kind} has no end")),
            _ => Ok(()),
        }
    }

    /// `header` begins with the bits Start and End.
    fn fragment(&mut self, kind: u8, header: u8) -> Result<Vec<u8>, String> {
        let (start, end) = (header & 0x80 != 0, header & 0x40 != 0);
        if start && end {
            return Err(format!("a fragment of type {kind} is both start and end"));
        }
        if start {
            self.no_fragment()?;
            self.fragment = Fragment::Of(kind);
            return Ok(vec![kind]);
        }
        match self.fragment {
            Fragment::None => return Err(format!("a fragment of type {kind} without a start")),
            Fragment::Of(open) if open != kind => {
                return Err(format!("a fragment of type {kind} goes on with one of type {open}"));
            }
            Fragment::Of(_) if end => self.fragment = Fragment::None,
            Fragment::Of(_) => (),
            Fragment::Unknown if end => self.fragment = Fragment::None,
            Fragment::Unknown => (),
        }
        // One whose start was lost is still of this type.
        Ok(vec![kind])
    }
}

/// NAL units with lengths of 16 bits before them.
fn aggregated(codec: Codec, mut left: &[u8]) -> Result<Vec<u8>, String> {
    let mut kinds = Vec::new();
    while !left.is_empty() {
        let unit = left
            .split_first_chunk::<2>()
            .and_then(|(length, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*length))));
        let Some((nal, rest)) = unit else {
            return Err(format!("an aggregated NAL unit reaches beyond the {} bytes left", left.len()));
        };
        kinds.push(codec.nal_type(nal)?);
        left = rest;
    }
    if kinds.is_empty() { Err("an aggregation of nothing".into()) } else { Ok(kinds) }
}

#[cfg(test)]
mod tests {
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

    const SPS: &[u8] = &[0x67, 0x42, 0xC0, 0x1E];
    const IDR: &[u8] = &[0x65, 0x88];
    const INTER: &[u8] = &[0x41, 0x9A];

    #[test]
    fn a_sound_stream_passes_across_both_wraps() {
        let mut judge = judge(Codec::H264);
        let mut ended = Vec::new();
        let (mut seq, mut timestamp) = (0xFFFDu16, 0xFFFF_FFFFu32 - 3000);
        for n in 0..6 {
            let idr = n % 3 == 0;
            for (payload, marker) in if idr { vec![(SPS, false), (IDR, true)] } else { vec![(INTER, true)] } {
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
        assert!(judge.lossless() && judge.between_units());
        assert_eq!(ended.iter().map(|unit| unit.arrival_unix_ns).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        let keys = [true, false, false, true, false, false];
        assert_eq!(ended.iter().map(|unit| unit.key).collect::<Vec<_>>(), keys);
        // 3000 ticks are a thirtieth of a second.
        let first = 3_600_000_000_000;
        let times: Vec<_> = ended.iter().map(|unit| unit.pts_ns - first).collect();
        assert_eq!(times, [0, 33_333_333, 66_666_666, 100_000_000, 133_333_333, 166_666_666]);
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
        assert!(!judge.lossless());
    }

    #[test]
    fn what_comes_before_a_decoder_can_begin_is_not_for_it() {
        let mut judge = judge(Codec::H264);
        let taken = judge.take(&packet(0, 0, true, INTER), 0).unwrap();
        assert_eq!(taken, Taken::default());
        let taken = judge.take(&packet(1, 3000, false, SPS), 7).unwrap();
        assert!(taken.decode_at_ns.is_some() && taken.ended.is_empty());
        let taken = judge.take(&packet(2, 3000, true, IDR), 9).unwrap();
        assert_eq!(taken.ended[0].arrival_unix_ns, 7);
    }

    #[test]
    fn a_lost_marker_ends_the_unit_with_the_next_one() {
        let mut judge = judge(Codec::H264);
        judge.take(&packet(0, 0, false, &[0x7C, 0x85, 1]), 0).unwrap();
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
            (&[(0, 0, true, &[0x7C, 0x05, 1])], "a fragment of type 5 without a start"),
            (
                &[(0, 0, false, &[0x7C, 0x85, 1]), (1, 0, true, &[0x5C, 0x01, 1])],
                "a fragment of type 1 goes on with one of type 5",
            ),
            (
                &[(0, 0, false, &[0x7C, 0x85, 1]), (1, 0, true, IDR)],
                "a fragmented NAL unit of type 5 has no end",
            ),
            (&[(0, 0, true, &[0x78, 0, 9, 0x67])], "an aggregated NAL unit reaches beyond the 3 bytes left"),
            (&[(0, 0, true, &[0x7C, 0x85, 1])], "a marker bit inside a fragmented NAL unit of type 5"),
        ];
        let h265: [(Packets, &str); 5] = [
            (&[(0, 0, true, &[0x67, 0x42])], "layer 40, temporal id plus 1 = 2"),
            (&[(0, 0, true, &[0x62, 1, 0x93])], "fragmentation unit of 3 bytes"),
            (&[(0, 0, true, &[0x62, 1, 0x13, 1])], "a fragment of type 19 without a start"),
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
}
