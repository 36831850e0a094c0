//! `wasmgate explain`.

use std::{path::PathBuf, time::SystemTime};

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};

use crate::{
    config::{self, Config, Rewrite},
    proxy,
    router::{Match, Query, Standing},
    snapshot::PathRule,
};

#[derive(Args)]
pub struct Arguments {
    /// The config file (TOML).
    config: PathBuf,
    /// The method, such as GET.
    method: Method,
    /// The URL, such as http://api.example.com/users/1?x=y; or a path alone.
    url: Uri,
    /// A header, as "Name: value". Can be given several times.
    #[arg(short = 'H', long = "header", value_parser = header_line)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The listener that takes the request, by name. Default: the first one.
    #[arg(long)]
    listener: Option<String>,
}

fn header_line(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written as \"Name: value\"")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is not a header name"))?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} cannot stand in a header"))?;
    Ok((name, value))
}

pub fn run(arguments: &Arguments) -> Result<(), String> {
    let config = config::load(&arguments.config).map_err(|problems| problems.to_string())?;
    let mut headers: HeaderMap = arguments.headers.iter().cloned().collect();
    if !headers.contains_key(header::HOST) {
        let host = arguments.url.authority().map_or("localhost", |authority| authority.as_str());
        headers.insert(header::HOST, host.parse().map_err(|_| format!("{host:?} cannot stand in a header"))?);
    }
    let target = proxy::read_target(&arguments.method, &arguments.url, Version::HTTP_11, &headers);
    let (authority, target) = target.map_err(|(status, detail)| format!("{}: {detail}", status.as_u16()))?;
    let query = Query {
        listener: listener(&config, arguments.listener.as_deref())?,
        method: &arguments.method,
        host: authority.as_str(),
        path: target.path(),
        query: target.query(),
        headers: &headers,
    };
    let listeners: Vec<_> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
    let listener = listeners[usize::from(query.listener)];
    tell!("{} {} on host {authority}, listener {listener}\n", arguments.method, query.path);
    match config.table.find(&query) {
        Some(found) => winner(&config, &found, query.path),
        None => tell!("404: no route matches"),
    }
    tell!("\nroutes, in the order in which they are preferred:");
    for candidate in config.table.explain(&query, &listeners) {
        let mark = if candidate.standing == Standing::Wins { '>' } else { ' ' };
        tell!("{mark} {candidate}");
    }
    Ok(())
}

fn listener(config: &Config, name: Option<&str>) -> Result<u16, String> {
    let known = |name: &str| config.listeners.iter().position(|listener| listener.name == name);
    let place = match name {
        None => Some(0),
        Some(name) => known(name),
    };
    let place = place.and_then(|place| u16::try_from(place).ok());
    place.ok_or_else(|| format!("no listener is called {:?}", name.unwrap_or_default()))
}

fn upstream(upstream: &config::Upstream) -> String {
    let endpoints = upstream.endpoints.iter().map(|endpoint| match endpoint.weight {
        Some(weight) => format!("{} (weight {weight})", endpoint.target),
        None => endpoint.target.to_string(),
    });
    format!("{}: {}", upstream.name, endpoints.collect::<Vec<_>>().join(", "))
}

fn winner(config: &Config, found: &Match, path: &str) {
    let route = &config.routes[found.rule];
    tell!("route     {}", route.name);
    let params: Vec<_> = found.params.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    if !params.is_empty() {
        tell!("params    {}", params.join(", "));
    }
    match (route.upstream, &route.split) {
        (Some(place), _) => tell!("upstream  {}", upstream(&config.upstreams[place])),
        (None, Some(split)) => {
            let shares = route.shares(SystemTime::now());
            for (branch, (place, percent)) in split.branches.iter().zip(shares) {
                let asked = if branch.matches.is_empty() { "" } else { ", and all that its match asks for" };
                tell!("branch    {percent} % now{asked}: {}", upstream(&config.upstreams[place]));
            }
        }
        (None, None) => tell!("upstream  none: a plugin has to answer"),
    }
    if let Some(place) = route.fallback {
        tell!("fallback  {}", upstream(&config.upstreams[place]));
    }
    if let Some(mirror) = &route.mirror {
        let percent = mirror.share * 100.0;
        tell!("mirror    {percent} % are copied to {}", upstream(&config.upstreams[mirror.upstream]));
    }
    if route.rewrite != Rewrite::Keep {
        let path = PathRule::from(&route.rewrite).apply(path, path, |name| found.params.get(name));
        tell!("path      {}", path.as_deref().unwrap_or("400: cannot be rewritten"));
    }
    tell!("body      at most {} bytes", route.body);
    tell!("plugins, in the order in which they see the request:");
    for (number, used) in route.plugins.iter().enumerate() {
        let plugin = &config.plugins[used.plugin];
        let policy = format!("{:?}", used.failure_policy).to_lowercase();
        tell!("  {}. {} ({}), fails {policy}", number + 1, plugin.name, plugin.file.display());
    }
    if route.plugins.is_empty() {
        tell!("  none");
    }
}
