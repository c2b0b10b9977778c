// SPDX-License-Identifier: MPL-2.0

//! One TCP connection to the RTMP server: handshake, chunks and commands through `rml_rtmp`, which does no I/O.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use cvmmap_ipc::clock::unix_now_ns;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ServerSession, ServerSessionConfig, ServerSessionEvent, ServerSessionResult, StreamMetadata,
};

use super::super::Breach;
use super::gate::{Gate, contained};
use super::{Metadata, NAP, Server, Session};
use crate::exit::Failure;
use crate::tell;

/// Who has not connected to an application by then does not speak RTMP.
const INTRODUCTION: Duration = Duration::from_secs(2);
/// How long the peer may take to see that the server has closed.
const FAREWELL: Duration = Duration::from_secs(1);
const PIECE: usize = 64 << 10;

/// Why a connection is over.
enum Over {
    /// The peer closed it, or the server is done.
    Done,
    /// What came breaks the protocol.
    Broken(String),
    /// The receiver itself cannot go on.
    Failed(Failure),
}

impl From<std::io::Error> for Over {
    /// Whatever happens to a connection, the peer is not there any more.
    fn from(_: std::io::Error) -> Self {
        Self::Done
    }
}

fn broken(error: impl std::fmt::Display) -> Over {
    Over::Broken(error.to_string())
}

pub(super) struct Connection<'a> {
    server: &'a mut Server,
    stream: TcpStream,
    opened: Instant,
    /// The peer has connected to an application.
    introduced: bool,
    session: Option<Session>,
    gate: Gate,
    /// When the first bytes came behind the last whole message.
    began_unix_ns: Option<u64>,
}

impl<'a> Connection<'a> {
    /// Serves a connection to its end.
    pub fn serve(server: &'a mut Server, stream: TcpStream) -> Result<(), Failure> {
        let mut connection = Self {
            server,
            stream,
            opened: Instant::now(),
            introduced: false,
            session: None,
            gate: Gate::default(),
            began_unix_ns: None,
        };
        let Err(over) = connection.run();
        let Self { server, stream, introduced, session, .. } = connection;
        if !introduced {
            server.counted.refused += 1;
        }
        match over {
            Over::Done => (),
            Over::Broken(what) if introduced => {
                server.findings.add(Breach::protocol(format!("RTMP: {what}")))
            }
            Over::Broken(what) => tell::talk(format_args!("dropped what is no RTMP client: {what}")),
            Over::Failed(failure) => return Err(failure),
        }
        farewell(stream);
        if let Some(session) = session {
            server.unpublish(session);
        }
        Ok(())
    }

