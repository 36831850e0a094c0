//! The request as a plugin sees it.

use crate::auth::Identity;
use crate::bindings::plugin::wasmgate::plugin::request as raw;
use crate::headers::header_methods;
use crate::host::exchange;
use crate::{BodyMode, Client, HostError, Result, Tls};

/// The request. It is owned by the host and read as needed: what a plugin does not read costs
/// nothing, and each call is a crossing to the host, so read a value once.
///
/// Changes are seen by the plugins that follow and by the upstream. They are possible until the
/// request was sent; from the response phase on a changing call returns
/// [`HostError::Immutable`].
///
/// ```
/// use wasmgate_sdk::{Request, Result, Verdict};
///
/// fn on_request(request: &Request) -> Result<Verdict> {
///     request.set_header("x-client", request.client().ip)?;
///     Ok(Verdict::Next)
/// }
/// ```
pub struct Request<'a> {
    raw: &'a exchange::Request,
}

impl<'a> Request<'a> {
    #[cfg_attr(
        not(any(feature = "testing", target_family = "wasm")),
        expect(dead_code, reason = "natively only the fake host makes one")
    )]
    pub(crate) const fn new(raw: &'a exchange::Request) -> Self {
        Request { raw }
    }

    /// The method, upper case where it is a standard one.
    ///
    /// ```
    /// fn is_safe(request: &wasmgate_sdk::Request) -> bool {
    ///     matches!(request.method().as_str(), "GET" | "HEAD" | "OPTIONS")
    /// }
    /// ```
    pub fn method(&self) -> String {
        self.raw.method()
    }

    /// Sets the method sent upstream. Errors: `InvalidValue` where it is not a token, `Immutable`.
    ///
    /// ```
    /// fn as_get(request: &wasmgate_sdk::Request) -> wasmgate_sdk::Result<()> {
    ///     Ok(request.set_method("GET")?)
    /// }
    /// ```
    pub fn set_method(&self, method: &str) -> Result<(), HostError> {
        Ok(self.raw.set_method(method)?)
    }

    /// "http" or "https", as the client used it.
    ///
    /// ```
    /// fn is_plain(request: &wasmgate_sdk::Request) -> bool {
    ///     request.scheme() == "http"
    /// }
    /// ```
    pub fn scheme(&self) -> String {
        self.raw.scheme()
    }

    /// Host and port that the client asked for.
    ///
    /// ```
    /// fn origin(request: &wasmgate_sdk::Request) -> String {
    ///     format!("{}://{}", request.scheme(), request.authority())
    /// }
    /// ```
    pub fn authority(&self) -> String {
        self.raw.authority()
    }

    /// Sets the authority sent upstream, which is its Host header. Errors: `InvalidValue`, `Immutable`.
    ///
    /// ```
    /// fn inside(request: &wasmgate_sdk::Request) -> wasmgate_sdk::Result<()> {
    ///     Ok(request.set_authority("users.internal:8080")?)
    /// }
    /// ```
    pub fn set_authority(&self, authority: &str) -> Result<(), HostError> {
        Ok(self.raw.set_authority(authority)?)
    }

    /// Path and query, percent-encoded, or what a plugin before has set. The path is normalised, as routes see it: dot
    /// segments are resolved. The query is as received.
    ///
    /// ```
    /// fn key(request: &wasmgate_sdk::Request) -> String {
    ///     format!("{} {}", request.method(), request.path_with_query())
    /// }
    /// ```
    pub fn path_with_query(&self) -> String {
        self.raw.path_with_query()
    }

    /// Sets the path and query sent upstream; the route stays chosen. Errors: `InvalidValue` where
    /// it does not begin with `/` or holds what belongs percent-encoded, `Immutable`.
    ///
    /// ```
    /// fn strip_query(request: &wasmgate_sdk::Request) -> wasmgate_sdk::Result<()> {
    ///     Ok(request.set_path_with_query(&request.path())?)
    /// }
    /// ```
    pub fn set_path_with_query(&self, target: &str) -> Result<(), HostError> {
        Ok(self.raw.set_path_with_query(target)?)
    }

    /// The path alone, percent-encoded.
    ///
    /// ```
    /// # use wasmgate_sdk::testing;
    /// let exchange = testing::Request::get("/a%20b?page=2").build();
    /// assert_eq!(exchange.request().path(), "/a%20b");
    /// ```
    pub fn path(&self) -> String {
        let mut target = self.path_with_query();
        target.truncate(target.find('?').unwrap_or(target.len()));
        target
    }

    /// The query alone, percent-encoded and without its question mark; none where there is no
    /// question mark.
    ///
    /// ```
    /// # use wasmgate_sdk::testing;
    /// let exchange = testing::Request::get("/list?page=2&sort=name").build();
    /// assert_eq!(exchange.request().query().as_deref(), Some("page=2&sort=name"));
    /// ```
    pub fn query(&self) -> Option<String> {
        self.path_with_query().split_once('?').map(|(_, query)| query.to_string())
    }

    /// First value of a query parameter, decoded as forms are: `+` is a space, bytes that are not
    /// UTF-8 become U+FFFD.
    ///
    /// ```
    /// # use wasmgate_sdk::testing;
    /// let exchange = testing::Request::get("/search?q=caf%C3%A9+au+lait&empty").build();
    /// assert_eq!(exchange.request().query_param("q").as_deref(), Some("café au lait"));
    /// assert_eq!(exchange.request().query_param("empty").as_deref(), Some(""));
    /// assert_eq!(exchange.request().query_param("page"), None);
    /// ```
    pub fn query_param(&self, name: &str) -> Option<String> {
        self.query()?.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decode(key) == name).then(|| form_decode(value))
        })
    }

    /// First value of a cookie (RFC 6265, section 4.2.1), as it is written; bytes that are not UTF-8 become U+FFFD.
    ///
    /// ```
    /// # use wasmgate_sdk::testing;
    /// let exchange = testing::Request::get("/").header("cookie", "a=1; theme=dark").build();
    /// assert_eq!(exchange.request().cookie("theme").as_deref(), Some("dark"));
    /// assert_eq!(exchange.request().cookie("lang"), None);
    /// ```
    pub fn cookie(&self, name: &str) -> Option<String> {
        let value = cookies(self).iter().find_map(|cookie| cookie_value(cookie, name))?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// Value of a `{name}` in the path of the matched route.
    ///
    /// ```
    /// fn user(request: &wasmgate_sdk::Request) -> Option<String> {
    ///     request.path_param("user")
    /// }
    /// ```
    pub fn path_param(&self, name: &str) -> Option<String> {
        self.raw.path_param(name)
    }

    /// Names and values of all of them, in the order of the path.
    ///
    /// ```
    /// fn key(request: &wasmgate_sdk::Request) -> String {
    ///     request.path_params().into_iter().map(|(_, value)| value).collect::<Vec<_>>().join("/")
    /// }
    /// ```
    pub fn path_params(&self) -> Vec<(String, String)> {
        self.raw.path_params()
    }

    /// Name of the matched route.
    ///
    /// ```
    /// fn key(request: &wasmgate_sdk::Request) -> String {
    ///     format!("{}/{}", request.route(), request.client().ip)
    /// }
    /// ```
    pub fn route(&self) -> String {
        self.raw.route()
    }

    header_methods!("Request");

    /// Asks for the request's body. Errors: `Immutable` outside of the request phase.
    ///
    /// ```
    /// use wasmgate_sdk::{BodyMode, Request, Result, Verdict};
    ///
    /// fn on_request(request: &Request) -> Result<Verdict> {
    ///     request.set_body_mode(BodyMode::Peek(512))?;
    ///     Ok(Verdict::Next)
    /// }
    /// ```
    pub fn set_body_mode(&self, mode: BodyMode) -> Result<(), HostError> {
        Ok(self.raw.set_body_mode(mode)?)
    }

    /// Sends the request to another upstream of the config. Errors: `Unknown`, `Immutable`.
    ///
    /// ```
    /// fn canary(request: &wasmgate_sdk::Request) -> wasmgate_sdk::Result<()> {
    ///     Ok(request.set_upstream("users-next")?)
    /// }
    /// ```
    pub fn set_upstream(&self, name: &str) -> Result<(), HostError> {
        Ok(self.raw.set_upstream(name)?)
    }

    /// Who sent the request.
    ///
    /// ```
    /// fn ip(request: &wasmgate_sdk::Request) -> Option<std::net::IpAddr> {
    ///     request.client().ip.parse().ok()
    /// }
    /// ```
    pub fn client(&self) -> Client {
        self.raw.client()
    }

    /// The `ip` of [`client`](Request::client) alone, which costs less.
    ///
    /// ```
    /// # use wasmgate_sdk::testing;
    /// let exchange = testing::Request::get("/").client_ip("192.0.2.7").build();
    /// assert_eq!(exchange.request().client_ip(), "192.0.2.7");
    /// ```
    pub fn client_ip(&self) -> String {
        self.raw.client_ip()
    }

    /// Whether a browser asks if it may send a request (Fetch Standard, section 3.3.2): OPTIONS with Origin and
    /// Access-Control-Request-Method.
    ///
    /// ```
    /// # use wasmgate_sdk::testing;
    /// let preflight = testing::Request::new("OPTIONS", "/").header("origin", "https://a.test");
    /// let exchange = preflight.header("access-control-request-method", "PUT").build();
    /// assert!(exchange.request().is_preflight());
    /// ```
    pub fn is_preflight(&self) -> bool {
        self.raw.is_preflight()
    }

    /// Removes all headers whose names fit one of these: a name, or the beginning of names and `*`. `_` in a header's name counts
    /// as `-`, for many servers take it for that (RFC 3875, section 4.1.18). Framing and connection headers and Host stay. Returns
    /// how many names are gone. Errors: `Immutable`.
    ///
    /// ```
    /// # use wasmgate_sdk::testing;
    /// let exchange = testing::Request::get("/").header("x_user_id", "root").header("x-users", "2").build();
    /// assert_eq!(exchange.request().remove_headers(&["x-user-*", "x-admin"])?, 1);
    /// assert!(exchange.request().header("x-users").is_some());
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn remove_headers(&self, patterns: &[&str]) -> Result<u32, HostError> {
        Ok(self.raw.remove_headers(patterns)?)
    }

    /// Sets headers of the answer to this request, whoever makes it, in place of those of the same names: before the first
    /// response phase, so that a plugin need not have one for it. All of them or none. Errors: as of
    /// [`set_header`](Request::set_header).
    ///
    /// ```
    /// fn on_request(request: &wasmgate_sdk::Request) -> wasmgate_sdk::Result<()> {
    ///     Ok(request.set_answer_headers(&[("x-frame-options", "DENY"), ("x-content-type-options", "nosniff")])?)
    /// }
    /// # let exchange = wasmgate_sdk::testing::Request::get("/").build();
    /// # on_request(&exchange.request()).unwrap();
    /// ```
    pub fn set_answer_headers(
        &self,
        headers: &[(impl AsRef<str>, impl AsRef<[u8]>)],
    ) -> Result<(), HostError> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        Ok(self.raw.set_answer_headers(&headers)?)
    }

    /// A header that was set so, by this plugin or one before it.
    ///
    /// ```
    /// # let exchange = wasmgate_sdk::testing::Request::get("/").build();
    /// let request = exchange.request();
    /// request.set_answer_headers(&[("x-cache", "miss")])?;
    /// assert_eq!(request.answer_header("x-cache").as_deref(), Some("miss"));
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn answer_header(&self, name: &str) -> Option<String> {
        String::from_utf8(self.raw.answer_header(name)?).ok()
    }

    /// The rest is [`Identity::announce`](crate::auth::Identity::announce)'s.
    pub(crate) fn identify(&self, identity: &Identity) -> Result<(), HostError> {
        let Identity { consumer, custom_id, credential, groups, plan, claims, anonymous } = identity;
        let groups: Vec<_> = groups.iter().map(String::as_str).collect();
        Ok(self.raw.identify(raw::Identity {
            consumer,
            custom_id: custom_id.as_deref(),
            credential: credential.as_deref(),
            groups: &groups,
            plan: plan.as_deref(),
            claims: claims.as_deref(),
            anonymous: *anonymous,
        })?)
    }

    /// Facts of the client's TLS connection; none on a plain one.
    ///
    /// ```
    /// fn certificate(request: &wasmgate_sdk::Request) -> Option<Vec<u8>> {
    ///     request.tls()?.client_certificate
    /// }
    /// ```
    pub fn tls(&self) -> Option<Tls> {
        self.raw.tls()
    }

    /// A variable of this request, shared by all plugins and phases. The shipped plugins agree on
    /// "request-id" and on what [`auth::Identity`](crate::auth::Identity) sets.
    ///
    /// ```
    /// fn is_known(request: &wasmgate_sdk::Request) -> bool {
    ///     request.var("consumer").is_some()
    /// }
    /// ```
    pub fn var(&self, name: &str) -> Option<Vec<u8>> {
        self.raw.var(name)
    }

    /// A variable as text; none where it is not UTF-8.
    ///
    /// ```
    /// fn plan(request: &wasmgate_sdk::Request) -> String {
    ///     request.var_str("plan").unwrap_or_else(|| "free".to_string())
    /// }
    /// ```
    pub fn var_str(&self, name: &str) -> Option<String> {
        self.var(name).and_then(|value| String::from_utf8(value).ok())
    }

    /// Sets a variable. Errors: `TooLarge` (name and value above 64 KiB), `Exhausted` (more than 64
    /// variables), `Immutable` in the log phase.
    ///
    /// ```
    /// fn remember(request: &wasmgate_sdk::Request) -> wasmgate_sdk::Result<()> {
    ///     Ok(request.set_var("consumer", "alice")?)
    /// }
    /// ```
    pub fn set_var(&self, name: &str, value: impl AsRef<[u8]>) -> Result<(), HostError> {
        Ok(self.raw.set_var(name, value.as_ref())?)
    }
}

