//! The supervisor's socket: one request, a line of JSON; then one answer, or one a line until either side hangs up.

use super::status::{Board, Status};
use crate::error::{Blame, Fault, Kind, Result, fault_of, kind_of};
use crate::lab::{Answer, Guest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// The socket's name in the cluster's directory.
pub(super) const SOCKET: &str = "control";
/// A request's largest size; scripts are the largest.
const LARGEST: u64 = 1 << 20;
/// How often a watcher hears that nothing changed; else it could not tell a quiet supervisor from a hung one.
const PULSE: Duration = Duration::from_secs(2);
/// How long a client waits for the first sign of life.
const SILENCE: Duration = Duration::from_secs(60);

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Ask {
    /// The status, once.
    Status,
    /// The status now and after each change.
    Watch,
    /// Read the plan again, add what is new, power on what is off.
    Start,
    /// Run a script in a machine.
    Run {
        /// The machine.
        name: String,
        /// For `sh`.
        script: String,
        /// Its bound.
        seconds: u64,
    },
    /// Press all power buttons, wait so long, cut what is left, and end.
    Down {
        /// The bound.
        seconds: u64,
    },
}

/// What only the supervisor's own thread can do.
#[derive(Debug)]
pub(super) enum Order {
    /// As [`Ask::Start`].
    Start(mpsc::Sender<Result<()>>),
    /// Finds the way into a machine.
    Guest(String, mpsc::Sender<Result<Guest>>),
    /// As [`Ask::Down`]; answered by the end.
    Down(Duration, mpsc::Sender<Result<()>>),
}

/// A script's answer on the wire.
#[derive(Debug, Serialize, Deserialize)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

/// A failure on the wire.
#[derive(Debug, Serialize, Deserialize)]
struct Failed {
    kind: String,
    message: String,
    hints: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply<T> {
    Done(T),
    Failed(Failed),
}

/// Listens in the current directory, which is the cluster's, and serves on threads that end with the process.
pub(super) fn serve(board: &Arc<Board>, orders: &mpsc::Sender<Order>) -> Result<()> {
    let doing = || "listening on the control socket".to_owned();
    // Whoever holds the supervisor's lock may take away what another one left.
    crate::sys::fs::remove(Path::new(SOCKET))?;
    let listener = UnixListener::bind(SOCKET).blame(Kind::Environment, doing)?;
    let (board, orders) = (Arc::clone(board), orders.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (board, orders) = (Arc::clone(&board), orders.clone());
            // A client that hangs up early is no failure of ours.
            std::thread::spawn(move || drop(answer(stream, &board, &orders)));
        }
    });
    Ok(())
}

fn answer(mut stream: UnixStream, board: &Board, orders: &mpsc::Sender<Order>) -> Result<()> {
    let mut line = String::new();
    BufReader::new((&stream).take(LARGEST)).read_line(&mut line)?;
    let ask = match serde_json::from_str(&line) {
        Ok(ask) => ask,
        Err(why) => {
            let fault = Fault::new(Kind::Usage, format!("the request was not understood: {why}"));
            return send::<()>(&mut stream, Err(fault.hint("is this the nodelith that started the cluster?").into()));
        }
    };
    match ask {
        Ask::Status => send(&mut stream, Ok(board.read().1)),
        Ask::Watch => {
            let (mut seen, status) = board.read();
            send(&mut stream, Ok(status))?;
            loop {
                let (number, status) = board.after(seen, PULSE);
                seen = number;
                send(&mut stream, Ok(status))?;
            }
        }
        Ask::Start => send(&mut stream, order(orders, Order::Start)),
        Ask::Down { seconds } => {
            send(&mut stream, order(orders, |reply| Order::Down(Duration::from_secs(seconds), reply)))
        }
        Ask::Run { name, script, seconds } => {
            let ran = order(orders, |reply| Order::Guest(name, reply))
                .and_then(|guest| guest.run(&script, Duration::from_secs(seconds)));
            let ran = ran.map(|answer| Ran { code: answer.code, stdout: answer.stdout, stderr: answer.stderr });
            send(&mut stream, ran)
        }
    }
}

