//! How a plugin lets requests pass and refuses them: by itself, or as one of several of which one is enough.

use super::{
    Identity, Places,
    group::Notes,
    identity::{HEADERS, is_identity},
    places::Place,
};
use crate::audit::Why;
use crate::{Error, HeaderName, LocalResponse, Request, Result, Verdict};

/// What the options `any`, `anonymous`, `run_on_preflight` and `hide_credentials` come to. With `any` a request that a plugin
/// of the group has let pass is left alone, and a refusal is noted for the plugin that closes the group ([`close`]).
///
/// [`close`]: super::close
///
/// ```
/// use wasmgate_sdk::{Plugin, Request, Result, Verdict, audit::Why, auth::{self, Gate, Identity, OneOrMore, Places}, config, plugin};
///
/// #[config]
/// #[serde(default)]
/// #[derive(Default)]
/// struct Config {
///     any: bool,
///     anonymous: Option<String>,
/// }
///
/// struct Password(Gate);
///
/// #[plugin]
/// impl Plugin for Password {
///     type Config = Config;
///
///     fn new(config: Config) -> Result<Self> {
///         let places = Places::new(OneOrMore::One("x-password".to_string()), String::new(), None, None)?;
///         Ok(Password(Gate::new(config.any, config.anonymous.as_deref())?.credentials(places, true)))
///     }
///
///     fn on_request(&self, request: &Request) -> Result<Verdict> {
///         if !self.0.enter(request)? {
///             return Ok(Verdict::Next);
///         }
///         let refusal = auth::unauthenticated("Password", "Unauthorized");
///         match &self.0.presented(request)[..] {
///             [] => self.0.missing(request, refusal),
///             [given] if given == b"open sesame" => self.0.pass(request, &Identity::of("ali")),
///             _ => self.0.refuse(request, refusal.why(Why::WRONG_PASSWORD)),
///         }
///     }
/// }
/// # fn main() -> Result<()> {
/// # use wasmgate_sdk::testing::{self, Host};
/// let said = |word| testing::Request::get("/").header("x-password", word);
/// let alone = Host::new().load::<Password>("null")?;
/// assert!(alone.send(said("open sesame")).sent && !alone.send(said("open rye")).sent);
/// let one_of_several = Host::new().load::<Password>(r#"{"any": true}"#)?;
/// assert!(one_of_several.send(said("open rye")).sent);
/// # Ok(())
/// # }
/// ```
pub struct Gate {
    any: bool,
    run_on_preflight: bool,
    anonymous: Option<Identity>,
    credentials: Option<(Places, bool)>,
    headers: Vec<HeaderName>,
}

impl Gate {
    /// For everybody, preflights apart; requests without a credential are the anonymous consumer's, if there is one.
    /// The error names the key of the config. The example is that of the type.
    pub fn new(any: bool, anonymous: Option<&str>) -> Result<Self> {
        if any && anonymous.is_some() {
            return Err(Error::msg(
                "anonymous: with any = true nobody knows yet whether another plugin lets the request pass, so it is auth-any's",
            ));
        }
        let anonymous = anonymous.map(Identity::anonymous).transpose()?;
        Ok(Gate { any, run_on_preflight: false, anonymous, credentials: None, headers: Vec::new() })
    }

    /// Whether CORS preflights need a credential, too. Those of a group are passed on by whoever closes it.
    ///
    /// ```
    /// use wasmgate_sdk::{auth::Gate, testing};
    ///
    /// let preflight = testing::Request::new("OPTIONS", "/").header("origin", "https://a.test");
    /// let exchange = preflight.header("access-control-request-method", "PUT").build();
    /// assert!(!Gate::new(false, None)?.enter(&exchange.request())?);
    /// assert!(Gate::new(false, None)?.on_preflight(true).enter(&exchange.request())?);
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn on_preflight(self, run: bool) -> Self {
        Gate { run_on_preflight: run, ..self }
    }

    /// Where credentials stand, and whether one that is accepted is taken out of the request. One of a group that nobody
    /// accepts is taken out in any case. The example is that of the type.
    pub fn credentials(self, places: Places, hide: bool) -> Self {
        Gate { credentials: Some((places, hide)), ..self }
    }

    /// Headers that tell the upstream more of whose the request is: what a client sends there is removed, with `_` for `-`, too,
    /// and what another plugin of the group has told there is not.
    ///
    /// ```
    /// use wasmgate_sdk::{HeaderName, auth::Gate, testing};
    ///
    /// let gate = Gate::new(false, None)?.tells([HeaderName::from_static("x-roles")]);
    /// let exchange = testing::Request::get("/").header("x-roles", "admin").header("x_roles", "admin").build();
    /// gate.enter(&exchange.request())?;
    /// assert!(exchange.request().header("x-roles").is_none() && exchange.request().header("x_roles").is_none());
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn tells(self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        Gate { headers: headers.into_iter().collect(), ..self }
    }

