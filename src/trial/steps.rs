//! Performs the steps of a claim.

use super::bench::{Bench, Outcome, Stop, assignments};
use super::claim::{Act, Compare, Power, Run, STEP_BOUND, Step};
use super::judge::{self, LOOK};
use crate::lab::{Answer, pattern, switch};
use std::time::{Duration, Instant};

/// How often systemd and scripts are asked again; each question costs a translated guest about half a second.
const AGAIN: Duration = Duration::from_secs(2);

/// Does one step on all its machines.
pub(super) fn perform(bench: &mut Bench<'_>, step: &Step) -> Outcome<()> {
    let seats: Vec<usize> =
        (0..bench.seats.len()).filter(|index| step.on.contains(&bench.seats[*index].member.name)).collect();
    let bound = step.within.unwrap_or(STEP_BOUND);
    let until = Instant::now() + bound;
    match &step.act {
        Act::Wait(unit) => seats.into_iter().try_for_each(|index| wait(bench, index, unit, until)),
        Act::Run(run) => scripts(bench, &seats, run, step.within.map(|_| until)),
        Act::Console(wanted) => seats.into_iter().try_for_each(|index| console(bench, index, wanted, until)),
        Act::Never(unwanted) => seats.into_iter().try_for_each(|index| never(bench, index, unwanted)),
        Act::Power(Power::On) => seats.into_iter().try_for_each(|index| bench.power_on(index)),
        Act::Power(Power::Off) => seats.into_iter().try_for_each(|index| judge::end_boot(bench, index, step.within)),
        Act::Power(Power::Cut) => {
            for index in seats {
                bench.seats[index].off_on_purpose = true;
                bench.seats[index].machine.cut_power();
                bench.close_boot(index);
            }
            Ok(())
        }
        Act::Link { fault, unplugged } => {
            seats.into_iter().try_for_each(|index| link(bench, index, *fault, *unplugged))
        }
        Act::Wire(allowed) => seats.into_iter().try_for_each(|index| wire(bench, index, allowed)),
        Act::Pause(time) => {
            let until = Instant::now() + *time;
            while Instant::now() < until {
                bench.rest()?;
            }
            Ok(())
        }
        // Whoever runs claims does.
        Act::Meanwhile(_) => Ok(()),
    }
}

fn link(bench: &mut Bench<'_>, index: usize, fault: switch::Fault, unplugged: bool) -> Outcome<()> {
    let machine = &mut bench.seats[index].machine;
    if let Some((switch, port)) = machine.link() {
        switch.set_fault(*port, fault);
    }
    // A machine that is off starts with its cable in.
    if machine.is_on() {
        let plugged = machine.set_carrier(!unplugged);
        plugged.map_err(|error| bench.owed(index, "the machine to be on", error))?;
    }
    Ok(())
}

/// Refuses traffic of other kinds; what was sent is told with its bytes.
fn wire(bench: &mut Bench<'_>, index: usize, allowed: &[switch::Flow]) -> Outcome<()> {
    bench.tick()?;
    let Some((switch, port)) = bench.seats[index].machine.link() else { return Ok(()) };
    let sent = switch.sent(*port);
    let seen = sent.flows().map(|(flow, bytes)| format!("{flow}: {bytes} bytes")).collect::<Vec<_>>().join("\n");
    if sent.flows().all(|(flow, _)| allowed.contains(&flow)) {
        return Ok(());
    }
    let allowed = allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(bench.failed(Some(index), &format!("to have sent only {allowed}"), &seen))
}

/// Waits until scripts can be run in a machine.
fn answering(bench: &mut Bench<'_>, index: usize, until: Instant) -> Outcome<()> {
    while !bench.seats[index].machine.answers() {
        if Instant::now() >= until {
            return Err(bench.failed(Some(index), "the machine to come up and answer", "it does not answer"));
        }
        bench.rest()?;
    }
    Ok(())
}

fn pause_until(bench: &mut Bench<'_>, next: Instant) -> Outcome<()> {
    bench.tick()?;
    while Instant::now() < next {
        bench.rest()?;
    }
    Ok(())
}

