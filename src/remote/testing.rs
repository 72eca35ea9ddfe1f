//! A small HTTP server for tests, with faults on order.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does when a path is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// These bytes.
    Good(Vec<u8>),
    /// Half of the bytes, then the end, under the full length.
    Truncated(Vec<u8>),
    /// Half of the bytes without a length, as if complete.
    Short(Vec<u8>),
    /// Some bytes, then silence.
    Stalls(Vec<u8>),
    /// The bytes in ten pieces, a fifth of a second apart: slow, but never silent for long.
    Slow(Vec<u8>),
    /// A redirect to this path.
    Redirect(String),
    /// This status.
    Status(u16),
    /// One failure of status 503, then these bytes.
    Flaky(Vec<u8>),
}

/// A server that lives as long as the test's process.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) base: String,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            base: format!("http://{}", listener.local_addr().unwrap()),
            answers: Arc::default(),
            asked: Arc::default(),
        };
        let shared = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(&stream));
            }
        });
        server
    }

    pub(crate) fn set(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    pub(crate) fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.set(path, Answer::Good(bytes.into()));
    }

    /// What a path is answered with.
    pub(crate) fn answer(&self, path: &str) -> Answer {
        self.answers.lock().unwrap()[path].clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.answers.lock().unwrap().keys().cloned().collect()
    }

    /// How often paths that end so were asked for.
    pub(crate) fn asked(&self, ending: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| path.ends_with(ending)).count()
    }

    fn serve(&self, stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let path = first.split(' ').nth(1).unwrap_or("").to_owned();
        // The whole request is read, else closing the socket resets the connection.
        let _ = lines.by_ref().take_while(|line| !line.is_empty()).count();
        self.asked.lock().unwrap().push(path.clone());
        let answer = self.answers.lock().unwrap().get(&path).cloned().unwrap_or(Answer::Status(404));
        let mut out = stream;
        let mut send = |head: &str, body: &[u8]| {
            let _ = write!(out, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
            let _ = out.write_all(body);
        };
        let sized = |bytes: &[u8]| format!("200 OK\r\nContent-Length: {}", bytes.len());
        match answer {
            Answer::Good(bytes) => send(&sized(&bytes), &bytes),
            Answer::Truncated(bytes) => send(&sized(&bytes), &bytes[..bytes.len() / 2]),
            Answer::Short(bytes) => send("200 OK", &bytes[..bytes.len() / 2]),
            Answer::Stalls(bytes) => {
                send(&sized(&bytes), &bytes[..bytes.len() / 2]);
                std::thread::sleep(Duration::from_secs(20));
            }
            Answer::Slow(bytes) => {
                send(&sized(&bytes), b"");
                for piece in bytes.chunks(bytes.len().div_ceil(10)) {
                    std::thread::sleep(Duration::from_millis(200));
                    let _ = (&mut (&*stream)).write_all(piece);
                }
            }
            Answer::Redirect(to) => send(&format!("302 Found\r\nLocation: {to}\r\nContent-Length: 0"), b""),
            Answer::Status(status) => send(&format!("{status} Status\r\nContent-Length: 0"), b""),
            Answer::Flaky(bytes) => {
                send("503 Later\r\nContent-Length: 0", b"");
                self.put(&path, bytes);
            }
        }
    }
}

/// A client for test servers: main archive at the first's `/debian`, security at `/debian-security`, impatient.
pub(crate) fn remote(servers: &[&Server], offline: bool) -> super::Remote {
    let at = |path: &str| servers.iter().map(|server| format!("{}{path}", server.base)).collect();
    super::Remote::new(super::Settings {
        mirrors: super::Mirrors { main: at("/debian"), security: at("/debian-security") },
        offline,
        idle: Duration::from_millis(1000),
        attempts: 2,
        pause: Duration::from_millis(1),
    })
    .unwrap()
}
