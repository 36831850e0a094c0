//! Which certificate a client gets: that of the name it asks for, that of a wildcard, or the first one.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use rustls::{
    SignatureScheme,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::Identity;

type Keys = Vec<Arc<CertifiedKey>>;

#[derive(Debug)]
pub struct Certificates {
    /// By name. Several have the same where their keys are of different kinds.
    exact: HashMap<String, Keys>,
    /// By what follows the star and the dot.
    wildcards: HashMap<String, Keys>,
    /// The first identity, and those with the same names.
    default: Keys,
}

impl Certificates {
    pub fn new(identities: &[Identity]) -> Certificates {
        let mut all = Certificates { exact: HashMap::new(), wildcards: HashMap::new(), default: Vec::new() };
        for Identity { certified, names, .. } in identities {
            if identities.first().is_some_and(|first| first.names == *names) {
                all.default.push(certified.clone());
            }
            for name in names {
                let place = match name.strip_prefix("*.") {
                    Some(suffix) => all.wildcards.entry(suffix.to_owned()),
                    None => all.exact.entry(name.clone()),
                };
                place.or_default().push(certified.clone());
            }
        }
        all
    }

    /// Whether a certificate has this name, itself or by a wildcard.
    pub fn know(&self, name: Option<&str>) -> bool {
        name.is_some_and(|name| self.of_name(name).into_iter().any(|keys| keys.is_some()))
    }

    /// Whether certificates have this host, and none of them is what a client gets that asks for `name`. An address is never
    /// asked for by name.
    pub fn misdirect(&self, name: &str, host: &str) -> bool {
        let shown = self.shown_for(Some(name));
        let is_shown = |key| shown.iter().any(|shown| Arc::ptr_eq(shown, key));
        let mut good = self.of_name(host).into_iter().flatten().flatten().peekable();
        good.peek().is_some() && !good.any(is_shown) && host.parse::<IpAddr>().is_err()
    }

    /// Those with the name itself, and those with a wildcard for it.
    fn of_name(&self, name: &str) -> [Option<&Keys>; 2] {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let wildcards = name.split_once('.').and_then(|(_, suffix)| self.wildcards.get(suffix));
        [self.exact.get(&name), wildcards]
    }

    /// Which of them it is depends on the kinds of keys that the client knows.
    fn shown_for(&self, name: Option<&str>) -> &Keys {
        let found = name.and_then(|name| self.of_name(name).into_iter().flatten().next());
        found.unwrap_or(&self.default)
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let candidates = self.shown_for(name);
        let able = candidates.iter().find(|candidate| candidate.key.choose_scheme(schemes).is_some());
        able.or(candidates.first()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}
