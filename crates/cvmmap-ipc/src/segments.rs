// SPDX-License-Identifier: MPL-2.0

//! Which segments there are on this machine, whoever made them.
//!
//! Shared memory is everybody's folder: files of others are told by their size or their magic, after one read of 256
//! bytes, and what may not be read is left out. Nothing is written, mapped or locked.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::metadata::{METADATA_SIZE, Metadata, MetadataError};
use crate::target::{DEFAULT_NAMESPACE, DEFAULT_PREFIX, MAX_SOCKET_PATH, Target};

/// Where Linux keeps POSIX shared memory.
const FOLDER: &str = "/dev/shm";
/// The Unix sockets of our network namespace, one in a line.
const SOCKETS: &str = "/proc/net/unix";
/// A header may be caught while it is written: 256 bytes take no longer than this many reads.
const READS: usize = 8;

/// A segment with a valid header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Name of the POSIX shared memory segment, without the leading slash.
    pub name: String,
    /// Inode: another one under the same name is another run of the producer.
    pub inode: u64,
    /// The header at this moment.
    pub header: Metadata,
    /// Where its producer listens for subscribers.
    pub socket: PathBuf,
    /// The kernel says so; otherwise it is where producers listen by default, and a guess.
    pub listens: bool,
}

impl Segment {
    /// The ZeroMQ endpoint of its sync messages.
    pub fn zmq_endpoint(&self) -> String {
        format!("ipc://{}", self.socket.display())
    }

    /// The target whose names these are; `None` where there is none, or more than one.
    ///
    /// Where `NS_INSTANCE` ends in more than one way, the label of the sync messages, which is INSTANCE, is anyone's
    /// guess. `cvmmap_` is taken for the default namespace.
    pub fn target(&self) -> Option<Target> {
        let default = format!("{DEFAULT_NAMESPACE}_");
        let (namespace, instance) = match self.name.strip_prefix(&default) {
            Some(instance) => (DEFAULT_NAMESPACE, instance),
            None => self.name.split_once('_').filter(|(_, instance)| !instance.contains('_'))?,
        };
        let folder = self.socket.parent()?.to_str()?;
        let target = format!("cvmmap://{instance}@{folder}?namespace={namespace}").parse::<Target>().ok()?;
        (target.shm_name() == self.name && target.socket_path() == self.socket).then_some(target)
    }
}

/// The segments with a valid header, by name.
///
/// One whose producer was killed is left out: its socket is still there and refuses connections.
pub fn segments() -> Vec<Segment> {
    Scan::default().segments()
}

/// Looks again and again, and so knows where the socket of a killed producer was.
#[derive(Debug, Default)]
pub struct Scan {
    /// By name and inode.
    sockets: HashMap<(String, u64), PathBuf>,
}

impl Scan {
    /// As [`segments`].
    pub fn segments(&mut self) -> Vec<Segment> {
        let valid = headers();
        // Nothing to ask the kernel about.
        if valid.is_empty() {
            self.sockets.clear();
            return Vec::new();
        }
        let sockets = std::fs::read(SOCKETS).unwrap_or_default();
        let before = std::mem::take(&mut self.sockets);
        let mut segments = Vec::new();
        for (name, inode, header) in valid {
            let key = (name.clone(), inode);
            let expected = before.get(&key).cloned();
            let expected = expected.unwrap_or_else(|| PathBuf::from(format!("{DEFAULT_PREFIX}/{name}")));
            let socket = socket_of(&name, &sockets, &expected);
            self.sockets.insert(key, socket.clone().map_or(expected, |(socket, _)| socket));
            segments.extend(socket.map(|(socket, listens)| Segment { name, inode, header, socket, listens }));
        }
        segments.sort_by(|a, b| a.name.cmp(&b.name));
        segments
    }
}

/// Names, inodes and headers of the files that are segments.
fn headers() -> Vec<(String, u64, Metadata)> {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return Vec::new() };
    entries
        .flatten()
        // A FIFO or a device may do something when it is opened.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let (inode, header) = header(&entry.path())?;
            Some((name, inode, header))
        })
        .collect()
}

