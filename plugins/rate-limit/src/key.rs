//! Whom a limit belongs to.

use std::net::{IpAddr, Ipv6Addr};

use wasmgate_sdk::{Error, HeaderName, Request, Result, auth::Claims, config, serde_json};

/// The host bounds its keys; what is longer shares a limit.
const MAX: usize = 700;

/// One word, or several whose values together are the key.
#[config]
#[serde(untagged, expecting = "expected a word such as \"ip\" or a list of such")]
pub enum Words {
    /// One, or a template with words in braces, such as "{consumer}/{header:x-team}".
    One(String),
    /// All of them.
    All(Vec<String>),
}

pub struct Key {
    parts: Vec<By>,
    ipv6_prefix: u8,
}

enum By {
    Ip,
    Var(&'static str),
    Header(HeaderName),
    Cookie(String),
    Claim(String),
    Route,
    Path,
    Const,
}

const KNOWN: &str =
    "ip, consumer, credential, group, route, path, const, header:NAME, cookie:NAME or claim:PATH";

impl Key {
    /// `at` is where it stands in the config.
    pub fn parse(at: &str, words: &Words, ipv6_prefix: u8) -> Result<Self> {
        if ipv6_prefix > 128 {
            return Err(Error::msg("ipv6_prefix: must be at most 128"));
        }
        let parts = match words {
            Words::One(template) if template.contains('{') => braced(at, template)?,
            Words::One(word) => vec![word.as_str()],
            Words::All(words) => words.iter().map(String::as_str).collect(),
        };
        if parts.is_empty() {
            return Err(Error::msg(format_args!("{at}: names nothing; \"const\" is one limit for all")));
        }
        let parts = parts.into_iter().map(|word| By::parse(at, word)).collect::<Result<_>>()?;
        Ok(Key { parts, ipv6_prefix })
    }

    /// The address alone, as nearly always: then the host puts it in front, and the text is empty. Otherwise the kind of each
    /// part stands in front of it, so that a header cannot name somebody's address.
    pub fn of(&self, request: &Request) -> (Option<u8>, String) {
        if let [By::Ip] = self.parts[..] {
            return (Some(self.ipv6_prefix), String::new());
        }
        let mut key = String::with_capacity(32);
        for part in &self.parts {
            key.push(' ');
            match part.value(request) {
                Some((kind, value)) => {
                    key.push_str(kind);
                    key.push_str(&value);
                }
                None => {
                    key.push_str("ip:");
                    key.push_str(&self.network(request.client_ip()));
                }
            }
        }
        key.truncate(key.floor_char_boundary(MAX));
        (None, key)
    }

    /// An IPv6 client has a whole network to choose addresses from.
    fn network(&self, ip: String) -> String {
        if !ip.contains(':') {
            return ip;
        }
        match ip.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(IpAddr::V6(v6)) => {
                let ignored = 128 - u32::from(self.ipv6_prefix);
                let bits = v6.to_bits().checked_shr(ignored).unwrap_or(0);
                Ipv6Addr::from_bits(bits.checked_shl(ignored).unwrap_or(0)).to_string()
            }
            Ok(IpAddr::V4(v4)) => v4.to_string(),
            Err(_) => ip,
        }
    }
}

impl By {
    fn parse(at: &str, word: &str) -> Result<Self> {
        let wrong = || Error::msg(format_args!("{at}: {word:?} is not one of {KNOWN}"));
        Ok(match word.split_once(':') {
            None => match word {
                "ip" => By::Ip,
                "consumer" => By::Var("consumer"),
                "credential" => By::Var("credential"),
                "group" => By::Var("groups"),
                "route" => By::Route,
                "path" => By::Path,
                "const" => By::Const,
                _ => return Err(wrong()),
            },
            Some(("header", name)) => {
                By::Header(HeaderName::new(name).map_err(|error| Error::msg(format_args!("{at}: {error}")))?)
            }
            Some(("cookie", name)) if !name.is_empty() => By::Cookie(name.to_string()),
            Some(("claim", path)) if !path.is_empty() => By::Claim(path.to_string()),
            Some(_) => return Err(wrong()),
        })
    }

    /// None where the request lacks it: then its address counts.
    fn value(&self, request: &Request) -> Option<(&'static str, String)> {
        Some(match self {
            By::Ip => return None,
            By::Var(name) => (prefix(name), request.var_str(name).filter(|value| !value.is_empty())?),
            By::Header(name) => ("header:", hex(&request.header(name)?)),
            By::Cookie(name) => ("cookie:", hex(request.cookie(name)?.as_bytes())),
            By::Claim(path) => ("claim:", claim(request, path)?),
            By::Route => ("route:", request.route()),
            By::Path => ("path:", request.path()),
            By::Const => ("const", String::new()),
        })
    }
}

/// What stands in braces. What stands between them makes no difference between keys.
fn braced<'t>(at: &str, template: &'t str) -> Result<Vec<&'t str>> {
    let wrong = || Error::msg(format_args!("{at}: a brace of {template:?} has no counterpart"));
    template.split('{').skip(1).map(|part| Ok(part.split_once('}').ok_or_else(wrong)?.0)).collect()
}

fn prefix(var: &str) -> &'static str {
    match var {
        "consumer" => "consumer:",
        "credential" => "credential:",
        _ => "group:",
    }
}

/// Of the claims that an auth plugin has left; one that is no text counts as it is written.
fn claim(request: &Request, path: &str) -> Option<String> {
    let claims = Claims(serde_json::from_slice(&request.var("claims")?).ok()?);
    let found = claims.get(path)?;
    Some(hex(found.as_str().map_or_else(|| found.to_string(), str::to_string).as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(MAX / 2).map(|byte| format!("{byte:02x}")).collect()
}
