// SPDX-License-Identifier: MPL-2.0

//! The producer: a segment of our own under a target's name, and announcements of what is put into it.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;

use rustix::fs::Mode;
use rustix::shm::OFlags;

use crate::metadata::{METADATA_SIZE, Metadata, MetadataError};
use crate::snapshot::Mapping;
use crate::sync::{FrameId, SyncError, SyncMessage};
use crate::target::{Target, UnreachableFolder, check_folder};

/// How long the last announcements may take to leave when the producer ends.
const LINGER_MS: i32 = 250;

/// Why a producer cannot publish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum ProducerError {
    #[error("'{0}' is published by another producer that is still running")]
    Busy(Target),
    #[error("segment '{name}' cannot be {what}: {source}")]
    Segment { name: String, what: &'static str, source: io::Error },
    #[error(transparent)]
    Unreachable(#[from] UnreachableFolder),
    #[error("sync endpoint '{endpoint}' cannot be bound: {source}")]
    Bind { endpoint: String, source: zmq::Error },
    #[error("sync message cannot be sent: {0}")]
    Send(#[from] zmq::Error),
    #[error("metadata breaks a rule: {0}")]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Sync(#[from] SyncError),
    #[error("{len} bytes at {offset} are not inside the frame's payload of {payload} bytes")]
    OutsidePayload { offset: usize, len: usize, payload: usize },
}

/// Publishes frames under a target's name; segment and socket are unlinked when it is dropped.
pub struct Producer {
    target: Target,
    label: String,
    file: File,
    mapping: Mapping,
    // The context ends with the last socket's linger, so it comes after the socket.
    socket: zmq::Socket,
    _context: zmq::Context,
}

impl Producer {
    /// Creates the segment with room for `payload_size` bytes and binds the sync endpoint.
    ///
    /// What a dead producer left under the name is replaced: a new inode, as readers expect of a restart.
    ///
    /// # Errors
    /// [`ProducerError::Busy`] where a producer runs under that name; else what the system says.
    pub fn create(target: &Target, payload_size: usize) -> Result<Self, ProducerError> {
        check_folder(&target.zmq_endpoint())?;
        let file = create_segment(target)?;
        let mapping = resize(&file, target, payload_size)?;
        let endpoint = target.zmq_endpoint();
        let context = zmq::Context::new();
        let bind = || {
            let socket = context.socket(zmq::PUB)?;
            socket.set_linger(LINGER_MS)?;
            socket.bind(&endpoint)?;
            Ok(socket)
        };
        match bind() {
            Ok(socket) => {
                let label = target.instance().into();
                Ok(Self { target: target.clone(), label, file, mapping, socket, _context: context })
            }
            Err(source) => {
                let _ = rustix::shm::unlink(target.shm_name());
                Err(ProducerError::Bind { endpoint, source })
            }
        }
    }

    /// The name it publishes under.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Bytes of payload that the segment has room for.
    pub fn capacity(&self) -> usize {
        self.mapping.len() - METADATA_SIZE
    }

    /// Gives the segment room for exactly `payload_size` bytes, more or less than before.
    ///
    /// Readers that touch what was cut off get SIGBUS unless they are prepared for it.
    ///
    /// # Errors
    /// What the system says.
    pub fn resize(&mut self, payload_size: usize) -> Result<(), ProducerError> {
        self.mapping = resize(&self.file, &self.target, payload_size)?;
        Ok(())
    }

    /// Labels the sync messages with something else than the instance name. Readers of the target's URI ignore them
    /// then; those that name segment and endpoint take any label.
    ///
    /// # Errors
    /// [`SyncError::Label`] where the label does not fit.
    pub fn set_label(&mut self, label: &str) -> Result<(), SyncError> {
        SyncMessage { frame: FrameId { count: 0, timestamp_ns: 0 }, label: label.into() }.to_bytes()?;
        self.label = label.into();
        Ok(())
    }

    /// Begins a frame: the segment grows where it must; nothing is announced before [`FrameWriter::commit`].
    ///
    /// # Errors
    /// [`ProducerError::Metadata`] where the metadata breaks a rule.
    pub fn begin(&mut self, metadata: &Metadata) -> Result<FrameWriter<'_>, ProducerError> {
        let header = metadata.to_bytes()?;
        let payload = metadata.payload_size as usize;
        if payload > self.capacity() || self.mapping.lost() {
            self.resize(payload.max(self.capacity()))?;
        }
        let sync = SyncMessage { frame: metadata.frame, label: self.label.clone() }.to_bytes()?;
        Ok(FrameWriter { producer: self, header, sync, payload })
    }

    /// Publishes a frame whose planes lie in `payload` as the metadata says.
    ///
    /// # Errors
    /// As [`Producer::begin`] and [`FrameWriter::write`].
    pub fn publish(&mut self, metadata: &Metadata, payload: &[u8]) -> Result<(), ProducerError> {
        let mut frame = self.begin(metadata)?;
        frame.write(0, payload)?;
        frame.commit()
    }

    /// Sends bytes that need not be a sync message: for fault injection.
    ///
    /// # Errors
    /// What ZeroMQ says.
    pub fn send_raw(&self, message: &[u8]) -> Result<(), ProducerError> {
        Ok(self.socket.send(message, 0)?)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // The name may be another producer's by now, if ours was unlinked by hand.
        if is_named(&self.file, &self.target) {
            let _ = rustix::shm::unlink(self.target.shm_name());
            // libzmq leaves it behind.
            let _ = std::fs::remove_file(self.target.socket_path());
        }
    }
}

/// A frame under way: payload in any number of pieces, then [`FrameWriter::commit`].
pub struct FrameWriter<'a> {
    producer: &'a mut Producer,
    header: [u8; METADATA_SIZE],
    sync: [u8; crate::sync::SYNC_SIZE],
    payload: usize,
}

