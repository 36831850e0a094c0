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

pub struct Endpoint {
    pub upstream: String,
    pub path: String,
    pub authority: Option<String>,
    pub client_id: String,
    pub client_secret: String,
    pub auth: ClientAuth,
    pub timeout: Duration,
    pub token_type_hint: Option<String>,
    /// How long answers are good, and how long those are that let nobody pass.
    pub positive: Duration,
    pub negative: Duration,
}

/// What is kept, and for how long already.
struct Said {
    claims: Result<Option<Claims>, Failure>,
    age: Duration,
}

impl Endpoint {
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
        let mut form = Serializer::new(form);
        if let Some(hint) = &self.token_type_hint {
            form.append_pair("token_type_hint", hint);
        }
        let mut authorization = None;
        match self.auth {
            ClientAuth::Basic => {
                let [id, secret] = [&self.client_id, &self.client_secret]
                    .map(|text| byte_serialize(text.as_bytes()).collect::<String>());
                authorization = Some(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))));
            }
            ClientAuth::Post => {
                form.append_pair("client_id", &self.client_id);
                form.append_pair("client_secret", &self.client_secret);
            }
        }
        let mut call = Call {
            authority: self.authority.clone(),
            max_body: MAX_ANSWER,
            ..Call::post(&self.upstream, &self.path, form.finish())
        };
        if let Some(authorization) = authorization {
            call = call.header("authorization", authorization);
        }
        call.header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .timeout(self.timeout)
    }

    /// Tells tokens, and who asks whom about them; the token cannot be read from it.
    fn key(&self, token: &[u8]) -> String {
        let hint = self.token_type_hint.as_deref().unwrap_or_default();
        let authority = self.authority.as_deref().unwrap_or_default();
        let parts = [&*self.upstream, &*self.path, authority, &*self.client_id, hint].map(str::as_bytes);
        let mut text = Vec::new();
        for part in parts.into_iter().chain([token]) {
            text.extend((part.len() as u64).to_be_bytes());
            text.extend(part);
        }
        STANDARD.encode(crypto::digest(Hash::Sha256, text))
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
