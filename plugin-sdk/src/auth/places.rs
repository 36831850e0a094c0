//! Where a request carries a credential, and how it is taken out of it.

use serde::{Deserialize, Serialize};

use crate::{
    Error, HeaderName, Request, Result, config, form_decode,
    request::{cookie_value, cookies},
};

/// Headers, a query parameter and a cookie in which a credential may stand.
///
/// ```
/// use wasmgate_sdk::{auth::{OneOrMore, Places}, testing};
///
/// let header = OneOrMore::One("authorization".to_string());
/// let places = Places::new(header, "Bearer ".to_string(), Some("token".to_string()), None)?;
/// let exchange = testing::Request::get("/?token=a&b=c").header("authorization", "bearer d").build();
/// let request = exchange.request();
/// assert_eq!(places.values(&request), [b"d", b"a"]);
/// places.hide(&request)?;
/// assert_eq!(request.path_with_query(), "/?b=c");
/// assert!(request.header("authorization").is_none());
/// # Ok::<(), wasmgate_sdk::Error>(())
/// ```
pub struct Places {
    headers: Vec<HeaderName>,
    prefix: String,
    query: Option<String>,
    cookie: Option<String>,
}

/// One place of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    Header(String),
    Query(String),
    Cookie(String),
}

/// The name of a header or a list of names. The example is that of [`Places`].
#[config]
#[serde(untagged, expecting = "expected the name of a header or a list of names")]
pub enum OneOrMore {
    /// One.
    One(String),
    /// Any number; none looks in no header.
    More(Vec<String>),
}

impl Places {
    /// `prefix` stands before the credential in these headers, in any case; a header without it carries none. Errors name the
    /// key of the config: header, query or cookie. The example is that of the type.
    pub fn new(
        headers: OneOrMore,
        prefix: String,
        query: Option<String>,
        cookie: Option<String>,
    ) -> Result<Self> {
        let headers = headers.names()?;
        if headers.is_empty() && query.is_none() && cookie.is_none() {
            return Err(Error::msg("header: is empty, and neither query nor cookie is given"));
        }
        for (key, name) in [("query", &query), ("cookie", &cookie)] {
            if name.as_deref() == Some("") {
                return Err(Error::msg(format_args!("{key}: is empty")));
            }
        }
        if cookie.as_ref().is_some_and(|name| !is_cookie_name(name)) {
            return Err(Error::msg("cookie: is not the name of a cookie"));
        }
        Ok(Places { headers, prefix, query, cookie })
    }

    /// All that stands in any of the places and is not empty, the headers first. The example is that of the type.
    pub fn values(&self, request: &Request) -> Vec<Vec<u8>> {
        let mut found: Vec<_> = self.headers.iter().flat_map(|name| self.in_header(request, name)).collect();
        if let Some(name) = &self.query {
            found.extend(in_query(request, name));
        }
        if let Some(name) = &self.cookie {
            found.extend(in_cookies(request, name));
        }
        found.retain(|value| !value.is_empty());
        found
    }

    /// Removes the headers, the query parameter and the cookie that carry one; whatever else is there stays as it was
    /// written. The example is that of the type.
    pub fn hide(&self, request: &Request) -> Result<()> {
        for name in &self.headers {
            // Whatever stands there is one where nothing has to stand before it.
            if self.prefix.is_empty() || !self.in_header(request, name).is_empty() {
                request.remove_header(name)?;
            }
        }
        if let Some(name) = &self.query {
            hide_in_query(request, name)?;
        }
        if let Some(name) = &self.cookie {
            hide_in_cookies(request, name)?;
        }
        Ok(())
    }

    /// The places in which something stands.
    pub(super) fn carrying(&self, request: &Request) -> Vec<Place> {
        let headers = self.headers.iter().filter(|name| !self.in_header(request, name).is_empty());
        let query = self.query.iter().filter(|name| !in_query(request, name).is_empty());
        let cookie = self.cookie.iter().filter(|name| !in_cookies(request, name).is_empty());
        let headers = headers.map(|name| Place::Header(name.to_string()));
        headers.chain(query.cloned().map(Place::Query)).chain(cookie.cloned().map(Place::Cookie)).collect()
    }

    fn in_header(&self, request: &Request, name: &HeaderName) -> Vec<Vec<u8>> {
        let prefix = self.prefix.as_bytes();
        let after_prefix = |value: Vec<u8>| {
            let (front, key) = value.split_at_checked(prefix.len())?;
            // One space or more stand behind a scheme (RFC 9110, section 11.4).
            let key = if prefix.ends_with(b" ") { key.trim_ascii_start() } else { key };
            front.eq_ignore_ascii_case(prefix).then(|| key.to_vec())
        };
        request.header_all(name).into_iter().filter_map(after_prefix).collect()
    }
}

impl Place {
    pub fn remove(&self, request: &Request) -> Result<()> {
        match self {
            Place::Header(name) => _ = request.remove_header(name)?,
            Place::Query(name) => hide_in_query(request, name)?,
            Place::Cookie(name) => hide_in_cookies(request, name)?,
        }
        Ok(())
    }
}

impl OneOrMore {
    fn names(self) -> Result<Vec<HeaderName>> {
        let wrong = |key: String, error: Error| Error::msg(format_args!("{key}: {error}"));
        match self {
            OneOrMore::One(name) => {
                HeaderName::new(&name).map(|name| vec![name]).map_err(|error| wrong("header".into(), error))
            }
            OneOrMore::More(names) => {
                let checked = names.iter().enumerate().map(|(place, name)| {
                    HeaderName::new(name).map_err(|error| wrong(format!("header[{place}]"), error))
                });
                checked.collect()
            }
        }
    }
}

/// What can stand before the first `=` of a pair.
fn is_cookie_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'=' | b';' | b','))
}

fn in_query(request: &Request, name: &str) -> Vec<Vec<u8>> {
    let query = request.query().unwrap_or_default();
    query.split('&').filter_map(|pair| value_of(pair, name)).map(String::into_bytes).collect()
}

fn in_cookies(request: &Request, name: &str) -> Vec<Vec<u8>> {
    cookies(request).iter().filter_map(|cookie| cookie_value(cookie, name)).collect()
}

/// The other parameters stay as they were written.
fn hide_in_query(request: &Request, name: &str) -> Result<()> {
    let Some(query) = request.query() else { return Ok(()) };
    let rest: Vec<_> = query.split('&').filter(|pair| value_of(pair, name).is_none()).collect();
    if rest.len() < query.split('&').count() {
        let mark = if rest.is_empty() { "" } else { "?" };
        request.set_path_with_query(&format!("{}{mark}{}", request.path(), rest.join("&")))?;
    }
    Ok(())
}

fn value_of(pair: &str, name: &str) -> Option<String> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    (form_decode(key) == name).then(|| form_decode(value))
}

fn hide_in_cookies(request: &Request, name: &str) -> Result<()> {
    let cookies = cookies(request);
    let is_other = |cookie: &&Vec<u8>| cookie_value(cookie, name).is_none();
    let rest: Vec<_> = cookies.iter().filter(is_other).map(Vec::as_slice).collect();
    match rest.len() {
        0 => _ = request.remove_header("cookie")?,
        left if left < cookies.len() => request.set_header("cookie", rest.join(&b"; "[..]))?,
        _ => {}
    }
    Ok(())
}
