//! Lets requests pass whose connection has shown a client certificate that is known, and says whose they are. That the
//! certificate is good, the listener has made sure of.

mod certificate;
mod rules;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::Entry},
};

use wasmgate_sdk::{
    Error, LocalResponse, Plugin, Request, Result, Verdict,
    audit::Why,
    auth::{Gate, Identity},
    config,
    consumers::{self, Failure, Kind},
    plugin,
};

use certificate::Certificate;
use rules::{Name, Rule, Rules};

/// Certificates whose meaning is remembered at a time.
const MAX_KNOWN: usize = 256;

/// Whose which certificates are.
#[config]
#[serde(default)]
#[derive(Default)]
pub struct Config {
    /// What certificates have to be, and whose they are then; the first that fits counts.
    rules: Vec<Rule>,
    /// Whether certificates of the gateway's consumers are good, too. The plugin's table in the gateway's config has to say
    /// `consumers = ["certificate"]` as well.
    consumers: bool,
    /// Names of a certificate that no rule fits, of which the first that is there is the consumer's. Default: such a
    /// certificate is refused.
    consumer_from: Vec<Name>,
    /// Consumer as whom requests without a certificate pass; without one they are refused.
    anonymous: Option<String>,
    /// Whether CORS preflights need a certificate, too. Browsers show none with them.
    run_on_preflight: bool,
    /// One of several plugins of which one has to let the request pass; auth-any stands behind them.
    #[schemars(extend("x-leaves-open" = "authentication"))]
    any: bool,
}

pub struct MtlsAuth {
    gate: Gate,
    rules: Rules,
    consumers: bool,
    /// What certificates came to, by their bytes: each is shown with many requests.
    known: RefCell<HashMap<Vec<u8>, Option<Shown>>>,
}

/// A certificate that could be read.
struct Shown {
    /// By the plugin's own rules.
    own: Option<Identity>,
    fingerprint: String,
    /// What the gateway's consumers may know it by.
    names: Vec<String>,
}

#[plugin]
impl Plugin for MtlsAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        if config.consumers && !config.consumer_from.is_empty() {
            return Err(Error::msg(
                "consumer_from: with consumers = true a certificate that a consumer has no more would pass by its name",
            ));
        }
        if config.consumers {
            consumers::grants(Kind::Certificate)
                .map_err(|error| Error::msg(format_args!("consumers: {error}")))?;
        }
        let rules = Rules::new(config.rules, config.consumer_from)?;
        if rules.is_empty() && !config.consumers && config.anonymous.is_none() {
            return Err(Error::msg("rules: none is given, nor consumer_from, so nobody could pass"));
        }
        Ok(MtlsAuth {
            gate: Gate::new(config.any, config.anonymous.as_deref())?.on_preflight(config.run_on_preflight),
            rules,
            consumers: config.consumers,
            known: RefCell::default(),
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if !self.gate.enter(request)? {
            return Ok(Verdict::Next);
        }
        let Some(shown) = request.tls().and_then(|tls| tls.client_certificate) else {
            return self
                .gate
                .missing(request, refusal("client_certificate_required", "A client certificate is needed."));
        };
        match self.identity(shown) {
            Ok(Some(identity)) => self.gate.pass(request, &identity),
            Ok(None) => {
                let refusal = refusal("forbidden", "The client certificate is not one that may do this.");
                self.gate.refuse(request, refusal.why(Why::UNKNOWN_CERTIFICATE))
            }
            Err(failure) => self.gate.refuse(request, failure.answer()),
        }
    }
}

impl MtlsAuth {
    fn identity(&self, certificate: Vec<u8>) -> Result<Option<Identity>, Failure> {
        let mut known = self.known.borrow_mut();
        if known.len() >= MAX_KNOWN && !known.contains_key(&certificate) {
            known.clear();
        }
        let shown = match known.entry(certificate) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let shown = self.read(entry.key());
                entry.insert(shown)
            }
        };
        match shown {
            Some(Shown { own: None, fingerprint, names }) if self.consumers => {
                of_consumer(fingerprint, names)
            }
            Some(Shown { own, .. }) => Ok(own.clone()),
            None => Ok(None),
        }
    }

    fn read(&self, certificate: &[u8]) -> Option<Shown> {
        let certificate = Certificate::read(certificate)?;
        let own = self.rules.identity(&certificate);
        let is_asked_for = self.consumers && own.is_none();
        let names = if is_asked_for { certificate.names() } else { Vec::new() };
        Some(Shown { own, fingerprint: certificate.fingerprint, names })
    }
}

/// Asked for with each request: what was revoked is no good with the next one.
fn of_consumer(fingerprint: &str, names: &[String]) -> Result<Option<Identity>, Failure> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = consumers::find(Kind::Certificate, &names)?;
    let identity = |found| Identity { credential: Some(fingerprint.to_string()), ..Identity::from(found) };
    Ok(found.credential.map(identity))
}

/// In HTTP/1.1 and with TLS 1.3 there is no asking for a certificate later, so it is no 401 (RFC 9110, section 15.5.2, wants a
/// challenge with that).
fn refusal(code: &str, detail: &str) -> LocalResponse {
    LocalResponse::new(403).code(code).detail(detail)
}
