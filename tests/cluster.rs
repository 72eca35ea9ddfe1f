//! `up`, `down` and their kin from outside, with a stand-in for QEMU: this test's own program, started through the place
//! in the store where the dynamic loader of the locked QEMU would be. It speaks QMP, a console and the probe's channel.

#![expect(clippy::disallowed_methods, reason = "runs the program itself, in a test's own temporary directory")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodelith::digest::Sha256;
use nodelith::lock::Lock;
use nodelith::spec::{self, requests::Use};
use nodelith::store::closure_digest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const VARIABLE: &str = "NODELITH_STAND_IN";

/// A guest's whole life. Its words are those of a console of ours; files of the cluster's directory change its manners,
/// and so does a credential `deaf`.
#[test]
#[ignore = "this is the stand-in for QEMU, not a test"]
fn stand_in() {
    let Ok(line) = std::env::var(VARIABLE) else { return };
    let words: Vec<&str> = line.split(' ').collect();
    let path = |id: &str| {
        let word = words.iter().find(|word| word.starts_with(&format!("socket,id={id},")))?;
        word.split(',').find_map(|part| part.strip_prefix("path=")).map(PathBuf::from)
    };
    // The probe of KVM has no sockets: it is not what we stand in for.
    let Some(qmp) = path("qmp") else { return };
    let mut disk = fs::File::options().append(true).open(qmp.with_file_name("disk.qcow2")).unwrap();
    disk.write_all(b"!").unwrap();
    if Path::new("refusing").exists() {
        std::io::stdout().write_all(b"no memory left\n").unwrap();
        return;
    }
    let deaf = Path::new("deaf").exists() || qmp.with_file_name("credentials").join("deaf").exists();
    let [qmp, mut console, probe] =
        ["qmp", "console", "probe"].map(|id| UnixStream::connect(path(id).unwrap()).unwrap());
    let link = words.iter().find_map(|word| word.split("addr.path=").nth(1)).unwrap();
    let _link = UnixStream::connect(link).unwrap();
    let mut last = console.try_clone().unwrap();
    std::thread::spawn(move || {
        for said in ["BdsDxe: starting Boot0001", "Linux version 6.12", "device-mapper: verity: sha256"] {
            let _ = writeln!(console, "{said}\r");
        }
        while Path::new("slow").exists() {
            std::thread::sleep(Duration::from_millis(50));
        }
        for said in ["Finished nodelith-certificate@flannel.service", "Started flanneld.service"] {
            let _ = writeln!(console, "[  OK  ] {said}.\r");
        }
        let _ = writeln!(console, "[  OK  ] Reached target nodelith-joined.target.\r");
    });
    let mut out = qmp.try_clone().unwrap();
    let events = out.try_clone().unwrap();
    std::thread::spawn(move || answer(&probe, &events));
    out.write_all(b"{\"QMP\": {}}\n").unwrap();
    for line in BufReader::new(qmp).lines() {
        let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
        writeln!(out, "{}", json!({ "return": {}, "id": request["id"] })).unwrap();
        if request["execute"] == "system_powerdown" && deaf {
            let _ = writeln!(last, "pressed\r");
        } else if request["execute"] == "system_powerdown" {
            let _ = writeln!(last, "[  OK  ] Reached target poweroff.target.\r");
            writeln!(out, "{}", json!({ "event": "SHUTDOWN", "data": { "reason": "guest-shutdown" } })).unwrap();
            return;
        }
    }
}

#[expect(clippy::exit, reason = "a guest that is gone takes its process with it, whatever the other threads do")]
fn answer(probe: &UnixStream, mut events: &UnixStream) {
    let mut out = probe;
    writeln!(out, "ready").unwrap();
    for line in BufReader::new(probe).lines() {
        let line = line.unwrap();
        let [id, _, script] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
        let script = String::from_utf8(STANDARD.decode(script).unwrap()).unwrap();
        if script.contains("reboot.target") {
            writeln!(events, "{}", json!({ "event": "SHUTDOWN", "data": { "reason": "guest-reset" } })).unwrap();
        }
        if script.contains("reboot.target") || script.contains("crash") {
            std::process::exit(0);
        }
        // Who is asked for failed units has none.
        let said = if script.contains("--state=failed") { String::new() } else { format!("ran {script}\n") };
        let said = STANDARD.encode(said);
        writeln!(out, "{id} 0 {said}. .").unwrap();
    }
}

