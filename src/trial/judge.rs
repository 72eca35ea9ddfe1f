//! What holds of every boot: no failed and no stuck unit, a clean power-off, a clean console. And what is shown when
//! something does not hold.

use super::bench::{Bench, Outcome, Stop};
use super::verdict::Failure;
use crate::lab::{Ending, interrupt, pattern};
use std::time::{Duration, Instant};

/// How long units may stay `activating` before they count as stuck.
const SETTLE: Duration = Duration::from_secs(180);
/// How long a machine may take to power itself off under TCG.
const POWER_OFF: Duration = Duration::from_secs(300);
/// How long a machine whose boot failed may take until it can be asked why.
const COME_UP: Duration = Duration::from_secs(180);
/// For a look into a guest.
pub(super) const LOOK: Duration = Duration::from_secs(180);
/// Lines of the console that are shown.
const TAIL: usize = 40;

/// Devices are left out: they are `activating` as long as udev has not told systemd of them.
///
/// The last lines are for [`restless`].
const UNITS: &str = "systemctl list-units --type=service,mount,automount,socket,target,timer,path,swap,slice,scope --all --plain --no-legend --no-pager --state=failed,activating,auto-restart
read -r up rest </proc/uptime && echo \"=== $up\"
systemctl show --property=Id,NRestarts,ActiveEnterTimestampMonotonic '*.service'";

/// A unit that was restarted so often and has run for less than so long is judged later: it may end again.
const RESTARTS: (u32, Duration) = (3, Duration::from_secs(30));

/// Failed units with the last lines of their journal, for the report.
const DIAGNOSIS: &str = "systemctl list-units --type=service,mount,socket,target --all --plain --no-legend --no-pager --state=failed,activating |
while read -r unit rest; do
    echo \"unit $unit: $rest\"
    journalctl --no-pager --boot --output=short-monotonic --lines=20 --unit=\"$unit\"
done";

/// Judges a machine that is on and powers it off.
pub(super) fn end_boot(bench: &mut Bench<'_>, index: usize, within: Option<Duration>) -> Outcome<()> {
    if bench.seats[index].member.boots {
        units(bench, index)?;
        bench.seats[index].off_on_purpose = true;
        let ending = bench.seats[index].machine.power_off(within.unwrap_or(POWER_OFF));
        let ending = ending.map_err(|error| bench.owed(index, "a clean power-off", error))?;
        if ending != Ending::PowerOff {
            return Err(bench.failed(Some(index), "a clean power-off", &format!("{ending:?}")));
        }
    } else {
        bench.seats[index].off_on_purpose = true;
        bench.seats[index].machine.cut_power();
    }
    bench.close_boot(index);
    console(bench, index)
}

/// The whole console against the table, the power-off included.
fn console(bench: &Bench<'_>, index: usize) -> Outcome<()> {
    let Some(console) = bench.seats[index].machine.console() else { return Ok(()) };
    match console.bad(&bench.claim.allow).into_iter().next() {
        Some((line, bad)) => {
            let expected = format!("no `{}` on the console: {}", bad.pattern, bad.why);
            Err(bench.failed(Some(index), &expected, &format!("[{:.1}] {}", line.at, line.text)))
        }
        None => Ok(()),
    }
}

