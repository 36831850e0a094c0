//! TLS of listeners and upstreams: the files are read, and what is in them fits together.

use std::fs;

use rustls::pki_types::ServerName;

use super::{Check, KeyPath, ListenerTls, raw};
use crate::tls::{Acceptor, Clients, Connector, Fault, Identity, Servers, Version, Wrong};

impl Check<'_> {
    pub(super) fn listener_tls(
        &mut self,
        path: &KeyPath,
        raw: raw::ListenerTls,
        http2: bool,
    ) -> Option<ListenerTls> {
        let mut identities = Vec::new();
        for (place, certificate) in raw.certificates.iter().enumerate() {
            identities.extend(self.identity(&path.key("certificates").index(place), certificate));
        }
        let authorities = path.key("clients");
        let header = raw.clients.as_ref().is_some_and(|clients| clients.header);
        let clients = match raw.clients {
            Some(clients) => Some(self.clients(&authorities, clients)?),
            None => None,
        };
        if identities.len() < raw.certificates.len() {
            return None;
        }
        let acceptor = Acceptor::new(&identities, raw.min_version.into(), http2, clients);
        let acceptor = acceptor.map_err(|wrong| self.wrong(path, &authorities, wrong)).ok()?;
        Some(ListenerTls { identities, acceptor, strict_sni: raw.strict_sni, header })
    }

    pub(super) fn upstream_tls(&mut self, path: &KeyPath, raw: raw::UpstreamTls) -> Option<Connector> {
        let authorities = self.read_if_any(&path.key("ca"), raw.ca.as_deref())?;
        let name = match raw.name {
            Some(name) => {
                Some(self.parsed(&path.key("name"), &name, "a host name or an IP address", |text| {
                    ServerName::try_from(text.to_owned()).map_err(|error| format!("{text:?}: {error}"))
                })?)
            }
            None => None,
        };
        let identity = match &raw.certificate {
            Some(certificate) => Some(self.identity(&path.key("certificate"), certificate)?),
            None => None,
        };
        let oldest = raw.min_version.into();
        let terms = Servers { authorities, name, identity, oldest, verified: raw.verify };
        Connector::new(terms).map_err(|wrong| self.wrong(path, path, wrong)).ok()
    }

    /// `authorities` is the table that names them.
    fn wrong(&mut self, path: &KeyPath, authorities: &KeyPath, wrong: Wrong) {
        match wrong {
            Wrong::Authorities(text) => self.fault(&authorities.key("ca"), text),
            Wrong::Revoked(text) => self.fault(&authorities.key("crl"), text),
            Wrong::Other(text) => self.fault(path, text),
        }
    }

    pub(super) fn identity(&mut self, path: &KeyPath, raw: &raw::Certificate) -> Option<Identity> {
        let (cert, key) = self.identity_files(path, raw)?;
        self.identity_of(path, &cert, &key)
    }

    /// What the two files hold.
    pub(super) fn identity_files(
        &mut self,
        path: &KeyPath,
        raw: &raw::Certificate,
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let cert = self.read(&path.key("cert"), &raw.cert);
        let key = self.read(&path.key("key"), &raw.key);
        cert.zip(key)
    }

    pub(super) fn identity_of(&mut self, path: &KeyPath, cert: &[u8], key: &[u8]) -> Option<Identity> {
        match Identity::read(cert, key) {
            Ok(identity) => return Some(identity),
            Err(Fault::Certificate(text)) => self.fault(&path.key("cert"), text),
            Err(Fault::Key(text)) => self.fault(&path.key("key"), text),
        }
        None
    }

    fn clients(&mut self, path: &KeyPath, raw: raw::ClientCertificates) -> Option<Clients> {
        let authorities = self.read(&path.key("ca"), &raw.ca);
        let revoked = self.read_if_any(&path.key("crl"), raw.crl.as_deref())?;
        Some(Clients { authorities: authorities?, revoked, required: raw.required })
    }

    /// None where there is a file that cannot be read.
    pub(super) fn read_if_any(&mut self, path: &KeyPath, file: Option<&str>) -> Option<Option<Vec<u8>>> {
        match file {
            Some(file) => self.read(path, file).map(Some),
            None => Some(None),
        }
    }

    /// A change of the file is a change of the config.
    pub(super) fn read(&mut self, path: &KeyPath, file: &str) -> Option<Vec<u8>> {
        let file = self.file_path(file);
        self.read_files.note(file.clone());
        match fs::read(&file) {
            Ok(content) => Some(content),
            Err(error) => {
                self.fault(path, format!("{} cannot be read: {error}", file.display()));
                None
            }
        }
    }
}

impl From<raw::TlsVersion> for Version {
    fn from(version: raw::TlsVersion) -> Version {
        match version {
            raw::TlsVersion::Tls12 => Version::Tls12,
            raw::TlsVersion::Tls13 => Version::Tls13,
        }
    }
}
