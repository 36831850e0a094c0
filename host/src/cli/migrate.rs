//! `wasmgate migrate`: configs of other gateways become configs of this one.
//!
//! Whatever the other config says is either carried over or named, see [`tree`].

mod action;
mod cluster;
mod dns;
mod endpoint;
mod envoy;
mod filter;
mod header;
mod matching;
mod names;
mod order;
mod output;
mod path;
mod policy;
mod reasons;
mod resilience;
mod route;
mod split;
#[cfg(test)]
mod tests;
mod tls;
mod tree;
mod upgrade;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use tree::Notes;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    from: From,
}

#[derive(Subcommand)]
enum From {
    /// From Envoy's static config (v3, YAML or JSON).
    ///
    /// Listeners, routes, clusters and Proxy-Wasm filters become a config on standard output. What
    /// could not be carried over, and what behaves differently, is named by its place in the file: in comments
    /// at the top of the config, and on standard error. Exit status 0 if a config was printed, also with things left
    /// out; 1 if the file cannot be read or holds no static listener with routes.
    Envoy {
        /// Envoy's config file.
        config: PathBuf,
    },
}

pub fn run(arguments: &Arguments) -> Result<(), String> {
    let From::Envoy { config } = &arguments.from;
    let text = fs::read_to_string(config)
        .map_err(|error| format!("{} cannot be read: {error}", config.display()))?;
    let notes = Notes::default();
    let result = migrated(config, &text, &notes);
    notes.lines().iter().for_each(|line| super::complain(line));
    tell!("{}", result?.trim_end());
    Ok(())
}

/// The config with the notes as comments before it.
fn migrated(file: &Path, text: &str, notes: &Notes) -> Result<String, String> {
    let located = |reason: &str| format!("{}: {reason}", file.display());
    let options = serde_saphyr::options! { with_snippet: false };
    let tree = serde_saphyr::from_str_with_options(text, options);
    let tree = tree.map_err(|error| located(&error.to_string()))?;
    let config = envoy::config(tree, notes).map_err(located)?;
    let body = config.text().map_err(|error| located(&error.to_string()))?;
    let comments: String = notes.lines().iter().map(|line| format!("# {line}\n")).collect();
    Ok(format!("{comments}{body}").trim_start().to_owned())
}
