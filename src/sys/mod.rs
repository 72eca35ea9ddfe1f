//! The host: the only place that spawns programs, reads the clock or writes files. Every error names the path.
pub mod clock;
pub mod cmd;
pub mod entropy;
pub mod fs;
pub mod region;
