//! The command line.

/// A line on standard output, as `println!`.
macro_rules! tell {
    ($($text:tt)*) => { $crate::cli::tell(format_args!($($text)*)) };
}

mod explain;
mod inspect;
mod migrate;
mod plugin;

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    path::PathBuf,
    process::{self, ExitCode},
};

use clap::{Parser, Subcommand};

use crate::{config, gateway, telemetry};

/// An API gateway in which every feature is a sandboxed WebAssembly module.
#[derive(Parser)]
#[command(name = "wasmgate", version, disable_help_subcommand = true)]
#[command(after_help = "Start with: wasmgate check gateway.toml && wasmgate run gateway.toml")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT, which drain it; a second one ends it at once.
    ///
    /// A config with faults starts nothing: all of them are printed and the exit status is 1. SIGHUP, and a
    /// change of the config or of a file it names, put the files as they are then in force without losing a
    /// request; faults are logged, and what ran before runs on. SIGUSR2 starts the binary anew on the same
    /// sockets and then drains this process.
    Run {
        /// The config file (TOML). Paths in it are relative to it.
        config: PathBuf,
    },
    /// Find all faults of a config without running it.
    ///
    /// Reads the file, loads every plugin it names, holds each plugin's config against the schema
    /// that the plugin brings, and starts each plugin once. Prints every fault as
    /// FILE:LINE:COLUMN with what was expected. Exit status 0 without faults, 1 with some.
    Check {
        /// The config file (TOML).
        config: PathBuf,
    },
    /// Show what a plugin file is: kind, phases, imports, config schema, sizes, compile time.
    Inspect {
        /// A .wasm file.
        plugin: PathBuf,
    },
    /// Show which route a request would take and why, and which plugins would see it.
    ///
    /// Asks the same route table that serves requests. Sends nothing.
    Explain(explain::Arguments),
    /// Turn the config of another gateway into one of wasmgate.
    Migrate(migrate::Arguments),
    /// Roll out a new version of a plugin in a running gateway, promote it, or go back.
    Plugin(plugin::Arguments),
    /// Print the JSON Schema of the config file, for editors.
    Schema,
}

pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Run { config } => gateway::run(&config).map_err(|error| error.to_string()),
        Command::Check { config } => check(&config),
        Command::Inspect { plugin } => inspect::run(&plugin),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Migrate(arguments) => migrate::run(&arguments),
        Command::Plugin(arguments) => plugin::run(&arguments),
        Command::Schema => {
            tell!("{:#}", config::schema());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            complain(&text);
            ExitCode::FAILURE
        }
    }
}

/// Ends the process where nobody reads on, such as `head` that has seen enough: then it has done what it was asked for.
fn tell(line: fmt::Arguments) {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            complain(&format!("standard output: {error}"));
            process::exit(1)
        }
    }
}

/// A line on standard error, where nothing can be said of its own failure.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn check(path: &std::path::Path) -> Result<(), String> {
    telemetry::init_log(config::LogLevel::Warn);
    let config = gateway::check(path).map_err(|error| error.to_string())?;
    tell!(
        "{} is correct: {} listeners, {} routes, {} upstreams, {} plugins",
        path.display(),
        config.listeners.len(),
        config.routes.len(),
        config.upstreams.len(),
        config.plugins.len(),
    );
    Ok(())
}
