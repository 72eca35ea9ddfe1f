//! HTTPS to servers whose certificates come from a CA of our own: reached at one address, checked under another name,
//! trusted by one root only.

use crate::error::{Blame, Kind, Result};
use std::net::SocketAddr;
use std::time::Duration;

/// How long such a server may be silent; translated machines are slow.
const IDLE: Duration = Duration::from_secs(30);

/// Where a server is, and who it must prove to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The name in its certificate.
    pub name: String,
    /// Where it is reached, such as a forwarded port of the loopback.
    pub at: SocketAddr,
}

impl Server {
    /// Its base URL: the name is resolved to the address by [`client`].
    pub(super) fn url(&self) -> String {
        format!("https://{}:{}", self.name, self.at.port())
    }
}

/// A client's certificate chain and key, in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate and its intermediates.
    pub chain: String,
    /// The key, PKCS#8.
    pub key: String,
}

/// Never shows the key.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Whom a client trusts.
pub(super) enum Trust<'a> {
    /// This root certificate, in PEM.
    Root(&'a str),
    /// Whoever answers: for what proves itself by its own digest.
    Nobody,
}

/// A client for one server. No proxy of the host is asked.
pub(super) fn client(
    server: &Server,
    trust: &Trust<'_>,
    identity: Option<&Identity>,
) -> Result<reqwest::blocking::Client> {
    let doing = || format!("preparing HTTPS to {}", server.name);
    let mut builder = reqwest::blocking::Client::builder()
        .user_agent(concat!("nodelith/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .resolve(&server.name, server.at)
        .connect_timeout(IDLE)
        .timeout(IDLE);
    builder = match trust {
        Trust::Root(root) => {
            let root = reqwest::Certificate::from_pem(root.as_bytes()).blame(Kind::Integrity, doing)?;
            builder.tls_certs_only([root])
        }
        Trust::Nobody => builder.tls_danger_accept_invalid_certs(true),
    };
    if let Some(identity) = identity {
        let pem = format!("{}\n{}", identity.chain, identity.key);
        builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).blame(Kind::Integrity, doing)?);
    }
    builder.build().blame(Kind::Environment, doing)
}
