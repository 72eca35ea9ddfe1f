//! `nodelith token`: one-time join tokens, made offline from the operator's key.

use super::output::Printer;
use crate::error::{Blame, Fault, Kind, Result};
use crate::sys;
use crate::token::{Claims, Key};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What only tokens need. Named one by one: `exclusive` would also refuse what every verb takes, from the environment too.
const OF_TOKENS: [&str; 8] = ["key", "provisioner", "name", "address", "ca", "fingerprint", "minutes", "count"];

/// Make one-time tokens with which a node fetches a certificate, or the operator's key that signs them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A token is for one certificate of one node, and works once. Give a node a few for each certificate: one is also spent
when its answer is lost.

Examples:
  nodelith token --new-key operator.jwk          prints the public half, for nodelith.step-ca.provisioner
  nodelith token --key operator.jwk --provisioner flannel --name worker-1 --address 10.8.0.21 \\
      --ca https://10.8.0.10:8443 --fingerprint 9f86d0…0a08")]
pub(super) struct Args {
    /// Make a new key in this file, mode 0600, and print its public half.
    #[arg(long, value_name = "FILE", conflicts_with_all = OF_TOKENS)]
    new_key: Option<PathBuf>,
    /// The operator's key.
    #[arg(long, value_name = "FILE", required_unless_present = "new_key")]
    key: Option<PathBuf>,
    /// The kind of certificate.
    #[arg(long, value_name = "NAME", required_unless_present = "new_key")]
    provisioner: Option<String>,
    /// The node's name.
    #[arg(long, value_name = "NAME", required_unless_present = "new_key")]
    name: Option<String>,
    /// The node's address (repeatable).
    #[arg(long, value_name = "ADDRESS", required_unless_present = "new_key")]
    address: Vec<std::net::IpAddr>,
    /// The CA's URL, without a path.
    #[arg(long, value_name = "URL", required_unless_present = "new_key")]
    ca: Option<String>,
    /// SHA-256 of the CA's root certificate; the controller's console shows it (NL-CA-100).
    #[arg(long, value_name = "SHA256", required_unless_present = "new_key")]
    fingerprint: Option<crate::digest::Sha256>,
    /// For how many minutes the tokens are valid.
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// How many tokens.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    count: u8,
}

pub(super) fn run(args: &Args, printer: &Printer) -> Result<()> {
    if let Some(path) = &args.new_key {
        return new_key(path, printer);
    }
    let missing = || Fault::new(Kind::Usage, "a flag is missing");
    let path = args.key.as_deref().ok_or_else(missing)?;
    let key = Key::from_jwk(&sys::fs::read_text(path)?)?;
    let name = args.name.as_deref().ok_or_else(missing)?;
    crate::text::Name::new(name).blame(Kind::Usage, || "--name".into())?;
    let mut sans = vec![name.to_owned()];
    sans.extend(args.address.iter().map(ToString::to_string));
    let fingerprint = args.fingerprint.ok_or_else(missing)?.to_string();
    let claims = Claims {
        provisioner: args.provisioner.as_deref().ok_or_else(missing)?,
        subject: name,
        sans: &sans,
        ca: args.ca.as_deref().ok_or_else(missing)?.trim_end_matches('/'),
        fingerprint: &fingerprint,
        issued: sys::clock::now(),
        lifetime: args.minutes * 60,
    };
    let tokens = (0..args.count).map(|_| Ok(key.sign(&claims, &sys::entropy::bytes()?))).collect::<Result<Vec<_>>>()?;
    printer.result(&tokens.join("\n"), &json!({"tokens": tokens}))
}

fn new_key(path: &Path, printer: &Printer) -> Result<()> {
    if path.exists() {
        let fault = Fault::new(Kind::Usage, format!("{} is there already", path.display()));
        return Err(fault.hint("a key that is overwritten can sign no more tokens; choose another name").into());
    }
    let key = Key::from_entropy(&sys::entropy::bytes()?)?;
    sys::fs::write_secret(path, format!("{}\n", key.private_jwk()).as_bytes())?;
    printer.result(&key.public_jwk(), &serde_json::from_str(&key.public_jwk())?)
}
