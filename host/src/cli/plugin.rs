//! `wasmgate plugin`: verbs that speak to the admin listener of a running gateway.

use std::{env, fs, path::PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;

use crate::gateway;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// The admin listener of the running gateway.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:9901")]
    admin: Uri,
    /// A file with the admin token. Default: the environment variable WASMGATE_TOKEN.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// List the plugins that run: version, calls, failures, roll-out.
    List,
    /// Give a part of a plugin's traffic to another version.
    ///
    /// The gateway gives it up by itself when it fails, answers with errors or takes time much more than the
    /// version before. Lasts until `promote`, `rollback` or the next start; for good it has to be in the config.
    Rollout {
        /// The plugin's name in the config.
        plugin: String,
        /// The new version's file, or sha256:DIGEST of a file in the gateway's plugin directory.
        to: String,
        /// Its share of the requests.
        #[arg(long, default_value_t = 10.0)]
        percent: f64,
        /// What keeps a client on one version: ip, header:NAME or consumer. Default: chance.
        #[arg(long)]
        sticky: Option<String>,
        /// Let the new version see copies only, and count the differences.
        #[arg(long)]
        shadow: bool,
    },
    /// Give all of the traffic to the version that the plugin is rolled out to.
    Promote {
        /// The plugin's name in the config.
        plugin: String,
    },
    /// Give all of the traffic back to the version before.
    Rollback {
        /// The plugin's name in the config.
        plugin: String,
    },
}

pub fn run(arguments: &Arguments) -> Result<(), String> {
    let token = token(arguments)?;
    let ask = |method: Method, path: &str, body: &Value| -> Result<Value, String> {
        let runtime = gateway::local_runtime().map_err(|error| error.to_string())?;
        runtime.block_on(ask(&arguments.admin, token.as_deref(), method, path, body))
    };
    let post = |plugin: &str, verb: &str, body| ask(Method::POST, &format!("/plugins/{plugin}/{verb}"), body);
    match &arguments.verb {
        Verb::List => {
            let plugins = ask(Method::GET, "/plugins", &Value::Null)?;
            plugins.as_array().into_iter().flatten().for_each(|plugin| tell!("{}", line(plugin)));
        }
        Verb::Rollout { plugin, to, percent, sticky, shadow } => {
            // Relative to here, not to the gateway's config.
            let to = match to.strip_prefix("sha256:") {
                Some(_) => to.clone(),
                None => match fs::canonicalize(to) {
                    Ok(file) => file.display().to_string(),
                    Err(error) => return Err(format!("{to} cannot be read: {error}")),
                },
            };
            let mut rollout = Map::new();
            rollout.insert("to".to_owned(), to.into());
            rollout.insert("percent".to_owned(), json!(percent));
            rollout.insert("shadow".to_owned(), json!(shadow));
            if let Some(sticky) = sticky {
                rollout.insert("sticky".to_owned(), json!(sticky));
            }
            post(plugin, "rollout", &Value::Object(rollout))?;
            tell!("{plugin} is being rolled out; `wasmgate plugin list` shows how it does");
        }
        Verb::Promote { plugin } => {
            post(plugin, "promote", &Value::Null)?;
            tell!(
                "{plugin} runs in the new version; write it into the config to keep it after the next start"
            );
        }
        Verb::Rollback { plugin } => {
            post(plugin, "rollback", &Value::Null)?;
            tell!("{plugin} runs in the version before");
        }
    }
    Ok(())
}

fn token(arguments: &Arguments) -> Result<Option<String>, String> {
    let Some(file) = &arguments.token_file else { return Ok(env::var("WASMGATE_TOKEN").ok()) };
    let text =
        fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    Ok(Some(text.trim_end().to_owned()))
}

/// The answer, or what the problem says.
async fn ask(
    admin: &Uri,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value, String> {
    let authority = admin.authority().ok_or_else(|| format!("{admin} has no host"))?;
    let port = authority.port_u16().unwrap_or(80);
    let failed = |what: &dyn std::fmt::Display| format!("the gateway at {authority} does not answer: {what}");
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await.map_err(|error| failed(&error))?;
    let (mut sender, driver) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, authority.as_str());
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        Ok::<_, hyper::Error>((response.status(), response.into_body().collect().await?.to_bytes()))
    };
    // The connection ends with its sender; what went wrong on it the exchange knows.
    let (exchange, _) = tokio::join!(exchange, driver);
    let (status, text) = exchange.map_err(|error| failed(&error))?;
    let answer: Value = serde_json::from_slice(&text).map_err(|_| failed(&"what comes is not JSON"))?;
    match status {
        StatusCode::OK => Ok(answer),
        _ => Err(told(&answer)),
    }
}

/// A problem as lines.
fn told(problem: &Value) -> String {
    let detail = problem["detail"].as_str().unwrap_or("the gateway refuses");
    let faults = problem["faults"].as_array().into_iter().flatten().filter_map(Value::as_str);
    [detail].into_iter().chain(faults).collect::<Vec<_>>().join("\n")
}

fn line(plugin: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let failures: u64 =
        plugin["failures"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    let mut line = format!(
        "{}  {:.12}  {} calls, {failures} failures",
        text(&plugin["name"]),
        text(&plugin["sha256"]),
        plugin["calls"]
    );
    let rollout = &plugin["rollout"];
    if rollout.is_object() {
        let (new, state) = (&rollout["new"], text(&rollout["state"]));
        line += &format!(
            "\n  {} {} % to {:.12}: {state}; {} calls, {} failures, {} errors, p99 {} ms",
            if rollout["shadow"] == true { "shadows" } else { "gives" },
            rollout["percent"],
            text(&rollout["sha256"]),
            new["calls"],
            new["failures"],
            new["errors"],
            new["p99_ms"],
        );
        if let Some(reason) = rollout["reason"].as_str() {
            line += &format!("\n  rolled back: {reason}");
        }
    }
    line
}
