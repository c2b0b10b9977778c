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
mod tests;
