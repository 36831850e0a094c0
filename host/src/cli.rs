//! The command line.

mod explain;
mod inspect;
mod migrate;
mod plugin;

use std::{path::PathBuf, process::ExitCode};

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
            println!("{:#}", config::schema());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn check(path: &std::path::Path) -> Result<(), String> {
    telemetry::init_log(config::LogLevel::Warn);
    let config = gateway::check(path).map_err(|error| error.to_string())?;
    println!(
        "{} is correct: {} listeners, {} routes, {} upstreams, {} plugins",
        path.display(),
        config.listeners.len(),
        config.routes.len(),
        config.upstreams.len(),
        config.plugins.len(),
    );
    Ok(())
}
