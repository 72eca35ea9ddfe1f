//! A client of step-ca: the root is pinned by its fingerprint, and a request made here is signed for a one-time token.
//! The requests are those of step-ca's HTTP API (`/root/SHA256`, `/1.0/sign`).

use super::tls::{Server, Trust, client};
use crate::digest::Sha256;
use crate::error::{Blame, Fault, Kind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _};
use serde::Deserialize;

/// The largest answer that is read: a chain of two certificates has three kilobytes.
const LARGEST: u64 = 1 << 20;

/// A key that was made here and the request for its certificate.
pub struct Request {
    key: KeyPair,
    key_pem: String,
    csr: String,
}

impl Request {
    /// The private key in PEM (PKCS#8).
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key_pem
    }
}

/// Makes a P-256 key and a request for its certificate: a common name, and names or addresses.
///
/// # Errors
/// When a name is none.
pub fn request(common_name: &str, sans: &[String]) -> Result<Request> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(sans.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let csr = params.serialize_request(&key)?.pem()?;
    Ok(Request { key_pem: key.serialize_pem(), key, csr })
}

/// A CA whose root is known.
#[derive(Debug)]
pub struct StepCa {
    client: reqwest::blocking::Client,
    url: String,
    root: String,
}

#[derive(Deserialize)]
struct Root {
    ca: String,
}

#[derive(Deserialize)]
struct Signed {
    crt: String,
    ca: String,
}

impl StepCa {
    /// Fetches the root certificate and checks it against its fingerprint. Whoever answers is not trusted before.
    ///
    /// # Errors
    /// [`Kind::Network`] when nobody answers; [`Kind::Integrity`] when the root is another one.
    pub fn pin(server: &Server, fingerprint: &Sha256) -> Result<Self> {
        let url = server.url();
        let stranger = client(server, &Trust::Nobody, None)?;
        let answer = send(stranger.get(format!("{url}/root/{fingerprint}")), "asking the CA for its root")?;
        let other = || {
            let why = format!("the CA has not the root certificate with the fingerprint {fingerprint}");
            Fault::new(Kind::Integrity, why).hint("is this the CA of this cluster?")
        };
        if !answer.status().is_success() {
            return Err(other().into());
        }
        let root = body::<Root>(answer)?.ca;
        if der(&root).is_none_or(|der| Sha256::of(&der) != *fingerprint) {
            return Err(other().into());
        }
        Ok(Self { client: client(server, &Trust::Root(&root), None)?, url, root })
    }

    /// The root certificate in PEM.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Shows a token and gets the certificate with its intermediate, in PEM.
    ///
    /// # Errors
    /// [`Kind::Network`] when the CA does not answer (the token may be spent then); [`Kind::Usage`] when it refuses the
    /// token; [`Kind::Integrity`] when the certificate is not for this key.
    pub fn sign(&self, request: &Request, token: &str) -> Result<String> {
        let ask = serde_json::json!({ "csr": request.csr, "ott": token }).to_string();
        let post = self.client.post(format!("{}/1.0/sign", self.url)).header("content-type", "application/json");
        let answer = send(post.body(ask), "asking the CA for a certificate")?;
        let status = answer.status();
        if status.is_server_error() {
            return Err(Fault::new(Kind::Network, format!("the CA answered {status}")).into());
        }
        if !status.is_success() {
            let fault = Fault::new(Kind::Usage, format!("the CA refused the token: {status}"));
            let hint =
                "401: it is spent, too old, or of a provisioner that the CA does not know; 403: made for another name";
            return Err(fault.hint(hint).into());
        }
        let signed: Signed = body(answer)?;
        // The certificate holds the key's subjectPublicKeyInfo (RFC 5280, 4.1) as it is.
        let spki = request.key.subject_public_key_info();
        if der(&signed.crt).is_none_or(|der| !der.windows(spki.len()).any(|window| window == spki)) {
            return Err(Fault::new(Kind::Integrity, "the CA answered with a certificate for another key").into());
        }
        Ok(format!("{}\n{}\n", signed.crt.trim_end(), signed.ca.trim_end()))
    }
}

/// The bytes of a text's first PEM block (RFC 7468).
fn der(pem: &str) -> Option<Vec<u8>> {
    let inside = pem.split_once("-----BEGIN CERTIFICATE-----")?.1.split_once("-----END CERTIFICATE-----")?.0;
    STANDARD.decode(inside.split_whitespace().collect::<String>()).ok()
}

/// Sends a request; its failure is the network's.
pub(super) fn send(request: reqwest::blocking::RequestBuilder, doing: &str) -> Result<reqwest::blocking::Response> {
    request.send().blame(Kind::Network, || doing.to_owned())
}

/// Reads a JSON answer of bounded size.
pub(super) fn body<T: serde::de::DeserializeOwned>(answer: reqwest::blocking::Response) -> Result<T> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    answer.take(LARGEST).read_to_end(&mut bytes).blame(Kind::Network, || "reading an answer".to_owned())?;
    serde_json::from_slice(&bytes).blame(Kind::Network, || "understanding an answer".to_owned())
}

#[cfg(test)]
mod tests;
