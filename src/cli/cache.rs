//! `nodelith cache`: what the store holds. All of it can be fetched or made again.

use super::Global;
use super::output::{Printer, bytes};
use crate::error::Result;
use crate::store::Store;
use serde_json::json;

/// Show or clean the store of verified inputs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  nodelith cache show\n  nodelith cache clean")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Where the store is and how much is in each part.
    Show,
    /// Remove everything; the next build fetches and makes it again.
    Clean,
}

pub(super) fn run(args: &Args, global: &Global, printer: &Printer) -> Result<()> {
    let store = Store::open(&global.store_dir()?)?;
    match args.what {
        What::Show => {
            let parts = store.usage()?;
            let mut text = format!("{}\n", store.dir().display());
            for (part, size) in &parts {
                text += &format!("  {part:<10} {:>12}\n", bytes(*size));
            }
            let sizes: serde_json::Map<_, _> =
                parts.into_iter().map(|(part, size)| (part.to_owned(), size.into())).collect();
            printer.result(&text, &json!({"directory": store.dir(), "bytes": sizes}))
        }
        What::Clean => {
            let freed = store.clean()?;
            printer.result(&format!("{} freed", bytes(freed)), &json!({"freed": freed}))
        }
    }
}
