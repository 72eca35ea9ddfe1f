//! The lab: machines that are processes of the locked QEMU, the Ethernet switch between them, their consoles and a
//! channel into them. The image under test is never changed; whatever the lab needs inside enters as a credential.
//!
//! Input: a raw disk image and a [`Hardware`]; output: what the machine said and answered. Needs no root and no tap.

mod argv;
pub mod console;
mod disk;
mod emulator;
pub mod forward;
pub mod interrupt;
mod machine;
pub mod pattern;
mod probe;
mod process;
mod qmp;
pub mod switch;

pub use argv::{Acceleration, Hardware};
pub use disk::{overlay, root_partition};
pub use emulator::Emulator;
pub use machine::{Ending, Guest, Machine};
pub use probe::Answer;
pub use qmp::Qmp;
