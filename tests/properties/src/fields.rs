//! What belongs to one connection or is for trusted proxies to say goes, and nothing else does.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::headers::{Present, strip_claims};

const HOP_BY_HOP: &str = "connection keep-alive proxy-connection te transfer-encoding upgrade proxy-authenticate \
    proxy-authorization http2-settings";
const CLAIMS: &str = "client-cert client-cert-chain forwarded x-forwarded-client-cert x-forwarded-for x-forwarded-host \
    x-forwarded-port x-forwarded-prefix x-forwarded-proto x-forwarded-scheme x-forwarded-server x-forwarded-ssl x-real-ip";
const KEPT: &str = "host content-length authorization cookie cache-control";
const NO_TRAILERS: &str =
    "content-encoding content-range content-type expect max-forwards range set-cookie trailer via";

/// The bytes are the fields of a head. `Close` is no name for one (RFC 9110, section 7.6.1).
pub fn check(data: &[u8]) {
    let Some(map) = parse(data).filter(|map| !map.contains_key("close")) else { return };
    let mut left = map.clone();
    Present::of(&map).strip_hop_by_hop(&mut left);
    let mut lines = expected(&map, |map, name| goes(map, name) || name == "trailer");
    lines.extend(trailers(&map).filter(|_| !goes(&map, "trailer")).map(|list| ("trailer".to_owned(), list)));
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(told(&left), lines, "of {map:?}");

    let mut left = map.clone();
    strip_claims(&mut left);
    assert_eq!(told(&left), expected(&map, |_, name| is_claim(name)), "of {map:?}");
    let proofs = told(&map).iter().filter(|(name, _)| name == "authorization").count();
    assert_eq!(Present::of(&map).proves_twice, proofs > 1, "{map:?}");
    assert_eq!(Present::of(&map).claims, left.keys_len() < map.keys_len(), "{map:?}");
}

fn parse(data: &[u8]) -> Option<HeaderMap> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let block = [data, b"\r\n\r\n"].concat();
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(&block, &mut fields) else {
        return None;
    };
    let mut map = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        map.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(map)
}

/// Lines by name: those of one name keep their order.
fn told(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let mut lines: Vec<_> =
        map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    lines
}

fn expected(map: &HeaderMap, goes: impl Fn(&HeaderMap, &str) -> bool) -> Vec<(String, Vec<u8>)> {
    let mut lines = told(map);
    lines.retain(|(name, _)| !goes(map, name));
    lines
}

/// Whether it is none of the upstream's business.
fn goes(map: &HeaderMap, name: &str) -> bool {
    let named = tokens(map, "connection").iter().any(|token| token == name);
    is_in(HOP_BY_HOP, name) || named && !is_in(KEPT, name) && !is_claim(name)
}

/// What is left of the names that Trailer announces.
fn trailers(map: &HeaderMap) -> Option<Vec<u8>> {
    let lines =
        map.get_all("trailer").iter().map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
    let list = lines.collect::<Vec<_>>().join(",");
    let may_trail = |name: &&str| {
        let small = name.to_ascii_lowercase();
        let forbidden = [HOP_BY_HOP, KEPT, NO_TRAILERS].iter().any(|list| is_in(list, &small));
        HeaderName::from_bytes(name.as_bytes()).is_ok() && !forbidden && !is_claim(&small)
    };
    let names: Vec<&str> = list.split(',').map(|name| name.trim_ascii()).filter(may_trail).collect();
    (!names.is_empty()).then(|| names.join(", ").into_bytes())
}

fn is_in(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|one| one == name)
}

fn is_claim(name: &str) -> bool {
    is_in(CLAIMS, &name.replace('_', "-"))
}

/// The elements of a list, in small letters.
fn tokens(map: &HeaderMap, name: &str) -> Vec<String> {
    let lines = map.get_all(name).iter().map(|line| line.as_bytes().to_ascii_lowercase());
    let lines: Vec<Vec<u8>> = lines.collect();
    let elements = lines.iter().flat_map(|line| line.split(|byte| *byte == b','));
    elements.map(|element| String::from_utf8_lossy(element.trim_ascii()).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    proptest::proptest! {
        #[test]
        fn only_what_has_to_go_goes(
            lines in proptest::collection::vec(
                "((connection|trailer): ?((keep-alive|close|x-a|X-B|te|host|cookie|x-forwarded-for|via|x a| ) ?,? ?){0,4}|\
                  (te|upgrade|keep-alive|proxy-authorization|http2-settings): x|(x-a|x-b|via|host|cookie|range|authorization): [0-9]?|\
                  (x[-_]forwarded[-_]for|forwarded|x[-_]real-ip|client-cert|x-forwarded-x): [0-9]?|\
                  transfer-encoding: (gzip, )?chunked)",
                0..8,
            ),
        ) {
            super::check(lines.join("\r\n").as_bytes());
        }
    }
}
