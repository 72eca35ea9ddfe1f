//! `nodelith status`.

use super::output::Printer;
use crate::cluster::{self, Plan, Status};
use crate::error::Result;
use crate::remote::kubernetes::Node;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Show the machines of the live cluster: what they are doing, what they passed, where they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  nodelith status\n  nodelith status --output json")]
pub(super) struct Args {
    /// Where the images are.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &Args, printer: &Printer) -> Result<()> {
    let dir = args.out.join("cluster");
    let Some(status) = cluster::status(&dir)? else {
        let text = format!("there is no cluster in {}; `nodelith up` starts one", dir.display());
        return printer.result(&text, &json!({ "cluster": null }));
    };
    show(&dir, &status, printer)
}

/// Prints a status, with what the API server says of the nodes.
pub(super) fn show(dir: &Path, status: &Status, printer: &Printer) -> Result<()> {
    let plan = Plan::load(dir)?;
    let askable = status.supervisor.is_some() && dir.join("kubeconfig").exists();
    // A cluster whose API server does not answer still has a status; what the nodes are is left open then.
    let nodes = plan.filter(|_| askable).and_then(|plan| cluster::nodes(dir, &plan).ok()).unwrap_or_default();
    printer.result(&render(dir, status, &nodes), &json!({ "cluster": status, "nodes": nodes }))
}

/// The status for people.
fn render(dir: &Path, status: &Status, nodes: &[Node]) -> String {
    let mut text = match (&status.supervisor, &status.acceleration) {
        (Some(pid), Some(acceleration)) => format!("{}: supervisor {pid}, {acceleration}\n", dir.display()),
        _ => format!("{}: off; `nodelith up` starts it\n", dir.display()),
    };
    for machine in &status.machines {
        let seat = &machine.seat;
        let ready = nodes.iter().find(|node| node.name == seat.name);
        let what = match (machine.milestones.last(), ready) {
            (_, Some(node)) if node.ready => format!("Ready {}", node.version),
            (_, Some(node)) => format!("NotReady {}", node.version),
            (Some((milestone, _)), None) => milestone.clone(),
            (None, None) => String::new(),
        };
        let (state, memory) = (machine.state.word(), format!("{} MiB", seat.memory));
        text += &format!("  {:<14} {state:<9} {:<12} {memory:>9}  {what}\n", seat.name, seat.address.to_string());
        for trouble in &machine.trouble {
            text += &format!("    {}\n", trouble.replace('\n', "\n    "));
        }
    }
    for port in &status.ports {
        if let Some(listen) = port.listen.filter(|_| status.supervisor.is_some()) {
            text += &format!("  127.0.0.1:{listen:<6} → {} ({})\n", port.to, port.name);
        }
    }
    let kubeconfig = dir.join("kubeconfig");
    if kubeconfig.exists() && status.supervisor.is_some() {
        text += &format!("  export KUBECONFIG={}\n", std::path::absolute(&kubeconfig).unwrap_or(kubeconfig).display());
    }
    text
}
