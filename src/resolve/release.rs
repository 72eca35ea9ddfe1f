//! InRelease files: who signed them, how fresh they are, and what they promise about the indexes.
//!
//! The checks are apt's: a good signature by a trusted key, `Valid-Until` not passed, `Date` not in the future, the
//! suite that was asked for, and no step back behind the release that the lock already saw (a replay of old metadata).

use crate::digest::Sha256;
use crate::error::{Blame, Fault, Kind, Result};
use crate::lock;
use pgp::composed::CleartextSignedMessage;
use rpgpie::certificate::Certificate;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How far a release's `Date` may be ahead of the host's clock, in seconds: clocks differ.
const AHEAD: u64 = 600;

/// The certificates of Debian 13's archives, so that a lock can be made on any host. Exported from Debian's package
/// `debian-archive-keyring`, unchanged.
const DEBIAN: [&str; 3] = [
    include_str!("keys/debian-archive-trixie-automatic.asc"),
    include_str!("keys/debian-archive-trixie-security-automatic.asc"),
    include_str!("keys/debian-archive-trixie-stable.asc"),
];

/// Who may sign releases.
#[derive(Debug, Clone)]
pub struct Keyring(Vec<Certificate>);

impl Keyring {
    /// Debian's archive keys, as embedded.
    ///
    /// # Errors
    /// Never in practice: a test reads them.
    pub fn debian() -> Result<Self> {
        let mut certificates = Vec::new();
        for text in DEBIAN {
            let loaded = Certificate::load(&mut text.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?;
            certificates.extend(loaded);
        }
        Ok(Self(certificates))
    }

    /// The certificates of a keyring file, armoured or not.
    ///
    /// # Errors
    /// [`Kind::Environment`] when it cannot be read, [`Kind::Usage`] when it holds no certificate.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = crate::sys::fs::read(path)?;
        Certificate::load(&mut &bytes[..])
            .map(Self)
            .map_err(|error| Fault::new(Kind::Usage, format!("{} is not a keyring: {error}", path.display())).into())
    }
}

/// A release whose signature and freshness are good.
#[derive(Debug)]
pub(super) struct Release {
    /// What the lock records.
    pub(super) recorded: lock::Release,
    /// Packages are taken only where the suite is named, as apt does with `NotAutomatic`.
    pub(super) not_automatic: bool,
    /// Path below the suite's directory → digest and size.
    pub(super) files: BTreeMap<String, (Sha256, u64)>,
}

/// Checks an InRelease file.
///
/// # Errors
/// [`Kind::Integrity`], with the suite and the reason.
pub(super) fn verify(
    suite: &str,
    bytes: &[u8],
    keyring: &Keyring,
    now: u64,
    seen: Option<&lock::Release>,
) -> Result<Release> {
    let (text, signed_by) =
        signed_text(bytes, keyring).blame(Kind::Integrity, || format!("verifying suite {suite}"))?;
    let mut release = read(suite, &text, now, seen)?;
    release.recorded = lock::Release { sha256: Sha256::of(bytes), signed_by, ..release.recorded };
    Ok(release)
}

