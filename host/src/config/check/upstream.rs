//! Upstreams and their endpoints.

use std::{collections::BTreeMap, net::Ipv6Addr};

use http::uri::Authority;

use super::{Check, KeyPath, Section, raw};
use crate::config::{Endpoint, HostHeader, KeepAlive, Timeouts, Upstream};

impl Check<'_> {
    pub(super) fn upstreams(
        &mut self,
        section: Section<BTreeMap<String, Section<raw::Upstream>>>,
    ) -> Vec<Upstream> {
        let path = KeyPath::root().key("upstream");
        let sections = self.or_default(&path, section);
        let mut upstreams = Vec::new();
        for (name, section) in sections {
            let path = path.key(&name);
            if let Some(raw) = self.section(&path, section) {
                upstreams.push(self.upstream(&path, name, raw));
            }
        }
        upstreams
    }

    fn upstream(&mut self, path: &KeyPath, name: String, raw: raw::Upstream) -> Upstream {
        let endpoints = self.endpoints(&path.key("endpoints"), raw.endpoints);
        let (timeouts, keep_alive) = (path.key("timeouts"), path.key("keep_alive"));
        let total = raw.timeouts.total;
        Upstream {
            name,
            endpoints,
            host: self
                .parsed(&path.key("host"), &raw.host, HOST, host_header)
                .unwrap_or(HostHeader::Preserve),
            timeouts: Timeouts {
                connect: self.duration(&timeouts, "connect", &raw.timeouts.connect),
                read: self.duration(&timeouts, "read", &raw.timeouts.read),
                total: total.map(|total| self.duration(&timeouts, "total", &total)),
            },
            keep_alive: KeepAlive {
                connections: raw.keep_alive.connections,
                idle: self.duration(&keep_alive, "idle", &raw.keep_alive.idle),
            },
        }
    }

    fn endpoints(&mut self, path: &KeyPath, entries: Vec<Section<raw::EndpointEntry>>) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for (i, entry) in entries.into_iter().enumerate() {
            let path = path.index(i);
            let (path, address, weight) = match self.section(&path, entry) {
                Some(raw::EndpointEntry::Address(address)) => (path, address, 1),
                Some(raw::EndpointEntry::Endpoint(raw)) => (path.key("address"), raw.address, raw.weight),
                None => continue,
            };
            if let Some((host, port)) = self.parsed(&path, &address, ENDPOINT, host_and_port) {
                endpoints.push(Endpoint { host, port, weight });
            }
        }
        let idle = endpoints.iter().all(|endpoint| endpoint.weight == 0);
        if idle && !self.has_problem_within(path) {
            self.fault(path, "every endpoint has the weight 0: none would get a request");
        }
        endpoints
    }
}

const ENDPOINT: &str = "a host and a port such as \"127.0.0.1:9001\"";
const HOST: &str = "`preserve`, `upstream` or a host name";

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    if text.contains("://") {
        return Err(format!("expected {ENDPOINT}, without a scheme, found {text:?}"));
    }
    let parsed = text.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse().ok().filter(|port| *port != 0)?;
        Some((endpoint_host(host)?, port))
    });
    parsed.ok_or_else(|| format!("expected {ENDPOINT}, found {text:?}"))
}

fn endpoint_host(text: &str) -> Option<String> {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().ok().map(|address| address.to_string());
    }
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!text.is_empty() && text.chars().all(part_of_name)).then(|| text.to_owned())
}

fn host_header(text: &str) -> Result<HostHeader, String> {
    match text {
        "preserve" => Ok(HostHeader::Preserve),
        "upstream" => Ok(HostHeader::Upstream),
        literal => match literal.parse::<Authority>() {
            Ok(_) if !literal.contains('@') => Ok(HostHeader::Literal(literal.to_owned())),
            _ => Err(format!("expected {HOST}, found {literal:?}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{HostHeader, host_and_port, host_header};

    #[test]
    fn endpoints() {
        for (text, host, port) in [
            ("127.0.0.1:80", "127.0.0.1", 80),
            ("[::1]:8080", "::1", 8080),
            ("users_1.internal:65535", "users_1.internal", 65535),
        ] {
            assert_eq!(host_and_port(text), Ok((host.to_owned(), port)));
        }
        for text in [
            "",
            ":",
            "a",
            "a:",
            ":80",
            "a:0",
            "a:65536",
            "::1:80",
            "[a]:80",
            "http://a:80",
            "a b:80",
            "u@a:80",
            "a/b:80",
        ] {
            assert!(host_and_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn host_headers() {
        assert_eq!(host_header("upstream"), Ok(HostHeader::Upstream));
        assert_eq!(host_header("a.example:80"), Ok(HostHeader::Literal("a.example:80".to_owned())));
        for text in ["", "a b", "a/b", "http://a", "u@a", "a\nb"] {
            assert!(host_header(text).is_err(), "{text}");
        }
    }
}