    /// Removes what a client itself says of whose its request is. False where the request goes on as it is: somebody of the
    /// group has let it pass, or it is a preflight. The example is that of the type. Errors: as of [`Request::set_var`].
    pub fn enter(&self, request: &Request) -> Result<bool> {
        let mut notes = if self.any { Notes::of(request)? } else { Notes::default() };
        // What the group tells of its consumer, the first of it has made sure of.
        let is_told =
            |name: &str| notes.told.iter().any(|told| told == name) || (self.any && is_identity(name));
        let own = self.headers.iter().map(|name| &**name).filter(|name| !is_told(name));
        let of_all = HEADERS.into_iter().filter(|_| !self.any);
        let removed: Vec<&str> = of_all.chain(own).collect();
        if !removed.is_empty() {
            request.remove_headers(&removed)?;
        }
        if notes.passed {
            notes.unproved.extend(self.carrying(request));
            notes.write(request)?;
        }
        let is_exempt = !self.any && !self.run_on_preflight && request.is_preflight();
        if is_exempt {
            // A browser sends none with a preflight; nobody has looked at it.
            self.hide(request)?;
        }
        Ok(!notes.passed && !is_exempt)
    }

    /// What stands in the places of credentials, each value once. The example is that of the type.
    pub fn presented(&self, request: &Request) -> Vec<Vec<u8>> {
        let mut found =
            self.credentials.iter().flat_map(|(places, _)| places.values(request)).collect::<Vec<_>>();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Lets the request pass as this consumer's. Errors: as of [`Identity::announce`]; nothing is told then, and the request
    /// may still be refused. The example is that of the type.
    pub fn pass(&self, request: &Request, identity: &Identity) -> Result<Verdict> {
        identity.announce(request)?;
        self.pass_unnamed(request)
    }

    /// Lets the request pass without a consumer's name.
    ///
    /// ```
    /// use wasmgate_sdk::{auth::{self, Gate}, testing};
    ///
    /// let exchange = testing::Request::get("/").build();
    /// let gate = Gate::new(true, None)?;
    /// gate.enter(&exchange.request())?;
    /// gate.pass_unnamed(&exchange.request())?;
    /// assert!(auth::close(&exchange.request())?.passed);
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn pass_unnamed(&self, request: &Request) -> Result<Verdict> {
        self.hide(request)?;
        if self.any {
            let mut notes = Notes::of(request)?;
            notes.passed = true;
            notes.kept.extend(self.carrying(request));
            notes.told.extend(self.headers.iter().map(|name| name.to_string()));
            notes.write(request)?;
        }
        Ok(Verdict::Next)
    }

    /// Refuses a request without a credential, unless it may be anonymous; the audit is told so. The example is that of the type.
    pub fn missing(&self, request: &Request, refusal: LocalResponse) -> Result<Verdict> {
        match &self.anonymous {
            Some(anonymous) => {
                anonymous.announce(request)?;
                Ok(Verdict::Next)
            }
            None if refusal.reason.is_none() => self.turn_away(request, refusal.why(Why::MISSING), false),
            None => self.turn_away(request, refusal, false),
        }
    }

    /// Refuses a request whose credential is not good, or cannot be checked: then the refusal is a 5xx. Its reason
    /// ([`LocalResponse::why`]) is for the audit. The example is that of the type.
    pub fn refuse(&self, request: &Request, refusal: LocalResponse) -> Result<Verdict> {
        self.turn_away(request, refusal, true)
    }

    fn turn_away(&self, request: &Request, refusal: LocalResponse, presented: bool) -> Result<Verdict> {
        if !self.any {
            return Ok(refusal.into());
        }
        let mut notes = Notes::of(request)?;
        notes.presented |= presented;
        notes.undecided |= refusal.status >= 500;
        refusal.reason.into_iter().for_each(|reason| notes.explain(*reason));
        for (name, value) in refusal.headers {
            if name.eq_ignore_ascii_case("www-authenticate") {
                notes.ask_for(String::from_utf8_lossy(&value).into_owned());
            }
        }
        notes.unproved.extend(self.carrying(request));
        notes.write(request)?;
        Ok(Verdict::Next)
    }

    fn hide(&self, request: &Request) -> Result<()> {
        match &self.credentials {
            Some((places, true)) => places.hide(request),
            _ => Ok(()),
        }
    }

    fn carrying(&self, request: &Request) -> Vec<Place> {
        self.credentials.as_ref().map(|(places, _)| places.carrying(request)).unwrap_or_default()
    }
}
