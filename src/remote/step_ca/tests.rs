//! A CA of one answer: real TLS with a certificate of its own root, on the loopback.

use super::*;
use crate::error::kind_of;
use crate::remote::Server;
use rcgen::{BasicConstraints, IsCa, Issuer};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;

struct Ca {
    params: CertificateParams,
    key: KeyPair,
    root: rcgen::Certificate,
    /// The request that comes, and the certificate for its key.
    expected: (String, String),
}

impl Ca {
    fn new(request: &Request) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::from_params(&params, &key);
        let crt = CertificateParams::default().signed_by(&request.key, &issuer).unwrap().pem();
        let expected = (request.csr.clone(), crt);
        Self { params, key, root, expected }
    }

    fn fingerprint(&self) -> Sha256 {
        Sha256::of(self.root.der())
    }

    /// Serves `shown` as its root under a certificate for `name`; signs requests whose token is `good`, for another key
    /// when it is `swap`.
    fn serve(self, name: &str, shown: String) -> Server {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let chain = vec![CertificateDer::from(leaf.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(connection, stream);
                let Some((path, body)) = read_request(&mut stream) else { continue };
                let (status, answer) = self.answer(&path, &body, &shown);
                let head =
                    format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
                let _ = stream.write_all(format!("{head}{answer}").as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        Server { name: "controller".to_owned(), at }
    }

    fn answer(&self, path: &str, body: &str, shown: &str) -> (u16, String) {
        if path.starts_with("/root/") {
            return (200, serde_json::json!({ "ca": shown }).to_string());
        }
        let ask: serde_json::Value = serde_json::from_str(body).unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        assert_eq!(ask["csr"], self.expected.0);
        let crt = match ask["ott"].as_str().unwrap() {
            "good" => self.expected.1.clone(),
            "swap" => CertificateParams::default().signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().pem(),
            "busy" => return (503, String::new()),
            _ => return (401, "{}".into()),
        };
        (201, serde_json::json!({ "crt": crt, "ca": self.root.pem() }).to_string())
    }
}

/// Path and body of a request; none when the client did not trust us.
fn read_request(stream: &mut impl std::io::Read) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some((head.split(' ').nth(1)?.to_owned(), body.to_owned()));
        }
    }
}

fn mine() -> Request {
    request("operator", &["operator".to_owned()]).unwrap()
}

#[test]
fn a_pinned_ca_signs_a_request_made_here() {
    let mine = mine();
    let ca = Ca::new(&mine);
    let (fingerprint, root) = (ca.fingerprint(), ca.root.pem());
    let client = StepCa::pin(&ca.serve("controller", root.clone()), &fingerprint).unwrap();
    assert_eq!(client.root(), root);
    let chain = client.sign(&mine, "good").unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(!chain.contains("PRIVATE"));
    for (token, kind) in [("spent", Kind::Usage), ("swap", Kind::Integrity), ("busy", Kind::Network)] {
        assert_eq!(kind_of(&client.sign(&mine, token).unwrap_err()), kind, "{token}");
    }
}

#[test]
fn another_root_is_refused_before_anything_is_sent() {
    let mine = mine();
    let (ca, other) = (Ca::new(&mine), Ca::new(&mine));
    let fingerprint = ca.fingerprint();
    let server = ca.serve("controller", other.root.pem());
    assert_eq!(kind_of(&StepCa::pin(&server, &fingerprint).unwrap_err()), Kind::Integrity);
    // The right root, shown by a server that does not hold its key.
    let (ca, other) = (Ca::new(&mine), Ca::new(&mine));
    let (fingerprint, root) = (ca.fingerprint(), ca.root.pem());
    let client = StepCa::pin(&other.serve("controller", root), &fingerprint).unwrap();
    assert_eq!(kind_of(&client.sign(&mine, "good").unwrap_err()), Kind::Network);
}

#[test]
fn a_server_under_another_name_is_refused() {
    let mine = mine();
    let ca = Ca::new(&mine);
    let (fingerprint, root) = (ca.fingerprint(), ca.root.pem());
    let client = StepCa::pin(&ca.serve("worker-1", root), &fingerprint).unwrap();
    assert_eq!(kind_of(&client.sign(&mine, "good").unwrap_err()), Kind::Network);
}
