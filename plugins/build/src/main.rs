//! `plugins` builds the plugins; `demo` builds them and the gateway, and runs it.

use std::env;
use std::io::{Error, Result};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use wasmgate_build::{gateway, plugins, workspace};

fn main() -> ExitCode {
    let done = match env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [task] if task == "plugins" => plugins().map(|directory| println!("{}", directory.display())),
        [task] if task == "demo" => demo(),
        _ => Err(Error::other("usage: wasmgate-build plugins | demo")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the demonstration's config answers; the README says how.
const TRY: &str = "\nThe gateway starts. In another terminal try:

    curl -i http://127.0.0.1:8080/public/hello -A Mozilla/5.0
    curl -i http://127.0.0.1:8080/api/hello
    curl -i http://127.0.0.1:8080/api/hello -H 'x-api-key: demo-key'
";

/// Becomes the gateway; returns only where that fails.
fn demo() -> Result<()> {
    plugins()?;
    let gateway = gateway()?;
    println!("{TRY}");
    Err(Command::new(gateway).args(["run", "config/demo.toml"]).current_dir(workspace()).exec())
}