fn order<T>(orders: &mpsc::Sender<Order>, make: impl FnOnce(mpsc::Sender<Result<T>>) -> Order) -> Result<T> {
    let ending = || Fault::new(Kind::Environment, "the supervisor is ending");
    let (reply, answer) = mpsc::channel();
    orders.send(make(reply)).map_err(|_| ending())?;
    answer.recv().map_err(|_| ending())?
}

fn send<T: Serialize>(stream: &mut UnixStream, result: Result<T>) -> Result<()> {
    let reply = result.map_or_else(|error| Reply::Failed(failed(&error)), Reply::Done);
    let mut line = serde_json::to_string(&reply)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    Ok(())
}

fn failed(error: &anyhow::Error) -> Failed {
    let hints = fault_of(error).map(|fault| fault.hints.clone()).unwrap_or_default();
    Failed { kind: kind_of(error).word().to_owned(), message: format!("{error:#}"), hints }
}

/// A failure that travelled, as what it was.
pub(super) fn fault(kind: &str, message: String, hints: Vec<String>) -> Fault {
    let kind = Kind::ALL.into_iter().find(|known| known.word() == kind).unwrap_or(Kind::Internal);
    hints.into_iter().fold(Fault::new(kind, message), Fault::hint)
}

/// Asks the supervisor of a cluster.
#[derive(Debug)]
pub struct Client {
    dir: PathBuf,
}

impl Client {
    /// A client of the cluster in a directory.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The status.
    ///
    /// # Errors
    /// [`Kind::Environment`] when no supervisor answers.
    pub fn status(&self) -> Result<Status> {
        self.ask(&Ask::Status, SILENCE)
    }

    /// Runs a script in a machine.
    ///
    /// # Errors
    /// [`Kind::Verdict`] when the guest gives no answer; [`Kind::Environment`] when no supervisor does.
    pub fn run(&self, name: &str, script: &str, bound: Duration) -> Result<Answer> {
        let ask = Ask::Run { name: name.to_owned(), script: script.to_owned(), seconds: bound.as_secs() };
        let ran: Ran = self.ask(&ask, bound + SILENCE)?;
        Ok(Answer { code: ran.code, stdout: ran.stdout, stderr: ran.stderr })
    }

    pub(super) fn start(&self) -> Result<()> {
        self.ask(&Ask::Start, Duration::from_secs(300))
    }

    pub(super) fn down(&self, bound: Duration) -> Result<()> {
        self.ask(&Ask::Down { seconds: bound.as_secs() }, bound + SILENCE)
    }

    /// The status now and whenever it changes, at least every two seconds, until the supervisor ends.
    pub(super) fn watch(&self) -> Result<impl Iterator<Item = Result<Status>> + use<>> {
        let stream = self.send(&Ask::Watch, SILENCE)?;
        Ok(BufReader::new(stream).lines().map(|line| receive(&line.blame(Kind::Environment, hung)?)))
    }

    fn ask<T: DeserializeOwned>(&self, ask: &Ask, bound: Duration) -> Result<T> {
        let stream = self.send(ask, bound)?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).blame(Kind::Environment, hung)?;
        if line.is_empty() {
            return Err(Fault::new(Kind::Environment, "the supervisor ended meanwhile").into());
        }
        receive(&line)
    }

    fn send(&self, ask: &Ask, bound: Duration) -> Result<UnixStream> {
        let doing = || format!("asking the supervisor of {}", self.dir.display());
        // By way of the open directory: a socket's path ends at 108 bytes, a directory's does not.
        let dir = File::open(&self.dir).blame(Kind::Environment, doing)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
        let mut stream = UnixStream::connect(path).blame(Kind::Environment, doing)?;
        stream.set_read_timeout(Some(bound)).blame(Kind::Environment, doing)?;
        let mut line = serde_json::to_string(ask).blame(Kind::Internal, doing)?;
        line.push('\n');
        stream.write_all(line.as_bytes()).blame(Kind::Environment, doing)?;
        Ok(stream)
    }
}

fn hung() -> String {
    "waiting for the supervisor".to_owned()
}

