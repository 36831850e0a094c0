//! Where a request carries its key, and how the key is taken out of it.

use wasmgate_sdk::{Error, HeaderName, Request, Result};

pub struct Sources {
    header: Option<HeaderName>,
    prefix: String,
    query: Option<String>,
    cookie: Option<String>,
}

impl Sources {
    pub fn new(
        header: Option<HeaderName>,
        prefix: &str,
        query: Option<String>,
        cookie: Option<String>,
    ) -> Result<Self> {
        if header.is_none() && query.is_none() && cookie.is_none() {
            return Err(Error::msg("header: is empty, and neither query nor cookie is given"));
        }
        Ok(Sources { header, prefix: prefix.to_string(), query, cookie })
    }

    /// Every key of the request, in every place.
    pub fn read(&self, request: &Request) -> Vec<String> {
        let mut keys = Vec::new();
        if let Some(header) = &self.header {
            let values = request.header_all(header).into_iter();
            let values = values.filter_map(|value| String::from_utf8(value).ok());
            keys.extend(values.filter_map(|value| Some(value.strip_prefix(&self.prefix)?.to_string())));
        }
        if let Some(name) = &self.query {
            keys.extend(request.query_param(name));
        }
        if let Some(name) = &self.cookie {
            let lines = cookies(request);
            keys.extend(pairs(&lines).filter(|(key, _)| key == name).map(|(_, value)| value.to_string()));
        }
        keys.retain(|key| !key.is_empty());
        keys
    }

    /// Removes the header, the query parameter and the cookie.
    pub fn hide(&self, request: &Request) -> Result<()> {
        if let Some(header) = &self.header {
            request.remove_header(header)?;
        }
        if let Some(name) = &self.query
            && request.query_param(name).is_some()
        {
            request.set_path_with_query(&without(request, name))?;
        }
        if let Some(name) = &self.cookie {
            self.hide_cookie(request, name)?;
        }
        Ok(())
    }

    fn hide_cookie(&self, request: &Request, name: &str) -> Result<()> {
        let lines = cookies(request);
        if !pairs(&lines).any(|(key, _)| key == name) {
            return Ok(());
        }
        let rest = pairs(&lines).filter(|(key, _)| *key != name);
        let rest: Vec<_> = rest.map(|(key, value)| format!("{key}={value}")).collect();
        match rest.is_empty() {
            true => _ = request.remove_header("cookie")?,
            false => request.set_header("cookie", rest.join("; "))?,
        }
        Ok(())
    }
}

fn cookies(request: &Request) -> String {
    let lines = request.header_all("cookie");
    let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
    lines.join("; ")
}

/// Names and values of a Cookie field (RFC 6265, section 4.2.1).
fn pairs(line: &str) -> impl Iterator<Item = (&str, &str)> {
    line.split(';').filter_map(|pair| pair.trim().split_once('='))
}

/// Path and query without the parameter. The others stay as they were written.
fn without(request: &Request, name: &str) -> String {
    let query = request.query().unwrap_or_default();
    let is_key = |pair: &str| wasmgate_sdk::form_decode(pair.split('=').next().unwrap_or_default()) == name;
    let rest: Vec<_> = query.split('&').filter(|pair| !is_key(pair)).collect();
    match rest.is_empty() {
        true => request.path(),
        false => format!("{}?{}", request.path(), rest.join("&")),
    }
}
