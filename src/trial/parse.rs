//! Claims as typed: TOML to [`Claim`], each refusal with file, line, column and what to write instead.

use super::claim::{Act, Claim, Compare, Member, Power, Run, Step};
use crate::cluster::Tokens;
use crate::error::{Fault, Kind, Result};
use crate::lab::switch;
use crate::spec::{Source, refuse};
use crate::sys::fs;
use crate::text::Name;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawClaim {
    about: String,
    #[serde(default = "ten_minutes")]
    within: u64,
    #[serde(default)]
    shares: bool,
    cluster: Option<RawCluster>,
    #[serde(default)]
    machines: BTreeMap<Spanned<String>, RawMember>,
    #[serde(default)]
    allow: Vec<String>,
    steps: Spanned<Vec<Spanned<RawStep>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawCluster {
    workers: Spanned<u8>,
    controller: Option<String>,
    worker: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawMember {
    image: Option<Spanned<String>>,
    memory: Option<Spanned<u32>>,
    cpus: Option<u8>,
    start: Option<u64>,
    #[serde(default)]
    off: bool,
    #[serde(default)]
    dhcp: bool,
    #[serde(default)]
    credentials: BTreeMap<Spanned<String>, String>,
    token_count: Option<u8>,
    token_name: Option<String>,
    #[serde(default)]
    token_age: u64,
    #[serde(default)]
    flip: Vec<u64>,
    boots: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawStep {
    on: Option<Spanned<String>>,
    wait: Option<String>,
    run: Option<String>,
    script: Option<Spanned<String>>,
    console: Option<String>,
    never: Option<String>,
    power: Option<Spanned<String>>,
    link: Option<RawLink>,
    pause: Option<u64>,
    wire: Option<Vec<Spanned<String>>>,
    meanwhile: Option<Vec<String>>,
    within: Option<u64>,
    exit: Option<i32>,
    prints: Option<String>,
    compare: Option<Spanned<String>>,
    keep: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawLink {
    #[serde(default)]
    cut: bool,
    #[serde(default)]
    unplugged: bool,
    #[serde(default)]
    drop: u8,
    #[serde(default)]
    duplicate: u8,
    #[serde(default)]
    delay: u64,
    #[serde(default)]
    jitter: u64,
}

fn ten_minutes() -> u64 {
    600
}

/// Reads every claim under a folder, `<area>/<claim>.toml`, sorted by name.
///
/// # Errors
/// [`Kind::Usage`] when there is no such folder, [`Kind::Spec`] for the first file that is not a claim.
pub fn load(dir: &Path) -> Result<Vec<Claim>> {
    if !dir.is_dir() {
        let fault = Fault::new(Kind::Usage, format!("there is no folder {} with claims", dir.display()));
        return Err(fault.hint("run this in the project's folder, or name another with --vm-tests").into());
    }
    let mut claims = Vec::new();
    for area in fs::list(dir)?.into_iter().filter(|path| path.is_dir()) {
        let files = fs::list(&area)?;
        for file in files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
            let stem =
                |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let text = fs::read_text(&file)?;
            claims.push(parse(&format!("{}/{}", stem(&area), stem(&file)), &file, &text)?);
        }
    }
    claims.sort_by(|a, b| a.name.cmp(&b.name));
    claims.iter().try_for_each(|claim| guests(claim, &claims))?;
    Ok(claims)
}

/// Refuses a claim that cannot try another in its midst.
fn guests(claim: &Claim, claims: &[Claim]) -> Result<()> {
    for step in &claim.steps {
        let Act::Meanwhile(names) = &step.act else { continue };
        for name in names {
            let guest = claims.iter().find(|other| other.name == *name && other.name != claim.name);
            let keeps =
                |guest: &Claim| !guest.steps.iter().any(|step| matches!(step.act, Act::Power(_) | Act::Meanwhile(_)));
            let why = match guest {
                None => "is no other claim",
                Some(guest) if !guest.follows(claim) => "does not share these machines",
                Some(guest) if !keeps(guest) => "has a step of `power` or `meanwhile`",
                Some(_) => continue,
            };
            let text = fs::read_text(&claim.path)?;
            let word = format!("\"{name}\"");
            let span = text.find(&word).map(|at| at..at + word.len());
            let source = Source { path: &claim.path, text: &text };
            let instead = "name claims with `shares = true` and the same machines, which leave these on";
            return Err(refuse(source, span, &format!("`{name}` {why}"), Some(instead)));
        }
    }
    Ok(())
}

/// The claims whose name is one of `names`, or whose area is; all when there are none.
///
/// # Errors
/// [`Kind::Usage`] for a name that is neither.
pub fn select(claims: Vec<Claim>, names: &[String]) -> Result<Vec<Claim>> {
    let hit = |claim: &Claim, name: &str| {
        claim.name == name
            || claim.name.strip_prefix(name.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
    };
    if let Some(name) = names.iter().find(|name| !claims.iter().any(|claim| hit(claim, name))) {
        let all: Vec<&str> = claims.iter().map(|claim| claim.name.as_str()).collect();
        return Err(Fault::new(Kind::Usage, format!("there is no claim `{name}`"))
            .hint(format!("choose from {}", all.join(", ")))
            .into());
    }
    Ok(claims.into_iter().filter(|claim| names.is_empty() || names.iter().any(|name| hit(claim, name))).collect())
}

/// Reads one claim.
pub(super) fn parse(name: &str, path: &Path, text: &str) -> Result<Claim> {
    let source = Source { path, text };
    let raw: RawClaim = toml::from_str(text).map_err(|error| refuse(source, error.span(), error.message(), None))?;
    let cluster = raw.cluster.is_some();
    let machines = members(source, raw.cluster.as_ref(), raw.machines)?;
    if machines.is_empty() {
        return Err(refuse(source, None, "no machine", Some("add `cluster = { workers = 2 }` or a `[machines.NAME]`")));
    }
    let mut steps = Vec::new();
    let span = raw.steps.span();
    for step in raw.steps.into_inner() {
        let span = step.span();
        let context = Context { source, span, machines: &machines, dir: path.parent().unwrap_or(Path::new(".")) };
        steps.push(context.step(step.into_inner())?);
    }
    if steps.is_empty() {
        return Err(refuse(
            source,
            Some(span),
            "no step",
            Some("a claim expects something, at least `{ wait = \"…\" }`"),
        ));
    }
    let within = Duration::from_secs(raw.within);
    let path = path.to_owned();
    let (about, shares, allow) = (raw.about, raw.shares, raw.allow);
    Ok(Claim { name: name.into(), path, about, within, shares, cluster, machines, allow, steps })
}

fn members(
    source: Source<'_>,
    cluster: Option<&RawCluster>,
    typed: BTreeMap<Spanned<String>, RawMember>,
) -> Result<Vec<Member>> {
    let mut typed: BTreeMap<String, (Range<usize>, RawMember)> =
        typed.into_iter().map(|(name, member)| (name.get_ref().clone(), (name.span(), member))).collect();
    let mut names = Vec::new();
    let mut images = BTreeMap::new();
    if let Some(cluster) = cluster {
        images.extend(cluster.controller.as_ref().map(|image| ("controller", image)));
        images.extend(cluster.worker.as_ref().map(|image| ("worker", image)));
        let workers = *cluster.workers.get_ref();
        if !(1..=9).contains(&workers) {
            return Err(refuse(source, Some(cluster.workers.span()), "not a number of workers from 1 to 9", None));
        }
        names.push("controller".to_owned());
        names.extend((1..=workers).map(|number| format!("worker-{number}")));
    }
    let more: Vec<String> = typed.keys().filter(|name| !names.contains(name)).cloned().collect();
    names.extend(more);
    names
        .into_iter()
        .map(|name| {
            let (span, member) = typed.remove(&name).unwrap_or_default();
            let image = images.get(stem(&name)).map(|image| (*image).clone());
            self::member(source, span, name, image, member)
        })
        .collect()
}

/// A machine's name without its number: `worker` of `worker-2`.
fn stem(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-')
}

fn member(
    source: Source<'_>,
    span: Range<usize>,
    name: String,
    image: Option<String>,
    raw: RawMember,
) -> Result<Member> {
    Name::new(&name).map_err(|refused| refuse(source, Some(span), &refused.0, None))?;
    // worker-2 boots the image `worker`, unless the cluster or the machine says otherwise.
    let image = raw.image.map(Spanned::into_inner).or(image).unwrap_or_else(|| stem(&name).to_owned());
    if let Some(memory) = raw.memory.as_ref().filter(|memory| !(256..=16384).contains(memory.get_ref())) {
        return Err(refuse(source, Some(memory.span()), "not a memory size from 256 to 16384 MiB", None));
    }
    let credential = |name: &Spanned<String>| {
        let good = name.get_ref().chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let why = "not a credential's name: letters, digits, `-`, `_` and `.`";
        if good { Ok(()) } else { Err(refuse(source, Some(name.span()), why, None)) }
    };
    raw.credentials.keys().try_for_each(credential)?;
    Ok(Member {
        memory: raw.memory.map_or(1024, Spanned::into_inner),
        cpus: raw.cpus.unwrap_or(1),
        start: (!raw.off).then(|| Duration::from_secs(raw.start.unwrap_or(0))),
        dhcp: raw.dhcp,
        credentials: raw.credentials.into_iter().map(|(name, value)| (name.into_inner(), value)).collect(),
        tokens: Tokens { count: raw.token_count.unwrap_or(3), name: raw.token_name, age: raw.token_age },
        flip: raw.flip,
        boots: raw.boots.unwrap_or(true),
        name,
        image,
    })
}

/// Where a step stands.
struct Context<'a> {
    source: Source<'a>,
    span: Range<usize>,
    machines: &'a [Member],
    dir: &'a Path,
}

impl Context<'_> {
    fn refuse(&self, span: Range<usize>, why: &str, instead: &str) -> anyhow::Error {
        refuse(self.source, Some(span), why, Some(instead))
    }

    fn step(&self, raw: RawStep) -> Result<Step> {
        let on = self.machines_of(raw.on.as_ref())?;
        let within = raw.within.map(Duration::from_secs);
        let modified = raw.exit.is_some() || raw.prints.is_some() || raw.compare.is_some() || raw.keep.is_some();
        let act = self.act(raw)?;
        if modified && !matches!(act, Act::Run(_)) {
            let why = "`exit`, `prints`, `compare` and `keep` belong to `run` and `script`";
            return Err(self.refuse(self.span.clone(), why, "remove them or run a script"));
        }
        let timed = matches!(act, Act::Wait(_) | Act::Run(_) | Act::Console(_) | Act::Power(Power::Off));
        if within.is_some() && !timed {
            let why = "`within` bounds a wait; this step takes no time";
            return Err(self.refuse(self.span.clone(), why, "remove `within`"));
        }
        let text = self.source.text.get(self.span.clone()).unwrap_or_default();
        let line = self.source.text[..self.span.start.min(self.source.text.len())].matches('\n').count() + 1;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Step { line, text, on, act, within })
    }

    /// A machine, a group (`workers`: all that boot the image `worker` or are called `worker-…`), several of them, or all.
    fn machines_of(&self, on: Option<&Spanned<String>>) -> Result<Vec<String>> {
        let all = || self.machines.iter().map(|member| member.name.clone());
        let Some(on) = on.filter(|on| on.get_ref() != "all") else { return Ok(all().collect()) };
        let mut names = Vec::new();
        for word in on.get_ref().split_whitespace() {
            let group = word.strip_suffix('s').unwrap_or_default();
            let hit =
                |member: &&Member| member.name == word || [member.image.as_str(), stem(&member.name)].contains(&group);
            let hits: Vec<String> = self.machines.iter().filter(hit).map(|member| member.name.clone()).collect();
            if hits.is_empty() {
                let names: Vec<String> = all().collect();
                let instead = format!("write `all`, a group such as `workers`, or one of {}", names.join(", "));
                return Err(self.refuse(on.span(), &format!("no machine is called `{word}`"), &instead));
            }
            names.extend(hits);
        }
        if names.is_empty() {
            return Err(self.refuse(on.span(), "no machine", "write `all` or a machine's name"));
        }
        Ok(names)
    }

    fn act(&self, raw: RawStep) -> Result<Act> {
        let (exit, prints) = (raw.exit.unwrap_or(0), raw.prints);
        let compare = raw.compare.map(|compare| self.compare(&compare)).transpose()?;
        let keep = raw.keep.map(|keep| self.variable(keep)).transpose()?;
        let mut acts = Vec::new();
        acts.extend(raw.wait.map(Act::Wait));
        let script = raw.script.map(|file| self.script(&file)).transpose()?;
        for script in raw.run.into_iter().chain(script) {
            acts.push(Act::Run(Run { script, exit, prints: prints.clone(), compare, keep: keep.clone() }));
        }
        acts.extend(raw.console.map(Act::Console));
        acts.extend(raw.never.map(Act::Never));
        acts.extend(raw.power.map(|power| self.power(&power)).transpose()?);
        acts.extend(raw.link.map(|link| self.link(&link)).transpose()?);
        acts.extend(raw.wire.map(|flows| self.wire(&flows)).transpose()?);
        acts.extend(raw.meanwhile.map(Act::Meanwhile));
        acts.extend(raw.pause.map(|seconds| Act::Pause(Duration::from_secs(seconds))));
        let count = acts.len();
        match (count, acts.pop()) {
            (1, Some(act)) => Ok(act),
            _ => Err(self.refuse(
                self.span.clone(),
                &format!("a step does one thing, this one does {count}"),
                "write one of `wait`, `run`, `script`, `console`, `never`, `power`, `link`, `wire`, `pause`, `meanwhile`",
            )),
        }
    }

    fn script(&self, file: &Spanned<String>) -> Result<String> {
        // Beside the claim or one up, so that areas can share; nothing else of the host is sent into guests.
        let name = file.get_ref();
        let plain = |name: &str| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        let good = plain(name.strip_prefix("../").unwrap_or(name));
        let path = self.dir.join(name);
        if !good || !path.is_file() {
            let instead = "name a file in the claim's folder, or `../NAME` for one in `vm-tests`";
            return Err(self.refuse(file.span(), &format!("there is no script {}", path.display()), instead));
        }
        fs::read_text(&path)
    }

    fn variable(&self, name: Spanned<String>) -> Result<String> {
        let good = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        if !good(name.get_ref()) {
            let why = format!("`{}` is not a variable's name", name.get_ref());
            return Err(self.refuse(name.span(), &why, "write lower-case letters, digits and `_`, a letter first"));
        }
        Ok(name.into_inner())
    }

    fn compare(&self, word: &Spanned<String>) -> Result<Compare> {
        Ok(match word.get_ref().as_str() {
            "like-before" => Compare::LikeBefore,
            "unlike-before" => Compare::UnlikeBefore,
            "like-peers" => Compare::LikePeers,
            "unlike-peers" => Compare::UnlikePeers,
            other => {
                let instead = "write `like-before`, `unlike-before`, `like-peers` or `unlike-peers`";
                return Err(self.refuse(word.span(), &format!("`{other}` is no comparison"), instead));
            }
        })
    }

    fn power(&self, word: &Spanned<String>) -> Result<Act> {
        Ok(Act::Power(match word.get_ref().as_str() {
            "on" => Power::On,
            "off" => Power::Off,
            "cut" => Power::Cut,
            other => {
                let why = format!("`{other}` is nothing that power does");
                return Err(self.refuse(word.span(), &why, "write `on`, `off` or `cut`"));
            }
        }))
    }

    fn wire(&self, flows: &[Spanned<String>]) -> Result<Act> {
        let instead = "write `arp`, `icmp`, `fragment`, `tcp PORT`, `udp PORT`, `ip PROTOCOL` or `ether TYPE`";
        let flow = |text: &Spanned<String>| {
            text.get_ref().parse().map_err(|why: String| self.refuse(text.span(), &why, instead))
        };
        Ok(Act::Wire(flows.iter().map(flow).collect::<Result<_>>()?))
    }

    fn link(&self, raw: &RawLink) -> Result<Act> {
        if raw.drop > 100 || raw.duplicate > 100 {
            let why = "`drop` and `duplicate` are frames of a hundred";
            return Err(self.refuse(self.span.clone(), why, "write a number from 0 to 100"));
        }
        let (delay, jitter) = (Duration::from_millis(raw.delay), Duration::from_millis(raw.jitter));
        let fault = switch::Fault { cut: raw.cut, drop: raw.drop, duplicate: raw.duplicate, delay, jitter };
        Ok(Act::Link { fault, unplugged: raw.unplugged })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "scratch files and printed skips of tests")]

    use super::*;

    fn read(text: &str) -> Result<Claim> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("check.sh"), "true\n").unwrap();
        parse("area/claim", &dir.path().join("claim.toml"), text)
    }

    #[test]
    fn a_claim_reads_as_it_is_meant() {
        let claim = read(
            r#"
about = "Two workers join."
within = 360
cluster = { workers = 2 }
allow = ["Failed to start flanneld*"]
[machines.worker-2]
dhcp = true
start = 60
[machines.spare-7]
image = "worker"
off = true
"#
            .replace("about", "steps = [\n{ on = \"workers\", wait = \"x.target\", within = 9 },\n{ script = \"check.sh\", exit = 3 },\n{ on = \"worker-1 controller\", link = { cut = true } },\n]\nabout")
            .trim_start(),
        )
        .unwrap();
        let names: Vec<&str> = claim.machines.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["controller", "worker-1", "worker-2", "spare-7"]);
        assert_eq!(claim.machines[2].start, Some(Duration::from_secs(60)));
        assert!(claim.machines[2].dhcp && claim.machines[3].start.is_none());
        assert_eq!(claim.steps[0].on, ["worker-1", "worker-2", "spare-7"]);
        assert_eq!((claim.steps[0].line, claim.steps[0].within), (2, Some(Duration::from_secs(9))));
        let run = Run { script: "true\n".into(), exit: 3, prints: None, compare: None, keep: None };
        assert_eq!(claim.steps[1].act, Act::Run(run));
        assert_eq!(claim.steps[2].on, ["worker-1", "controller"]);
    }

    #[test]
    fn each_mistake_is_refused_at_its_place_with_what_to_write() {
        let step = |step: &str| format!("about = \"x\"\ncluster = {{ workers = 1 }}\nsteps = [{step}]\n");
        let cases = [
            ("".to_owned(), "missing field `about`"),
            ("about = \"x\"\nsteps = [{ wait = \"a\" }]".to_owned(), "no machine"),
            (step(""), "no step"),
            (step("{ on = \"worker-9\", wait = \"a\" }"), "no machine is called `worker-9`"),
            (step("{ on = \"\", wait = \"a\" }"), "no machine"),
            (step("{ wait = \"a\", run = \"b\" }"), "does one thing, this one does 2"),
            (step("{ on = \"all\" }"), "this one does 0"),
            (step("{ wait = \"a\", exit = 1 }"), "belong to `run`"),
            (step("{ power = \"on\", within = 1 }"), "`within` bounds a wait"),
            (step("{ power = \"up\" }"), "nothing that power does"),
            (step("{ run = \"a\", compare = \"same\" }"), "`same` is no comparison"),
            (step("{ run = \"a\", keep = \"a;b\" }"), "is not a variable's name"),
            (step("{ script = \"missing.sh\" }"), "there is no script"),
            (step("{ script = \"/etc/passwd\" }"), "there is no script"),
            (step("{ script = \"../../x\" }"), "there is no script"),
            (step("{ link = { drop = 101 } }"), "frames of a hundred"),
            (step("{ wire = [\"tcp\"] }"), "no kind of traffic"),
            (step("{ wire = [\"udp 65536\"] }"), "no number that fits"),
            (step("{ link = { loss = 1 } }"), "unknown field `loss`"),
            (step("{ wiat = \"a\" }"), "unknown field `wiat`"),
            (step("{ wait = \"a\", within = -1 }"), "invalid value"),
            (step("{ wait = \"a\" }").replace("workers = 1", "workers = 0"), "from 1 to 9"),
            (step("{ wait = \"a\" }") + "[machines.Worker]\n", "is not a name"),
            (step("{ wait = \"a\" }") + "[machines.worker-1]\nmemory = 5\n", "256 to 16384"),
            (step("{ wait = \"a\" }") + "[machines.worker-1.credentials]\n\"a/b\" = \"\"\n", "not a credential's name"),
        ];
        for (text, why) in cases {
            let error = read(&text).unwrap_err();
            let shown = format!("{error:#}");
            assert_eq!(crate::error::kind_of(&error), Kind::Spec, "{shown}");
            assert!(shown.contains(why) && shown.contains("claim.toml:"), "expected {why}: {shown}");
        }
    }

    #[test]
    fn areas_and_names_select_and_unknown_ones_are_refused() {
        let claim = |name: &str| Claim {
            name: name.into(),
            ..read("about = \"x\"\ncluster = { workers = 1 }\nsteps = [{ wait = \"a\" }]").unwrap()
        };
        let claims = || vec![claim("boot/clean"), claim("join/flannel"), claim("join/patient")];
        let names = |filter: &[&str]| {
            let filter: Vec<String> = filter.iter().map(|name| (*name).to_owned()).collect();
            select(claims(), &filter).map(|claims| claims.into_iter().map(|claim| claim.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).unwrap().len(), 3);
        assert_eq!(names(&["join"]).unwrap(), ["join/flannel", "join/patient"]);
        assert_eq!(names(&["boot/clean", "join/patient"]).unwrap(), ["boot/clean", "join/patient"]);
        assert_eq!(crate::error::kind_of(&load(Path::new("/nonexistent")).unwrap_err()), Kind::Usage);
        assert!(names(&["joi"]).is_err() && names(&["join/flan"]).is_err());
    }

    #[test]
    fn a_claim_tries_only_others_that_leave_its_machines_on() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("area")).unwrap();
        let put = |name: &str, head: &str, steps: &str| {
            let text = format!("about = \"x\"\n{head}\nsteps = [{steps}]\n");
            std::fs::write(dir.path().join("area").join(name).with_extension("toml"), text).unwrap();
        };
        let two = "shares = true\ncluster = { workers = 2 }";
        let wait = "{ wait = \"x\" }";
        put("guest", two, wait);
        put("alone", "cluster = { workers = 2 }", wait);
        put("other", "shares = true\ncluster = { workers = 1 }", wait);
        put("cuts", two, &format!("{wait}, {{ power = \"cut\" }}"));
        put("host", two, "{ meanwhile = [\"area/guest\"] }");
        assert_eq!(load(dir.path()).unwrap().len(), 5);
        for (name, why) in [
            ("missing", "is no other claim"),
            ("host", "is no other claim"),
            ("alone", "does not share"),
            ("other", "does not share"),
            ("cuts", "has a step of `power`"),
        ] {
            put("host", two, &format!("{wait}, {{ meanwhile = [\"area/guest\", \"area/{name}\"] }}"));
            let shown = format!("{:#}", load(dir.path()).unwrap_err());
            assert!(shown.contains(&format!("`area/{name}` {why}")) && shown.contains("host.toml:4:"), "{shown}");
        }
    }

    /// The keys that a type takes, out of the parser's own refusal of a wrong one.
    fn keys(text: &str) -> Vec<String> {
        let shown = format!("{:#}", read(text).unwrap_err());
        let (_, list) = shown.split_once("unknown field `zzz`, expected").unwrap();
        list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_page_on_testing_describes_every_key() {
        let page = include_str!("../../docs/testing.md");
        let step = "about = \"x\"\ncluster = { workers = 1 }\n";
        let cases = [
            (keys("zzz = 1"), 7),
            (keys("cluster = { zzz = 1 }"), 3),
            (keys("[machines.worker]\nzzz = 1"), 12),
            (keys(&format!("{step}steps = [{{ zzz = 1 }}]")), 16),
            (keys(&format!("{step}steps = [{{ link = {{ zzz = 1 }} }}]")), 6),
        ];
        for (keys, count) in cases {
            assert_eq!(keys.len(), count, "{keys:?}");
            for key in keys {
                assert!(page.contains(&format!("| `{key}` |")), "docs/testing.md does not describe `{key}`");
            }
        }
    }
}
