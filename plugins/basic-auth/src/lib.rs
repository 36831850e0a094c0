//! Lets requests with the name and the password of a user pass (RFC 7617) and says whose they are.

mod cache;
#[cfg(test)]
mod tests;
mod users;

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use wasmgate_sdk::{
    Duration, Error, LocalResponse, Plugin, Request, Result, Verdict,
    audit::{Reason, Why},
    auth::{self, Gate, Identity, OneOrMore, Places},
    config,
    consumers::{self, Failure, Kind},
    crypto, plugin,
};

use cache::Cache;
use users::{Lines, Users, Whose};

/// Longest credentials, decoded; the host takes no password above 4096 bytes.
const MAX_CREDENTIALS: usize = 8192;

/// Who is known, and what becomes of the others.
#[config]
#[serde(default)]
pub struct Config {
    /// The users as "name:hash": a list, or a text with one in a line, as htpasswd writes it.
    users: Lines,
    /// What is known of these users besides, by their names.
    identities: BTreeMap<String, Whose>,
    /// Whether passwords of the gateway's consumers are good, too. The plugin's table in the gateway's config has to say
    /// `consumers = ["password"]` as well.
    consumers: bool,
    /// How long a password that was right is not held against its hash again, from its last use on; 0s for never.
    cache_ttl: Duration,
    /// Take the credentials out of the request before the upstream sees it.
    hide_credentials: bool,
    /// Named in WWW-Authenticate.
    realm: String,
    /// Consumer as whom requests without credentials pass; without one they are refused.
    anonymous: Option<String>,
    /// Whether CORS preflights need credentials, too.
    run_on_preflight: bool,
    /// One of several plugins of which one has to let the request pass; auth-any stands behind them.
    #[schemars(extend("x-leaves-open" = "authentication"))]
    any: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            users: Lines::default(),
            identities: BTreeMap::new(),
            consumers: false,
            cache_ttl: Duration(std::time::Duration::from_secs(60)),
            hide_credentials: true,
            realm: "gateway".to_string(),
            anonymous: None,
            run_on_preflight: false,
            any: false,
        }
    }
}

pub struct BasicAuth {
    gate: Gate,
    users: Users,
    consumers: bool,
    cache: Cache,
    challenge: String,
}

