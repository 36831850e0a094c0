//! `plugins` builds the plugins; `demo` builds them and the gateway, and runs it.

use std::env;
use std::io::{Error, Result};
use std::process::{Command, ExitCode};

use wasmgate_build::{cargo, plugins, run, target_directory};

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
    run(cargo().args(["build", "--release", "--package", "wasmgate"]))?;
    let gateway = target_directory().join("release/wasmgate");
    println!("{TRY}");
    exec(Command::new(gateway).args(["run", "config/demo.toml"]))
}

#[cfg(unix)]
fn exec(command: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    Err(command.current_dir(wasmgate_build::workspace()).exec())
}

#[cfg(not(unix))]
fn exec(command: &mut Command) -> Result<()> {
    run(command)
}
