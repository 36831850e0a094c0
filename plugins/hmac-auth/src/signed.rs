//! What a signature of either form says, and what of the request it covers.

use wasmgate_sdk::{Error, Request, Result, audit::Why, config, consumers::Failure, crypto::Hash};

/// Most components that a signature may cover.
pub const MAX_COMPONENTS: usize = 64;
/// Longest field of a signature in bytes.
pub const MAX_FIELD: usize = 16 * 1024;

/// What is wrong with a signature; for the log, never for the client.
pub type Fault = &'static str;

/// Why a request is refused.
pub enum Refusal {
    /// In a word and in full.
    Fault(Why, Fault),
    /// The gateway's consumers cannot be looked up.
    Consumers(Failure),
}

impl From<(Why, Fault)> for Refusal {
    fn from((why, fault): (Why, Fault)) -> Self {
        Refusal::Fault(why, fault)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal::Consumers(failure)
    }
}

#[config]
#[derive(Clone, Copy, PartialEq)]
pub enum Algorithm {
    #[serde(rename = "hmac-sha256")]
    Sha256,
    #[serde(rename = "hmac-sha512")]
    Sha512,
}

/// A signature that can be read. Nothing of it is proved yet.
pub struct Signed {
    pub id: String,
    pub algorithm: Algorithm,
    pub signature: Vec<u8>,
    /// What may have been signed; more than one where the request does not tell.
    pub texts: Vec<Vec<u8>>,
    /// Names of the components that are signed, in lower case.
    pub covered: Vec<String>,
    /// Whether it has the form of old, which has no name for the scheme.
    pub legacy: bool,
    /// In seconds since 1970, as `expires`.
    pub created: i64,
    pub expires: Option<i64>,
    pub nonce: Option<String>,
}

/// The request, as its components are named by RFC 9421 (section 2).
pub struct Message<'a> {
    pub request: &'a Request<'a>,
    /// In place of the connection's.
    pub scheme: Option<&'a str>,
}

impl Algorithm {
    pub fn from_name(name: &str) -> Option<Self> {
        [Algorithm::Sha256, Algorithm::Sha512].into_iter().find(|algorithm| algorithm.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "hmac-sha256",
            Algorithm::Sha512 => "hmac-sha512",
        }
    }

    pub fn hash(self) -> Hash {
        match self {
            Algorithm::Sha256 => Hash::Sha256,
            Algorithm::Sha512 => Hash::Sha512,
        }
    }
}

impl Signed {
    /// Whether a component is signed: by its own name, or as a part of another one.
    pub fn covers(&self, name: &str) -> bool {
        let has = |name: &str| self.covered.iter().any(|covered| covered == name);
        let target = || has("@request-target") || (has("@path") && has("@query"));
        has(name)
            || match name {
                "@target-uri" => target() && (self.legacy || has("@authority")),
                "@request-target" => has("@target-uri") || target(),
                "@path" | "@query" => has("@target-uri") || has("@request-target"),
                "@authority" => has("@target-uri") || has("host"),
                "@scheme" => has("@target-uri"),
                _ => false,
            }
    }
}

impl Message<'_> {
    /// The value of a component; none where the request has no such one.
    pub fn component(&self, name: &str) -> Option<Vec<u8>> {
        let request = self.request;
        let value = match name {
            "@method" => request.method(),
            "@target-uri" => format!("{}://{}{}", self.scheme(), self.authority(), request.path_with_query()),
            "@authority" => self.authority(),
            "@scheme" => self.scheme(),
            "@request-target" => request.path_with_query(),
            "@path" => request.path(),
            "@query" => format!("?{}", request.query().unwrap_or_default()),
            "host" => request.authority(),
            name if name.starts_with('@') => return None,
            name => return self.field(name),
        };
        Some(value.into_bytes())
    }

    /// All lines of a header as one value (section 2.1).
    fn field(&self, name: &str) -> Option<Vec<u8>> {
        let lines = self.request.header_all(name);
        let lines: Vec<_> = lines.iter().map(|line| line.trim_ascii()).collect();
        (!lines.is_empty()).then(|| lines.join(&b", "[..]))
    }

    fn scheme(&self) -> String {
        self.scheme.map_or_else(|| self.request.scheme(), str::to_string)
    }

    /// In lower case, and without the port that the scheme has anyway (section 2.2.3).
    fn authority(&self) -> String {
        let mut authority = self.request.authority().to_ascii_lowercase();
        let port = if self.scheme() == "https" { ":443" } else { ":80" };
        if authority.ends_with(port) {
            authority.truncate(authority.len() - port.len());
        }
        authority
    }
}

/// Checks the name of a component that the config asks for.
pub fn check_component(name: &str) -> Result<()> {
    const DERIVED: [&str; 7] =
        ["@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query"];
    let is_field = || {
        let is_token = |byte: u8| byte.is_ascii_graphic() && !br#""(),/:;<=>?@[\]{}"#.contains(&byte);
        !name.is_empty() && name.bytes().all(|byte| is_token(byte) && !byte.is_ascii_uppercase())
    };
    match DERIVED.contains(&name) || is_field() {
        true => Ok(()),
        false => Err(Error::msg(format_args!("`{name}` is neither a component nor a header in lower case"))),
    }
}
