//! HTTP with retries, over mirrors; and clients of a cluster's own servers: step-ca, the API server. What comes is
//! untrusted: callers give a cap and check digests themselves.

pub mod kubernetes;
mod mirrors;
mod packages;
pub mod step_ca;
#[cfg(test)]
pub(crate) mod testing;
mod tls;

pub use mirrors::{Archive, Mirrors};
pub(crate) use packages::in_parallel;
pub use tls::{Identity, Server};

use crate::digest::Sha256;
use crate::error::{Blame, Fault, Kind, Result, kind_of};
use crate::store::{Store, pour};
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

/// How a [`Remote`] behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where Debian's archives are.
    pub mirrors: Mirrors,
    /// Never touch the network.
    pub offline: bool,
    /// How long a server may be silent.
    pub idle: Duration,
    /// How often one mirror is asked before the next.
    pub attempts: u32,
    /// Before the second attempt; doubles with each further one.
    pub pause: Duration,
}

impl Settings {
    /// The settings for real servers.
    #[must_use]
    pub fn new(mirrors: Mirrors, offline: bool) -> Self {
        Self { mirrors, offline, idle: Duration::from_secs(30), attempts: 4, pause: Duration::from_millis(500) }
    }
}

/// A client for everything that comes over HTTP. Connections are kept and shared between threads.
#[derive(Debug)]
pub struct Remote {
    settings: Settings,
    client: reqwest::blocking::Client,
}

/// Why one attempt failed and whether another may help.
enum Failure {
    Again(anyhow::Error),
    NextMirror(anyhow::Error),
    Final(anyhow::Error),
}

/// Takes the body of an answer; called anew for every attempt.
type Take<'a> = &'a mut dyn FnMut(&mut dyn Read) -> Result<()>;

impl Remote {
    /// Makes a client.
    ///
    /// # Errors
    /// [`Kind::Environment`] when the host's trusted certificates cannot be loaded.
    pub fn new(settings: Settings) -> Result<Self> {
        let client = reqwest::blocking::Client::builder()
            .user_agent(concat!("nodelith/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::limited(5))
            .connect_timeout(settings.idle)
            // The blocking client counts this for each read of a body, not for the whole of it.
            .timeout(settings.idle)
            .build()
            .blame(Kind::Environment, || "preparing HTTPS with the host's trusted certificates".into())?;
        Ok(Self { settings, client })
    }

    /// Whether the network must not be touched.
    #[must_use]
    pub fn offline(&self) -> bool {
        self.settings.offline
    }

    /// The URLs of a file in the archive that holds a suite, in the order in which mirrors are asked.
    #[must_use]
    pub fn urls(&self, suite: &str, path: &str) -> Vec<String> {
        self.settings.mirrors.of(Archive::of_suite(suite)).iter().map(|base| format!("{base}/{path}")).collect()
    }

    /// Fetches a small file of unknown size. `what` names it for people.
    ///
    /// # Errors
    /// [`Kind::Network`] when no mirror gives it; [`Kind::Integrity`] when it is larger than `cap`.
    pub fn bytes(&self, what: &str, urls: &[String], cap: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.download(what, urls, &mut |body| {
            bytes.clear();
            let doing = || format!("downloading {what}");
            body.take(cap + 1).read_to_end(&mut bytes).blame(Kind::Network, doing)?;
            if bytes.len() as u64 > cap {
                return Err(Fault::new(Kind::Integrity, format!("{what} is larger than {cap} bytes")).into());
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Makes sure that a file of known digest and size is in the store. `progress` hears of every piece of a download.
    ///
    /// # Errors
    /// [`Kind::Network`] when no mirror gives it, [`Kind::Integrity`] when all of them give something else,
    /// [`Kind::Environment`] when it cannot be stored.
    pub fn object(
        &self,
        store: &Store,
        what: &str,
        urls: &[String],
        (sha256, size): (&Sha256, u64),
        progress: &dyn Fn(u64),
    ) -> Result<PathBuf> {
        if let Some(path) = store.object(sha256)? {
            return Ok(path);
        }
        let mut stored = None;
        self.download(what, urls, &mut |body| {
            let path = store.ensure(sha256, size, |sink| {
                let doing = || format!("downloading {what}");
                let mut counting = |bytes: &[u8]| {
                    progress(bytes.len() as u64);
                    sink(bytes)
                };
                pour(body, &mut counting, Kind::Network, doing)
            })?;
            stored = Some(path);
            Ok(())
        })?;
        stored.ok_or_else(|| anyhow::anyhow!("{what} was downloaded but not stored"))
    }

    /// Asks one mirror after the other until `take` is content with an answer's body.
    ///
    /// # Errors
    /// The last mirror's failure.
    pub fn download(&self, what: &str, urls: &[String], take: Take<'_>) -> Result<()> {
        if self.settings.offline {
            let fault =
                Fault::new(Kind::Network, format!("{what} is not in the store, and --offline forbids to fetch it"));
            return Err(fault.hint("run the command once without --offline").into());
        }
        let mut last = anyhow::Error::from(Fault::new(Kind::Network, format!("there is no mirror for {what}")));
        for url in urls {
            let mut pause = self.settings.pause;
            for attempt in 1..=self.settings.attempts {
                match self.attempt(what, url, take) {
                    Ok(()) => return Ok(()),
                    Err(Failure::Final(error)) => return Err(error),
                    Err(Failure::NextMirror(error)) => {
                        last = error;
                        break;
                    }
                    Err(Failure::Again(error)) => last = error,
                }
                if attempt < self.settings.attempts {
                    std::thread::sleep(pause);
                    pause *= 2;
                }
            }
        }
        Err(last)
    }

    fn attempt(&self, what: &str, url: &str, take: Take<'_>) -> Result<(), Failure> {
        let hint = "check the network, or name another mirror in NODELITH_MIRROR and NODELITH_SECURITY_MIRROR";
        let mut answer = self.client.get(url).send().map_err(|error| {
            let again = !(error.is_redirect() || error.is_builder());
            let fault = Fault::new(Kind::Network, format!("fetching {what} from {url}")).hint(hint);
            let error = anyhow::Error::from(error.without_url()).context(fault);
            if again { Failure::Again(error) } else { Failure::NextMirror(error) }
        })?;
        let status = answer.status();
        if !status.is_success() {
            let fault = Fault::new(Kind::Network, format!("{url} answered {status}"));
            if status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS {
                return Err(Failure::Again(fault.hint(hint).into()));
            }
            let gone = "the archive may have dropped it: run `nodelith lock`, or name a mirror that still has it";
            return Err(Failure::NextMirror(fault.hint(gone).into()));
        }
        take(&mut answer).map_err(|error| {
            let kind = kind_of(&error);
            let error = error.context(format!("fetching {what} from {url}"));
            match kind {
                Kind::Network => Failure::Again(error),
                Kind::Integrity => Failure::NextMirror(error),
                _ => Failure::Final(error),
            }
        })
    }
}

#[cfg(test)]
mod tests;
