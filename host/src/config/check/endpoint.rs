//! Where upstreams run: addresses, names, sockets, and files with more of them.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
};

use serde::Deserialize;

use super::{Check, KeyPath, Section, raw, socket_path, upstream::Surroundings};
use crate::config::{Endpoint, Source, Target};

/// A file of endpoints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointFile {
    endpoints: Vec<Section<raw::EndpointEntry>>,
}

impl Check<'_> {
    pub(super) fn endpoints(
        &mut self,
        path: &KeyPath,
        entries: Vec<Section<raw::EndpointEntry>>,
        around: &Surroundings,
    ) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for (i, entry) in entries.into_iter().enumerate() {
            let path = path.index(i);
            let Some(entry) = self.section(&path, entry) else { continue };
            match named_file(&entry) {
                Ok(None) => match endpoint(entry, around) {
                    Ok(endpoint) => endpoints.push(endpoint),
                    Err((key, reason)) => {
                        let place = key.map_or(path.clone(), |key| path.key(key));
                        self.parsed::<()>(&place, "", "an endpoint", |_| Err(reason));
                    }
                },
                Ok(Some(file)) => endpoints.extend(self.endpoint_file(&path.key("file"), &file, around)),
                Err(reason) if !self.has_problem_within(&path) => self.fault(&path, reason),
                Err(_) => {}
            }
        }
        let idle = endpoints.iter().all(|endpoint| endpoint.weight == Some(0));
        if idle && !self.has_problem_within(path) {
            let reason = match endpoints.is_empty() {
                true => "there is no endpoint",
                false => "every endpoint has the weight 0: none would get a request",
            };
            self.fault(path, reason);
        }
        endpoints
    }

    fn endpoint_file(&mut self, path: &KeyPath, name: &str, around: &Surroundings) -> Vec<Endpoint> {
        let file = self.file_path(name);
        self.read_files.note(file.clone());
        read_file(&file, around).unwrap_or_else(|reason| {
            self.fault(path, reason);
            Vec::new()
        })
    }
}

/// All endpoints, or what is wrong with the first one that cannot be one.
fn read_file(file: &Path, around: &Surroundings) -> Result<Vec<Endpoint>, String> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let (source, problems) = Source::parse(&text, &name, file.parent().unwrap_or(Path::new("")));
    let at = |start: usize, reason: &str| {
        let line = text[..start.min(text.len())].matches('\n').count() + 1;
        format!("{name}:{line}: {reason}")
    };
    if let Some(problem) = problems.first() {
        return Err(at(problem.span.as_ref().map_or(0, |span| span.start), &problem.message));
    }
    let parsed = EndpointFile::deserialize(source.value()).map_err(|error| at(0, &error.to_string()))?;
    let place = KeyPath::root().key("endpoints");
    let mut endpoints = Vec::new();
    for (i, entry) in parsed.endpoints.into_iter().enumerate() {
        let start = source.value_span(&place.index(i)).start;
        let entry = entry.0.map_err(|reason| at(start, &reason))?;
        if named_file(&entry).map_err(|reason| at(start, &reason))?.is_some() {
            return Err(at(start, "a file of endpoints names no further files"));
        }
        endpoints.push(endpoint(entry, around).map_err(|(_, reason)| at(start, &reason))?);
    }
    Ok(endpoints)
}

/// The file, where it is one; an error where it is not exactly one of what there is.
fn named_file(entry: &raw::EndpointEntry) -> Result<Option<String>, String> {
    let raw::EndpointEntry::Endpoint(raw) = entry else { return Ok(None) };
    let given = [&raw.address, &raw.service, &raw.file].into_iter().flatten().count();
    match given {
        1 if raw.file.is_some() && (raw.weight, raw.priority, &raw.zone) != (None, None, &None) => {
            Err("weight, priority and zone stand in the file, for each endpoint".to_owned())
        }
        1 => Ok(raw.file.clone()),
        _ => Err(format!("expected exactly one of `address`, `service` and `file`, found {given}")),
    }
}

/// Or the key that is at fault, and why.
fn endpoint(
    entry: raw::EndpointEntry,
    around: &Surroundings,
) -> Result<Endpoint, (Option<&'static str>, String)> {
    let raw = match entry {
        raw::EndpointEntry::Address(text) => {
            let target = target(&text).map_err(|reason| (None, reason))?;
            return Ok(Endpoint { target, weight: Some(1), priority: 0, local: around.zone.is_none() });
        }
        raw::EndpointEntry::Endpoint(raw) => raw,
    };
    let (target, weight) = match (&raw.address, raw.service) {
        (Some(text), _) => {
            (target(text).map_err(|reason| (Some("address"), reason))?, Some(raw.weight.unwrap_or(1)))
        }
        (None, Some(name)) if is_name(&name) => (Target::Service(name), raw.weight),
        (None, name) => {
            let name = name.unwrap_or_default();
            let reason = format!("expected a name such as \"_http._tcp.users.internal\", found {name:?}");
            return Err((Some("service"), reason));
        }
    };
    let local = around.zone.is_none() || raw.zone == around.zone;
    Ok(Endpoint { target, weight, priority: raw.priority.unwrap_or(0), local })
}

pub(super) const ENDPOINT: &str = "a host and a port such as \"127.0.0.1:9001\", or \"unix:\" and a path";

pub(super) fn target(text: &str) -> Result<Target, String> {
    let wrong = || format!("expected {ENDPOINT}, found {text:?}");
    if text.contains("://") {
        return Err(format!("expected {ENDPOINT}, without a scheme, found {text:?}"));
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return socket_path(path).map(Target::Unix);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| wrong())?;
        return Ok(Target::Address(SocketAddr::new(IpAddr::V6(address), port)));
    }
    match host.parse() {
        Ok(address) => Ok(Target::Address(SocketAddr::new(IpAddr::V4(address), port))),
        Err(_) if is_name(host) => Ok(Target::Name(host.to_owned(), port)),
        Err(_) => Err(wrong()),
    }
}

fn is_name(text: &str) -> bool {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.len() < 254 && text.chars().all(part_of_name)
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn targets() {
        for text in ["127.0.0.1:80", "[::1]:8080", "users_1.internal:65535", "unix:/run/users.sock"] {
            assert_eq!(target(text).map(|target| target.to_string()).as_deref(), Ok(text));
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
            "unix:",
            "unix:run/users.sock",
        ] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
