//! What the machines of a cluster are told: names, addresses, the CA, and one-time tokens made on the fly. The private
//! half of the operator's key stays here, as it would with an operator.

use super::{API_PORT, CA_PORT, ETCD_PORT, PREFIX};
use crate::digest::Sha256;
use crate::error::{Blame, Kind, Result};
use crate::sys::{entropy, fs};
use crate::token::{Claims, Key};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

/// Where nobody answers, as with a resolver that is down: CoreDNS does not start without any.
const DNS: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
/// How long tokens live: longer than any claim, since translated machines are slow.
const LIFETIME: u64 = 3600;

/// A cluster's CA root and its operator's key, which is every provisioner's.
#[derive(Debug)]
pub struct Authority {
    root: String,
    root_key: String,
    fingerprint: Sha256,
    operator: Key,
}

/// How a machine's tokens are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// How many for each certificate.
    pub count: u8,
    /// Another node's name in them.
    pub name: Option<String>,
    /// How many seconds ago they were made.
    pub age: u64,
}

impl Default for Tokens {
    /// Three, since one is also spent when its answer is lost.
    fn default() -> Self {
        Self { count: 3, name: None, age: 0 }
    }
}

/// A machine, as far as its credentials depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Its host name.
    pub name: &'a str,
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it asks DHCP for that address instead of being told.
    pub dhcp: bool,
    /// The certificates that its image's roles declare, and the provisioner of each.
    pub certificates: &'a [(String, String)],
    /// How its tokens are made.
    pub tokens: &'a Tokens,
}

/// A machine's credentials, its tokens made now. In a cluster, `controller` is where the CA and etcd are.
///
/// # Errors
/// [`Kind::Environment`] when the host gives no random numbers.
pub fn credentials(
    member: &Member<'_>,
    cluster: Option<(&Authority, Ipv4Addr)>,
    now: u64,
) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    let mut put = |name: &str, value: String| drop(out.insert(format!("nodelith.{name}"), value));
    put("base.hostname", member.name.to_owned());
    if !member.dhcp {
        put("network.address", format!("{}/{PREFIX}", member.address));
        put("network.dns", DNS.to_string());
    }
    if let Some((authority, controller)) = cluster {
        let url = format!("https://{controller}:{CA_PORT}");
        put("certificates.ca-url", url.clone());
        put("certificates.ca-fingerprint", authority.fingerprint.to_string());
        let subject = member.tokens.name.as_deref().unwrap_or(member.name);
        let sans = [subject.to_owned(), member.address.to_string()];
        for (certificate, provisioner) in member.certificates {
            let issued = now.saturating_sub(member.tokens.age);
            let token = |_| Ok(authority.token(provisioner, subject, &sans, (&url, issued))? + "\n");
            let tokens = (0..member.tokens.count).map(token).collect::<Result<String>>()?;
            put(&format!("certificates.{certificate}.tokens"), tokens);
        }
        if member.address == controller {
            put("step-ca.root-certificate", authority.root.clone());
            put("step-ca.root-key", authority.root_key.clone());
            put("step-ca.provisioner", authority.operator.public_jwk());
        }
        put("flannel.etcd", format!("https://{controller}:{ETCD_PORT}"));
        put("kubernetes.api-server", format!("https://{controller}:{API_PORT}"));
    }
    Ok(out)
}

impl Authority {
    /// A new root and a new operator's key.
    ///
    /// # Errors
    /// [`Kind::Environment`] when the host gives no random numbers.
    pub fn new() -> Result<Self> {
        let doing = || "making the lab's certificate authority".to_owned();
        let key = KeyPair::generate().blame(Kind::Internal, doing)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "nodelith lab root");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Wide: machines of a claim may run with clocks of other years.
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2050, 1, 1);
        let root = params.self_signed(&key).blame(Kind::Internal, doing)?;
        let operator = Key::from_entropy(&entropy::bytes()?)?;
        let fingerprint = Sha256::of(root.der());
        Ok(Self { root: root.pem(), root_key: key.serialize_pem(), fingerprint, operator })
    }

    /// The authority kept in a directory, made there when there is none.
    ///
    /// # Errors
    /// [`Kind::Environment`] when it cannot be read or written.
    pub fn kept(dir: &Path) -> Result<Self> {
        // The last file that is written says that all are there.
        let last = dir.join("fingerprint");
        if last.exists() {
            let doing = || format!("reading {}", last.display());
            return Ok(Self {
                root: fs::read_text(&dir.join("root.pem"))?,
                root_key: fs::read_text(&dir.join("root-key.pem"))?,
                fingerprint: fs::read_text(&last)?.trim().parse().blame(Kind::Environment, doing)?,
                operator: Key::from_jwk(&fs::read_text(&dir.join("operator.jwk"))?)?,
            });
        }
        let new = Self::new()?;
        fs::make_dir(dir)?;
        fs::write_atomic(&dir.join("root.pem"), new.root.as_bytes())?;
        fs::write_secret(&dir.join("root-key.pem"), new.root_key.as_bytes())?;
        fs::write_secret(&dir.join("operator.jwk"), new.operator.private_jwk().as_bytes())?;
        fs::write_atomic(&last, format!("{}\n", new.fingerprint).as_bytes())?;
        Ok(new)
    }

    /// SHA-256 of the root certificate in DER.
    #[must_use]
    pub fn fingerprint(&self) -> &Sha256 {
        &self.fingerprint
    }

    /// A token for one certificate, for the CA at a URL, issued at a time.
    ///
    /// # Errors
    /// [`Kind::Environment`] when the host gives no random numbers.
    pub fn token(
        &self,
        provisioner: &str,
        subject: &str,
        sans: &[String],
        (ca, issued): (&str, u64),
    ) -> Result<String> {
        let fingerprint = &self.fingerprint.to_string();
        let claims = Claims { provisioner, subject, sans, ca, fingerprint, issued, lifetime: LIFETIME };
        Ok(self.operator.sign(&claims, &entropy::bytes()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_its_secrets_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("authority");
        let first = Authority::kept(&place).unwrap();
        let again = Authority::kept(&place).unwrap();
        assert_eq!((first.fingerprint, &first.root_key), (again.fingerprint, &again.root_key));
        assert_eq!(first.operator.private_jwk(), again.operator.private_jwk());
        for secret in ["root-key.pem", "operator.jwk"] {
            assert_eq!(std::fs::metadata(place.join(secret)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        // A run that was killed before the end starts over.
        std::fs::remove_file(place.join("fingerprint")).unwrap();
        assert_ne!(Authority::kept(&place).unwrap().fingerprint, first.fingerprint);
    }
}
