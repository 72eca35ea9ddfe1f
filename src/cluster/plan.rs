//! What `up` decided: the machines of a cluster and the ports that lead to it. A value in a file, so that a supervisor
//! that was killed, or a machine that was off for a week, comes back as what it was.

use super::{API_PORT, CA_PORT, address};
use crate::digest::Sha256;
use crate::error::{Blame, Fault, Kind, Result};
use crate::sys::fs;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

/// The version of the file's format.
const SCHEMA: u32 = 1;
/// MiB that QEMU may take beside the machine's memory: its own, and the translator's code.
const BESIDE: u64 = 256;

/// A built image that a machine can boot.
#[derive(Debug, Clone)]
pub struct Image {
    /// `controller` or `worker`.
    pub name: String,
    /// The raw disk.
    pub raw: PathBuf,
    /// Of its manifest's text.
    pub manifest: Sha256,
    /// Certificates and their provisioners.
    pub certificates: Vec<(String, String)>,
    /// `tcp 6443 kube-apiserver` and the like.
    pub listeners: Vec<String>,
    /// The CA's kind of certificate for administrators, if it has one.
    pub admin: Option<String>,
}

/// What the user asked for; what is not said is kept, or chosen.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// How many workers.
    pub workers: Option<u8>,
    /// The loopback port of the API server.
    pub port: Option<u16>,
    /// MiB of a worker.
    pub worker_memory: Option<u32>,
    /// MiB of the controller.
    pub controller_memory: Option<u32>,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Seat {
    /// Its host name.
    pub name: String,
    /// The image's name.
    pub image: String,
    /// Of the image's manifest.
    pub manifest: Sha256,
    /// Its address in the lab's network.
    pub address: Ipv4Addr,
    /// MiB.
    pub memory: u32,
    /// Virtual processors.
    pub cpus: u8,
    /// Certificates and their provisioners.
    pub certificates: Vec<(String, String)>,
}

/// A port of the loopback that leads into the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Port {
    /// `api` or `ca`.
    pub name: String,
    /// The port of 127.0.0.1; none when any will do.
    pub listen: Option<u16>,
    /// Whether the user chose it.
    pub chosen: bool,
    /// Where it leads.
    pub to: SocketAddrV4,
}

/// The plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    schema: u32,
    /// The unpacked QEMU.
    pub emulator: PathBuf,
    /// The controller first.
    pub machines: Vec<Seat>,
    /// Forwarded ports.
    pub ports: Vec<Port>,
    /// The kind of certificate of administrators; none where there is no API server.
    pub admin: Option<String>,
}

impl Seat {
    /// The image's file in the cluster's directory.
    #[must_use]
    pub fn raw(&self) -> PathBuf {
        Path::new("images").join(format!("{}.raw", self.manifest))
    }

    /// Its directory in the cluster's.
    #[must_use]
    pub fn place(&self) -> PathBuf {
        Path::new("machines").join(&self.name)
    }
}

impl Plan {
    /// A plan from scratch.
    #[must_use]
    pub fn new(emulator: &Path) -> Self {
        Self { schema: SCHEMA, emulator: emulator.to_owned(), machines: Vec::new(), ports: Vec::new(), admin: None }
    }

