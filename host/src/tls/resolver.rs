//! Which certificate a client gets: that of the name it asks for, that of a wildcard, or the first one.

use std::{collections::HashMap, sync::Arc};

use rustls::{
    SignatureScheme,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::Identity;

#[derive(Debug)]
pub struct Certificates {
    /// By name. Several have the same where their keys are of different kinds.
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows the star and the dot.
    wildcards: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// The first identity, and those with the same names.
    default: Vec<Arc<CertifiedKey>>,
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

    fn of_name(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.to_ascii_lowercase();
        let wildcard = || self.wildcards.get(name.split_once('.')?.1);
        self.exact.get(&name).or_else(wildcard)
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let candidates = name.and_then(|name| self.of_name(name)).unwrap_or(&self.default);
        let able = candidates.iter().find(|candidate| candidate.key.choose_scheme(schemes).is_some());
        able.or(candidates.first()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}
