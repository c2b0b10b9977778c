// SPDX-License-Identifier: MPL-2.0

//! TCP sockets as the kernel sees them, asked for over netlink: `sock_diag(7)`.
//!
//! One socket is a question of microseconds; /proc/net/tcp, and a dump like it, walk the system's hash table.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::backlog::Underway;

/// The kernel puts no more into one datagram of a dump.
const DATAGRAM: usize = 32 << 10;
/// `tcpi_notsent_bytes` of `struct tcp_info` in linux/tcp.h, since Linux 4.6; the structure only ever grows at its end.
const NOTSENT_AT: usize = 144;
/// `tcpi_min_rtt`, in microseconds.
const MIN_RTT_AT: usize = 148;

/// A way to ask.
pub struct Diag {
    socket: Socket,
    buffer: Vec<u8>,
}

/// One TCP socket, as what the kernel finds it by.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its number in /proc/PID/fd.
    pub inode: u64,
    family: u8,
    id: SocketId,
}

impl Diag {
    /// # Errors
    /// Where the system has no netlink, or does not permit it.
    pub fn open() -> Result<Self> {
        let socket = Socket::new(NETLINK_SOCK_DIAG)?;
        // Answers are there when the question was put; nobody waits for one that is not.
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Connections to a port of whatever host.
    ///
    /// # Errors
    /// Where the kernel does not answer.
    pub fn connections_to(&mut self, port: u16) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for (family, mut id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
            id.destination_port = port;
            self.put(NLM_F_REQUEST | NLM_F_DUMP, question(family, id, ExtensionFlags::empty()))?;
            loop {
                let (responses, done) = self.answers()?;
                found.extend(responses.into_iter().map(|response| Found {
                    inode: response.header.inode.into(),
                    family: response.header.family,
                    id: response.header.socket_id,
                }));
                if done {
                    break;
                }
            }
        }
        found.retain(|socket| socket.id.destination_port == port);
        Ok(found)
    }

    /// What one socket holds.
    ///
    /// # Errors
    /// Where there is no such socket any more, or the kernel does not answer.
    pub fn underway(&mut self, socket: &Found) -> Result<Underway> {
        self.put(NLM_F_REQUEST, question(socket.family, socket.id.clone(), ExtensionFlags::INFO))?;
        let (responses, _) = self.answers()?;
        responses.first().and_then(underway).ok_or_else(|| Error::from(ErrorKind::NotFound))
    }

    fn put(&mut self, flags: u16, question: InetRequest) -> Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(question).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_| ())
    }

    /// The answers of one datagram, and whether they are the last.
    fn answers(&mut self) -> Result<(Vec<InetResponse>, bool)> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, 0)?;
        parse(&self.buffer)
    }
}

fn question(family: u8, socket_id: SocketId, extensions: ExtensionFlags) -> InetRequest {
    InetRequest { family, protocol: IPPROTO_TCP, extensions, states: StateFlags::ESTABLISHED, socket_id }
}

fn parse(datagram: &[u8]) -> Result<(Vec<InetResponse>, bool)> {
    let broken = |error: &dyn std::fmt::Display| Error::new(ErrorKind::InvalidData, error.to_string());
    let mut responses = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(|error| broken(&error))?;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                responses.push(*response)
            }
            NetlinkPayload::Done(_) => return Ok((responses, true)),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            _ => (),
        }
        // Messages begin at multiples of four bytes.
        let size = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(size.max(4)..).unwrap_or_default();
    }
    Ok((responses, false))
}

