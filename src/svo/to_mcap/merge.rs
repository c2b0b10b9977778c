// SPDX-License-Identifier: MPL-2.0

//! All cameras' messages and the groups, in the order of their times.
//!
//! Each camera is read no further ahead than the next message needs: a group is written at its time, when it is known of
//! each of its frames whether it is whole, and those lie within one interval of the slowest camera.

use std::fs::File;

use svo2::group::{Group, Member};

use super::lane::Lane;
use super::options::Policy;
use super::out::Out;
use super::plan::Bundles;
use crate::mcap::proto::bundle_member::Status;
use crate::mcap::proto::{Bundle, BundleMember, bundle};
use crate::mcap::{Channel, Compression, Writer, timestamp};
use crate::svo::chain::Ended;
use crate::svo::convert::{Control, Damages};
use crate::svo::output::Wrong;

const TOPIC: &str = "/bundle";
/// Pictures from one word about progress to the next.
const STEP: u64 = 16;

/// The file, and all that comes into it.
pub(in crate::svo) struct Merge<'a> {
    writer: Writer<Out>,
    pub lanes: Vec<Lane<'a>>,
    bundles: Option<&'a Bundles>,
    channel: Option<Channel>,
    /// Groups that were looked at.
    groups: usize,
    /// Of these, such as have not all of their frames.
    pub incomplete: u64,
    /// Messages in the file.
    messages: u64,
    pictures: u64,
}

impl<'a> Merge<'a> {
    /// Begins the file.
    pub fn new(
        file: &File,
        compression: Compression,
        mut lanes: Vec<Lane<'a>>,
        bundles: Option<&'a Bundles>,
    ) -> Result<Self, Wrong> {
        if bundles.is_some() {
            lanes.iter_mut().for_each(Lane::remember_frames);
        }
        let out = Out::new(file).map_err(Wrong::output)?;
        let writer = Writer::fast(out, compression).map_err(Wrong::output)?;
        let (channel, messages) = (None, 0);
        Ok(Self { writer, lanes, bundles, channel, groups: 0, incomplete: 0, messages, pictures: 0 })
    }

    /// Messages in the file so far.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Writes all messages, of which `total` are pictures.
    pub fn run(&mut self, total: u64, control: &mut Control, damages: &mut [Damages]) -> Result<(), Ended> {
        loop {
            control.check()?;
            for (lane, damages) in self.lanes.iter_mut().zip(damages.iter_mut()) {
                lane.fill(control, damages)?;
            }
            let lanes = self.lanes.iter().enumerate();
            let first = lanes.filter_map(|(lane, all)| Some((all.next_ns()?, lane))).min();
            let group = self.bundles.and_then(|bundles| bundles.groups.get(self.groups));
            match (first, group) {
                (Some((time, lane)), group) if group.is_none_or(|group| time <= group.time_ns) => {
                    let picture = self.lanes[lane].write(&mut self.writer).map_err(Wrong::output)?;
                    self.messages += 1;
                    self.pictures += u64::from(picture);
                    if picture && self.pictures.is_multiple_of(STEP) {
                        control.progress(self.pictures.min(total), total);
                    }
                }
                (_, Some(group)) => self.bundle(group, control, damages)?,
                (_, None) => break,
            }
        }
        control.progress(total, total);
        Ok(())
    }

    /// Writes what is read already, so that no group names a picture that is not there.
    pub fn flush(&mut self) -> Result<(), Wrong> {
        loop {
            let lanes = self.lanes.iter().enumerate();
            let first = lanes.filter_map(|(lane, all)| Some((all.next_ns()?, lane))).min();
            let Some((_, lane)) = first else { return Ok(()) };
            self.lanes[lane].write(&mut self.writer).map_err(Wrong::output)?;
            self.messages += 1;
        }
    }

    /// Whether no camera has a picture in the file.
    pub fn is_empty(&self) -> bool {
        self.pictures == 0
    }

    fn bundle(&mut self, group: &Group, control: &mut Control, damages: &mut [Damages]) -> Result<(), Ended> {
        let bundles = self.bundles.expect("there is a group");
        let index = bundles.first_index + self.groups;
        self.groups += 1;
        let mut members = Vec::with_capacity(group.members.len());
        for ((lane, member), damages) in self.lanes.iter_mut().zip(&group.members).zip(damages) {
            members.push(describe(lane, member, control, damages)?);
        }
        let present = |member: &BundleMember| member.status() == Status::Present;
        if !members.iter().all(present) {
            self.incomplete += 1;
            if bundles.policy == Policy::Strict {
                return Ok(());
            }
        }
        let policy = match bundles.policy {
            Policy::Strict => bundle::Policy::Strict,
            Policy::Nearest | Policy::Copy => bundle::Policy::Nearest,
        };
        let message = Bundle {
            timestamp: Some(timestamp(group.time_ns)),
            policy: policy.into(),
            group_index: index as u64,
            members,
        };
        let channel = match &mut self.channel {
            Some(channel) => channel,
            none => none.insert(self.writer.add_messages::<Bundle>(TOPIC).map_err(Wrong::output)?),
        };
        self.writer.message(channel, group.time_ns, &message).map_err(Wrong::output)?;
        self.messages += 1;
        Ok(())
    }

    /// Makes the file whole.
    pub fn finish(self) -> Result<Vec<Lane<'a>>, Wrong> {
        let out = self.writer.finish().map_err(Wrong::output)?;
        out.finish().map_err(Wrong::output)?;
        Ok(self.lanes)
    }
}

fn describe(
    lane: &mut Lane,
    member: &Member,
    control: &mut Control,
    damages: &mut Damages,
) -> Result<BundleMember, Ended> {
    let (status, frame, skipped) = match *member {
        Member::Unknown => (Status::Unknown, None, 0),
        Member::CorruptedGap { frame, skipped } => (Status::CorruptedGap, Some(frame), skipped),
        Member::Present { frame, skipped } => match lane.has(frame, control, damages)? {
            true => (Status::Present, Some(frame), skipped),
            false => (Status::CorruptedGap, Some(frame), skipped),
        },
    };
    Ok(BundleMember {
        label: lane.label().to_owned(),
        status: status.into(),
        timestamp: frame.map(|frame| timestamp(lane.time_ns(frame))),
        skipped_frames: skipped,
        frame_index: frame.unwrap_or(0) as u64,
    })
}
