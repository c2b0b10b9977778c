// SPDX-License-Identifier: MPL-2.0

//! How much of what was sent has not reached the peer, for sockets that a library keeps to itself.

use std::collections::HashSet;
use std::fs;

/// A connection of this process that was made after [`Outgoing::watch`].
#[derive(Debug)]
pub struct Outgoing {
    port: u16,
    earlier: HashSet<u64>,
}

impl Outgoing {
    /// Watches for the next connection to a port.
    pub fn watch(port: u16) -> Self {
        Self { port, earlier: own_sockets() }
    }

    /// Bytes that were handed to the system and not acknowledged; 0 where there is no connection, or no /proc.
    pub fn queued(&self) -> u64 {
        let ours: HashSet<u64> = own_sockets().difference(&self.earlier).copied().collect();
        if ours.is_empty() {
            return 0;
        }
        ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|table| table.lines().skip(1).filter_map(Row::parse).collect::<Vec<_>>())
            .filter(|row| row.remote_port == self.port && ours.contains(&row.inode))
            .map(|row| row.queued)
            .sum()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    remote_port: u16,
    queued: u64,
    inode: u64,
}

impl Row {
    /// `sl local remote state tx:rx timer retransmits uid timeout inode ...`, numbers but the inode in hex.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let remote_port = u16::from_str_radix(fields.get(2)?.rsplit_once(':')?.1, 16).ok()?;
        let queued = u64::from_str_radix(fields.get(4)?.split_once(':')?.0, 16).ok()?;
        Some(Self { remote_port, queued, inode: fields.get(9)?.parse().ok()? })
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
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_row_of_the_table_is_read() {
        let line = "   1: 0100007F:C350 0100007F:078F 01 0001F4A0:00000000 01:00000014 00000000  1000        0 987654 2 0";
        assert_eq!(Row::parse(line), Some(Row { remote_port: 1935, queued: 0x1F4A0, inode: 987_654 }));
        assert_eq!(Row::parse("  sl  local_address rem_address   st tx_queue"), None);
    }

    #[test]
    fn what_the_peer_does_not_read_is_queued() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let earlier = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let _ = listener.accept().unwrap();
        let watched = Outgoing::watch(port);
        let mut sender = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        assert_eq!(watched.queued(), 0);
        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(bytes) = sender.write(&[0; 65536]) {
            sent += bytes;
        }
        let queued = watched.queued();
        assert!(queued > 0 && queued <= sent as u64, "{queued} of {sent}");
        std::thread::spawn(move || while peer.read(&mut [0; 65536]).is_ok_and(|bytes| bytes > 0) {});
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while watched.queued() > 0 {
            assert!(std::time::Instant::now() < end, "it never drains");
        }
        drop((sender, earlier));
    }
}