/// Inode and header of a file that is a segment.
fn header(path: &Path) -> Option<(u64, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    for _ in 0..READS {
        let stat = file.metadata().ok()?;
        let payload = stat.len().checked_sub(METADATA_SIZE as u64).filter(|_| stat.is_file())?;
        let mut bytes = [0; METADATA_SIZE];
        file.read_exact_at(&mut bytes, 0).ok()?;
        match Metadata::parse(&bytes, payload) {
            Ok(header) => return Some((stat.ino(), header)),
            Err(MetadataError::Magic(_)) => return None,
            Err(_) => std::thread::yield_now(),
        }
    }
    None
}

/// Where the producer of a segment listens, and whether the kernel says so; `None` where it evidently does not any more.
fn socket_of(name: &str, sockets: &[u8], expected: &Path) -> Option<(PathBuf, bool)> {
    let mut listening: Vec<PathBuf> = listening(sockets).filter(|path| path.ends_with(name)).collect();
    if listening.iter().any(|path| path == expected) {
        return Some((expected.into(), true));
    }
    listening.sort();
    match listening.into_iter().next() {
        Some(path) => Some((path, true)),
        // A producer of another network namespace is in no list of ours.
        None => (!refuses(expected)).then(|| (expected.into(), false)),
    }
}

/// Paths of the stream sockets that take connections, of a text such as [`SOCKETS`].
fn listening(sockets: &[u8]) -> impl Iterator<Item = PathBuf> + '_ {
    /// `__SO_ACCEPTCON`, in hexadecimal digits.
    const ACCEPTS: &[u8] = b"00010000";
    sockets.split(|&byte| byte == b'\n').filter_map(|line| {
        // Num RefCount Protocol Flags Type St Inode Path; numbers are padded.
        let mut fields = line.splitn(2, |&byte| byte == b'/');
        let (head, path) = (fields.next()?, fields.next()?);
        let mut numbers = head.split(|byte| byte.is_ascii_whitespace()).filter(|field| !field.is_empty());
        let accepts = numbers.nth(3)? == ACCEPTS;
        accepts.then(|| Path::new("/").join(std::ffi::OsStr::from_bytes(path)))
    })
}

