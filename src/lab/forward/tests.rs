//! Two ends in one process: real sockets of the loopback on one side, a guest's stack on another port of the switch.

use super::*;
use crate::lab::switch::Fault;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

const GUEST: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 10);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 2);
/// Sends back what comes, and ends when the other side ended.
const ECHO: u16 = 7;
/// Counts what comes, and says how much it was after the other side ended.
const COUNT: u16 = 9;
/// Sends [`MUCH`] bytes and ends first.
const SOURCE: u16 = 19;
/// Resets upon the first byte.
const RESET: u16 = 21;
/// Nobody listens.
const CLOSED: u16 = 23;
const MUCH: usize = 3_000_000;

/// One socket of the guest and what it has done.
struct Seat {
    handle: SocketHandle,
    port: u16,
    count: usize,
}

fn byte(at: usize) -> u8 {
    u8::try_from(at % 251).unwrap()
}

impl Seat {
    fn serve(&mut self, socket: &mut Socket<'_>) {
        let ended = socket.state() == State::CloseWait && !socket.can_recv();
        match self.port {
            _ if !socket.is_open() => {
                self.count = 0;
                socket.listen(self.port).unwrap();
            }
            ECHO => {
                let room = socket.send_capacity() - socket.send_queue();
                let mut buffer = vec![0; room.min(socket.recv_queue())];
                let read = socket.recv_slice(&mut buffer).unwrap_or(0);
                assert_eq!(socket.send_slice(&buffer[..read]).unwrap_or(0), read);
                if ended {
                    socket.close();
                }
            }
            COUNT => {
                self.count += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap_or(0);
                if ended && socket.may_send() {
                    socket.send_slice(self.count.to_string().as_bytes()).unwrap();
                    socket.close();
                }
            }
            SOURCE if socket.may_send() => {
                while self.count < MUCH && socket.can_send() {
                    let bytes: Vec<u8> = (self.count..MUCH.min(self.count + 4096)).map(byte).collect();
                    self.count += socket.send_slice(&bytes).unwrap();
                }
                if self.count == MUCH {
                    socket.close();
                }
            }
            RESET if socket.can_recv() => socket.abort(),
            _ => {}
        }
    }
}

/// A guest that lives as long as the switch.
fn guest(switch: &Switch) -> PortId {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let port = switch.add_port();
    switch.plug(port, theirs).unwrap();
    std::thread::spawn(move || {
        let mut card = Card::new(ours).unwrap();
        let mut interface = interface(&mut card, [2, 0, 0, 0, 0, 9], GUEST, 24, 7);
        let mut sockets = SocketSet::new(Vec::new());
        let mut seats = Vec::new();
        for (port, count) in [(ECHO, 150), (COUNT, 2), (SOURCE, 2), (RESET, 2)] {
            for _ in 0..count {
                let mut socket = connection::socket();
                socket.set_timeout(None);
                let handle = sockets.add(socket);
                seats.push(Seat { handle, port, count: 0 });
            }
        }
        let since = std::time::Instant::now();
        while !card.is_gone() {
            let now = Instant::from_micros(i64::try_from(since.elapsed().as_micros()).unwrap());
            card.fill();
            interface.poll(now, &mut card, &mut sockets);
            for seat in &mut seats {
                let handle = seat.handle;
                seat.serve(sockets.get_mut(handle));
            }
            interface.poll(now, &mut card, &mut sockets);
            card.flush();
            let wait = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
            poll(&mut [PollFd::new(&card, PollFlags::IN)], Some(&wait)).unwrap();
        }
    });
    port
}

/// A switch with a guest behind forwards of all its ports; the ports of the loopback, and the guest's port.
struct Bench {
    switch: Switch,
    forwarder: Forwarder,
    guest: PortId,
    at: std::collections::BTreeMap<u16, SocketAddr>,
}

fn bench() -> Bench {
    let switch = Switch::new(7, None, None).unwrap();
    let guest = guest(&switch);
    let mut at = std::collections::BTreeMap::new();
    let mut forwards = Vec::new();
    for port in [ECHO, COUNT, SOURCE, RESET, CLOSED] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        at.insert(port, listener.local_addr().unwrap());
        forwards.push(Forward { listener, to: SocketAddrV4::new(GUEST, port) });
    }
    let forwarder = Forwarder::start(&switch, HOST, 24, forwards).unwrap();
    Bench { switch, forwarder, guest, at }
}

impl Bench {
    fn connect(&self, port: u16) -> TcpStream {
        let stream = TcpStream::connect(self.at[&port]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn lossy(&self) {
        let millis = Duration::from_millis;
        let fault = Fault { drop: 3, duplicate: 2, delay: millis(1), jitter: millis(2), cut: false };
        self.switch.set_fault(self.guest, fault);
        self.switch.set_fault(self.forwarder.port(), fault);
    }
}

fn read_all(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    stream.read_to_end(&mut out).map(|_| out)
}

#[test]
fn a_half_closed_connection_still_brings_the_answer() {
    let bench = bench();
    let mut stream = bench.connect(COUNT);
    for piece in vec![5; MUCH].chunks(40_000) {
        stream.write_all(piece).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), MUCH.to_string().as_bytes());
}

#[test]
fn a_guest_that_ends_first_is_heard_to_its_last_byte() {
    let bench = bench();
    let mut stream = bench.connect(SOURCE);
    let got = read_all(&mut stream).unwrap();
    assert_eq!(got.len(), MUCH);
    assert!(got.iter().enumerate().all(|(at, found)| *found == byte(at)));
}

#[test]
fn a_lossy_link_changes_no_byte() {
    let bench = bench();
    bench.lossy();
    let mut stream = bench.connect(ECHO);
    let sent: Vec<u8> = (0..150_000).map(byte).collect();
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let thread = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(read_all(&mut stream).unwrap() == sent);
    thread.join().unwrap();
}

#[test]
fn refused_and_reset_are_a_reset_on_the_hosts_side() {
    let bench = bench();
    let refused = read_all(&mut bench.connect(CLOSED)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionReset);
    let mut stream = bench.connect(RESET);
    stream.write_all(b"x").unwrap();
    assert_eq!(read_all(&mut stream).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_client_that_resets_or_goes_frees_its_place() {
    let bench = bench();
    // More than there are places, so that each must have been given back.
    for at in 0..2 * CONNECTIONS {
        let mut stream = bench.connect(ECHO);
        stream.write_all(b"hello").unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
        if at % 2 == 0 {
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
    }
}

#[test]
fn many_at_once_are_served_and_those_beyond_the_bound_wait() {
    let bench = bench();
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS + 20).map(|_| bench.connect(ECHO)).collect();
    for (at, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&u32::try_from(at).unwrap().to_be_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    }
    for (at, stream) in streams.iter_mut().enumerate() {
        assert_eq!(read_all(stream).unwrap(), u32::try_from(at).unwrap().to_be_bytes());
    }
}

#[test]
fn a_host_that_does_not_read_holds_up_only_itself() {
    let bench = bench();
    let mut lazy = bench.connect(SOURCE);
    std::thread::sleep(Duration::from_millis(300));
    let mut stream = bench.connect(ECHO);
    stream.write_all(b"x").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut stream).unwrap(), b"x");
    assert_eq!(read_all(&mut lazy).unwrap().len(), MUCH);
}

#[test]
fn dropping_the_forwarder_ends_its_connections_and_frees_its_ports() {
    let bench = bench();
    let (mut stream, at) = (bench.connect(ECHO), bench.at[&ECHO]);
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    drop(bench.forwarder);
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    assert!(TcpStream::connect(at).is_err());
    TcpListener::bind(at).unwrap();
}