/// A store whose QEMU is the stand-in, and two images.
struct House(tempfile::TempDir);

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = root.join("image-specs/worker.toml");
        let lock = Lock::parse(&path.with_extension("lock"), &fs::read_to_string(path.with_extension("lock")).unwrap());
        let locked = lock.unwrap().bind(spec::load(&path, &root.join("overlays")).unwrap()).unwrap();
        let debs: Vec<_> = locked.packages(Use::Qemu).map(|package| package.sha256).collect();
        let tool = dir.path().join("store/tools").join(closure_digest(&debs).to_string());
        let put = |path: &str, text: &str| {
            let path = tool.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let program = std::env::current_exe().unwrap();
        let run = format!("{VARIABLE}=\"$*\" exec '{}' stand_in --exact --ignored --nocapture", program.display());
        put("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", &format!("#!/bin/sh\n{run}\n"));
        for name in ["usr/bin/qemu-system-x86_64", "usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"] {
            put(name, "stand-in");
        }
        // Nothing is listed, so nothing can be found damaged.
        put(".nodelith-listing", &format!("{}\n{{}}", Sha256::of(b"{}")));
        Self(dir)
    }

    fn with_images() -> Self {
        let house = Self::new();
        for name in ["controller", "worker"] {
            let dir = house.path(&format!("out/{name}"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(format!("{name}.raw")), vec![0; 1 << 16]).unwrap();
            let manifest = json!({
                "schema": 1, "name": name, "nodelith": "0", "epoch": 1, "lock": "0".repeat(64), "root-hash": "00",
                "cmdline": "", "listeners": [], "certificates": { "flannel": "flannel" }, "outputs": [],
                "packages": [], "binaries": [], "paths": {},
            });
            fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
        }
        house
    }

    /// Gives the images an API server and a kubelet of these versions.
    fn versions(&self, server: &str, kubelet: &str) {
        for (name, id, version) in
            [("controller", "kube-apiserver/kube-apiserver", server), ("worker", "kubelet/kubelet", kubelet)]
        {
            let path = self.path(&format!("out/{name}/manifest.json"));
            let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            let zeros = "0".repeat(64);
            let from = format!("k8s.io/kubernetes@{version}");
            manifest["binaries"] = json!([{ "id": id, "from": from, "recipe": zeros, "size": 1, "sha256": zeros }]);
            if name == "worker" {
                manifest["skew"] = json!({ id: ["kube-apiserver/kube-apiserver -3..0"] });
            }
            fs::write(path, manifest.to_string()).unwrap();
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nodelith"));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env_clear().env("HOME", self.0.path());
        command.args(args).arg("--store").arg(self.path("store")).arg("--offline");
        if args[0] != "completions" {
            command.arg("--out").arg(self.path("out"));
        }
        command
    }

    /// Runs a verb and checks its exit code; what it said on both streams.
    fn run(&self, code: i32, args: &[&str]) -> (String, String) {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        let [out, err] = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert_eq!(status.code(), Some(code), "{args:?}\n{out}\n{err}");
        (out, err)
    }

    fn up(&self, code: i32, args: &[&str]) -> (String, String) {
        self.run(code, &[&["up", "--worker-memory", "256", "--controller-memory", "256"], args].concat())
    }

    fn status(&self) -> Value {
        let (out, _) = self.run(0, &["status", "--output", "json"]);
        serde_json::from_str::<Value>(&out).unwrap()["result"]["cluster"].clone()
    }

    /// Processes whose command line names this house.
    fn processes(&self) -> Vec<i32> {
        let name = self.0.path().display().to_string();
        let of = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_string_lossy().parse().ok()?;
            let words = fs::read(entry.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&words).contains(&name).then_some(pid)
        };
        fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
    }

    fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !done() {
            assert!(Instant::now() < until, "not within a minute: {what}; there are {:?}", self.processes());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait_for_silence(&self) {
        self.wait("nothing is left over", || self.processes().is_empty());
    }

    /// A machine's status once it is as wanted.
    fn machine_when(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = Value::Null;
        self.wait(&format!("{name} is as wanted"), || {
            let status = self.status();
            let machines = status["machines"].as_array().unwrap();
            found = machines.iter().find(|machine| machine["seat"]["name"] == name).unwrap().clone();
            wanted(&found)
        });
        found
    }

    /// Writes the claim `area/claim`, on one machine that does not hear its power button.
    fn claim(&self, steps: &str) {
        let text = format!("about = \"x\"\nsteps = [{steps}]\n[machines.worker-1]\ncredentials = {{ deaf = \"x\" }}\n");
        fs::create_dir_all(self.path("claims/area")).unwrap();
        fs::write(self.path("claims/area/claim.toml"), text).unwrap();
    }

    /// `nodelith test` of that claim.
    fn test(&self) -> Command {
        let [claims, report] = ["claims", "out/report"].map(|path| self.path(path).display().to_string());
        self.command(&["test", "--vm-tests", &claims, "--report", &report])
    }

    /// How often a machine's disk was used.
    fn boots(&self, name: &str) -> u64 {
        let disk = fs::read(self.path(&format!("out/cluster/machines/{name}/disk.qcow2"))).unwrap();
        disk.iter().rev().take_while(|byte| **byte == b'!').count() as u64
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // A test that failed half-way must not leave a cluster.
        for pid in self.processes() {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
    }
}

#[test]
fn a_cluster_comes_up_outlives_its_starter_grows_and_goes() {
    let house = House::with_images();
    let (out, err) = house.up(0, &["--workers", "1"]);
    for part in
        ["controller   firmware (", "worker-1     root verified (", "worker-1     flannel (", "joined, 10.8.0.11"]
    {
        assert!(err.contains(part), "`{part}` is not in\n{err}");
    }
    assert!(out.contains("worker-1       on        10.8.0.11"), "{out}");
    assert_eq!(fs::metadata(house.path("out/cluster")).unwrap().permissions().mode() & 0o777, 0o700);
    let first = house.status();
    assert_eq!(first["machines"][1]["state"], "on");
    let port = first["ports"][0]["listen"].as_u64().unwrap();
    std::net::TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).unwrap();
    assert_eq!(first["acceleration"], "tcg");

    assert!(house.run(0, &["console", "worker-1"]).0.contains("] Linux version 6.12"));
    assert!(
        house
            .run(0, &["logs", "worker-1", "flanneld.service", "-n", "7"])
            .0
            .contains("--lines=7 --unit='flanneld.service'")
    );
    assert!(house.run(2, &["console", "worker-9"]).1.contains("its machines are controller, worker-1"));
    assert!(house.run(2, &["kubectl", "get", "nodes"]).1.contains("hint: run `nodelith up`"));

    let (_, err) = house.up(0, &["--workers", "2", "--port", &port.to_string(), "--output", "json"]);
    let events: Vec<Value> = err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().any(|event| event["event"] == "milestone" && event["machine"] == "worker-2"), "{err}");
    let second = house.status();
    assert_eq!((&second["supervisor"], second["machines"].as_array().unwrap().len()), (&first["supervisor"], 3));
    assert_eq!(second["ports"][0]["listen"], port, "the port that it has may be asked for");
    assert_eq!(house.boots("worker-1"), 1, "who was on stays on");
    assert!(house.up(2, &["--workers", "1"]).1.contains("run `nodelith down` first"));

    let (out, err) = house.run(0, &["down"]);
    assert!(out.contains("is removed") && err.contains("worker-2     off"), "{out}{err}");
    house.wait_for_silence();
    assert!(!house.path("out/cluster").exists());
    assert!(house.run(0, &["down"]).0.contains("there is no cluster"));
    assert!(house.run(0, &["status"]).0.contains("`nodelith up` starts one"));
}

