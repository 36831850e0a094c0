//! Allows and denies requests by the address of the client: by lists of its own, and by sets of the gateway's config.

mod lists;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use wasmgate_sdk::{
    Error, LocalResponse, Plugin, Request, Result, Verdict,
    audit::{Reason, Why},
    config, log,
    metrics::Counter,
    plugin,
};

use lists::Lists;

/// Who passes and who does not. Deny comes first; with anything to allow, all others are denied.
#[config]
#[serde(default)]
pub struct Config {
    /// Addresses and networks that pass, IPv4 and IPv6.
    allow: Vec<String>,
    /// Addresses and networks that are denied, also where they are allowed.
    deny: Vec<String>,
    /// Sets of the gateway's config that pass, by name.
    allow_networks: Vec<String>,
    /// Sets of the gateway's config that are denied, by name, also where they are allowed.
    deny_networks: Vec<String>,
    /// Whose address counts.
    source: Source,
    /// Status of the refusal, 400 to 599.
    status: u16,
    /// What the refusal tells.
    message: String,
    /// Deny nobody: only log and count who would be.
    dry_run: bool,
}

#[config]
#[serde(rename_all = "lowercase")]
#[derive(Clone, Copy)]
enum Source {
    /// The client, as trusted proxies tell of it.
    Client,
    /// Who is connected: the last proxy, where there is one.
    Peer,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            allow: Vec::new(),
            deny: Vec::new(),
            allow_networks: Vec::new(),
            deny_networks: Vec::new(),
            source: Source::Client,
            status: 403,
            message: "IP address not allowed".to_string(),
            dry_run: false,
        }
    }
}

pub struct IpRestriction {
    allow: Lists,
    deny: Lists,
    source: Source,
    status: u16,
    message: String,
    dry_run: bool,
    denied: Counter,
}

#[plugin]
impl Plugin for IpRestriction {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if !(400..=599).contains(&config.status) {
            return Err(Error::msg("status: must be 400 to 599"));
        }
        let allow = Lists::new("allow", &config.allow, config.allow_networks)?;
        let deny = Lists::new("deny", &config.deny, config.deny_networks)?;
        if allow.is_empty() && deny.is_empty() {
            return Err(Error::msg("allow, deny: nothing is given, so everybody would pass"));
        }
        let Config { source, status, message, dry_run, .. } = config;
        let denied = Counter::new(if dry_run { "would_deny" } else { "denied" }, &[])?;
        Ok(IpRestriction { allow, deny, source, status, message, dry_run, denied })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let address = self.address(request)?;
        let Some(reason) = self.refuses(address)? else { return Ok(Verdict::Next) };
        self.denied.increment();
        if self.dry_run {
            log::info!("{address} would be denied: {}", told(&reason));
            return Ok(Verdict::Next);
        }
        log::debug!("{address} is denied: {}", told(&reason));
        Ok(LocalResponse::new(self.status).code("ip_denied").detail(&*self.message).why(reason).into())
    }
}

impl IpRestriction {
    fn address(&self, request: &Request) -> Result<IpAddr> {
        let address = match self.source {
            Source::Client => request.client_ip().parse()?,
            Source::Peer => request.client().peer.parse::<SocketAddr>()?.ip(),
        };
        Ok(address.to_canonical())
    }

    /// Why it does not pass, where it does not.
    fn refuses(&self, address: IpAddr) -> Result<Option<Reason>> {
        if let Some(found) = self.deny.find(address)? {
            return Ok(Some(Reason::new(Why::DENIED).detail(found)));
        }
        match self.allow.is_empty() || self.allow.find(address)?.is_some() {
            true => Ok(None),
            false => Ok(Some(Reason::new(Why::NOT_ALLOWED).detail("nothing that is allowed has it"))),
        }
    }
}

fn told(reason: &Reason) -> &str {
    reason.detail.as_deref().unwrap_or_default()
}
