//! What the machines of a claim are told: names, addresses, and in a cluster the CA, the operator's key and
//! one-time tokens, all made on the fly. The private half of that key stays here, as it would with an operator.

use super::Subject;
use super::bench::PREFIX;
use super::claim::{Claim, Member};
use crate::digest::Sha256;
use crate::error::{Blame, Kind, Result};
use crate::sys::entropy;
use crate::token::{Claims, Key};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The controller's place among the machines.
const CONTROLLER: usize = 0;
/// Where step-ca listens.
const CA_PORT: u16 = 8443;
/// Where etcd listens for clients.
const ETCD_PORT: u16 = 2379;
/// Where the API server listens.
const API_PORT: u16 = 6443;
/// Where nobody answers, as with a resolver that is down: CoreDNS does not start without any.
const DNS: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
/// How long tokens live: longer than any claim, since translated machines are slow.
const LIFETIME: u64 = 3600;

/// Seats of a claim and, in a cluster, its certificate authority.
pub(super) struct Cluster<'a> {
    members: &'a [Member],
    addresses: &'a [Ipv4Addr],
    /// By image.
    certificates: BTreeMap<&'a str, &'a [(String, String)]>,
    authority: Option<Authority>,
}

/// The CA's root and the operator's key, which is every provisioner's.
struct Authority {
    root: String,
    root_key: String,
    fingerprint: String,
    operator: Key,
}

impl<'a> Cluster<'a> {
    /// Makes what the machines of a claim share.
    pub(super) fn new(
        claim: &'a Claim,
        subjects: &'a BTreeMap<String, Subject>,
        addresses: &'a [Ipv4Addr],
    ) -> Result<Self> {
        let images = claim.machines.iter().map(|member| member.image.as_str());
        let certificates: BTreeMap<&str, &[(String, String)]> =
            images.map(|image| (image, subjects[image].certificates.as_slice())).collect();
        let authority = if claim.cluster { Some(Authority::new()?) } else { None };
        Ok(Self { members: &claim.machines, addresses, certificates, authority })
    }

    /// The credentials of the machine at an index, its tokens made now.
    pub(super) fn credentials(&self, index: usize, now: u64) -> Result<BTreeMap<String, String>> {
        let member = &self.members[index];
        let mut out = BTreeMap::new();
        let mut put = |name: &str, value: String| drop(out.insert(format!("nodelith.{name}"), value));
        put("base.hostname", member.name.clone());
        if !member.dhcp {
            put("network.address", format!("{}/{PREFIX}", self.addresses[index]));
            put("network.dns", DNS.to_string());
        }
        if let Some(authority) = &self.authority {
            let controller = self.addresses[CONTROLLER];
            let url = format!("https://{controller}:{CA_PORT}");
            put("certificates.ca-url", url.clone());
            put("certificates.ca-fingerprint", authority.fingerprint.clone());
            for (certificate, provisioner) in self.certificates[member.image.as_str()] {
                let tokens = self.tokens(index, authority, provisioner, &url, now)?;
                put(&format!("certificates.{certificate}.tokens"), tokens);
            }
            if index == CONTROLLER {
                put("step-ca.root-certificate", authority.root.clone());
                put("step-ca.root-key", authority.root_key.clone());
                put("step-ca.provisioner", authority.operator.public_jwk());
            }
            put("flannel.etcd", format!("https://{controller}:{ETCD_PORT}"));
            put("kubernetes.api-server", format!("https://{controller}:{API_PORT}"));
        }
        // What the claim says wins, so a claim can hand out wrong values.
        out.extend(member.credentials.clone());
        Ok(out)
    }

    /// Tokens for one certificate, one a line.
    fn tokens(&self, index: usize, authority: &Authority, provisioner: &str, url: &str, now: u64) -> Result<String> {
        let member = &self.members[index];
        let subject = member.tokens.name.clone().unwrap_or_else(|| member.name.clone());
        let sans = [subject.clone(), self.addresses[index].to_string()];
        let claims = Claims {
            provisioner,
            subject: &subject,
            sans: &sans,
            ca: url,
            fingerprint: &authority.fingerprint,
            issued: now.saturating_sub(member.tokens.age),
            lifetime: LIFETIME,
        };
        let token = |_| Ok(authority.operator.sign(&claims, &entropy::bytes()?) + "\n");
        (0..member.tokens.count).map(token).collect()
    }
}

impl Authority {
    fn new() -> Result<Self> {
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
        let fingerprint = Sha256::of(root.der()).to_string();
        Ok(Self { root: root.pem(), root_key: key.serialize_pem(), fingerprint, operator })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_controller_alone_gets_the_ca_and_the_claim_wins() {
        let text = "about = \"x\"\ncluster = { workers = 2 }\nsteps = [{ wait = \"a\" }]\n[machines.worker-2]\ndhcp = true\n\
                    token-count = 1\ntoken-name = \"other\"\ncredentials = { \"nodelith.certificates.ca-fingerprint\" = \"00\" }\n";
        let claim = super::super::parse::parse("a/b", Path::new("b.toml"), text).unwrap();
        let subject = |certificates: &[(&str, &str)]| Subject {
            raw: "x".into(),
            manifest: Sha256([0; 32]),
            certificates: certificates.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            facts: BTreeMap::new(),
        };
        let subjects = BTreeMap::from([
            ("controller".to_owned(), subject(&[("etcd", "etcd-server")])),
            ("worker".to_owned(), subject(&[("flannel", "flannel")])),
        ]);
        let addresses: Vec<Ipv4Addr> = (10..13).map(|last| Ipv4Addr::new(10, 8, 0, last)).collect();
        let cluster = Cluster::new(&claim, &subjects, &addresses).unwrap();
        let [controller, first, second] = [0, 1, 2].map(|index| cluster.credentials(index, 1_000).unwrap());
        assert!(!controller["nodelith.step-ca.provisioner"].contains("\"d\""), "the public half only");
        assert!(controller["nodelith.step-ca.root-key"].contains("PRIVATE KEY"));
        assert!(!first.values().any(|value| value.contains("PRIVATE KEY")));
        assert_eq!(first["nodelith.network.address"], "10.8.0.11/24");
        let tokens = &first["nodelith.certificates.flannel.tokens"];
        assert_eq!(tokens.lines().collect::<std::collections::BTreeSet<_>>().len(), 3);
        assert!(!second.contains_key("nodelith.network.address"));
        assert_eq!(second["nodelith.certificates.flannel.tokens"].lines().count(), 1);
        assert_eq!(second["nodelith.certificates.ca-fingerprint"], "00");
        assert_eq!(first["nodelith.certificates.ca-fingerprint"].len(), 64);
    }
}
