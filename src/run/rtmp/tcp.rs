// SPDX-License-Identifier: MPL-2.0

//! How much of what was handed to the system is under way, for a socket that a library keeps to itself.
//!
//! `rtmp2sink` does not tell its socket. So connections to a port are made one at a time in this process, and the one
//! that is there afterwards and was not before is ours: see [`Turn`].

use std::collections::HashSet;
use std::fs;
use std::sync::{Mutex, MutexGuard, Once};

use super::backlog::Underway;
use super::diag::{Diag, Found};

/// Ports that somebody is connecting to.
static CONNECTING: Mutex<Vec<u16>> = Mutex::new(Vec::new());

fn connecting() -> MutexGuard<'static, Vec<u16>> {
    CONNECTING.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The right to connect to a port: no other [`Turn`] for it until this is dropped.
#[derive(Debug)]
pub struct Turn {
    port: u16,
    /// Sockets that the process had before.
    earlier: HashSet<u64>,
}

impl Turn {
    /// `None` while somebody else in this process is connecting to the port.
    pub fn take(port: u16) -> Option<Self> {
        let mut ports = connecting();
        if ports.contains(&port) {
            return None;
        }
        ports.push(port);
        drop(ports);
        Some(Self { port, earlier: own_sockets() })
    }

    /// The connection that was made meanwhile. Where it cannot be told, nothing is ever under way in it, and a
    /// warning in GStreamer's log says why, once.
    pub fn connected(self) -> Outgoing {
        let found = self.find();
        if let Err(reason) = &found {
            static ONCE: Once = Once::new();
            ONCE.call_once(|| {
                gst::warning!(
                    gst::CAT_DEFAULT,
                    "what the system holds for an RTMP server is not known, only what waits for rtmp2sink: {reason}"
                );
            });
        }
        Outgoing(found.ok())
    }

    fn find(&self) -> Result<(Diag, Found), String> {
        let failed = |error: std::io::Error| format!("sock_diag: {error}");
        let mut diag = Diag::open().map_err(failed)?;
        let ours: HashSet<u64> = own_sockets().difference(&self.earlier).copied().collect();
        let mut found = diag.connections_to(self.port).map_err(failed)?;
        found.retain(|socket| ours.contains(&socket.inode));
        let count = found.len();
        let (Some(socket), 1) = (found.pop(), count) else {
            return Err(format!("of {count} new connections to port {}, which is it?", self.port));
        };
        diag.underway(&socket).map_err(failed)?;
        Ok((diag, socket))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        connecting().retain(|port| *port != self.port);
    }
}

/// A connection of this process.
pub struct Outgoing(Option<(Diag, Found)>);

impl Outgoing {
    /// What the system holds for the peer; nothing where there is no connection, or the system does not tell.
    pub fn underway(&mut self) -> Underway {
        let Self(Some((diag, socket))) = self else { return Underway::default() };
        diag.underway(socket).unwrap_or_default()
    }
}

fn own_sockets() -> HashSet<u64> {
    let Ok(fds) = fs::read_dir("/proc/self/fd") else { return HashSet::new() };
    let inode = |fd: fs::DirEntry| {
        let link = fs::read_link(fd.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    fds.flatten().filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    fn fill(stream: &mut TcpStream) {
        stream.set_nonblocking(true).unwrap();
        while stream.write(&[0; 65536]).is_ok() {}
    }

    #[test]
    fn connections_of_one_process_to_one_port_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut earlier = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let turn = Turn::take(port).unwrap();
        assert!(Turn::take(port).is_none(), "one at a time");
        let mut first = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut first_seen = turn.connected();
        let turn = Turn::take(port).unwrap();
        let mut second = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut second_seen = turn.connected();
        let _peers = [listener.accept().unwrap(), listener.accept().unwrap(), listener.accept().unwrap()];
        fill(&mut earlier);
        assert_eq!((first_seen.underway().unacknowledged, second_seen.underway().unacknowledged), (0, 0));
        fill(&mut second);
        assert_eq!(first_seen.underway().unacknowledged, 0);
        assert!(second_seen.underway().unsent > 0);
        fill(&mut first);
        assert!(first_seen.underway().unsent > 0);
        drop(second);
        assert!(first_seen.underway().unsent > 0, "the other one's end is its own");
    }

    #[test]
    fn a_connection_that_cannot_be_told_has_nothing_under_way() {
        gst::init().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(Turn::take(port).unwrap().connected().underway(), Underway::default(), "there is none");
        let turn = Turn::take(port).unwrap();
        let mut two = [0; 2].map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap());
        two.iter_mut().for_each(fill);
        assert_eq!(turn.connected().underway(), Underway::default(), "there are two");
    }
}
