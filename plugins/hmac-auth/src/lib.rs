//! Lets requests pass that are signed with a secret that both sides know, and says whose they are: by HTTP Message
//! Signatures (RFC 9421), or in the forms that Kong and APISIX take.

mod date;
mod digest;
mod known;
mod legacy;
mod signature;
mod signed;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use wasmgate_sdk::{
    BodyMode, BodyVerdict, Duration, Error, LocalResponse, Phases, Plugin, Request, Result, Size, Verdict,
    audit::{Reason, Why},
    auth::{self, Gate, Identity},
    clock, config,
    crypto::{self, Hash},
    kv, log, plugin,
};

use digest::Digests;
use known::{Credential, Known};
use signed::{Algorithm, Fault, Message, Refusal, Signed};

/// Why a signature is no good, in a word and in full.
type Refused = (Why, Fault);

/// The variable in which the digests of a body wait for it.
const DIGESTS: &str = "hmac-auth/digests";
/// Longest time for which signatures are remembered.
const MAX_SKEW: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// Who may sign, in which forms, and what.
#[config]
pub struct Config {
    /// Who may sign.
    #[serde(default)]
    credentials: Vec<Credential>,
    /// Whether secrets of the gateway's consumers sign, too. The plugin's table in the gateway's config has to say
    /// `consumers = ["hmac"]` as well.
    #[serde(default)]
    consumers: bool,
    /// Forms of signatures that are taken.
    #[serde(default = "both_forms")]
    forms: Vec<Form>,
    /// Algorithms that are taken; the first is meant where a signature names none.
    #[serde(default = "both_algorithms")]
    algorithms: Vec<Algorithm>,
    /// How old a signature may be, and how far clocks may differ.
    #[serde(default = "five_minutes")]
    clock_skew: Duration,
    /// What has to be signed; content-digest of requests with a body only.
    #[serde(default = "method_target_and_body")]
    required_components: Vec<String>,
    /// Whether bodies are held against their digest.
    #[serde(default = "yes")]
    validate_body: bool,
    /// Longest body that is. A longer one is refused with 413.
    #[serde(default = "one_mib")]
    max_body: Size,
    /// Whether a signature is good once only.
    #[serde(default = "yes")]
    replay: bool,
    /// Looks at signatures with this tag only (RFC 9421, section 2.3).
    #[serde(default)]
    tag: Option<String>,
    /// Scheme that clients sign. Default: the connection's.
    #[serde(default)]
    scheme: Option<Scheme>,
    /// Take the signature out of the request before the upstream sees it.
    #[serde(default = "yes")]
    hide_credentials: bool,
    /// Named in WWW-Authenticate.
    #[serde(default = "gateway")]
    realm: String,
    /// Consumer as whom requests without a signature pass; without one they are refused.
    #[serde(default)]
    anonymous: Option<String>,
    /// Whether CORS preflights need a signature, too.
    #[serde(default)]
    run_on_preflight: bool,
    /// One of several plugins of which one has to let the request pass; auth-any stands behind them.
    #[serde(default)]
    #[schemars(extend("x-leaves-open" = "authentication"))]
    any: bool,
}

#[config]
#[serde(rename_all = "lowercase")]
#[derive(PartialEq)]
enum Form {
    /// Signature and Signature-Input (RFC 9421).
    Signature,
    /// Authorization, as Kong and APISIX have it.
    Legacy,
}

#[config]
#[serde(rename_all = "lowercase")]
enum Scheme {
    Http,
    Https,
}

pub struct HmacAuth {
    gate: Gate,
    known: Known,
    forms: Vec<Form>,
    algorithms: Vec<Algorithm>,
    default_algorithm: Algorithm,
    /// In seconds.
    clock_skew: i64,
    /// Without that of bodies.
    required: Vec<String>,
    requires_digest: bool,
    body: Option<BodyMode>,
    replay: bool,
    tag: Option<String>,
    scheme: Option<&'static str>,
    hide_credentials: bool,
    challenge: String,
}

fn both_forms() -> Vec<Form> {
    vec![Form::Signature, Form::Legacy]
}

fn both_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::Sha256, Algorithm::Sha512]
}

fn five_minutes() -> Duration {
    Duration(std::time::Duration::from_secs(300))
}

