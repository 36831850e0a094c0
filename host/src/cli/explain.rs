//! `wasmgate explain`.

use std::path::PathBuf;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::{
    config::{self, Config, Rewrite},
    proxy::normalise,
    router::Query,
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
    #[arg(short = 'H', long = "header", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The listener that takes the request, by name. Default: the first one.
    #[arg(long)]
    listener: Option<String>,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written as \"Name: value\"")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is not a header name"))?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} cannot stand in a header"))?;
    Ok((name, value))
}

pub fn run(arguments: &Arguments) -> Result<(), String> {
    let config = config::load(&arguments.config).map_err(|problems| problems.to_string())?;
    let headers: HeaderMap = arguments.headers.iter().cloned().collect();
    let host = arguments.url.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| headers.get(http::header::HOST)?.to_str().ok()).unwrap_or("localhost");
    let path = normalise(arguments.url.path()).ok_or("400: the path is malformed")?;
    let query = Query {
        listener: listener(&config, arguments.listener.as_deref())?,
        method: &arguments.method,
        host,
        path: &path,
        query: arguments.url.query(),
        headers: &headers,
    };
    tell!(
        "{} {path} on host {host}, listener {}",
        arguments.method,
        config.listeners[usize::from(query.listener)].name
    );
    tell!("");
    match config.table.find(&query) {
        Some(found) => {
            let params: Vec<_> =
                found.params.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            winner(&config, found.rule, &params);
        }
        None => tell!("404: no route matches"),
    }
    tell!("\nroutes, in the order in which they are preferred:");
    for candidate in config.table.explain(&query) {
        tell!("  {candidate}");
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

fn winner(config: &Config, place: usize, params: &[String]) {
    let route = &config.routes[place];
    tell!("route     {}", route.name);
    if !params.is_empty() {
        tell!("params    {}", params.join(", "));
    }
    let upstream = route.upstream.map(|place| &config.upstreams[place]);
    match upstream {
        Some(upstream) => {
            let endpoints =
                upstream.endpoints.iter().map(|e| format!("{}:{} (weight {})", e.host, e.port, e.weight));
            tell!("upstream  {}: {}", upstream.name, endpoints.collect::<Vec<_>>().join(", "));
        }
        None => tell!("upstream  none: a plugin has to answer"),
    }
    match &route.rewrite {
        Rewrite::Keep => {}
        Rewrite::StripPrefix(prefix) => tell!("path      without the prefix {prefix}"),
        Rewrite::Template(_) => tell!("path      rewritten"),
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
