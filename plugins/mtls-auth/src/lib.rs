//! Lets requests pass whose connection has shown a client certificate that is known, and says whose they are. That the
//! certificate is good, the listener has made sure of.

mod certificate;
mod rules;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, collections::HashMap};

use wasmgate_sdk::{
    Error, LocalResponse, Plugin, Request, Result, Verdict,
    audit::Why,
    auth::{Gate, Identity},
    config, plugin,
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
    /// What certificates came to, by their bytes: each is shown with many requests.
    known: RefCell<HashMap<Vec<u8>, Option<Identity>>>,
}

#[plugin]
impl Plugin for MtlsAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let rules = Rules::new(config.rules, config.consumer_from)?;
        if rules.is_empty() && config.anonymous.is_none() {
            return Err(Error::msg("rules: none is given, nor consumer_from, so nobody could pass"));
        }
        Ok(MtlsAuth {
            gate: Gate::new(config.any, config.anonymous.as_deref())?.on_preflight(config.run_on_preflight),
            rules,
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
            Some(identity) => self.gate.pass(request, &identity),
            None => {
                let refusal = refusal("forbidden", "The client certificate is not one that may do this.");
                self.gate.refuse(request, refusal.why(Why::UNKNOWN_CERTIFICATE))
            }
        }
    }
}

impl MtlsAuth {
    fn identity(&self, shown: Vec<u8>) -> Option<Identity> {
        let mut known = self.known.borrow_mut();
        if let Some(identity) = known.get(&shown) {
            return identity.clone();
        }
        let identity = Certificate::read(&shown).and_then(|certificate| self.rules.identity(&certificate));
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(shown, identity.clone());
        identity
    }
}

/// In HTTP/1.1 and with TLS 1.3 there is no asking for a certificate later, so it is no 401 (RFC 9110, section 15.5.2, wants a
/// challenge with that).
fn refusal(code: &str, detail: &str) -> LocalResponse {
    LocalResponse::new(403).code(code).detail(detail)
}
