use super::testing::{Answer, Server, remote};
use super::*;
use crate::error::kind_of;

fn fetch(remote: &Remote, bytes: &[u8]) -> (tempfile::TempDir, Result<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let urls = remote.urls("trixie", "pool/x.deb");
    let result = remote.object(&store, "x.deb", &urls, (&Sha256::of(bytes), bytes.len() as u64), &|_| {});
    assert_eq!(std::fs::read_dir(store.tmp()).unwrap().count(), 0, "nothing half-written stays");
    assert_eq!(store.has(&Sha256::of(bytes)), result.is_ok());
    (dir, result)
}

#[test]
fn each_fault_has_its_kind_and_names_the_address() {
    let bytes = vec![b'x'; 10_000];
    let other = vec![b'y'; 10_000];
    let path = "/debian/pool/x.deb";
    let cases = [
        (Answer::Truncated(bytes.clone()), Kind::Network, "downloading x.deb"),
        (Answer::Stalls(bytes.clone()), Kind::Network, "downloading x.deb"),
        (Answer::Short(bytes.clone()), Kind::Integrity, "only 5000 came"),
        (Answer::Good(other), Kind::Integrity, "these hash to"),
        (Answer::Good(vec![b'x'; 10_001]), Kind::Integrity, "more than the 10000 bytes"),
        (Answer::Status(404), Kind::Network, "answered 404"),
        (Answer::Status(500), Kind::Network, "answered 500"),
        (Answer::Redirect(path.into()), Kind::Network, "redirect"),
    ];
    for (answer, kind, message) in cases {
        let server = Server::start();
        server.set(path, answer.clone());
        let (_dir, result) = fetch(&remote(&[&server], false), &bytes);
        let error = result.unwrap_err();
        let text = format!("{error:#}");
        assert_eq!(kind_of(&error), kind, "{text}");
        assert!(text.contains(message) && text.contains(&server.base), "{text}");
    }
}

#[test]
fn a_second_attempt_and_a_second_mirror_help() {
    let (bad, good) = (Server::start(), Server::start());
    bad.put("/debian/pool/x.deb", b"forged".to_vec());
    good.set("/debian/pool/x.deb", Answer::Flaky(b"honest".to_vec()));
    let (_dir, result) = fetch(&remote(&[&bad, &good], false), b"honest");
    result.unwrap();
    assert_eq!((bad.asked("x.deb"), good.asked("x.deb")), (1, 2));
}

#[test]
fn slow_is_not_silent() {
    let server = Server::start();
    server.set("/debian/pool/x.deb", Answer::Slow(b"0123456789".to_vec()));
    let start = std::time::Instant::now();
    fetch(&remote(&[&server], false), b"0123456789").1.unwrap();
    assert!(start.elapsed() > Duration::from_secs(1), "the test itself was too quick: {:?}", start.elapsed());
    assert_eq!(server.asked("x.deb"), 1, "the first attempt was given up");
}

#[test]
fn no_network_says_so() {
    let server = Server::start();
    let (_dir, result) = fetch(&remote(&[&server], true), b"x");
    let error = result.unwrap_err();
    assert_eq!((kind_of(&error), server.asked("")), (Kind::Network, 0));
    assert!(format!("{error:#}").contains("x.deb is not in the store, and --offline"));

    let mut closed = server;
    closed.base = "http://127.0.0.1:9".into();
    let error = fetch(&remote(&[&closed], false), b"x").1.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Network);
    assert!(format!("{error:#}").contains("127.0.0.1:9"), "{error:#}");
}