#[test]
fn what_cannot_run_is_refused_before_anything_boots() {
    let house = House::new();
    let (_, err) = house.up(2, &[]);
    for name in ["controller", "worker"] {
        assert!(err.contains(&format!("run `nodelith build image-specs/{name}.toml`")), "{err}");
    }
    let house = House::with_images();
    house.versions("v1.36.1", "v1.37.2");
    let (_, err) = house.up(3, &["--workers", "1"]);
    for part in
        ["`kubelet/kubelet` of worker is k8s.io/kubernetes@v1.37.2", "@v1.36.1: it may be 3 minor versions older"]
    {
        assert!(err.contains(part), "`{part}` is not in\n{err}");
    }
    assert!(err.contains("hint: ") && !house.path("out/cluster").exists(), "{err}");
    let claims = house.path("claims/area");
    fs::create_dir_all(&claims).unwrap();
    let claim = "about = \"x\"\ncluster = { workers = 1 }\nsteps = [{ wait = \"x.target\" }]\n";
    fs::write(claims.join("claim.toml"), claim).unwrap();
    let (_, err) = house.run(3, &["test", "--vm-tests", claims.parent().unwrap().to_str().unwrap()]);
    assert!(err.contains("do not fit each other: `kubelet/kubelet` of worker"), "{err}");
    house.versions("v1.37.2", "v1.34.0");
    let (_, err) = house.run(4, &["up", "--worker-memory", "100000000"]);
    assert!(err.contains("MiB are available") && err.contains("--workers"), "{err}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (_, err) = house.up(4, &["--port", &port, "--workers", "1"]);
    assert!(err.contains(&format!("port {port} of 127.0.0.1 is taken")) && err.contains("--port"), "{err}");
    house.wait_for_silence();
    assert!(!house.path("out/cluster/machines").exists(), "nothing was made for a boot");
    drop(taken);
    house.up(0, &["--port", &port, "--workers", "1"]);
    let (_, err) = house.up(2, &["--port", "1"]);
    assert!(err.contains("down --keep-disks"), "{err}");
    house.run(0, &["down"]);
    house.wait_for_silence();
}

#[test]
fn a_killed_supervisor_leaves_no_machine_and_the_cluster_comes_back() {
    let house = House::with_images();
    house.up(0, &["--workers", "1"]);
    let fingerprint = fs::read(house.path("out/cluster/authority/fingerprint")).unwrap();
    let pid = i32::try_from(house.status()["supervisor"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    house.wait_for_silence();
    assert!(house.path("out/cluster/supervisor.pid").exists(), "it had no time to tidy up");
    let status = house.status();
    assert_eq!((&status["supervisor"], status["machines"][1]["state"].as_str()), (&Value::Null, Some("off")));
    assert!(house.run(4, &["logs", "worker-1"]).1.contains("nodelith status"));

    house.up(0, &[]);
    assert_eq!(house.boots("worker-1"), 2, "on the same disk");
    assert_eq!(fs::read(house.path("out/cluster/authority/fingerprint")).unwrap(), fingerprint);
    assert!(house.run(0, &["console", "worker-1", "--previous"]).0.contains("joined"));

    assert!(house.run(0, &["down", "--keep-disks"]).0.contains("kept"));
    house.wait_for_silence();
    house.up(0, &[]);
    assert_eq!(house.boots("controller"), 3);
    assert_eq!(fs::read(house.path("out/cluster/authority/fingerprint")).unwrap(), fingerprint);

    // A rebuilt image does not pull the old one from under the disks.
    house.run(0, &["down", "--keep-disks"]);
    let manifest = house.path("out/worker/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::remove_file(house.path("out/worker/worker.raw")).unwrap();
    fs::write(&manifest, text.replace("\"epoch\":1", "\"epoch\":2")).unwrap();
    let (_, err) = house.up(0, &[]);
    assert!(err.contains("worker-1 keep the image they were made with"), "{err}");
    house.run(0, &["down"]);
    house.wait_for_silence();
}

#[test]
fn an_interrupted_up_leaves_no_process_and_the_next_one_works() {
    let house = House::with_images();
    fs::create_dir_all(house.path("out/cluster")).unwrap();
    fs::write(house.path("out/cluster/slow"), "").unwrap();
    let args = ["up", "--worker-memory", "256", "--controller-memory", "256", "--workers", "1"];
    for signal in [Signal::INT, Signal::KILL] {
        let mut child = house.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.by_ref().any(|line| line.unwrap().contains("worker-1     root verified")));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        let status = child.wait().unwrap();
        if signal == Signal::INT {
            assert_eq!(status.code(), Some(4), "{rest:?}");
            assert!(rest.iter().any(|line| line.contains("interrupted; all machines were stopped")), "{rest:?}");
        }
        house.wait_for_silence();
    }
    fs::remove_file(house.path("out/cluster/slow")).unwrap();
    house.up(0, &["--workers", "1"]);
    house.run(0, &["down"]);
    house.wait_for_silence();
}

#[test]
fn machines_that_are_late_run_on_and_a_deaf_one_is_cut() {
    let house = House::with_images();
    fs::create_dir_all(house.path("out/cluster")).unwrap();
    for manners in ["slow", "deaf"] {
        fs::write(house.path("out/cluster").join(manners), "").unwrap();
    }
    let (_, err) = house.up(8, &["--workers", "1", "--within", "2"]);
    assert!(err.contains("is not there yet; ahead of it: certificates, flannel, joined"), "{err}");
    assert!(err.contains("| device-mapper: verity") && err.contains("nodelith console"), "{err}");
    assert_eq!(house.status()["machines"][0]["state"], "on");
    fs::remove_file(house.path("out/cluster/slow")).unwrap();
    house.up(0, &[]);
    assert_eq!(house.boots("worker-1"), 1, "it was waited for, not started anew");
    let since = Instant::now();
    house.run(0, &["down", "--within", "1"]);
    assert!(since.elapsed() < Duration::from_secs(30));
    house.wait_for_silence();
}

#[test]
fn a_reboot_that_fails_is_told_and_not_tried_for_ever() {
    let house = House::with_images();
    house.up(0, &["--workers", "1"]);
    let refusing = house.path("out/cluster/refusing");
    fs::write(&refusing, "").unwrap();
    // The guest goes away instead of an answer.
    house.run(4, &["logs", "worker-1", "reboot.target"]);
    let machine = house.machine_when("worker-1", |machine| machine["state"] == "broken");
    assert!(machine["trouble"][0].as_str().unwrap().contains("no memory left"), "{machine}");
    assert!(house.run(0, &["status"]).0.contains("did not start"));
    // This start is the third: one failed of itself, however long ago that was.
    assert!(house.up(4, &[]).1.contains("no memory left"));
    assert_eq!(house.boots("worker-1"), 3);
    let log = fs::read_to_string(house.path("out/cluster/supervisor.log")).unwrap();
    assert_eq!(log.matches("worker-1 rebooted and is off").count(), 1, "{log}");
    assert!(house.run(0, &["console", "worker-1"]).0.contains("joined"), "what it said before is kept");
    assert!(house.run(2, &["console", "worker-1", "--previous"]).1.contains("is missing"));

    fs::remove_file(&refusing).unwrap();
    house.up(0, &[]);
    assert!(house.status()["machines"][1]["trouble"].as_array().unwrap().is_empty());
    house.run(4, &["logs", "worker-1", "reboot.target"]);
    house.machine_when("worker-1", |machine| machine["boots"] == 3 && machine["ahead"] == json!([]));
    for boot in [&["console", "worker-1"][..], &["console", "worker-1", "--previous"]] {
        assert!(house.run(0, boot).0.contains("joined"));
    }
    house.run(0, &["down"]);
    house.wait_for_silence();
}

#[test]
fn a_cluster_whose_directory_is_removed_ends() {
    let house = House::with_images();
    house.up(0, &["--workers", "1"]);
    fs::remove_dir_all(house.path("out/cluster")).unwrap();
    house.wait_for_silence();
    house.up(0, &["--workers", "1"]);
    house.run(0, &["down"]);
    house.wait_for_silence();
}

#[test]
fn a_guest_that_goes_away_fails_its_claim_also_when_nobody_reads_that() {
    let house = House::with_images();
    house.claim("{ console = \"Linux version\" }, { run = \"crash\" }");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = house.test().stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{}", String::from_utf8_lossy(&output.stderr));
    let verdict: Value = serde_json::from_slice(&fs::read(house.path("out/report/verdict.json")).unwrap()).unwrap();
    let failure = &verdict["claims"][0]["failure"];
    assert_eq!((failure["machine"].as_str(), failure["expected"].as_str()), (Some("worker-1"), Some("an answer")));
    assert!(!failure["console"].as_array().unwrap().is_empty(), "{failure}");
}

#[test]
fn an_interruption_is_no_verdict() {
    let house = House::with_images();
    house.claim("{ run = \"true\" }");
    let mut child = house.test().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let console = house.path("out/report/area-claim/worker-1-boot1.console");
    house.wait("the button was pressed", || fs::read_to_string(&console).is_ok_and(|said| said.contains("pressed")));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said: Vec<String> = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(4), "{said:?}");
    assert!(!house.path("out/report/verdict.json").exists(), "{said:?}");
    house.wait_for_silence();
}
