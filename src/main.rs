//! The binary: parse, call the library.

use forestage::demo::placement::slot as placement;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let first = args.next();
    // The daemon and the demonstration start this same binary again for the first two; people never do.
    match first.as_deref() {
        Some(forestage::worker::helper::ARG) => forestage::worker::helper::main(),
        Some(forestage::demo::work::ARGUMENT) => forestage::demo::work::main(&args.collect::<Vec<_>>()),
        Some(forestage::demo::bench::ARGUMENT) => forestage::demo::bench::main(&args.collect::<Vec<_>>()),
        Some(forestage::demo::placement::ARGUMENT) => {
            forestage::demo::placement::main(&args.collect::<Vec<_>>())
        }
        Some(placement::SLOT) => placement::slot_main(&args.collect::<Vec<_>>()),
        Some(placement::WORK) => placement::work_main(&args.collect::<Vec<_>>()),
        _ => forestage::cli::main(),
    }
}