fn units(bench: &mut Bench<'_>, index: usize) -> Outcome<()> {
    let until = Instant::now() + SETTLE;
    loop {
        let answer = bench.run(index, UNITS, LOOK)?;
        let allowed = |line: &String| !bench.claim.allow.iter().any(|allowed| pattern::holds(line, allowed));
        let (listed, shown) = answer.stdout.split_once("=== ").unwrap_or((&answer.stdout, ""));
        let listed = listed.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
        let bad: Vec<String> = listed.chain(restless(shown)).filter(allowed).collect();
        if answer.code == 0 && bad.is_empty() {
            return Ok(());
        }
        let failed = bad.iter().any(|line| line.split_whitespace().any(|word| word == "failed"));
        if failed || Instant::now() >= until {
            let seen = if answer.code == 0 { bad.join("\n") } else { format!("systemctl failed: {}", answer.stderr) };
            return Err(bench.failed(Some(index), "no failed and no stuck unit", &seen));
        }
        bench.rest()?;
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Units that end and are started over and over, of the guest's seconds since its start and `systemctl show`: between
/// two ends such a unit looks active.
fn restless(shown: &str) -> Vec<String> {
    let Some((up, units)) = shown.split_once('\n') else { return Vec::new() };
    let up: f64 = up.trim().parse().unwrap_or(0.0);
    let judge = |unit: &str| {
        let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let restarts: u32 = value("NRestarts")?.parse().ok()?;
        let since: f64 = value("ActiveEnterTimestampMonotonic")?.parse().ok()?;
        let lasting = up - since / 1e6 >= RESTARTS.1.as_secs_f64();
        (restarts >= RESTARTS.0 && !lasting)
            .then(|| format!("{}: started again {restarts} times", value("Id").unwrap_or("?")))
    };
    units.split("\n\n").filter_map(judge).collect()
}

/// Completes a failure with what helps to understand it: the machine's failed units and its last words.
pub(super) fn complete(bench: &mut Bench<'_>, stop: Stop) -> Stop {
    let Stop::Failed(mut failure) = stop else { return stop };
    failure.kept = bench.dir.clone();
    let seat = bench.seats.iter_mut().find(|seat| failure.machine.as_ref() == Some(&seat.member.name));
    if let Some(seat) = seat {
        failure.console = seat.machine.console().map(|console| console.tail(TAIL)).unwrap_or_default();
        // A failure early in the boot: the reasons are in the journal, which can soon be asked. Not of one that is off.
        let until = Instant::now() + COME_UP;
        while seat.member.boots
            && !seat.machine.answers()
            && seat.machine.is_on()
            && Instant::now() < until
            && interrupt::check().is_ok()
        {
            std::thread::sleep(Duration::from_millis(200));
        }
        if seat.machine.answers()
            && let Ok(answer) = seat.machine.run(DIAGNOSIS, LOOK)
        {
            failure.units = split(&answer.stdout);
        }
    }
    Stop::Failed(failure)
}

/// One text a unit.
fn split(text: &str) -> Vec<String> {
    let mut units: Vec<String> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("unit "), units.last_mut()) {
            (Some(head), _) => units.push(head.to_owned()),
            (None, Some(last)) => *last += &format!("\n{line}"),
            (None, None) => {}
        }
    }
    units
}

/// A failure with the line of the step it happened in.
pub(super) fn at_line(stop: Stop, line: usize) -> Stop {
    match stop {
        Stop::Failed(failure) => Stop::Failed(Box::new(Failure { line: Some(line), ..*failure })),
        broken @ Stop::Broken(_) => broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_ends_again_and_again_is_seen_between_two_ends() {
        let shown = "100.07\nId=a.service\nNRestarts=21\nActiveEnterTimestampMonotonic=96000000\n\n\
                     Id=b.service\nNRestarts=4\nActiveEnterTimestampMonotonic=60000000\n\n\
                     Id=c.service\nNRestarts=0\nActiveEnterTimestampMonotonic=99000000\n\n\
                     Id=d.service\nNRestarts=2\nActiveEnterTimestampMonotonic=0\n";
        assert_eq!(restless(shown), ["a.service: started again 21 times"]);
        assert!(restless("").is_empty());
    }

    #[test]
    fn journals_are_told_apart_by_unit() {
        let text = "-- noise\nunit a.service: failed\n[1] x\n[2] y\nunit b.service: failed\n";
        assert_eq!(split(text), ["a.service: failed\n[1] x\n[2] y", "b.service: failed"]);
    }
}
