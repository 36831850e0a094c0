//! Keeps bots out by their User-Agent: lists of patterns, and a built-in list in `builtin`.

mod builtin;
#[cfg(test)]
mod tests;

use regex::bytes::{RegexSet, RegexSetBuilder};
use wasmgate_sdk::{Error, LocalResponse, Plugin, Request, Result, Verdict, config, plugin};

/// Whom to let through and whom not. The lists are tried in the order allow, deny, built-in.
#[config]
#[serde(default)]
pub struct Config {
    /// Regular expressions; a request passes where one is found in its User-Agent, in any case.
    allow: Vec<String>,
    /// Regular expressions; a request is denied where one is found in its User-Agent, in any case.
    deny: Vec<String>,
    /// Also deny the scrapers, crawlers, script clients and scanners of the built-in list.
    builtin: bool,
    /// What to do with a request that has no User-Agent or an empty one.
    missing: Missing,
    /// Status of the refusal, 400 to 599.
    status: u16,
}

#[config]
#[serde(rename_all = "lowercase")]
#[derive(PartialEq)]
enum Missing {
    Allow,
    Deny,
}

impl Default for Config {
    fn default() -> Self {
        Config { allow: Vec::new(), deny: Vec::new(), builtin: true, missing: Missing::Allow, status: 403 }
    }
}

pub struct BotDetection {
    allow: RegexSet,
    deny: RegexSet,
    builtin: RegexSet,
    deny_missing: bool,
    status: u16,
}

#[plugin]
impl Plugin for BotDetection {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if !(400..=599).contains(&config.status) {
            return Err(Error::msg("status: must be 400 to 599"));
        }
        let builtin: Vec<String> = config.builtin.then(builtin::pattern).into_iter().collect();
        Ok(BotDetection {
            allow: compile("allow", &config.allow)?,
            deny: compile("deny", &config.deny)?,
            builtin: compile("builtin", &builtin)?,
            deny_missing: config.missing == Missing::Deny,
            status: config.status,
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        let denied = match request.header_all("user-agent").as_slice() {
            [] => self.deny_missing,
            [agent] if agent.is_empty() => self.deny_missing,
            [agent] => self.is_denied(agent),
            _ => return Ok(ambiguous()),
        };
        if denied {
            return Ok(LocalResponse::new(self.status).code("bot_denied").detail("Access denied").into());
        }
        Ok(Verdict::Next)
    }
}

impl BotDetection {
    fn is_denied(&self, agent: &[u8]) -> bool {
        !self.allow.is_match(agent) && (self.deny.is_match(agent) || self.builtin.is_match(agent))
    }
}

/// The upstream might believe the other one (RFC 9110, section 5.3).
fn ambiguous() -> Verdict {
    LocalResponse::new(400).code("bad_request").detail("Only one User-Agent header allowed").into()
}

fn compile(key: &str, patterns: &[String]) -> Result<RegexSet> {
    if let Some(place) = patterns.iter().position(String::is_empty) {
        return Err(Error::msg(format_args!("{key}[{place}]: is empty, which is found in every User-Agent")));
    }
    set(patterns).map_err(|error| {
        let guilty = patterns.iter().position(|pattern| set(std::slice::from_ref(pattern)).is_err());
        let place = guilty.map_or(String::new(), |index| format!("[{index}]"));
        Error::msg(format_args!("{key}{place}: {error}"))
    })
}

/// Without Unicode: a User-Agent is bytes, and the tables would be most of the plugin.
fn set(patterns: &[String]) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(patterns).case_insensitive(true).unicode(false).build()
}