/// Whether there is a socket that nobody listens at any more. Whatever else goes wrong is no evidence of that.
fn refuses(path: &Path) -> bool {
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return false;
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let connected = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .and_then(|socket: OwnedFd| rustix::net::connect(&socket, &SocketAddrUnix::new(path)?));
    // Other files refuse too.
    let is_socket = || path.symlink_metadata().is_ok_and(|stat| stat.file_type().is_socket());
    connected == Err(Errno::CONNREFUSED) && is_socket()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Depth, PixelFormat};
    use crate::{FrameId, Plane, PlaneKind, Producer, Version};

    fn segment(name: &str, socket: &str) -> Segment {
        let plane = Plane::packed(PlaneKind::Left, PixelFormat::Bgr, Depth::U8, 4, 2).unwrap();
        let frame = FrameId { count: 1, timestamp_ns: 1 };
        let header = Metadata::new(Version::V1, frame, [plane]);
        Segment { name: name.into(), inode: 1, header, socket: socket.into(), listens: true }
    }

    #[test]
    fn a_name_that_ends_in_one_way_is_a_target() {
        for (name, socket, uri) in [
            ("cvmmap_cam0", "/tmp/cvmmap_cam0", Some("cvmmap://cam0")),
            ("cvmmap_cam_0", "/tmp/cvmmap_cam_0", Some("cvmmap://cam_0")),
            ("lab_cam0", "/run/cv/lab_cam0", Some("cvmmap://cam0@/run/cv?namespace=lab")),
            ("cvmmap_a", "/cvmmap_a", Some("cvmmap://a@/")),
            ("lab_cam_0", "/tmp/lab_cam_0", None),
            ("picture", "/tmp/picture", None),
            ("cvmmap_", "/tmp/cvmmap_", None),
            ("cvmmap_an-instance-of-24-bytes-", "/tmp/cvmmap_an-instance-of-24-bytes-", None),
            ("cvmmap_a b", "/tmp/cvmmap_a b", None),
            ("cvmmap_a@x", "/tmp/cvmmap_a@x", None),
        ] {
            let target = segment(name, socket).target().map(|target| target.to_string());
            assert_eq!(target.as_deref(), uri, "{name}");
        }
    }

    #[test]
    fn listeners_are_found_in_the_kernels_list() {
        let list = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            ffff8881: 00000002 00000000 00010000 0001 01 22171 /run/cv/lab_cam0\n\
            ffff8882: 00000003 00000000 00000000 0001 03 22172 /tmp/connected_cam1\n\
            ffff8883: 00000003 00000000 00000000 0001 03 22173\n\
            ffff8884: 00000002 00000000 00010000 0001 01 22174 @/abstract\n\
            ffff8885: 00000002 00000000 00010000 0001 01 22175 /tmp/with a space\n";
        let found: Vec<_> = listening(list).collect();
        assert!(found.contains(&"/run/cv/lab_cam0".into()) && found.contains(&"/tmp/with a space".into()));
        assert!(!found.contains(&"/tmp/connected_cam1".into()));
        let socket = |name: &str| socket_of(name, list, &Path::new("/tmp").join(name));
        assert_eq!(socket("lab_cam0"), Some(("/run/cv/lab_cam0".into(), true)));
        assert_eq!(socket("nobody-has-this"), Some(("/tmp/nobody-has-this".into(), false)));
    }

    fn find(name: &str) -> Option<Segment> {
        segments().into_iter().find(|segment| segment.name == name)
    }

    #[test]
    fn producers_come_and_go_and_the_dead_are_told_by_their_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("scan-{}", std::process::id());
        for uri in
            [format!("cvmmap://{name}"), format!("cvmmap://{name}@{}?namespace=lab", folder.path().display())]
        {
            let target: Target = uri.parse().unwrap();
            let plane = Plane::packed(PlaneKind::Left, PixelFormat::Bgr, Depth::U8, 4, 2).unwrap();
            let metadata = Metadata::new(Version::V1, FrameId { count: 7, timestamp_ns: 1 }, [plane]);
            let mut producer = Producer::create(&target, 24).unwrap();
            assert_eq!(find(&target.shm_name()), None, "it has no header yet");
            producer.publish(&metadata, &[0; 24]).unwrap();
            let found = find(&target.shm_name()).unwrap();
            assert_eq!((found.target().as_ref(), &found.header), (Some(&target), &metadata));
            assert_eq!(found.zmq_endpoint(), target.zmq_endpoint());
            drop(producer);
            assert_eq!(find(&target.shm_name()), None);
        }
    }

    #[test]
    fn what_a_killed_producer_leaves_is_no_producer() {
        let name = format!("cvmmap_killed-{}", std::process::id());
        let (file, socket) = (Path::new(FOLDER).join(&name), Path::new(DEFAULT_PREFIX).join(&name));
        let mut bytes = segment(&name, "").header.to_bytes().unwrap().to_vec();
        bytes.resize(METADATA_SIZE + 24, 0);
        std::fs::write(&file, &bytes).unwrap();
        assert!(find(&name).is_some(), "a valid header without any socket says nothing of death");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(find(&name).is_some());
        drop(listener);
        assert_eq!(find(&name), None);
        // The same where the socket is not in the default folder, for who has seen it there.
        std::fs::remove_file(&socket).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join(&name);
        let listener = std::os::unix::net::UnixListener::bind(&elsewhere).unwrap();
        let mut scan = Scan::default();
        let mut seen = || scan.segments().into_iter().find(|segment| segment.name == name);
        assert_eq!(seen().map(|segment| segment.socket), Some(elsewhere));
        drop(listener);
        assert_eq!(seen(), None);
        assert_eq!(seen(), None);
        // Garbage and foreign files.
        std::fs::write(&file, &bytes[..255]).unwrap();
        assert_eq!(find(&name), None);
        bytes[0] = b'X';
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(find(&name), None);
        std::fs::remove_file(&file).unwrap();
    }
}
