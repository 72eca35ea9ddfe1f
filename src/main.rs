//! The `nodelith` program: parse, run, render, exit code. Everything else is in the library.

fn main() -> std::process::ExitCode {
    nodelith::cli::main()
}
