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
    /// Datagrams of RTCP, which may come to the same port.
    pub rtcp: u64,
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
    /// Packets of it may be missing, or of what it refers to.
    pub damaged: bool,
    ticks: i64,
    /// A NAL unit has begun, or gone on.
    filled: bool,
    /// A slice has begun.
    sliced: bool,
    /// Packets of it may be missing: a gap was before it or in it.
    gapped: bool,
    /// No gap was behind its last packet, which therefore has the marker bit.
    marked: bool,
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
    /// Packets were lost, or came before the first one; it may or may not go on.
    Unknown,
}

/// A NAL unit that begins, or goes on, in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Nal {
    kind: u8,
    begins: bool,
    /// The first slice of its picture begins.
    begins_picture: bool,
}

impl Nal {
    fn whole(codec: Codec, bytes: &[u8]) -> Result<Self, String> {
        let kind = codec.nal_type(bytes)?;
        let begins_picture = codec.is_slice(kind) && codec.begins_picture(bytes);
        Ok(Self { kind, begins: true, begins_picture })
    }
}

/// Which parameter sets have come.
#[derive(Debug, Clone, Copy, Default)]
struct Sets(u8);

impl Sets {
    const ALL: Self = Self(0xFF);

    /// VPS, SPS and PPS are numbered in a row.
    fn add(&mut self, codec: Codec, kind: u8) {
        let first = if codec == Codec::H264 { 7 } else { 32 };
        if codec.is_parameter_set(kind) {
            self.0 |= 1 << (kind - first);
        }
    }

    fn any(self) -> bool {
        self.0 != 0
    }

    fn complete(self, codec: Codec) -> bool {
        let all = if codec == Codec::H264 { 0b11 } else { 0b111 };
        self.0 & all == all
    }
}

/// The rules of one RTP stream.
#[derive(Debug)]
pub(super) struct Judge {
    codec: Option<Codec>,
    payload_type: u8,
    b_frames: u32,
    /// Of the first packet.
    seen_payload_type: Option<u8>,
    /// A payload fitted the codec's rules.
    fitted: bool,
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
    sets: Sets,
    /// A key frame began behind all parameter sets.
    decodable: bool,
    /// Pictures may refer to what was lost.
    damaged: bool,
}

fn broken<T>(what: impl Into<String>) -> Result<T, Breach> {
    Err(Breach::protocol(what))
}

