//! The kernel: its image, and of its modules those that are wanted with what they need. (Stand-in until the branch lands.)
use crate::error::Result;
use crate::tree::Tree;
use std::path::Path;
pub(super) struct Kernel {
    pub(super) release: String,
    pub(super) image: Vec<u8>,
    pub(super) modules: Tree,
}
pub(super) fn extract(_: &mut Tree, _: &[&str], _: &Path) -> Result<Kernel> {
    anyhow::bail!("not yet")
}
