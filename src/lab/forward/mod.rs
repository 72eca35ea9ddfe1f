//! A host of our own on the switch, and TCP ports of this machine's loopback that lead through it to the guests: so a
//! stock client reaches a machine, without root, tap or route.
//!
//! One thread does all: it moves frames between the switch and a TCP stack (smoltcp), and bytes between that stack's
//! sockets and the host's. Connections, their buffers and the card's queue are bounded; who comes beyond that waits in
//! the kernel's queue.

mod card;
mod connection;

use crate::error::{Blame, Kind, Result};
use crate::lab::switch::{Mac, PortId, Switch};
use crate::sys::entropy;
use card::Card;
use connection::{Connection, Wants};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use smoltcp::iface::{Config, Interface, PollResult, SocketSet};
use smoltcp::socket::tcp::Socket;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Cidr};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections at a time, of all forwards together: 32 MiB of buffers at most.
const CONNECTIONS: usize = 128;
/// Local ports of connections into the guests' network (RFC 6335, dynamic ports).
const PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;
/// Our hardware address: locally administered, no machine's.
const MAC: Mac = [0x02, 0x4e, 0x4c, 0, 0, 2];
/// How often connections whose host is gone are looked at.
const TIDY: Duration = Duration::from_secs(1);

/// One forwarded port.
#[derive(Debug)]
pub struct Forward {
    /// Where the host's programs connect.
    pub listener: TcpListener,
    /// Where their connections end, in the guests' network.
    pub to: SocketAddrV4,
}

/// The host on the switch. Dropping it breaks off its connections and closes its listeners.
#[derive(Debug)]
pub struct Forwarder {
    port: PortId,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Plugs a host with this address into a new port of the switch and starts forwarding.
    ///
    /// # Errors
    /// [`Kind::Environment`] when a socket cannot be set up.
    pub fn start(switch: &Switch, address: Ipv4Addr, prefix: u8, forwards: Vec<Forward>) -> Result<Self> {
        let doing = || "opening a network link".to_owned();
        let (ours, theirs) = UnixStream::pair().blame(Kind::Environment, doing)?;
        let (stop, stopped) = UnixStream::pair().blame(Kind::Environment, doing)?;
        let port = switch.add_port();
        switch.plug(port, theirs)?;
        for forward in &forwards {
            forward.listener.set_nonblocking(true).blame(Kind::Environment, || "listening".to_owned())?;
        }
        let mut card = Card::new(ours)?;
        let seed = entropy::bytes::<8>()?;
        let interface = interface(&mut card, MAC, address, prefix, u64::from_le_bytes(seed));
        let next = PORTS.start() + (u16::from_le_bytes([seed[0], seed[1]]) & 0x3fff);
        let stack = Stack {
            card,
            interface,
            sockets: SocketSet::new(Vec::new()),
            forwards,
            connections: Vec::new(),
            next,
            since: std::time::Instant::now(),
        };
        let thread = std::thread::spawn(move || stack.run(&stopped));
        Ok(Self { port, stop: Some(stop), thread: Some(thread) })
    }