fn receive<T: DeserializeOwned>(line: &str) -> Result<T> {
    let doing = || Fault::new(Kind::Environment, "the supervisor's answer was not understood");
    let reply = serde_json::from_str(line).map_err(|why| {
        anyhow::Error::from(why).context(doing().hint("was the cluster started by another version of nodelith?"))
    })?;
    match reply {
        Reply::Done(value) => Ok(value),
        Reply::Failed(Failed { kind, message, hints }) => Err(fault(&kind, message, hints).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Plan;

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (ours, theirs)
    }

    fn board() -> Arc<Board> {
        Arc::new(Board::new(Status::off(&Plan::new(Path::new("/qemu")))))
    }

    /// What the server says to a request's line, in whole lines.
    fn said(line: &str, board: &Arc<Board>, orders: &mpsc::Sender<Order>) -> Vec<String> {
        let (mut ours, theirs) = pair();
        ours.write_all(line.as_bytes()).unwrap();
        answer(theirs, board, orders).unwrap();
        BufReader::new(ours).lines().map_while(std::result::Result::ok).collect()
    }

    #[test]
    fn a_request_that_is_none_is_refused_with_the_reason() {
        let (orders, _inbox) = mpsc::channel();
        for line in ["\n", "{}\n", "{\"ask\": \"reboot\"}\n", "{\"ask\": \"down\"}\n", &"x".repeat(2 << 20)] {
            let (mut ours, theirs) = pair();
            let line = line.to_owned();
            let writer = std::thread::spawn(move || {
                // The server reads a bounded piece only, so the rest may find nobody.
                let _ = ours.write_all(line.as_bytes());
                let mut said = String::new();
                BufReader::new(ours).read_line(&mut said).map(|_| said)
            });
            // Too much: the server hangs up with bytes unread, which the client sees as a reset or as the refusal.
            let _ = answer(theirs, &board(), &orders);
            if let Ok(said) = writer.join().unwrap() {
                let error = receive::<Status>(&said).unwrap_err();
                assert_eq!(kind_of(&error), Kind::Usage, "{error:#}");
            }
        }
    }

    #[test]
    fn the_status_travels_whole_and_a_watcher_hears_of_changes() {
        let (orders, _inbox) = mpsc::channel();
        let board = board();
        board.change(|status| status.supervisor = Some(7));
        let lines = said("{\"ask\": \"status\"}\n", &board, &orders);
        assert_eq!(receive::<Status>(&lines[0]).unwrap(), board.read().1);

        let (mut ours, theirs) = pair();
        ours.write_all(b"{\"ask\": \"watch\"}\n").unwrap();
        let for_thread = Arc::clone(&board);
        std::thread::spawn(move || answer(theirs, &for_thread, &orders));
        let mut lines = BufReader::new(ours).lines();
        let first: Status = receive(&lines.next().unwrap().unwrap()).unwrap();
        board.change(|status| status.supervisor = Some(8));
        let second: Status = receive(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((first.supervisor, second.supervisor), (Some(7), Some(8)));
    }

    #[test]
    fn orders_reach_the_supervisor_and_failures_come_back_as_what_they_were() {
        let (orders, inbox) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let Order::Down(bound, reply) = inbox.recv().unwrap() else { panic!("another order") };
            assert_eq!(bound, Duration::from_secs(5));
            reply.send(Err(Fault::new(Kind::Verdict, "it stays").hint("pull the plug").into())).unwrap();
        });
        let lines = said("{\"ask\": \"down\", \"seconds\": 5}\n", &board(), &orders);
        thread.join().unwrap();
        let error = receive::<()>(&lines[0]).unwrap_err();
        assert_eq!((kind_of(&error), error.to_string().as_str()), (Kind::Verdict, "it stays"));
        assert_eq!(fault_of(&error).unwrap().hints, ["pull the plug"]);
        // Nobody takes orders any more.
        let lines = said("{\"ask\": \"start\"}\n", &board(), &orders);
        assert!(receive::<()>(&lines[0]).unwrap_err().to_string().contains("is ending"));
    }

    #[test]
    fn a_socket_in_a_deep_directory_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let handle = File::open(&deep).unwrap();
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd())).unwrap();
        let board = board();
        let (orders, _inbox) = mpsc::channel();
        let for_thread = Arc::clone(&board);
        std::thread::spawn(move || answer(listener.accept().unwrap().0, &for_thread, &orders));
        assert_eq!(Client::new(&deep).status().unwrap(), board.read().1);
        let error = Client::new(dir.path()).status().unwrap_err();
        assert_eq!(kind_of(&error), Kind::Environment);
    }
}
