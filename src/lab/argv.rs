//! A machine's command line as a value: one function a device, no I/O, so that a test can read it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Who executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// The host's kernel; only after a guest was seen to run.
    Kvm,
    /// QEMU's translator: anywhere, an order of magnitude slower.
    Tcg,
}

impl fmt::Display for Acceleration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        })
    }
}

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Hardware {
    /// For messages and file names; also decides MAC address and UUID when made by [`Hardware::new`].
    pub name: String,
    /// The raw image; read only.
    pub image: PathBuf,
    /// The disk's size in bytes; at least the image's.
    pub disk: u64,
    /// Bytes of the image, by offset, that this machine's disk holds inverted.
    pub flips: Vec<u64>,
    /// Memory in MiB.
    pub memory: u32,
    /// Virtual processors.
    pub cpus: u8,
    /// SMBIOS system UUID.
    pub uuid: uuid::Uuid,
    /// The network card's address.
    pub mac: [u8; 6],
    /// systemd credentials by name.
    pub credentials: BTreeMap<String, Vec<u8>>,
}

impl Hardware {
    /// A machine with one processor, 1 GiB of memory and a disk of 4 GiB; its identity follows from its name.
    #[must_use]
    pub fn new(name: &str, image: &Path) -> Self {
        let uuid = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("nodelith lab {name}").as_bytes());
        let bytes = uuid.as_bytes();
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            disk: 4 << 30,
            flips: Vec::new(),
            memory: 1024,
            cpus: 1,
            uuid,
            // 02: locally administered, unicast.
            mac: [0x02, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]],
            credentials: BTreeMap::new(),
        }
    }
}

/// Files and sockets of one machine; QEMU connects to the sockets, we listen.
#[derive(Debug)]
pub(super) struct Paths<'a> {
    /// The machine's directory.
    pub(super) dir: &'a Path,
    /// OVMF's code, read only.
    pub(super) firmware: &'a Path,
    /// Whether a switch is there to connect to.
    pub(super) network: bool,
}

impl Paths<'_> {
    pub(super) fn disk(&self) -> PathBuf {
        self.dir.join("disk.qcow2")
    }
    pub(super) fn variables(&self) -> PathBuf {
        self.dir.join("vars.fd")
    }
    pub(super) fn socket(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
    pub(super) fn credential(&self, name: &str) -> PathBuf {
        self.dir.join("credentials").join(name)
    }
}

/// The names of the sockets that every machine has.
pub(super) const SOCKETS: [&str; 3] = ["qmp", "console", "probe"];
/// The socket of the network card.
pub(super) const LINK: &str = "link";

/// QEMU's arguments after the program's name and the paths of its own data.
pub(super) fn arguments(hardware: &Hardware, paths: &Paths<'_>, acceleration: Acceleration) -> Vec<OsString> {
    let mut argv = board(hardware, acceleration);
    argv.extend(firmware(paths));
    argv.extend(disk(paths));
    argv.extend(channels(paths));
    if paths.network {
        argv.extend(link(hardware, paths));
    }
    argv.extend(credentials(hardware, paths));
    argv.into_iter().map(OsString::from).collect()
}

/// Characters that QEMU's option lists treat specially: a comma is doubled.
fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn board(hardware: &Hardware, acceleration: Acceleration) -> Vec<String> {
    let (accelerator, cpu) = match acceleration {
        Acceleration::Kvm => ("kvm", "host"),
        Acceleration::Tcg => ("tcg,thread=multi", TCG_CPU),
    };
    // `-nodefaults`: without it QEMU looks for display modules where the host keeps those of its own QEMU, and aborts.
    let mut argv = words(&["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none"]);
    // A reboot ends the process: the lab decides whether a machine starts again, and sees each boot by itself.
    argv.extend(words(&[
        "-machine",
        "q35,sata=off,vmport=off",
        "-accel",
        accelerator,
        "-cpu",
        cpu,
        "-action",
        "reboot=shutdown",
    ]));
    argv.extend(words(&["-rtc", "base=utc"]));
    argv.extend(["-name".into(), hardware.name.clone()]);
    argv.extend(["-m".into(), hardware.memory.to_string(), "-smp".into(), hardware.cpus.to_string()]);
    argv.extend(["-smbios".into(), format!("type=1,uuid={},serial={}", hardware.uuid, hardware.name)]);
    argv.extend(words(&["-object", "rng-random,id=entropy,filename=/dev/urandom"]));
    argv.extend(words(&["-device", "virtio-rng-pci,rng=entropy"]));
    argv
}

