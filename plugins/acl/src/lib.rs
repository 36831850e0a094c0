//! Allows and denies requests by whose they are, as authentication plugins before it have told, and by method and path.

mod claims;
mod path;
mod rule;
#[cfg(test)]
mod tests;

use wasmgate_sdk::{
    Error, LocalResponse, Plugin, Request, Result, Verdict,
    audit::{Reason, Why},
    auth::{self, Claims},
    config, plugin,
    serde_json::{self, Map},
};

use path::Path;
use rule::{Asker, Rule};

/// Who may do what. Deny comes first; with anything to allow, all others are denied.
#[config]
#[serde(default)]
pub struct Config {
    /// Requests that pass: those that any of these rules fits.
    allow: Vec<Rule>,
    /// Requests that are denied, also where they are allowed.
    deny: Vec<Rule>,
    /// WWW-Authenticate of the answer to requests that are nobody's.
    challenge: String,
    /// Keep the consumer's groups from the upstream.
    hide_groups_header: bool,
    /// Whether CORS preflights, which carry no credentials, have to be somebody's, too.
    run_on_preflight: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            allow: Vec::new(),
            deny: Vec::new(),
            challenge: "Key realm=\"gateway\"".to_string(),
            hide_groups_header: false,
            run_on_preflight: false,
        }
    }
}

pub struct Acl {
    config: Config,
    reads_claims: bool,
}

#[plugin]
impl Plugin for Acl {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.allow.is_empty() && config.deny.is_empty() {
            return Err(Error::msg("allow, deny: nothing is given, so everybody would pass"));
        }
        for (key, rules) in [("allow", &config.allow), ("deny", &config.deny)] {
            for (place, rule) in rules.iter().enumerate() {
                rule.check().map_err(|error| Error::msg(format_args!("{key}[{place}]{error}")))?;
            }
        }
        auth::check_name("challenge", &config.challenge)?;
        let reads_claims = config.allow.iter().chain(&config.deny).any(Rule::reads_claims);
        Ok(Acl { config, reads_claims })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if !self.config.run_on_preflight && request.is_preflight() {
            self.tell_groups(request, &[])?;
            return Ok(Verdict::Next);
        }
        let Some(consumer) = text(request, "consumer")?.filter(|consumer| !consumer.is_empty()) else {
            return Ok(self.challenge(Why::NOBODY.into()));
        };
        let asker = self.asker(request, consumer)?;
        let Some(reason) = self.refuses(&asker) else {
            self.tell_groups(request, &asker.groups)?;
            return Ok(Verdict::Next);
        };
        // Who has proved nothing may do so yet.
        if request.header("x-anonymous-consumer").is_some() {
            return Ok(self.challenge(reason));
        }
        let refusal = LocalResponse::new(403).code("acl_denied").detail("You cannot consume this service");
        Ok(refusal.why(reason).into())
    }
}

impl Acl {
    /// Why the request does not pass, where it does not.
    fn refuses(&self, asker: &Asker) -> Option<Reason> {
        let Config { allow, deny, .. } = &self.config;
        if let Some(place) = deny.iter().position(|rule| rule.denies(asker)) {
            return Some(Reason::new(Why::DENIED).detail(format!("deny[{place}]")));
        }
        let is_allowed = allow.is_empty() || allow.iter().any(|rule| rule.allows(asker));
        (!is_allowed).then(|| Why::NOT_ALLOWED.into())
    }

    fn challenge(&self, reason: Reason) -> Verdict {
        auth::unauthenticated(&self.config.challenge, "Unauthorized").why(reason).into()
    }

    fn asker(&self, request: &Request, consumer: String) -> Result<Asker> {
        let groups = text(request, "groups")?.unwrap_or_default();
        let groups = groups.split(',').map(str::trim).filter(|group| !group.is_empty());
        let claims = match request.var("claims").filter(|claims| self.reads_claims && !claims.is_empty()) {
            Some(claims) => Claims(serde_json::from_slice(&claims)?),
            None => Claims(Map::new()),
        };
        Ok(Asker {
            consumer,
            groups: groups.map(str::to_string).collect(),
            plan: text(request, "plan")?,
            claims,
            method: request.method(),
            path: Path::of_request(&request.path()),
        })
    }

    /// As the variable has them, whatever stands in the header.
    fn tell_groups(&self, request: &Request, groups: &[String]) -> Result<()> {
        if groups.is_empty() || self.config.hide_groups_header {
            request.remove_headers(&["x-consumer-groups"])?;
        } else {
            request.set_header("x-consumer-groups", groups.join(", "))?;
        }
        Ok(())
    }
}

/// A variable. One that is no text is a fault of the plugin that has set it: were it passed over, so would rules be that deny.
fn text(request: &Request, name: &str) -> Result<Option<String>> {
    let value = request.var(name).map(String::from_utf8).transpose();
    value.map_err(|_| Error::msg(format_args!("the variable {name} is not UTF-8")))
}