fn method_target_and_body() -> Vec<String> {
    ["@method", "@target-uri", "content-digest"].map(str::to_string).into()
}

fn one_mib() -> Size {
    Size(1 << 20)
}

fn yes() -> bool {
    true
}

fn gateway() -> String {
    "gateway".to_string()
}

#[plugin]
impl Plugin for HmacAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        config.check()?;
        let Some(&default_algorithm) = config.algorithms.first() else {
            return Err(Error::msg("algorithms: none is given, so nobody could pass"));
        };
        let max_body = u32::try_from(config.max_body.0);
        let max_body = max_body.map_err(|_| Error::msg("max_body: must be below 4GiB"))?;
        let (of_body, required): (Vec<_>, Vec<_>) =
            config.required_components.into_iter().partition(|name| name == "content-digest");
        let scheme = if config.forms.contains(&Form::Signature) { "Signature" } else { "hmac" };
        Ok(HmacAuth {
            gate: Gate::new(config.any, config.anonymous.as_deref())?.on_preflight(config.run_on_preflight),
            known: Known::new(config.credentials, config.consumers)?,
            challenge: auth::challenge(scheme, &config.realm)?,
            forms: config.forms,
            algorithms: config.algorithms,
            default_algorithm,
            clock_skew: i64::try_from(config.clock_skew.as_secs()).unwrap_or(i64::MAX),
            required,
            requires_digest: !of_body.is_empty(),
            body: config.validate_body.then_some(BodyMode::Buffer(max_body)),
            replay: config.replay,
            tag: config.tag,
            scheme: config.scheme.map(|scheme| match scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            }),
            hide_credentials: config.hide_credentials,
        })
    }

    fn phases(&self) -> Phases {
        let mut phases = Phases::REQUEST;
        phases.set(Phases::REQUEST_BODY, self.body.is_some());
        phases
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if !self.gate.enter(request)? {
            return Ok(Verdict::Next);
        }
        let checked = match self.read(request) {
            Ok(None) => return self.gate.missing(request, self.refuse("The request has no signature.")),
            Ok(Some(signed)) => self.check(request, &signed).map_err(|refusal| (refusal, Some(signed.id))),
            Err(fault) => Err(((Why::MALFORMED, fault).into(), None)),
        };
        match checked {
            Ok((identity, digests)) => self.pass(request, &identity, &digests),
            Err((Refusal::Fault(why, fault), id)) => {
                let claimed = id.and_then(|id| self.known.named(&id));
                self.gate.refuse(request, self.refuse_for((why, fault), claimed.as_deref()))
            }
            Err((Refusal::Consumers(failure), _)) => self.gate.refuse(request, failure.answer()),
        }
    }

    fn on_request_body(&self, request: &Request, chunk: Vec<u8>, _: bool) -> Result<BodyVerdict> {
        let digests = Digests::from_bytes(&request.var(DIGESTS).unwrap_or_default());
        if digests.is_empty() && self.requires_digest && !chunk.is_empty() {
            return Ok(self.refuse_for((Why::NOT_SIGNED, "the body is not signed"), None).into());
        }
        match digests.are_of(&chunk) {
            true => Ok(BodyVerdict::Pass),
            false => Ok(self.refuse_for((Why::BODY, "the body is another one"), None).into()),
        }
    }
}

impl Config {
    fn check(&self) -> Result<()> {
        for (key, is_empty) in [
            ("forms", self.forms.is_empty()),
            ("credentials", self.credentials.is_empty() && !self.consumers && self.anonymous.is_none()),
        ] {
            if is_empty {
                return Err(Error::msg(format_args!("{key}: none is given, so nobody could pass")));
            }
        }
        for (place, name) in self.required_components.iter().enumerate() {
            signed::check_component(name)
                .map_err(|error| Error::msg(format_args!("required_components[{place}]: {error}")))?;
        }
        if self.replay && *self.clock_skew > MAX_SKEW {
            return Err(Error::msg("clock_skew: must be at most 1d, unless `replay` is false"));
        }
        Ok(())
    }
}

