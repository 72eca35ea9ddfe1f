//! The initrd. (Stand-in until the branch lands.)
use crate::error::Result;
use crate::tree::Tree;
pub(super) const CMDLINE: &[&str] = &[];
pub(super) fn initrd(_: &Tree, _: &Tree, _: &str) -> Result<Tree> {
    anyhow::bail!("not yet")
}