/// Measured with Debian's cloud kernel to multi-user: `max` 12.4 s of host CPU, this 10.7 s. Left out is what the
/// translator is slow at (AVX); SHA and AES instructions stay, they spare dm-verity and TLS whole loops.
const TCG_CPU: &str = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+aes,+pclmulqdq,+sha-ni,+rdrand,+rdseed,+cx16";

fn firmware(paths: &Paths<'_>) -> Vec<String> {
    let code = format!("if=pflash,format=raw,unit=0,readonly=on,file={}", escape(paths.firmware));
    let variables = format!("if=pflash,format=raw,unit=1,file={}", escape(&paths.variables()));
    vec!["-drive".into(), code, "-drive".into(), variables]
}

fn disk(paths: &Paths<'_>) -> Vec<String> {
    // cache=unsafe: a power cut is the end of the process, and the host's page cache outlives that. It does not outlive
    // the host's own power cut; docs/cluster.md says so.
    let drive = format!("if=none,id=disk,format=qcow2,cache=unsafe,discard=unmap,file={}", escape(&paths.disk()));
    vec!["-drive".into(), drive, "-device".into(), "virtio-blk-pci,drive=disk,bootindex=0".into()]
}

fn channels(paths: &Paths<'_>) -> Vec<String> {
    let mut argv = Vec::new();
    for name in SOCKETS {
        let path = escape(&paths.socket(name));
        argv.extend(["-chardev".into(), format!("socket,id={name},path={path},server=off")]);
    }
    argv.extend(words(&["-mon", "chardev=qmp,mode=control", "-serial", "chardev:console"]));
    argv.extend(words(&["-device", "virtio-serial-pci"]));
    argv.extend(words(&["-device", "virtserialport,chardev=probe,name=nodelith.probe"]));
    argv
}

/// The card's QEMU name, for `set_link`.
pub(super) const CARD: &str = "card";

fn link(hardware: &Hardware, paths: &Paths<'_>) -> Vec<String> {
    let mac = hardware.mac.map(|byte| format!("{byte:02x}")).join(":");
    let path = escape(&paths.socket(LINK));
    vec![
        "-netdev".into(),
        format!("stream,id=link,server=off,addr.type=unix,addr.path={path}"),
        "-device".into(),
        // romfile empty: no PXE ROM, which the firmware would load and run.
        format!("virtio-net-pci,id={CARD},netdev=link,mac={mac},romfile="),
    ]
}

/// As SMBIOS strings (type 11), which systemd reads like those of fw_cfg. Not fw_cfg: QEMU ends its names at 55
/// bytes, of which 27 are the prefix, and a kernel module must be there to read it.
fn credentials(hardware: &Hardware, paths: &Paths<'_>) -> Vec<String> {
    let pair = |name: &String| ["-smbios".to_owned(), format!("type=11,path={}", escape(&paths.credential(name)))];
    hardware.credentials.keys().flat_map(pair).collect()
}

/// The content of a credential's file: one SMBIOS string.
pub(super) fn credential(name: &str, value: &[u8]) -> String {
    format!("io.systemd.credential.binary:{name}={}", STANDARD.encode(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_are_two_identities_and_paths_cannot_add_options() {
        let (a, b) = (Hardware::new("worker-1", Path::new("i")), Hardware::new("worker-2", Path::new("i")));
        assert!(a.mac != b.mac && a.uuid != b.uuid);
        assert_eq!(a.mac[0] & 3, 2, "locally administered unicast");
        let mut hardware = a;
        hardware.credentials.insert("nodelith.x".into(), Vec::new());
        let dir = Path::new("/tmp/a,readonly=on");
        let paths = Paths { dir, firmware: Path::new("/f"), network: true };
        let argv = arguments(&hardware, &paths, Acceleration::Tcg);
        let text = argv.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        assert!(text.contains("path=/tmp/a,,readonly=on/credentials/nodelith.x"), "{text}");
        assert!(text.contains("tcg,thread=multi") && !text.contains("/tmp/a,readonly"), "{text}");
        let alone = arguments(&hardware, &Paths { network: false, ..paths }, Acceleration::Kvm);
        assert!(!alone.iter().any(|word| word == "-netdev"));
    }
}