    fn run(&mut self) -> Result<std::convert::Infallible, Over> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_read_timeout(Some(NAP))?;
        self.stream.set_write_timeout(Some(FAREWELL))?;
        self.stream.set_nodelay(true)?;
        let mut buffer = vec![0; PIECE];
        let mut handshake = Handshake::new(PeerType::Server);
        let rest = loop {
            let size = self.read(&mut buffer)?;
            match handshake.process_bytes(&buffer[..size]).map_err(broken)? {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    self.stream.write_all(&response_bytes)?
                }
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    self.stream.write_all(&response_bytes)?;
                    break remaining_bytes;
                }
            }
        };
        let (mut rtmp, results) = ServerSession::new(ServerSessionConfig::new()).map_err(broken)?;
        self.handle(&mut rtmp, results, unix_now_ns())?;
        self.input(&mut rtmp, &rest)?;
        loop {
            let size = self.read(&mut buffer)?;
            self.input(&mut rtmp, &buffer[..size])?;
        }
    }

    /// Waits for bytes.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Over> {
        loop {
            if self.server.over() {
                return Err(Over::Done);
            }
            if !self.introduced && self.opened.elapsed() > INTRODUCTION {
                return Err(broken(format!("no connect within {INTRODUCTION:?}")));
            }
            match self.stream.read(buffer) {
                Ok(0) => return Err(Over::Done),
                Ok(size) => {
                    self.began_unix_ns.get_or_insert_with(unix_now_ns);
                    return Ok(size);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                        self.server.findings.extend(self.server.pictures.breaches());
                    }
                    _ => return Err(error.into()),
                },
            }
        }
    }

    fn input(&mut self, rtmp: &mut ServerSession, bytes: &[u8]) -> Result<(), Over> {
        let now = unix_now_ns();
        let gate = &mut self.gate;
        let results = contained(|| {
            gate.check(bytes)?;
            rtmp.handle_input(bytes).map_err(|error| error.to_string())
        })
        .map_err(broken)?;
        self.handle(rtmp, results, now)
    }

    fn handle(
        &mut self,
        rtmp: &mut ServerSession,
        results: Vec<ServerSessionResult>,
        now_unix_ns: u64,
    ) -> Result<(), Over> {
        for result in results {
            match result {
                ServerSessionResult::OutboundResponse(packet) => self.stream.write_all(&packet.bytes)?,
                ServerSessionResult::RaisedEvent(event) => {
                    // Only the first message can have begun with bytes that came earlier.
                    let began = self.began_unix_ns.take().unwrap_or(now_unix_ns);
                    let answers = self.event(rtmp, event, began)?;
                    self.handle(rtmp, answers, now_unix_ns)?;
                }
                ServerSessionResult::UnhandleableMessageReceived(_) => self.began_unix_ns = None,
            }
        }
        Ok(())
    }

    fn event(
        &mut self,
        rtmp: &mut ServerSession,
        event: ServerSessionEvent,
        arrival_unix_ns: u64,
    ) -> Result<Vec<ServerSessionResult>, Over> {
        match event {
            ServerSessionEvent::ConnectionRequested { request_id, app_name } => {
                tell::talk(format_args!("it connects to '{app_name}'"));
                self.introduced = true;
                return rtmp.accept_request(request_id).map_err(broken);
            }
            ServerSessionEvent::PublishStreamRequested { request_id, stream_key, .. } => {
                if self.session.is_some() {
                    return Err(broken("a second publish in a connection"));
                }
                tell::talk(format_args!("it publishes '{stream_key}'"));
                self.session = Some(self.server.publish().map_err(Over::Failed)?);
                return rtmp.accept_request(request_id).map_err(broken);
            }
            ServerSessionEvent::PlayStreamRequested { request_id, .. } => {
                let why = "this server takes publishers only";
                return rtmp.reject_request(request_id, "NetStream.Play.Failed", why).map_err(broken);
            }
            ServerSessionEvent::PublishStreamFinished { .. } => {
                if let Some(session) = self.session.take() {
                    self.server.unpublish(session);
                }
            }
            ServerSessionEvent::StreamMetadataChanged { metadata, .. } => {
                if let Some(session) = &mut self.session {
                    self.server.metadata(session, metadata.into());
                }
            }
            ServerSessionEvent::VideoDataReceived { data, timestamp, .. } => {
                if let Some(session) = &mut self.session {
                    self.server.video(session, timestamp.value, &data, arrival_unix_ns);
                }
            }
            ServerSessionEvent::AudioDataReceived { .. } => self.server.counted.audio_tags += 1,
            // Commands of one implementation or another: releaseStream, FCPublish, _checkbw.
            _ => (),
        }
        Ok(Vec::new())
    }
}

impl From<StreamMetadata> for Metadata {
    fn from(told: StreamMetadata) -> Self {
        Self {
            videocodecid: told.video_codec_id,
            width: told.video_width,
            height: told.video_height,
            framerate: told.video_frame_rate,
            encoder: told.encoder,
        }
    }
}

/// Closes so that the peer sees an end, not a reset, which bytes that nobody has read would make of it.
fn farewell(mut stream: TcpStream) {
    let end = Instant::now() + FAREWELL;
    let mut buffer = [0; 4096];
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    while Instant::now() < end {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => (),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => (),
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(_) => return,
        }
    }
}