/// Decodes a name or a value of application/x-www-form-urlencoded, as queries have them: a `%` that
/// no two hex digits follow stands for itself.
///
/// ```
/// assert_eq!(wasmgate_sdk::form_decode("a+b%20c%"), "a b c%");
/// ```
pub fn form_decode(text: &str) -> String {
    let hex = |byte: Option<&u8>| byte.and_then(|&b| char::from(b).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        decoded.push(match (first, hex(tail.first()), hex(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                rest = &tail[2..];
                (high * 16 + low) as u8
            }
            (b'+', ..) => b' ',
            (&byte, ..) => byte,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The pairs of all Cookie fields (RFC 6265, section 4.2.1).
pub(crate) fn cookies(request: &Request) -> Vec<Vec<u8>> {
    let lines = request.header_all("cookie").join(&b';');
    let pairs = lines.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    pairs.filter(|pair| !pair.is_empty()).map(<[u8]>::to_vec).collect()
}

pub(crate) fn cookie_value(cookie: &[u8], name: &str) -> Option<Vec<u8>> {
    cookie.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::form_decode;

    #[test]
    fn decodes_forms() {
        for (encoded, decoded) in [
            ("", ""),
            ("a+b", "a b"),
            ("a%2Bb%3d", "a+b="),
            ("%E2%82%AC", "€"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(form_decode(encoded), decoded, "{encoded}");
        }
    }
}
