//! One connection: a host's socket on one side, a socket of the stack on the other. Bytes go straight from one's buffer
//! to the other's, so what waits is bounded by both, and each end of a stream is told to the other side as what it was:
//! a half-close or a reset.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration as Span;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Bytes that a connection buffers in each direction.
const BUFFER: usize = 128 * 1024;
/// How long a guest may take to accept a connection.
const CONNECT: Span = Span::from_secs(20);
/// After how long of silence a guest is asked whether it is still there, and how long it may not answer.
const ASK: Span = Span::from_secs(30);
const SILENCE: Span = Span::from_secs(120);
/// How long the stack may take for its last words when the host's side is gone.
const LAST_WORDS: Duration = Duration::from_secs(120);

/// A socket of the stack, not connected yet.
pub(super) fn socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_timeout(Some(CONNECT));
    socket
}

/// What a connection waits for on the host's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wants {
    pub(super) read: bool,
    pub(super) write: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Gone once both halves are closed.
    pub(super) host: Option<TcpStream>,
    pub(super) handle: SocketHandle,
    /// The port on our side of the guest's network.
    pub(super) port: u16,
    /// The host sent its last byte, and the guest was told.
    host_ended: bool,
    /// The guest's last byte came.
    guest_ended: bool,
    /// The host was told so.
    host_told: bool,
    established: bool,
    /// The host's side hung up in order; asking the kernel again would answer at once, for ever.
    hung_up: bool,
    orphan: Option<Instant>,
    pub(super) wants: Wants,
}

impl Connection {
    pub(super) fn new(host: TcpStream, handle: SocketHandle, port: u16) -> Self {
        Self {
            host: Some(host),
            handle,
            port,
            host_ended: false,
            guest_ended: false,
            host_told: false,
            established: false,
            hung_up: false,
            orphan: None,
            wants: Wants::default(),
        }
    }

    /// Whether the host's socket is worth watching.
    pub(super) fn watched(&self) -> Option<&TcpStream> {
        self.host.as_ref().filter(|_| !self.hung_up || self.wants != Wants::default())
    }

    /// The kernel said that the host's socket hung up or broke.
    pub(super) fn hung_up(&mut self, socket: &mut Socket<'_>) {
        let Some(host) = &self.host else { return };
        let broken = !matches!(host.take_error(), Ok(None));
        if broken || !self.host_told {
            self.host = None;
            socket.abort();
        } else {
            self.hung_up = true;
        }
    }

    /// Moves what can be moved. Whether anything was.
    pub(super) fn pump(&mut self, socket: &mut Socket<'_>) -> bool {
        if !self.established && socket.state() == State::Established {
            self.established = true;
            socket.set_timeout(Some(SILENCE));
            socket.set_keep_alive(Some(ASK));
        }
        // These states persist until we act, so none is missed between two looks.
        let ended = [State::CloseWait, State::LastAck, State::Closing, State::TimeWait].contains(&socket.state());
        self.guest_ended |= ended;
        self.wants = Wants::default();
        let moved = self.feed_host(socket) | self.feed_guest(socket);
        if self.host_ended && self.host_told {
            self.host = None;
        } else if socket.state() == State::Closed && !socket.can_recv() {
            // Refused, reset or silent: the host's side breaks off as the guest's did.
            self.reset_host();
        }
        if self.host.is_none() && self.orphan.is_none() {
            self.orphan = Some(Instant::now());
        }
        moved
    }

    fn feed_host(&mut self, socket: &mut Socket<'_>) -> bool {
        let mut moved = false;
        while let Some(host) = self.host.as_mut().filter(|_| socket.can_recv()) {
            let written = socket.recv(|bytes| match host.write(bytes) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error.kind())),
            });
            match written {
                Ok(Ok(count)) if count > 0 => moved = true,
                Ok(Err(ErrorKind::Interrupted)) => {}
                Ok(Err(ErrorKind::WouldBlock)) => {
                    self.wants.write = true;
                    break;
                }
                _ => {
                    self.host = None;
                    socket.abort();
                }
            }
        }
        if let Some(host) = self.host.as_ref().filter(|_| self.guest_ended && !self.host_told && !socket.can_recv()) {
            // Fails only when the host's side is gone, which the next look finds.
            let _ = host.shutdown(Shutdown::Write);
            self.host_told = true;
        }
        moved
    }

    fn feed_guest(&mut self, socket: &mut Socket<'_>) -> bool {
        let mut moved = false;
        while let Some(host) = self.host.as_mut().filter(|_| !self.host_ended && socket.can_send()) {
            let read = socket.send(|room| match host.read(room) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error.kind())),
            });
            match read {
                Ok(Ok(0)) => {
                    self.host_ended = true;
                    socket.close();
                    moved = true;
                }
                Ok(Ok(_)) => moved = true,
                Ok(Err(ErrorKind::Interrupted)) => {}
                Ok(Err(ErrorKind::WouldBlock)) => {
                    self.wants.read = true;
                    break;
                }
                _ => {
                    self.host = None;
                    socket.abort();
                }
            }
        }
        moved
    }

    fn reset_host(&mut self) {
        if let Some(host) = self.host.take() {
            // Closing without lingering sends a reset; where that fails the host sees an end, which is the next best.
            let _ = rustix::net::sockopt::set_socket_linger(&host, Some(Duration::ZERO));
        }
    }

    /// Whether nothing is left to do or to say. The stack's socket can go then: a lost acknowledgement of the guest's end
    /// makes it send that again and get a reset, which ends it too.
    pub(super) fn is_over(&mut self, socket: &mut Socket<'_>) -> bool {
        let Some(since) = self.orphan else { return false };
        if since.elapsed() > LAST_WORDS {
            let told = socket.state() == State::Closed;
            socket.abort();
            return told;
        }
        match socket.state() {
            State::TimeWait => true,
            // An abort has said its reset once it forgot whom it talked to.
            State::Closed => socket.remote_endpoint().is_none(),
            _ => false,
        }
    }
}
