//! What a `${...}` can name, and how it is read from the exchange.

use wasmgate_sdk::{Error, Result, clock};

use crate::message::Message;

pub enum Source {
    /// Of the message that is changed.
    Header(String),
    RequestHeader(String),
    Query(String),
    PathParam(String),
    Var(String),
    ClientIp,
    Method,
    Path,
    Host,
    Scheme,
    Route,
    Status,
    Now,
}

type Named = fn(String) -> Source;

/// Sources that take a name.
const NAMED: [(&str, Named); 5] = [
    ("header.", Source::Header),
    ("request.header.", Source::RequestHeader),
    ("query.", Source::Query),
    ("path.", Source::PathParam),
    ("var.", Source::Var),
];

impl Source {
    pub fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "client.ip" => Source::ClientIp,
            "request.method" => Source::Method,
            "request.path" => Source::Path,
            "request.host" => Source::Host,
            "request.scheme" => Source::Scheme,
            "route" => Source::Route,
            "status" => Source::Status,
            "now" => Source::Now,
            _ => return Source::named(text),
        })
    }

    fn named(text: &str) -> Result<Self> {
        let found = NAMED.iter().find_map(|(prefix, make)| Some((text.strip_prefix(prefix)?, make)));
        match found {
            Some((name, make)) if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(make(name.to_string()))
            }
            Some((name, _)) => Err(Error::msg(format_args!("`${{{text}}}`: {name:?} is not a name"))),
            None => Err(Error::msg(format_args!(
                "`${{{text}}}` is not known, expected header.NAME, request.header.NAME, query.NAME, \
                 path.NAME, var.NAME, client.ip, request.method, request.path, request.host, \
                 request.scheme, route, status or now"
            ))),
        }
    }

    #[inline(always)]
    pub fn read(&self, message: &Message) -> Option<Vec<u8>> {
        match self {
            Source::Header(name) => message.header(name),
            Source::RequestHeader(name) => message.request.header(name),
            Source::Var(name) => message.request.var(name),
            _ => self.text(message).map(String::into_bytes),
        }
    }

    /// Apart, so that reading a header stays a short way.
    #[inline(never)]
    fn text(&self, message: &Message) -> Option<String> {
        let request = message.request;
        Some(match self {
            Source::Header(_) | Source::RequestHeader(_) | Source::Var(_) => return None,
            Source::Query(name) => request.query_param(name)?,
            Source::PathParam(name) => request.path_param(name)?,
            Source::ClientIp => request.client().ip,
            Source::Method => request.method(),
            Source::Path => request.path(),
            Source::Host => request.authority(),
            Source::Scheme => request.scheme(),
            Source::Route => request.route(),
            Source::Status => message.response?.status().to_string(),
            Source::Now => clock::now().as_secs().to_string(),
        })
    }
}