impl HmacAuth {
    /// The one signature of the request, if it has any.
    fn read(&self, request: &Request) -> Result<Option<Signed>, Fault> {
        let message = Message { request, scheme: self.scheme };
        let [mut signature, mut legacy] = [None, None];
        if self.forms.contains(&Form::Signature) {
            signature = signature::read(&message, self.tag.as_deref(), self.default_algorithm)?;
        }
        if self.forms.contains(&Form::Legacy) {
            legacy = legacy::read(&message)?;
        }
        match (signature, legacy) {
            (Some(_), Some(_)) => Err("there are signatures of both forms"),
            (signature, legacy) => Ok(signature.or(legacy)),
        }
    }

    /// Whose it is, and what its body has to be.
    fn check(&self, request: &Request, signed: &Signed) -> Result<(Cow<'_, Identity>, Digests), Refusal> {
        if !self.algorithms.contains(&signed.algorithm) {
            Err((Why::ALGORITHM, "the algorithm is not taken"))?;
        }
        if !self.required.iter().all(|name| signed.covers(name)) {
            Err((Why::NOT_SIGNED, "something is not signed that has to be"))?;
        }
        let mut digests = Digests::default();
        for name in ["content-digest", "digest"] {
            if self.body.is_some() && signed.covered.iter().any(|covered| covered == name) {
                digests.read(request, name).map_err(|fault| (Why::MALFORMED, fault))?;
            }
        }
        let now = i64::try_from(clock::now().as_secs()).unwrap_or(i64::MAX);
        let left = self.left(signed, now)?;
        let identity = self.known.verify(signed)?;
        let identity = identity.ok_or((Why::SIGNATURE, "the signature is not that of the request"))?;
        match !self.replay || is_first(signed, left) {
            true => Ok((identity, digests)),
            false => Err((Why::REPLAYED, "the signature has been used already").into()),
        }
    }

    /// How long the signature is good from now on, in seconds.
    fn left(&self, signed: &Signed, now: i64) -> Result<i64, Refused> {
        if signed.created > now.saturating_add(self.clock_skew) {
            return Err((Why::NOT_YET, "the signature is of the future"));
        }
        let end = signed.created.saturating_add(self.clock_skew);
        let expires = signed.expires.unwrap_or(i64::MAX);
        if end < now || expires <= now {
            return Err((Why::EXPIRED, "the signature has expired"));
        }
        Ok(end.min(expires) - now)
    }

    fn pass(&self, request: &Request, identity: &Identity, digests: &Digests) -> Result<Verdict> {
        if let Some(mode) = self.body {
            request.set_body_mode(mode)?;
            request.set_var(DIGESTS, digests.to_bytes())?;
        }
        let verdict = self.gate.pass(request, identity)?;
        if self.hide_credentials && self.forms.contains(&Form::Signature) {
            request.remove_header("signature")?;
            request.remove_header("signature-input")?;
        }
        if self.hide_credentials && self.forms.contains(&Form::Legacy) {
            legacy::hide(request)?;
        }
        Ok(verdict)
    }

    /// Nobody outside is told what was wrong. `claimed` is whose the request claims to be.
    fn refuse_for(&self, (why, fault): Refused, claimed: Option<&Identity>) -> LocalResponse {
        log::debug!("refused: {fault}");
        let reason = Reason::new(why).detail(fault);
        let reason = claimed.map_or(reason.clone(), |identity| reason.whose(identity));
        self.refuse("The signature is not valid.").why(reason)
    }

    fn refuse(&self, detail: &str) -> LocalResponse {
        auth::unauthenticated(&self.challenge, detail)
    }
}

/// Whether it is here for the first time; remembered as long as it is good, on all workers.
fn is_first(signed: &Signed, left: i64) -> bool {
    let mut text = [&(signed.id.len() as u64).to_be_bytes()[..], signed.id.as_bytes()].concat();
    match &signed.nonce {
        Some(nonce) => text.extend([b"n", nonce.as_bytes()].concat()),
        None => text.extend([b"s", &signed.signature[..]].concat()),
    }
    let key = STANDARD.encode(crypto::digest(Hash::Sha256, text));
    // A second more: it is good until the last one is over.
    let time = std::time::Duration::from_secs(left.unsigned_abs() + 1);
    kv::add(&key, "", time).unwrap_or(false)
}