/// What systemd says of a unit.
struct UnitState {
    active: String,
    /// Nothing is queued and no unit is starting or waiting to restart, so nothing will change by itself.
    quiet: bool,
    failed: String,
}

fn unit_state(answer: &Answer) -> UnitState {
    let mut lines = answer.stdout.lines();
    let active = lines.next().unwrap_or("unknown").to_owned();
    let quiet = lines.next() == Some("0");
    UnitState { active, quiet, failed: lines.collect::<Vec<_>>().join("\n") }
}

fn wait(bench: &mut Bench<'_>, index: usize, unit: &str, until: Instant) -> Outcome<()> {
    answering(bench, index, until)?;
    let unit = unit.replace('\'', "");
    let question = format!(
        "systemctl show --property=ActiveState --value -- '{unit}'
echo $(($(systemctl list-jobs --no-legend --no-pager | grep -c .) + $(systemctl list-units --type=service,mount,socket,target --all --plain --no-legend --no-pager --state=activating,auto-restart | grep -c .)))
systemctl list-units --all --plain --no-legend --no-pager --state=failed"
    );
    let mut still = 0;
    loop {
        let next = Instant::now() + AGAIN;
        let state = unit_state(&bench.run(index, &question, LOOK)?);
        if state.active == "active" {
            return Ok(());
        }
        // Between a failure and the restart that follows there is a moment of quiet; three in a row are not that.
        still = if state.quiet { still + 1 } else { 0 };
        let over = Instant::now() >= until;
        if over || still >= 3 {
            let mut seen = format!("{} after {} s", state.active, bench.at());
            if still >= 3 {
                seen += ", and nothing is queued that would change it";
            }
            if !state.failed.is_empty() {
                seen += &format!("; failed units:\n{}", state.failed);
            }
            return Err(bench.failed(Some(index), &format!("{unit} active"), &seen));
        }
        pause_until(bench, next)?;
    }
}

fn console(bench: &mut Bench<'_>, index: usize, wanted: &str, until: Instant) -> Outcome<()> {
    loop {
        let seat = &mut bench.seats[index];
        if seat.machine.console().is_some_and(|console| console.find(wanted).is_some()) {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(bench.failed(Some(index), &format!("`{wanted}` on the console"), "it did not come"));
        }
        bench.rest()?;
    }
}

fn never(bench: &mut Bench<'_>, index: usize, unwanted: &str) -> Outcome<()> {
    bench.tick()?;
    match bench.seats[index].machine.console().and_then(|console| console.find(unwanted)) {
        Some(line) => {
            let seen = format!("[{:.1}] {}", line.at, line.text);
            Err(bench.failed(Some(index), &format!("no `{unwanted}` on the console"), &seen))
        }
        None => Ok(()),
    }
}

/// Runs a script on each machine; with a bound, again until it does what it should.
fn scripts(bench: &mut Bench<'_>, seats: &[usize], run: &Run, until: Option<Instant>) -> Outcome<()> {
    let mut texts = Vec::new();
    for &index in seats {
        let deadline = until.unwrap_or_else(|| Instant::now() + STEP_BOUND);
        answering(bench, index, deadline)?;
        loop {
            let next = Instant::now() + AGAIN;
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(10));
            let seat = &bench.seats[index];
            let script = format!("{}{}{}", seat.facts, assignments(&bench.kept), run.script);
            let answer = bench.run(index, &script, left)?;
            let before = bench.printed.get(&(seat.member.name.clone(), run.script.clone())).cloned();
            match wrong(run, &answer, before.as_deref()) {
                None => {
                    bench.printed.insert((seat.member.name.clone(), run.script.clone()), answer.stdout.clone());
                    if let Some(name) = &run.keep {
                        let value =
                            (format!("{name}_{}", seat.member.name.replace('-', "_")), answer.stdout.trim().to_owned());
                        bench.kept.insert(value.0, value.1);
                    }
                    texts.push(answer.stdout);
                    break;
                }
                Some((expected, seen)) if until.is_none() || Instant::now() >= deadline => {
                    return Err(bench.failed(Some(index), &expected, &seen));
                }
                Some(_) => pause_until(bench, next)?,
            }
        }
    }
    peers(bench, seats, run, &texts)
}