/// `None` where the kernel tells nothing of what it has not sent.
fn underway(response: &InetResponse) -> Option<Underway> {
    let info = response.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(info) => Some(info),
        _ => None,
    })?;
    let field = |at: usize| info.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    // All ones until it was measured.
    let round_trip = field(MIN_RTT_AT)?.checked_add(1).map_or(0, |us| us - 1);
    Some(Underway {
        unsent: field(NOTSENT_AT)?.into(),
        unacknowledged: response.header.send_queue.into(),
        round_trip: Duration::from_micros(round_trip.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::DefaultNla;
    use proptest::prelude::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    /// `struct tcp_info` as far as Linux 4.6 had it.
    fn info(notsent: u32, min_rtt: u32) -> Vec<u8> {
        let mut info = vec![0xEE; NOTSENT_AT];
        info.extend(notsent.to_ne_bytes());
        info.extend(min_rtt.to_ne_bytes());
        info
    }

    fn nothing(underway: Underway) -> bool {
        (underway.unsent, underway.unacknowledged) == (0, 0)
    }

    fn response(nlas: Vec<Nla>) -> InetResponse {
        let header = netlink_packet_sock_diag::inet::InetResponseHeader {
            family: AF_INET,
            state: 1,
            timer: None,
            socket_id: SocketId::new_v4(),
            recv_queue: 7,
            send_queue: 5000,
            uid: 0,
            inode: 42,
        };
        InetResponse { header, nlas: nlas.into() }
    }

    #[test]
    fn a_kernel_that_does_not_tell_what_it_has_not_sent_is_told_apart() {
        let told = |bytes| underway(&response(vec![Nla::Tos(0), Nla::TcpInfo(bytes)]));
        let expected = |ms| {
            let round_trip = Duration::from_millis(ms);
            Some(Underway { unsent: 1234, unacknowledged: 5000, round_trip })
        };
        assert_eq!(told(info(1234, 20_000)), expected(20));
        assert_eq!(told(info(1234, u32::MAX)), expected(0), "it was not measured yet");
        assert_eq!(told([info(1234, 20_000), vec![9; 200]].concat()), expected(20));
        assert_eq!(told(info(1234, 20_000)[..MIN_RTT_AT + 3].to_vec()), None);
        assert_eq!(told(vec![]), None);
        assert_eq!(underway(&response(vec![Nla::Other(DefaultNla::new(200, vec![1; 300]))])), None);
    }

    #[test]
    fn an_answer_of_several_messages_is_read_to_its_end() {
        let message = |payload| {
            let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            bytes
        };
        let one = message(SockDiagMessage::InetResponse(Box::new(response(vec![]))).into());
        let done = message(NetlinkPayload::Done(Default::default()));
        let (responses, last) = parse(&[one.clone(), one.clone()].concat()).unwrap();
        assert_eq!((responses.len(), last), (2, false));
        let (responses, last) = parse(&[one.clone(), done].concat()).unwrap();
        assert_eq!((responses.len(), responses[0].header.inode, last), (1, 42, true));
        assert!(parse(&one[..one.len() - 1]).is_err());
    }

    proptest! {
        #[test]
        fn no_datagram_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn what_the_peer_does_not_read_is_unsent_once_its_window_is_full() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut sender = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut diag = Diag::open().unwrap();
        let [socket] = &diag.connections_to(port).unwrap()[..] else { panic!("not one socket") };
        assert!(nothing(diag.underway(socket).unwrap()));
        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(bytes) = sender.write(&[0; 65536]) {
            sent += bytes;
        }
        let underway = diag.underway(socket).unwrap();
        assert!(underway.unsent > 0 && underway.unacknowledged >= underway.unsent, "{underway:?}");
        assert!(underway.unacknowledged <= sent as u64, "{underway:?} of {sent}");
        std::thread::spawn(move || while peer.read(&mut [0; 65536]).is_ok_and(|bytes| bytes > 0) {});
        let end = Instant::now() + Duration::from_secs(30);
        while !nothing(diag.underway(socket).unwrap()) {
            assert!(Instant::now() < end, "it never drains");
        }
        let gone = socket.clone();
        drop(sender);
        while diag.underway(&gone).is_ok() {
            assert!(Instant::now() < end, "it never goes");
        }
    }

    #[test]
    fn ipv6_is_found_as_well() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
        let port = listener.local_addr().unwrap().port();
        let _sender = TcpStream::connect(("::1", port)).unwrap();
        let mut diag = Diag::open().unwrap();
        let [socket] = &diag.connections_to(port).unwrap()[..] else { panic!("not one socket") };
        assert!(nothing(diag.underway(socket).unwrap()));
    }
}
