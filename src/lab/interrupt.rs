//! Ctrl-C. The handler only raises a flag; every wait of the lab looks at it, so that machines, sockets and scratch
//! files go the ordinary way: by being dropped.

use crate::error::{Fault, Kind, Result};
use std::sync::atomic::{AtomicBool, Ordering};

static RAISED: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C, SIGTERM and SIGHUP raise the flag from now on. Without effect when the program already has a handler.
pub fn watch() {
    // A second handler is refused by the crate; whoever came first decides what Ctrl-C means.
    let _ = ctrlc::set_handler(raise);
}

/// Raises the flag, as the signal does.
pub fn raise() {
    RAISED.store(true, Ordering::Relaxed);
}

/// Whether the flag is raised.
#[must_use]
pub fn raised() -> bool {
    RAISED.load(Ordering::Relaxed)
}

/// Refuses to go on once the flag is raised.
///
/// # Errors
/// [`Kind::Environment`] when it is.
pub fn check() -> Result<()> {
    if raised() {
        return Err(Fault::new(Kind::Environment, "interrupted; all machines were stopped").into());
    }
    Ok(())
}
