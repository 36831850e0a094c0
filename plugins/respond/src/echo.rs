//! The dump of a request that `echo = true` answers with. It only reads.

use std::collections::BTreeMap;

use wasmgate_sdk::{Request, Serialize, serde};

/// Headers whose values are secrets.
const SECRET: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];
/// Variables that the shipped plugins agree on.
const VARS: [&str; 3] = ["consumer", "plan", "request-id"];

/// The keys in the order in which they are written. What is absent is left out.
#[derive(Serialize)]
#[serde(crate = "serde")]
pub struct Dump {
    method: String,
    scheme: String,
    host: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    route: String,
    path_params: BTreeMap<String, String>,
    /// In the order in which the host gives them. Bytes that are not UTF-8 become U+FFFD.
    headers: Vec<(String, String)>,
    client_ip: String,
    vars: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_bytes: Option<usize>,
    /// Only where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

impl Dump {
    pub fn of(request: &Request, body: Option<Vec<u8>>, redact: bool) -> Self {
        Dump {
            method: request.method(),
            scheme: request.scheme(),
            host: request.authority(),
            path: request.path(),
            query: request.query(),
            route: request.route(),
            path_params: request.path_params().into_iter().collect(),
            headers: headers(request, redact),
            client_ip: request.client().ip,
            vars: VARS.iter().filter_map(|&name| Some((name, text(request.var(name)?)))).collect(),
            body_bytes: body.as_ref().map(Vec::len),
            body: body.and_then(|body| String::from_utf8(body).ok()),
        }
    }
}

/// Whether to wait for a body. A chunked one cannot be seen in the headers, which here hold nothing
/// of the framing.
pub fn may_have_body(request: &Request) -> bool {
    match request.header("content-length") {
        Some(length) => length != b"0",
        None => !matches!(request.method().as_str(), "GET" | "HEAD"),
    }
}

fn headers(request: &Request, redact: bool) -> Vec<(String, String)> {
    let shown = |(name, value): (String, Vec<u8>)| match redact && SECRET.contains(&name.as_str()) {
        true => (name, "[redacted]".to_string()),
        false => (name, text(value)),
    };
    request.all_headers().into_iter().map(shown).collect()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
