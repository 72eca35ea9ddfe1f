//! Packages, roles, accounts and units → the trees of an image.

pub mod initrd;
pub mod kernel;