    /// Its port of the switch.
    #[must_use]
    pub fn port(&self) -> PortId {
        self.port
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

fn interface(card: &mut Card, mac: Mac, address: Ipv4Addr, prefix: u8, seed: u64) -> Interface {
    let mut config = Config::new(EthernetAddress(mac).into());
    config.random_seed = seed;
    let mut interface = Interface::new(config, card, Instant::ZERO);
    interface.update_ip_addrs(|addresses| {
        // There is room for two.
        let _ = addresses.push(IpCidr::Ipv4(Ipv4Cidr::new(address, prefix)));
    });
    interface
}

struct Stack {
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    forwards: Vec<Forward>,
    connections: Vec<Connection>,
    next: u16,
    since: std::time::Instant,
}

impl Stack {
    fn run(mut self, stopped: &UnixStream) {
        while !self.card.is_gone() {
            let again = self.turn();
            if self.wait(stopped, again) {
                return;
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(i64::try_from(self.since.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    /// Moves everything that can be moved now. Whether there may be more at once.
    fn turn(&mut self) -> bool {
        self.card.fill();
        let now = self.now();
        let mut again = self.interface.poll(now, &mut self.card, &mut self.sockets) != PollResult::None;
        again |= self.accept();
        for connection in &mut self.connections {
            again |= connection.pump(self.sockets.get_mut(connection.handle));
        }
        let now = self.now();
        again |= self.interface.poll(now, &mut self.card, &mut self.sockets) != PollResult::None;
        self.card.flush();
        let sockets = &mut self.sockets;
        self.connections.retain_mut(|connection| {
            let over = connection.is_over(sockets.get_mut::<Socket<'_>>(connection.handle));
            if over {
                sockets.remove(connection.handle);
            }
            !over
        });
        again && !self.card.is_full()
    }

    /// Takes one connection of each listener, while there is room.
    fn accept(&mut self) -> bool {
        let mut taken = false;
        for index in 0..self.forwards.len() {
            if self.connections.len() >= CONNECTIONS {
                break;
            }
            // Nothing there, or a client that went away again.
            let Ok((host, _)) = self.forwards[index].listener.accept() else { continue };
            if host.set_nonblocking(true).and_then(|()| host.set_nodelay(true)).is_err() {
                continue;
            }
            let to = self.forwards[index].to;
            let port = self.free_port();
            let mut socket = connection::socket();
            // A remote address of our own network is always addressable, and the socket is new.
            if socket.connect(self.interface.context(), (*to.ip(), to.port()), port).is_ok() {
                let handle = self.sockets.add(socket);
                self.connections.push(Connection::new(host, handle, port));
                taken = true;
            }
        }
        taken
    }

    /// In turn, so that a guest never sees a port again that it still remembers.
    fn free_port(&mut self) -> u16 {
        loop {
            let port = self.next;
            self.next = if port == *PORTS.end() { *PORTS.start() } else { port + 1 };
            if self.connections.iter().all(|connection| connection.port != port) {
                return port;
            }
        }
    }

    /// Sleeps until something can be moved. Whether it is over.
    fn wait(&mut self, stopped: &UnixStream, again: bool) -> bool {
        let room = self.connections.len() < CONNECTIONS;
        let now = self.now();
        let mut delay = self.interface.poll_delay(now, &self.sockets).map(Duration::from);
        if self.card.is_full() {
            // Only the switch can help then; the stack would say "at once".
            delay = None;
        }
        if again {
            delay = Some(Duration::ZERO);
        } else if self.connections.iter().any(|connection| connection.host.is_none()) {
            delay = Some(delay.map_or(TIDY, |delay| delay.min(TIDY)));
        }
        let delay = delay.map(|delay| Timespec {
            tv_sec: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: delay.subsec_nanos().into(),
        });
        let mut fds = vec![PollFd::new(stopped, PollFlags::IN)];
        let card = if self.card.is_waiting() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        fds.push(PollFd::new(&self.card, card));
        if room {
            fds.extend(self.forwards.iter().map(|forward| PollFd::new(&forward.listener, PollFlags::IN)));
        }
        let first = fds.len();
        let mut who = Vec::new();
        for (index, connection) in self.connections.iter().enumerate() {
            if let Some(host) = connection.watched() {
                fds.push(PollFd::new(host, flags(connection.wants)));
                who.push(index);
            }
        }
        // Interrupted by a signal: look again.
        let _ = poll(&mut fds, delay.as_ref());
        let over = !fds[0].revents().is_empty();
        let broken = |fd: &PollFd<'_>| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR);
        let broken: Vec<usize> =
            who.iter().zip(&fds[first..]).filter(|(_, fd)| broken(fd)).map(|(index, _)| *index).collect();
        for index in broken {
            let connection = &mut self.connections[index];
            // Where bytes can still be moved, moving them finds the end in its order.
            if connection.wants == Wants::default() {
                connection.hung_up(self.sockets.get_mut(connection.handle));
            }
        }
        over
    }
}

fn flags(wants: Wants) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, wants.read);
    flags.set(PollFlags::OUT, wants.write);
    flags
}

#[cfg(test)]
mod tests;