#[plugin]
impl Plugin for BasicAuth {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        let users = Users::new(config.users, config.identities)?;
        if users.is_empty() && !config.consumers && config.anonymous.is_none() {
            return Err(Error::msg("users: none is given, so nobody could pass"));
        }
        if config.consumers {
            consumers::grants(Kind::Password)
                .map_err(|error| Error::msg(format_args!("consumers: {error}")))?;
        }
        let header = OneOrMore::One("authorization".to_string());
        let places = Places::new(header, "Basic ".to_string(), None, None)?;
        Ok(BasicAuth {
            gate: Gate::new(config.any, config.anonymous.as_deref())?
                .on_preflight(config.run_on_preflight)
                .credentials(places, config.hide_credentials),
            users,
            consumers: config.consumers,
            cache: Cache::new(*config.cache_ttl),
            challenge: format!("{}, charset=\"UTF-8\"", auth::challenge("Basic", &config.realm)?),
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict> {
        if !self.gate.enter(request)? {
            return Ok(Verdict::Next);
        }
        let refusal = |detail| auth::unauthenticated(&self.challenge, detail);
        let presented = self.gate.presented(request);
        let credentials = match &presented[..] {
            [] => return self.gate.missing(request, refusal("The request has no user name and password.")),
            [one] => read(one).ok_or(Why::MALFORMED),
            _ => Err(Why::SEVERAL),
        };
        let wrong = match credentials.map(|credentials| self.check(&credentials)) {
            Ok(Ok(Checked::Right(identity))) => return self.gate.pass(request, &identity),
            Ok(Ok(Checked::Wrong(Some(identity)))) => Reason::new(Why::WRONG_PASSWORD).whose(&identity),
            // What stands there as a name may be a password.
            Ok(Ok(Checked::Wrong(None))) => Why::UNKNOWN_USER.into(),
            Ok(Err(failure)) => return self.gate.refuse(request, failure.answer()),
            Ok(Ok(Checked::Unknown)) => {
                let busy =
                    LocalResponse::new(503).code("authentication_unavailable").header("retry-after", "1");
                let busy = busy.detail("Passwords cannot be checked now.").why(Why::UNAVAILABLE);
                return self.gate.refuse(request, busy);
            }
            Err(why) => why.into(),
        };
        self.gate.refuse(request, refusal("The user name or the password is wrong.").why(wrong))
    }
}

#[derive(Debug, PartialEq)]
enum Checked<'a> {
    Right(Cow<'a, Identity>),
    /// With whose password is another one, where there is one of that name.
    Wrong(Option<Cow<'a, Identity>>),
    /// It cannot be known now.
    Unknown,
}

/// What a password is held against.
struct Stored<'a> {
    /// None where nobody has the name, and the hash stands in for one.
    whose: Option<Cow<'a, Identity>>,
    hash: Cow<'a, str>,
}

impl BasicAuth {
    /// A name that nobody has costs what a wrong password costs.
    fn check(&self, credentials: &Credentials) -> Result<Checked<'_>, Failure> {
        let (name, password) = credentials.parts();
        let Some(Stored { whose, hash }) = self.stored(name)? else { return Ok(Checked::Wrong(None)) };
        if whose.is_some() && self.cache.knows(&hash, &credentials.0) {
            return Ok(whose.map_or(Checked::Wrong(None), Checked::Right));
        }
        let is_right = crypto::verify_password(&hash, password);
        if is_right == Ok(true) && whose.is_some() {
            self.cache.keep(&hash, &credentials.0);
        }
        Ok(match (is_right, whose) {
            (Ok(true), Some(identity)) => Checked::Right(identity),
            (Ok(_), whose) => Checked::Wrong(whose),
            (Err(_), _) => Checked::Unknown,
        })
    }

    fn stored(&self, name: &[u8]) -> Result<Option<Stored<'_>>, Failure> {
        if let Some(user) = self.users.find(name) {
            let (whose, hash) = (Some(Cow::Borrowed(&user.identity)), Cow::Borrowed(&*user.hash));
            return Ok(Some(Stored { whose, hash }));
        }
        let (mut whose, mut hash) = (None, None);
        if self.consumers {
            // What is no text is nobody's name.
            let names: Vec<_> = str::from_utf8(name).into_iter().collect();
            let found = consumers::find(Kind::Password, &names)?;
            whose = found.credential.map(|credential| Cow::Owned(credential.into()));
            hash = found.secret.and_then(|hash| String::from_utf8(hash).ok());
        }
        let hash = if whose.is_some() { hash.map(Cow::Owned) } else { self.users.stand_in(name, hash) };
        Ok(hash.map(|hash| Stored { whose, hash }))
    }
}

/// A name and a password with a colon between them.
struct Credentials(Vec<u8>);

impl Credentials {
    /// The password may hold colons, the name none.
    fn parts(&self) -> (&[u8], &[u8]) {
        let colon = self.0.iter().position(|&byte| byte == b':').unwrap_or(self.0.len());
        let (name, password) = self.0.split_at(colon);
        (name, password.get(1..).unwrap_or_default())
    }
}

/// None of what has no colon, or holds what no name or password may (RFC 7617, section 2).
fn read(token: &[u8]) -> Option<Credentials> {
    let token = token.trim_ascii();
    let decoded =
        (token.len() <= MAX_CREDENTIALS / 3 * 4 + 4).then(|| STANDARD.decode(token).ok()).flatten()?;
    let is_whole = decoded.contains(&b':') && !decoded.iter().any(u8::is_ascii_control);
    is_whole.then_some(Credentials(decoded))
}