impl FrameWriter<'_> {
    /// Writes bytes at `offset` of the payload.
    ///
    /// # Errors
    /// [`ProducerError::OutsidePayload`] where they do not fit.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), ProducerError> {
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.payload) {
            return Err(ProducerError::OutsidePayload { offset, len: bytes.len(), payload: self.payload });
        }
        self.producer.mapping.write(METADATA_SIZE + offset, bytes);
        Ok(())
    }

    /// The metadata as it will be written: for fault injection.
    pub fn header_mut(&mut self) -> &mut [u8; METADATA_SIZE] {
        &mut self.header
    }

    /// Writes the metadata and announces the frame.
    ///
    /// # Errors
    /// [`ProducerError::Segment`] where the payload did not reach the segment, [`ProducerError::Send`] where ZeroMQ
    /// fails.
    pub fn commit(self) -> Result<(), ProducerError> {
        self.check_written()?;
        self.producer.mapping.write(0, &self.header);
        self.check_written()?;
        self.producer.socket.send(&self.sync[..], 0)?;
        Ok(())
    }
}

impl FrameWriter<'_> {
    /// Whether all that was written is in the segment: pages go missing where the file system is full, or where
    /// somebody else cut the file.
    fn check_written(&self) -> Result<(), ProducerError> {
        if self.producer.mapping.lost() {
            let full = io::Error::new(io::ErrorKind::StorageFull, "/dev/shm is full, or the segment was cut");
            return Err(failed(&self.producer.target, "written")(full));
        }
        Ok(())
    }
}

fn failed(target: &Target, what: &'static str) -> impl Fn(io::Error) -> ProducerError {
    let name = target.shm_name();
    move |source| ProducerError::Segment { name: name.clone(), what, source }
}

fn is_named(file: &File, target: &Target) -> bool {
    let named = rustix::shm::open(target.shm_name(), OFlags::RDONLY, Mode::empty());
    match (named.and_then(rustix::fs::fstat), rustix::fs::fstat(file)) {
        (Ok(named), Ok(ours)) => (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino),
        _ => false,
    }
}

/// Creates a segment that nobody else has: locked, so that two producers of ours never share a name, and new.
fn create_segment(target: &Target) -> Result<File, ProducerError> {
    let create = failed(target, "created");
    // Producers that are not ours take no lock, but they listen.
    if UnixStream::connect(target.socket_path()).is_ok() {
        return Err(ProducerError::Busy(target.clone()));
    }
    loop {
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let fd = rustix::shm::open(target.shm_name(), OFlags::CREATE | OFlags::RDWR, mode)
            .map_err(|error| create(error.into()))?;
        let file = File::from(fd);
        match file.try_lock() {
            Ok(()) => (),
            Err(std::fs::TryLockError::WouldBlock) => return Err(ProducerError::Busy(target.clone())),
            Err(std::fs::TryLockError::Error(error)) => return Err(create(error)),
        }
        let empty = file.metadata().map_err(&create)?.len() == 0;
        match (is_named(&file, target), empty) {
            (true, true) => return Ok(file),
            // Left behind by a producer that was killed.
            (true, false) => rustix::shm::unlink(target.shm_name()).map_err(|error| create(error.into()))?,
            // Somebody was faster to unlink it.
            (false, _) => (),
        }
    }
}

fn resize(file: &File, target: &Target, payload_size: usize) -> Result<Mapping, ProducerError> {
    let too_large = || failed(target, "resized")(io::ErrorKind::FileTooLarge.into());
    let len = METADATA_SIZE
        .checked_add(payload_size)
        .filter(|len| i64::try_from(*len).is_ok())
        .ok_or_else(too_large)?;
    file.set_len(len as u64).map_err(failed(target, "resized"))?;
    Mapping::read_write(file, len).map_err(failed(target, "mapped"))
}