/// What is not as expected of an answer, and what it was.
fn wrong(run: &Run, answer: &Answer, before: Option<&str>) -> Option<(String, String)> {
    let said = || {
        let tail = |text: &str| {
            text.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        format!("{}\n{}", tail(&answer.stdout), tail(&answer.stderr)).trim().to_owned()
    };
    if answer.code != run.exit {
        let code = if answer.code == 124 { "124 (its time was over)".to_owned() } else { answer.code.to_string() };
        return Some((format!("exit code {}", run.exit), format!("exit code {code}\n{}", said())));
    }
    if let Some(wanted) =
        run.prints.as_ref().filter(|wanted| !answer.stdout.lines().any(|line| pattern::holds(line, wanted)))
    {
        return Some((format!("a line with `{wanted}`"), said()));
    }
    let like = before.is_some_and(|before| before == answer.stdout);
    match run.compare {
        Some(Compare::LikeBefore) if !like => {
            Some((format!("the same as before: {}", before.unwrap_or("(it never ran)").trim()), said()))
        }
        Some(Compare::UnlikeBefore) if like || before.is_none() => Some(("something else than before".into(), said())),
        _ => None,
    }
}

fn peers(bench: &Bench<'_>, seats: &[usize], run: &Run, texts: &[String]) -> Outcome<()> {
    let list = || {
        let pair = |(index, text): (&usize, &String)| format!("{}: {}", bench.seats[*index].member.name, text.trim());
        seats.iter().zip(texts).map(pair).collect::<Vec<_>>().join("\n")
    };
    let mut sorted = texts.to_vec();
    sorted.sort();
    sorted.dedup();
    let fail = |expected: &str| -> Result<(), Stop> { Err(bench.failed(None, expected, &list())) };
    match run.compare {
        Some(Compare::LikePeers) if sorted.len() != 1 => fail("the same on each machine"),
        Some(Compare::UnlikePeers) if sorted.len() != texts.len() || texts.len() < 2 => {
            fail("something else on each of several machines")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(exit: i32, prints: Option<&str>, compare: Option<Compare>) -> Run {
        Run { script: "x".into(), exit, prints: prints.map(str::to_owned), compare, keep: None }
    }

    fn answer(code: i32, stdout: &str) -> Answer {
        Answer { code, stdout: stdout.into(), stderr: "complaint".into() }
    }

    #[test]
    fn each_expectation_can_fail_and_says_what_was_seen() {
        assert_eq!(wrong(&run(0, None, None), &answer(0, "x"), None), None);
        let (expected, seen) = wrong(&run(0, None, None), &answer(1, "out"), None).unwrap();
        assert!(expected == "exit code 0" && seen.contains("exit code 1\nout\ncomplaint"), "{seen}");
        assert!(wrong(&run(3, Some("a*c"), None), &answer(3, "x\nabc\n"), None).is_none());
        assert!(wrong(&run(3, Some("a*c"), None), &answer(3, "a\nc\n"), None).is_some());
        let like = run(0, None, Some(Compare::LikeBefore));
        let unlike = run(0, None, Some(Compare::UnlikeBefore));
        for (before, same, other) in [(Some("x"), true, false), (Some("y"), false, true), (None, false, false)] {
            assert_eq!(wrong(&like, &answer(0, "x"), before).is_none(), same);
            assert_eq!(wrong(&unlike, &answer(0, "x"), before).is_none(), other);
        }
    }

    #[test]
    fn quiet_is_when_nothing_is_queued() {
        let state = unit_state(&answer(0, "inactive\n0\na.service loaded failed failed A\n"));
        assert!(state.active == "inactive" && state.quiet && state.failed.starts_with("a.service"));
        assert!(!unit_state(&answer(0, "activating\n2\n")).quiet && !unit_state(&answer(0, "")).quiet);
    }
}
