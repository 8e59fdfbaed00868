//! `tidemark-bench`: measures what Tidemark costs and writes it to `target/bench/report.json`. `tests/README.md` says what
//! each figure means.

#[path = "../bench/mod.rs"]
mod bench;

use anyhow::Context as _;
use std::path::PathBuf;

const USAGE: &str = "\
Usage: tidemark-bench [FUNCTIONS]

FUNCTIONS is the folder of the functions' release binaries (default: the folder of this program).
Writes target/bench/report.json.";

fn main() -> anyhow::Result<()> {
    let functions = match std::env::args_os().nth(1) {
        Some(argument) if argument == "-h" || argument == "--help" => {
            println!("{USAGE}");
            return Ok(());
        }
        Some(folder) => PathBuf::from(folder),
        None => {
            let program = std::env::current_exe().context("finding the folder of this program")?;
            program.parent().map(PathBuf::from).unwrap_or_default()
        }
    };
    let report = bench::run(&functions)?;
    report.write("target/bench/report.json".as_ref())
}