/// RTCP beside RTP on one port, told by its packet type: RFC 5761.
fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, 192..=223, _, _, ..] if first >> 6 == 2)
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
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
            seen_payload_type: None,
            fitted: false,
            counted: Counted::default(),
            highest: 0,
            remembered: vec![i64::MIN; REMEMBERED],
            unit: None,
            last_ticks: None,
            highest_ticks: 0,
            below: 0,
            // The first packet may be from the middle of anything.
            fragment: Fragment::Unknown,
            sets: Sets::default(),
            decodable: false,
            damaged: false,
        }
    }

    /// The parameter sets are known, so decoding can begin at the first key frame.
    pub fn know_parameter_sets(&mut self) {
        self.sets = Sets::ALL;
    }

    pub fn counted(&self) -> &Counted {
        &self.counted
    }

    /// As told, or as the first payload looks.
    pub fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// What the payloads were, if any came that fit.
    pub fn seen_codec(&self) -> Option<Codec> {
        self.codec.filter(|_| self.fitted)
    }

    /// That of the first packet.
    pub fn seen_payload_type(&self) -> Option<u8> {
        self.seen_payload_type
    }

    /// No access unit has begun whose end has not come.
    pub fn between_units(&self) -> bool {
        self.unit.is_none()
    }

    /// What has come of an access unit whose end did not.
    pub fn rest(&mut self) -> Option<Unit> {
        self.unit.take().filter(|_| self.decodable).map(|unit| Unit { damaged: true, ..unit })
    }

    /// Takes in a datagram that came at `arrival_unix_ns`.
    pub fn take(&mut self, datagram: &[u8], arrival_unix_ns: u64) -> Result<Taken, Breach> {
        if is_rtcp(datagram) {
            self.counted.rtcp += 1;
            return Ok(Taken::default());
        }
        let packet = RtpPacket::parse(datagram)
            .map_err(|error| Breach::protocol(format!("a datagram of {} bytes: {error}", datagram.len())))?;
        self.seen_payload_type.get_or_insert(packet.payload_type());
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
        let place = self.place(packet.sequence_number());
        match place {
            Place::Old => return Ok(taken),
            Place::AfterGap => {
                self.fragment = Fragment::Unknown;
                self.damaged = true;
                if let Some(unit) = &mut self.unit {
                    unit.gapped = true;
                    unit.marked = false;
                }
            }
            Place::First | Place::Next => (),
        }
        let continuous = place == Place::Next;
        self.counted.first_timestamp.get_or_insert(packet.timestamp());
        self.counted.last_timestamp = Some(packet.timestamp());
        self.begin_or_go_on(&packet, continuous, arrival_unix_ns, &mut taken)?;
        let for_decoder = self.payload(codec, &packet)?;
        if packet.marker_bit() {
            if let Fragment::Of(kind) = self.fragment {
                self.fragment = Fragment::Unknown;
                self.damaged = true;
                self.end_unit(&mut taken);
                return broken(format!("a marker bit inside a fragmented NAL unit of type {kind}"));
            }
            self.counted.access_units += 1;
            self.counted.key_frames += u64::from(self.unit.as_ref().is_some_and(|unit| unit.key));
        }
        taken.decode_at_ns = self.unit.as_ref().filter(|_| for_decoder).map(|unit| unit.pts_ns);
        if packet.marker_bit() {
            // It does not go on in the next access unit.
            self.fragment = Fragment::None;
            self.end_unit(&mut taken);
        } else if let Some(unit) = &mut self.unit {
            unit.marked = true;
        }
        Ok(taken)
    }

    fn end_unit(&mut self, taken: &mut Taken) {
        if let Some(mut unit) = self.unit.take() {
            self.last_ticks = Some((unit.timestamp, unit.ticks));
            // Nothing behind a whole key frame refers to what is before it.
            self.damaged &= unit.gapped || !unit.key;
            unit.damaged = self.damaged || unit.gapped;
            if self.decodable {
                taken.ended.push(unit);
            }
        }
    }

    fn place(&mut self, number: u16) -> Place {
        if self.counted.packets == 1 {
            self.highest = i64::from(number);
            self.remember(self.highest);
            return Place::First;
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
    fn begin_or_go_on(
        &mut self,
        packet: &RtpPacket,
        continuous: bool,
        arrival: u64,
        taken: &mut Taken,
    ) -> Result<(), Breach> {
        let timestamp = packet.timestamp();
        let mut unmarked = None;
        if let Some(unit) = &self.unit {
            if unit.timestamp == timestamp {
                return Ok(());
            }
            if unit.marked {
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
            damaged: false,
            ticks,
            filled: false,
            sliced: false,
            gapped: !continuous,
            marked: true,
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

    /// NAL units, and what they make of the access unit. Tells whether the decoder can do something with them.
    fn payload(&mut self, codec: Codec, packet: &RtpPacket) -> Result<bool, Breach> {
        let nals = match codec {
            Codec::H264 => self.h264(packet.payload()),
            Codec::H265 => self.h265(packet.payload()),
        };
        let nals = nals.map_err(|error| {
            Breach::protocol(format!("{codec} payload of packet {}: {error}", packet.sequence_number()))
        })?;
        self.fitted = true;
        let unit = self.unit.as_mut().expect("begun with the packet");
        let mut sets = self.sets;
        for nal in nals {
            let kind = nal.kind;
            // Senders that put parameter sets before each slice of a key frame do this; depayloaders cut it in two.
            if unit.sliced && codec.precedes_slices(kind) {
                let (timestamp, number) = (packet.timestamp(), packet.sequence_number());
                let what = format!("a {codec} NAL unit of type {kind} behind a slice of its access unit");
                return broken(format!("{what}: packet {number}, timestamp {timestamp}"));
            }
            let begins_unit = nal.begins && codec.precedes_slices(kind) || nal.begins_picture;
            if !std::mem::replace(&mut unit.filled, true) && begins_unit {
                // What is missing was of the one before.
                unit.gapped = false;
            }
            unit.sliced |= codec.is_slice(kind);
            unit.key |= codec.is_key(kind);
            unit.skipped_leading |= codec.is_skipped_leading(kind);
            if nal.begins {
                sets.add(codec, kind);
            }
            self.decodable |= codec.is_key(kind) && nal.begins_picture && sets.complete(codec);
        }
        // Before the first key frame it gets parameter sets and what follows them, but no slices, not even beside one.
        let for_decoder = self.decodable || sets.any() && !unit.sliced;
        if for_decoder {
            self.sets = sets;
        }
        Ok(for_decoder)
    }

    /// The NAL units in a payload.
    fn h264(&mut self, payload: &[u8]) -> Result<Vec<Nal>, String> {
        let codec = Codec::H264;
        match codec.raw_type(payload)? {
            FU_A => {
                let &[indicator, header, first, ..] = payload else {
                    return Err(format!("FU-A of {} bytes", payload.len()));
                };
                let nal = Nal::whole(codec, &[indicator & 0x60 | header & 0x1F, first])?;
                self.fragment(nal, header)
            }
            STAP_A => {
                self.no_fragment()?;
                aggregated(codec, &payload[1..])
            }
            _ => {
                self.no_fragment()?;
                Ok(vec![Nal::whole(codec, payload)?])
            }
        }
    }

    fn h265(&mut self, payload: &[u8]) -> Result<Vec<Nal>, String> {
        let codec = Codec::H265;
        match codec.raw_type(payload)? {
            FRAGMENTATION => {
                let &[_, temporal, header, first, ..] = payload else {
                    return Err(format!("fragmentation unit of {} bytes", payload.len()));
                };
                let nal = Nal::whole(codec, &[(header & 0x3F) << 1, temporal, first])?;
                self.fragment(nal, header)
            }
            AGGREGATION => {
                self.no_fragment()?;
                aggregated(codec, &payload[2..])
            }
            _ => {
                self.no_fragment()?;
                Ok(vec![Nal::whole(codec, payload)?])
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
    fn fragment(&mut self, nal: Nal, header: u8) -> Result<Vec<Nal>, String> {
        let kind = nal.kind;
        let (start, end) = (header & 0x80 != 0, header & 0x40 != 0);
        if start && end {
            return Err(format!("a fragment of type {kind} is both start and end"));
        }
        if start {
            self.no_fragment()?;
            self.fragment = Fragment::Of(kind);
            return Ok(vec![nal]);
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
        Ok(vec![Nal { begins: false, begins_picture: false, ..nal }])
    }
}

/// NAL units with lengths of 16 bits before them.
fn aggregated(codec: Codec, mut left: &[u8]) -> Result<Vec<Nal>, String> {
    let mut nals = Vec::new();
    while !left.is_empty() {
        let unit = left
            .split_first_chunk::<2>()
            .and_then(|(length, rest)| rest.split_at_checked(usize::from(u16::from_be_bytes(*length))));
        let Some((nal, rest)) = unit else {
            return Err(format!("an aggregated NAL unit reaches beyond the {} bytes left", left.len()));
        };
        nals.push(Nal::whole(codec, nal)?);
        left = rest;
    }
    if nals.is_empty() { Err("an aggregation of nothing".into()) } else { Ok(nals) }
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
            for (payload, marker) in if idr { vec![(SETS, false), (IDR, true)] } else { vec![(INTER, true)] }
            {
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
}