/// Reads the text of a release, of whoever it is; nobody has signed it yet.
///
/// # Errors
/// As [`verify`].
pub(super) fn read(suite: &str, text: &str, now: u64, seen: Option<&lock::Release>) -> Result<Release> {
    let paragraphs = deb822_fast::borrowed::parse_borrowed(text)
        .blame(Kind::Integrity, || format!("reading the release of suite {suite}"))?;
    let refuse = |why: String| Fault::new(Kind::Integrity, format!("suite {suite}: {why}"));
    let [fields] = &paragraphs[..] else { return Err(refuse("the release is not one paragraph".into()).into()) };
    let field = |name| fields.get_single(name).map(str::trim);
    if ![field("Codename"), field("Suite")].contains(&Some(suite)) {
        let found = field("Codename").or(field("Suite")).unwrap_or("nothing");
        return Err(refuse(format!("the mirror answered with the release of `{}`", found.escape_debug())).into());
    }
    let date_text = field("Date").unwrap_or("");
    let time = |text: &str| seconds(text).ok_or_else(|| refuse(format!("`{}` is not a date", text.escape_debug())));
    let date = time(date_text)?;
    if date > now.saturating_add(AHEAD) {
        let fault = refuse(format!("the release is from the future: {date_text}"));
        return Err(fault.hint("set the clock of this host").into());
    }
    if let Some(until) = field("Valid-Until")
        && time(until)? < now
    {
        let fault =
            refuse(format!("the release expired on {until}: the mirror is stale, or someone replays old metadata"));
        return Err(fault.hint("name another mirror in NODELITH_MIRROR or NODELITH_SECURITY_MIRROR").into());
    }
    if let Some(seen) = seen
        && let Some(before) = seconds(&seen.date)
        && date < before
    {
        let fault = refuse(format!("the release of {date_text} is older than that in the lock, of {}", seen.date));
        return Err(fault.hint("name a mirror that is up to date; nodelith never goes back").into());
    }
    let mut files = BTreeMap::new();
    for line in fields.get("SHA256").unwrap_or_default().iter().filter(|line| !line.trim().is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let entry = match &words[..] {
            [digest, size, path] => digest.parse().ok().zip(size.parse().ok()).map(|value| (path, value)),
            _ => None,
        };
        let (path, value) = entry.ok_or_else(|| refuse(format!("`{}` is not an index", line.escape_debug())))?;
        files.insert((*path).to_owned(), value);
    }
    Ok(Release {
        recorded: lock::Release {
            suite: suite.to_owned(),
            date: date_text.to_owned(),
            sha256: Sha256::of(text.as_bytes()),
            signed_by: Vec::new(),
        },
        not_automatic: field("NotAutomatic") == Some("yes"),
        files,
    })
}

/// The text under the signature and the fingerprints of the certificates that signed it.
fn signed_text(bytes: &[u8], keyring: &Keyring) -> Result<(String, Vec<String>)> {
    let refuse = |why: String| Fault::new(Kind::Integrity, why);
    let text = std::str::from_utf8(bytes).map_err(|_| refuse("the InRelease file is not text".into()))?;
    let (message, _) = CleartextSignedMessage::from_string(text)
        .map_err(|error| refuse(format!("the InRelease file is not a signed message: {error}")))?;
    let mut signed = Vec::new();
    let good = rpgpie::csf::verify(message, &mut signed, rpgpie::signature::signature_acceptable, &keyring.0)
        .map_err(|error| refuse(format!("the signature cannot be checked: {error}")))?;
    let signers: BTreeSet<String> =
        good.iter().flat_map(|good| &good.certs).map(|cert| format!("{:x}", cert.fingerprint())).collect();
    if signers.is_empty() {
        let fault = refuse("no trusted key has signed the InRelease file".into());
        return Err(fault.hint("the mirror may be forged; for an archive of your own pass --keyring FILE").into());
    }
    // The signature covers CRLF line ends (RFC 9580 §7.2); fields must not keep them.
    Ok((String::from_utf8(signed)?.replace("\r\n", "\n"), signers.into_iter().collect()))
}

/// Seconds since 1970 of a Release file's date: `Sat, 21 Nov 2026 09:15:44 UTC`.
fn seconds(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<_> = text.split_whitespace().collect();
    let [_, day, month, year, time, "UTC" | "GMT" | "+0000"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Vec<u64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [hour, minute, second] = clock[..] else { return None };
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years counted from March, so that the leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds() {
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(seconds("Sat, 21 Nov 2026 09:15:44 UTC"), Some(1_795_252_544));
        assert_eq!(seconds("Thu, 29 Feb 2024 12:00:00 UTC"), Some(1_709_208_000));
        for bad in ["", "Sat, 21 Nov 2026 09:15:44 CET", "21 Nov 2026", "Sat, 21 Nov 2026 25:15:44 UTC"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_embedded_keys_are_debians() {
        let keyring = Keyring::debian().unwrap();
        let found: Vec<_> = keyring.0.iter().map(|cert| format!("{:x}", cert.fingerprint())).collect();
        // As published on Debian's page of archive keys, for 13/trixie.
        let published = [
            "04b54c3cdca79751b16bc6b5225629df75b188bd",
            "5e04a1e3223a19a20706e20f9904613d4cce68c6",
            "41587f7db8c774bccf131416762f67a0b2c39de4",
        ];
        assert_eq!(found, published);
    }
}
