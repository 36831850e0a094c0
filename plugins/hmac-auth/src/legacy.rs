//! Signatures in the header Authorization, after draft-cavage-http-signatures: as it has them itself, as Kong and as APISIX
//! have them. What is signed is a list of lines.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use wasmgate_sdk::Request;

use crate::{
    date,
    signed::{Algorithm, Fault, MAX_COMPONENTS, MAX_FIELD, Message, Signed},
};

/// Which versions a request line may have been signed with: the request does not tell its own.
const VERSIONS: [&str; 3] = ["1.1", "2.0", "1.0"];

/// Parameters of Authorization.
struct Params<'a> {
    /// By `keyId` or, as Kong has it, by `username`.
    id: &'a str,
    is_key: bool,
    algorithm: Algorithm,
    names: Vec<&'a str>,
    signature: Vec<u8>,
}

/// The request's signature; none where Authorization is of another scheme.
pub fn read(message: &Message) -> Result<Option<Signed>, Fault> {
    let lines = message.request.header_all("authorization");
    let mut found = lines.iter().filter_map(|line| of_scheme(line));
    let Some(params) = found.next() else { return Ok(None) };
    if lines.len() > 1 {
        return Err("there is more than one Authorization");
    }
    if params.len() > MAX_FIELD {
        return Err("the signature is too long");
    }
    let params = std::str::from_utf8(params).map_err(|_| "Authorization is no text")?;
    signed(message, &Params::read(params)?).map(Some)
}

fn of_scheme(line: &[u8]) -> Option<&[u8]> {
    let (scheme, params) = line.split_at_checked(line.iter().position(|&byte| byte == b' ')?)?;
    let is_ours = [&b"hmac"[..], b"signature"].iter().any(|name| scheme.eq_ignore_ascii_case(name));
    is_ours.then_some(params)
}

impl<'a> Params<'a> {
    fn read(text: &'a str) -> Result<Self, Fault> {
        let all = pairs(text).ok_or("the parameters of Authorization cannot be read")?;
        let get = |name: &str| all.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        let (id, is_key) = match (get("keyId"), get("username")) {
            (Some(id), None) => (id, true),
            (None, Some(id)) => (id, false),
            _ => return Err("exactly one of keyId and username has to be there"),
        };
        let names: Vec<_> = get("headers").ok_or("headers is not there")?.split(' ').collect();
        let is_twice =
            |(place, name): (usize, &&str)| names[..place].iter().any(|n| n.eq_ignore_ascii_case(name));
        if names.len() > MAX_COMPONENTS || names.iter().enumerate().any(is_twice) {
            return Err("a header is signed twice, or too many are");
        }
        let signature = get("signature").and_then(|text| STANDARD.decode(text).ok());
        Ok(Params {
            id,
            is_key,
            algorithm: get("algorithm").and_then(Algorithm::from_name).ok_or("the algorithm is not known")?,
            names,
            signature: signature.ok_or("the signature is no Base64")?,
        })
    }
}

/// `name="value"` with commas between them, and no name but those that are known, and none twice.
fn pairs(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    let mut rest = text.trim_matches([' ', '\t']);
    loop {
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        let is_known = matches!(name, "keyId" | "username" | "algorithm" | "headers" | "signature");
        if !is_known || value.contains('\\') || found.iter().any(|(n, _)| *n == name) {
            return None;
        }
        found.push((name, value));
        rest = after.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return Some(found);
        }
        rest = rest.strip_prefix(',')?.trim_start_matches([' ', '\t']);
    }
}

fn signed(message: &Message, params: &Params) -> Result<Signed, Fault> {
    let mut covered = Vec::new();
    for name in &params.names {
        match *name {
            "request-line" | "@request-target" | "(request-target)" => {
                covered.extend(["@method", "@request-target"].map(str::to_string));
            }
            name => covered.push(name.to_ascii_lowercase()),
        }
    }
    let versions = match params.names.contains(&"request-line") {
        true => &VERSIONS[..],
        false => &VERSIONS[..1],
    };
    let texts = versions.iter().map(|version| text(message, params, version)).collect::<Option<_>>();
    Ok(Signed {
        id: params.id.to_string(),
        algorithm: params.algorithm,
        signature: params.signature.clone(),
        texts: texts.ok_or("a signed header is not there")?,
        created: created(message, &covered)?,
        covered,
        legacy: true,
        expires: None,
        nonce: None,
    })
}

/// What is signed; none where a header is not there.
fn text(message: &Message, params: &Params, version: &str) -> Option<Vec<u8>> {
    // APISIX has the id as first line, and an end of the last one.
    let apisix = params.is_key && params.names.contains(&"@request-target");
    let mut lines = Vec::new();
    if apisix {
        lines.push(params.id.as_bytes().to_vec());
    }
    let (method, target) = (message.request.method(), message.request.path_with_query());
    for name in &params.names {
        lines.push(match *name {
            "request-line" => format!("{method} {target} HTTP/{version}").into_bytes(),
            "@request-target" if apisix => format!("{method} {target}").into_bytes(),
            "@request-target" | "(request-target)" => {
                format!("{name}: {} {target}", method.to_ascii_lowercase()).into_bytes()
            }
            name => {
                let value =
                    message.component(&name.to_ascii_lowercase()).filter(|_| !name.starts_with('@'))?;
                [name.as_bytes(), b": ", &value].concat()
            }
        });
    }
    if apisix {
        lines.push(Vec::new());
    }
    Some(lines.join(&b'\n'))
}

/// The date that is signed: X-Date, which browsers can set, before Date.
fn created(message: &Message, covered: &[String]) -> Result<i64, Fault> {
    let name = ["x-date", "date"].into_iter().find(|name| covered.iter().any(|covered| covered == name));
    let lines = message.request.header_all(name.ok_or("no date is signed")?);
    let [line] = &lines[..] else { return Err("there is more than one date") };
    date::seconds(line).ok_or("the date cannot be read")
}

/// Takes the signature out of the request.
pub fn hide(request: &Request) -> wasmgate_sdk::Result<()> {
    if request.header_all("authorization").iter().any(|line| of_scheme(line).is_some()) {
        request.remove_header("authorization")?;
    }
    Ok(())
}