    /// The plan in a cluster's directory, if there is one.
    ///
    /// # Errors
    /// [`Kind::Environment`] when it cannot be read, or another version of nodelith wrote it.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("plan.json");
        if !path.exists() {
            return Ok(None);
        }
        let hint = "run `nodelith down` and `nodelith up` again";
        let wrong = || Fault::new(Kind::Environment, format!("{} is not a plan", path.display())).hint(hint);
        let plan: Self =
            serde_json::from_str(&fs::read_text(&path)?).map_err(|why| anyhow::Error::from(why).context(wrong()))?;
        if plan.schema != SCHEMA {
            return Err(wrong().into());
        }
        Ok(Some(plan))
    }

    /// Writes the plan.
    ///
    /// # Errors
    /// [`Kind::Environment`], naming the path.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).blame(Kind::Internal, || "writing a plan".to_owned())?;
        fs::write_atomic(&dir.join("plan.json"), format!("{text}\n").as_bytes())
    }

    /// The controller.
    #[must_use]
    pub fn controller(&self) -> Option<&Seat> {
        self.machines.first()
    }

    /// A forwarded port by name.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<u16> {
        self.ports.iter().find(|port| port.name == name).and_then(|port| port.listen)
    }

    /// A machine by name.
    ///
    /// # Errors
    /// [`Kind::Usage`], listing those that exist.
    pub fn seat(&self, name: &str) -> Result<&Seat> {
        self.machines.iter().find(|seat| seat.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.machines.iter().map(|seat| seat.name.as_str()).collect();
            let fault = Fault::new(Kind::Usage, format!("there is no machine `{name}` in this cluster"));
            fault.hint(format!("its machines are {}", names.join(", "))).into()
        })
    }

    /// Fits the plan to a request: machines that exist stay as they are, workers can be added.
    ///
    /// # Errors
    /// [`Kind::Usage`] when the request contradicts what exists.
    pub fn fit(&mut self, request: &Request, controller: &Image, worker: &Image) -> Result<()> {
        let old = self.machines.len().saturating_sub(1);
        let fresh = self.machines.is_empty();
        let workers = request.workers.map_or(if fresh { 2 } else { old }, usize::from);
        if !fresh && workers < old {
            let fault = Fault::new(Kind::Usage, format!("the cluster has {old} workers, and none is taken away"));
            return Err(fault.hint("run `nodelith down` first, then `nodelith up` with fewer").into());
        }
        let api = controller.listeners.iter().any(|line| line.starts_with(&format!("tcp {API_PORT} ")));
        let default = |heavy: u32| if api { heavy } else { 1024 };
        for index in 0..=workers {
            let (image, wanted, default) = match index {
                0 => (controller, request.controller_memory, default(2048)),
                _ => (worker, request.worker_memory, default(1280)),
            };
            let name = if index == 0 { "controller".to_owned() } else { format!("worker-{index}") };
            if let Some(seat) = self.machines.get(index) {
                if let Some(wanted) = wanted.filter(|wanted| *wanted != seat.memory) {
                    let why = format!("{name} has {} MiB of memory, not {wanted}", seat.memory);
                    let hint = "memory is given when a machine is made: run `nodelith down` first";
                    return Err(Fault::new(Kind::Usage, why).hint(hint).into());
                }
                continue;
            }
            self.machines.push(Seat {
                name,
                image: image.name.clone(),
                manifest: image.manifest,
                address: address(index),
                memory: wanted.unwrap_or(default),
                // An API server and its like are what a translated processor is slow at.
                cpus: if api && index == 0 { 2 } else { 1 },
                certificates: image.certificates.clone(),
            });
        }
        if fresh {
            let to = |port| SocketAddrV4::new(address(0), port);
            let port = |name: &str, to| Port { name: name.to_owned(), listen: None, chosen: false, to };
            self.ports = vec![port("ca", to(CA_PORT))];
            if api {
                self.ports.push(port("api", to(API_PORT)));
                self.admin.clone_from(&controller.admin);
            }
        }
        self.choose_port(request.port)
    }

    fn choose_port(&mut self, wanted: Option<u16>) -> Result<()> {
        let Some(wanted) = wanted else { return Ok(()) };
        // Without an API server the CA is what the outside can reach.
        let name = if self.ports.iter().any(|port| port.name == "api") { "api" } else { "ca" };
        if let Some(port) = self.ports.iter_mut().find(|port| port.name == name) {
            (port.listen, port.chosen) = (Some(wanted), true);
        }
        Ok(())
    }

    /// Refuses when machines need more memory than the host has to give.
    ///
    /// # Errors
    /// [`Kind::Environment`] with both numbers.
    pub fn require_memory(&self, off: &[&Seat], available: u64) -> Result<()> {
        let need: u64 = off.iter().map(|seat| u64::from(seat.memory) + BESIDE).sum();
        let available = available / (1 << 20);
        if need <= available {
            return Ok(());
        }
        let why = format!(
            "{} need {need} MiB of memory with what QEMU takes beside it, and {available} MiB are available",
            if off.len() == 1 { "1 machine".to_owned() } else { format!("{} machines", off.len()) }
        );
        let fault = Fault::new(Kind::Environment, why);
        Err(fault
            .hint("free some memory, ask for fewer `--workers`, or give each less by `--worker-memory MIB`")
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;

    fn image(name: &str, listeners: &[&str]) -> Image {
        Image {
            name: name.to_owned(),
            raw: "x".into(),
            manifest: Sha256::of(name.as_bytes()),
            certificates: vec![("flannel".into(), "flannel".into())],
            listeners: listeners.iter().map(|line| (*line).to_owned()).collect(),
            admin: Some("admin".into()),
        }
    }

    fn fit(plan: &mut Plan, request: &Request) -> Result<()> {
        plan.fit(request, &image("controller", &["tcp 6443 kube-apiserver"]), &image("worker", &[]))
    }

    #[test]
    fn machines_that_exist_stay_and_workers_are_added() {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = Plan::new(Path::new("/qemu"));
        fit(&mut plan, &Request { workers: Some(1), ..Request::default() }).unwrap();
        let first = plan.machines.clone();
        assert_eq!(first.iter().map(|seat| seat.name.as_str()).collect::<Vec<_>>(), ["controller", "worker-1"]);
        assert_eq!((first[1].address, plan.admin.as_deref()), (Ipv4Addr::new(10, 8, 0, 11), Some("admin")));
        plan.save(dir.path()).unwrap();
        let mut plan = Plan::load(dir.path()).unwrap().unwrap();
        fit(&mut plan, &Request { workers: Some(3), port: Some(7000), ..Request::default() }).unwrap();
        assert_eq!((plan.machines.len(), &plan.machines[..2]), (4, &first[..]));
        assert_eq!(plan.port("api"), Some(7000));
        // Nothing said: what exists.
        fit(&mut plan, &Request::default()).unwrap();
        assert_eq!(plan.machines.len(), 4);
        for request in [
            Request { workers: Some(2), ..Request::default() },
            Request { worker_memory: Some(512), ..Request::default() },
        ] {
            assert_eq!(kind_of(&fit(&mut plan, &request).unwrap_err()), Kind::Usage);
        }
    }

    #[test]
    fn memory_is_refused_with_both_numbers() {
        let mut plan = Plan::new(Path::new("/qemu"));
        fit(&mut plan, &Request::default()).unwrap();
        let all: Vec<&Seat> = plan.machines.iter().collect();
        plan.require_memory(&all, 5376 << 20).unwrap();
        let error = plan.require_memory(&all, (5376 << 20) - 1).unwrap_err();
        assert!(error.to_string().contains("3 machines need 5376 MiB"), "{error}");
        assert!(error.to_string().contains("5375 MiB are available"), "{error}");
        plan.require_memory(&[], 0).unwrap();
    }

    #[test]
    fn a_broken_plan_is_the_environments_fault_and_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Plan::load(dir.path()).unwrap(), None);
        crate::sys::fs::write_atomic(&dir.path().join("plan.json"), b"{\"schema\": 1").unwrap();
        let error = Plan::load(dir.path()).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Environment);
        assert!(crate::error::fault_of(&error).unwrap().hints[0].contains("nodelith down"));
    }
}
