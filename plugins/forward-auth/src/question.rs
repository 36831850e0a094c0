//! What the service is asked about a request.

use std::time::Duration;

use wasmgate_sdk::{
    HeaderName, Request,
    http::{Answer, Call, Keep},
};

use crate::{Config, Outcome};

/// Longest key of an answer that is kept.
const MAX_KEY: usize = 1024;

pub struct Question<'a> {
    pub config: &'a Config,
    pub request: &'a Request<'a>,
}

impl Question<'_> {
    pub fn answer(&self, body: Vec<u8>) -> Outcome {
        let call = self.call(body);
        let Some(cache) = &self.config.cache else { return call.send() };
        let Some(key) = self.key(&cache.key) else { return call.send() };
        let (fresh, stale, negative) = (*cache.ttl, Duration::ZERO, Duration::ZERO);
        let keep = Keep { fresh, stale, negative, only_success: false };
        // An instance keeps nothing, so it knows no version; errors are not worth keeping.
        match call.fetch(&key, keep, None)?.answer {
            Some(answer) if answer.status < 500 => Ok(answer),
            _ => call.send(),
        }
    }

    fn call(&self, body: Vec<u8>) -> Call {
        let (config, request) = (self.config, self.request);
        let original = request.path_with_query();
        let path = match config.append_path {
            true => format!("{}{original}", config.path.trim_end_matches('/')),
            false => config.path.clone(),
        };
        let method = config.method.clone().unwrap_or_else(|| request.method());
        let mut call = Call::new(&method, &config.upstream, &path).timeout(*config.timeout);
        call.authority.clone_from(&config.authority);
        call.max_body = u32::try_from(config.max_answer.0).unwrap_or(u32::MAX);
        call.headers = self.headers(!body.is_empty());
        call.body = body;
        let client = request.client();
        let hops = request.header_str("x-forwarded-for").map(|hops| hops + ", ").unwrap_or_default();
        // What a client says there it does not get through: these are the gateway's to say. Servers may take `_` for `-`.
        call.headers.retain(|(name, _)| !name.replace('_', "-").starts_with("x-forwarded-"));
        let peer = client.peer.rsplit_once(':').map_or(&*client.peer, |(ip, _)| ip).trim_matches(['[', ']']);
        call.header("x-forwarded-method", request.method())
            .header("x-forwarded-proto", request.scheme())
            .header("x-forwarded-host", request.authority())
            .header("x-forwarded-uri", original)
            .header("x-forwarded-for", format!("{hops}{peer}"))
    }

    fn headers(&self, has_body: bool) -> Vec<(String, Vec<u8>)> {
        let wanted = &self.config.request_headers;
        let all = wanted.iter().any(|name| name == "*");
        let is_wanted = |name: &str| {
            all || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
                || (has_body && matches!(name, "content-type" | "content-encoding"))
        };
        let is_own = |name: &str| {
            matches!(
                name,
                "host" | "content-length" | "transfer-encoding" | "connection" | "te" | "trailer" | "upgrade"
            ) || name.starts_with("proxy-")
                || name == "keep-alive"
                || (!has_body && matches!(name, "expect" | "content-type" | "content-encoding"))
        };
        let headers = self.request.all_headers().into_iter();
        headers.filter(|(name, _)| is_wanted(name) && !is_own(name)).collect()
    }

    /// None where it would be too long, or is no text: two clients must not have the same one.
    fn key(&self, names: &[HeaderName]) -> Option<String> {
        let request = self.request;
        let mut parts =
            vec![request.method(), request.scheme(), request.authority(), request.path_with_query()];
        for name in names {
            let values = request.header_all(name);
            parts.push(values.len().to_string());
            for value in values {
                parts.push(String::from_utf8(value).ok()?);
            }
        }
        let key = parts.join("\n");
        (key.len() <= MAX_KEY).then_some(key)
    }
}

/// All values of a header.
pub fn values<'a>(answer: &'a Answer, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let same = move |(found, _): &&(String, Vec<u8>)| found.eq_ignore_ascii_case(name);
    answer.headers.iter().filter(same).map(|(_, value)| &value[..])
}
