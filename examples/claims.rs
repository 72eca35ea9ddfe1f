use nodelith::{
    digest::Sha256,
    lab::Emulator,
    report::{Event, Report},
    trial::{self, Options, Subject},
};
use std::path::{Path, PathBuf};
struct Out(std::time::Instant);
impl Report for Out {
    fn event(&self, e: Event) {
        match e {
            Event::Progress { .. } => {}
            Event::Warning { text } => eprintln!("{text}"),
            e => eprintln!("[{:.0}] {e:?}", self.0.elapsed().as_secs_f64()),
        }
    }
}
fn main() {
    let mut a = std::env::args().skip(1);
    let (images, out) = (PathBuf::from(a.next().unwrap()), PathBuf::from(a.next().unwrap()));
    let names: Vec<String> = a.collect();
    let claims =
        trial::select(trial::load(Path::new(&std::env::var("VT").unwrap_or("vm-tests".into()))).unwrap(), &names)
            .unwrap();
    let subject = |name: &str| {
        let mut facts = std::collections::BTreeMap::new();
        let flat = images.join(format!("{name}.raw"));
        let deep = images.join(name).join(format!("{name}.raw"));
        let raw = if flat.exists() { flat } else { deep };
        if let Ok(text) = std::fs::read_to_string(raw.with_file_name("manifest.json")) {
            let m: serde_json::Value = serde_json::from_str(&text).unwrap();
            facts.insert("root_hash".into(), m["root-hash"].as_str().unwrap().to_owned());
            facts.insert(
                "listeners".into(),
                m["listeners"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect::<Vec<_>>().join("\n"),
            );
        }
        let c = |n: &str| (n.to_owned(), n.to_owned());
        let certificates = if name == "worker" { vec![c("flannel")] } else { vec![c("etcd-server"), c("etcd-admin")] };
        Ok(Subject { raw, manifest: Sha256([0; 32]), certificates, facts })
    };
    let e = Emulator::new(Path::new("/work/wt/qemu-root")).unwrap();
    let o = Options { dir: out, seed: 1, capture: false };
    match trial::run(&claims, &subject, &e, &o, &Out(std::time::Instant::now())) {
        Ok(v) => {
            for c in &v.claims {
                for b in &c.boots {
                    eprintln!("{} {:?}", b.machine, b.milestones);
                }
                for d in &c.steps {
                    eprintln!("{} {}", d.at, d.step);
                }
            }
            std::process::exit(if v.passed() { 0 } else { 8 })
        }
        Err(e) => {
            eprintln!("{e:#}");
            std::process::exit(1)
        }
    }
}
