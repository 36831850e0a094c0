//! Who is asked about tokens, how, and how long what it says is good.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use form_urlencoded::{Serializer, byte_serialize};
use wasmgate_sdk::{
    auth::{Claims, strict_object},
    clock, config,
    crypto::{self, Hash},
    http::{Answer, Call, Failure, Keep},
    serde_json::Value,
};

use crate::Config;

/// Largest answer.
const MAX_ANSWER: u32 = 64 * 1024;

/// How the gateway proves who it is (RFC 6749, section 2.3.1).
#[config]
#[serde(rename_all = "lowercase")]
#[derive(Default)]
pub enum ClientAuth {
    /// In the header Authorization.
    #[default]
    Basic,
    /// In the form.
    Post,
}

/// Who asks whom.
pub struct Endpoint {
    /// The question, but for its body.
    call: Call,
    /// What follows the token in the form.
    rest: String,
    /// What tells one endpoint's answers from another's, before the token.
    name: Vec<u8>,
    /// How long answers are good, and how long those are that let nobody pass.
    positive: Duration,
    negative: Duration,
}

/// What is kept, and for how long already.
struct Said {
    claims: Result<Option<Claims>, Failure>,
    age: Duration,
}

impl Endpoint {
    pub fn new(config: &Config) -> Self {
        let mut call = Call {
            authority: config.authority.clone(),
            max_body: MAX_ANSWER,
            timeout: *config.timeout,
            ..Call::post(&config.upstream, &config.path, "")
        };
        call = call.header("content-type", "application/x-www-form-urlencoded");
        call = call.header("accept", "application/json");
        let hint = config.token_type_hint.as_deref();
        let mut form = Serializer::new(String::new());
        form.extend_pairs(hint.map(|hint| ("token_type_hint", hint)));
        let (id, secret) = (&*config.client_id, &*config.client_secret);
        match config.auth {
            ClientAuth::Basic => {
                let [id, secret] =
                    [id, secret].map(|text| byte_serialize(text.as_bytes()).collect::<String>());
                let credentials = STANDARD.encode(format!("{id}:{secret}"));
                call = call.header("authorization", format!("Basic {credentials}"));
            }
            ClientAuth::Post => {
                form.append_pair("client_id", id).append_pair("client_secret", secret);
            }
        }
        let mut name = Vec::new();
        let authority = call.authority.as_deref().unwrap_or_default();
        for part in [&*config.upstream, &*config.path, authority, id, hint.unwrap_or_default()] {
            name.extend((part.len() as u64).to_be_bytes());
            name.extend(part.as_bytes());
        }
        Endpoint {
            rest: form.finish(),
            name,
            positive: *config.cache_ttl_max,
            negative: *config.negative_ttl.min(config.cache_ttl_max),
            call,
        }
    }

    pub fn upstream(&self) -> &str {
        &self.call.upstream
    }

    /// The claims of an active token; none where it is not.
    pub fn ask(&self, token: &[u8]) -> Result<Option<Claims>, Failure> {
        let (call, key) = (self.call(token), self.key(token));
        let said = self.fetch(&call, &key, self.positive)?;
        if said.is_good(clock::now()) || said.age <= self.negative {
            return said.claims;
        }
        // It says no, or its time is over: that does not hold as long.
        self.fetch(&call, &key, self.negative)?.claims
    }

    fn fetch(&self, call: &Call, key: &str, fresh: Duration) -> Result<Said, Failure> {
        let keep = Keep { fresh, stale: Duration::ZERO, negative: self.negative, only_success: true };
        let kept = call.fetch(key, keep, None)?;
        let claims = kept.answer.ok_or(Failure::Broken).and_then(|answer| claims(&answer));
        Ok(Said { claims, age: kept.age })
    }

    fn call(&self, token: &[u8]) -> Call {
        let mut form = String::from("token=");
        form.extend(byte_serialize(token));
        if !self.rest.is_empty() {
            form.push('&');
            form.push_str(&self.rest);
        }
        Call { body: form.into(), ..self.call.clone() }
    }

    /// Tells tokens, and who asks whom about them; the token cannot be read from it.
    fn key(&self, token: &[u8]) -> String {
        STANDARD.encode(crypto::digest(Hash::Sha256, [&self.name, token].concat()))
    }
}

impl Said {
    /// Whether it lets somebody pass, as far as time is concerned.
    fn is_good(&self, now: Duration) -> bool {
        let Ok(Some(claims)) = &self.claims else { return false };
        claims.time("exp").is_ok_and(|exp| exp.is_none_or(|end| end > now.as_secs_f64()))
    }
}

/// RFC 7662, section 2.2: `active` is a boolean, and what else is said counts only where it is true.
fn claims(answer: &Answer) -> Result<Option<Claims>, Failure> {
    if answer.status != 200 {
        return Err(Failure::Refused);
    }
    let members = strict_object(&answer.body).ok_or(Failure::Broken)?;
    let is_active = members.get("active") == Some(&Value::Bool(true));
    Ok(is_active.then_some(Claims(members)))
}
