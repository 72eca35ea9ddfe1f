//! Bytes ↔ types, pure: nothing here knows a path of the host or a server.
pub mod deb;
