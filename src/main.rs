//! The program: parse, call, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    mydocker::cli::main(std::env::args_os())
}
