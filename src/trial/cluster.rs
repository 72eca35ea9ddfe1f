//! What the machines of a claim are told: as in any cluster of the lab, and what the claim says on top.

use super::Subject;
use super::claim::Claim;
use crate::cluster::{self, Authority, Member};
use crate::error::Result;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The controller's place among the machines.
const CONTROLLER: usize = 0;

/// Seats of a claim and, in a cluster, its certificate authority.
pub(super) struct Cluster<'a> {
    claim: &'a Claim,
    subjects: &'a BTreeMap<String, Subject>,
    addresses: &'a [Ipv4Addr],
    authority: Option<Authority>,
}

impl<'a> Cluster<'a> {
    /// Makes what the machines of a claim share.
    pub(super) fn new(
        claim: &'a Claim,
        subjects: &'a BTreeMap<String, Subject>,
        addresses: &'a [Ipv4Addr],
    ) -> Result<Self> {
        let authority = if claim.cluster { Some(Authority::new()?) } else { None };
        Ok(Self { claim, subjects, addresses, authority })
    }

    /// The credentials of the machine at an index, its tokens made now.
    pub(super) fn credentials(&self, index: usize, now: u64) -> Result<BTreeMap<String, String>> {
        let seat = &self.claim.machines[index];
        let member = Member {
            name: &seat.name,
            address: self.addresses[index],
            dhcp: seat.dhcp,
            certificates: &self.subjects[&seat.image].certificates,
            tokens: &seat.tokens,
        };
        let controller = self.addresses[CONTROLLER];
        let mut out =
            cluster::credentials(&member, self.authority.as_ref().map(|authority| (authority, controller)), now)?;
        // What the claim says wins, so a claim can hand out wrong values.
        out.extend(seat.credentials.clone());
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Sha256;
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
