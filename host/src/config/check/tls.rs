//! TLS of listeners: the files are read, and what is in them fits together.

use std::fs;

use super::{Check, KeyPath, ListenerTls, raw};
use crate::tls::{Acceptor, Clients, Fault, Identity, Version, Wrong};

impl Check<'_> {
    pub(super) fn listener_tls(&mut self, path: &KeyPath, raw: raw::ListenerTls) -> Option<ListenerTls> {
        let mut identities = Vec::new();
        for (place, certificate) in raw.certificates.iter().enumerate() {
            identities.extend(self.identity(&path.key("certificates").index(place), certificate));
        }
        let clients_at = path.key("clients");
        let header = raw.clients.as_ref().is_some_and(|clients| clients.header);
        let clients = match raw.clients {
            Some(clients) => Some(self.clients(&clients_at, clients)?),
            None => None,
        };
        if identities.len() < raw.certificates.len() {
            return None;
        }
        let oldest = match raw.min_version {
            raw::TlsVersion::Tls12 => Version::Tls12,
            raw::TlsVersion::Tls13 => Version::Tls13,
        };
        match Acceptor::new(&identities, oldest, clients) {
            Ok(acceptor) => Some(ListenerTls { identities, acceptor, header }),
            Err(wrong) => {
                match wrong {
                    Wrong::Authorities(text) => self.fault(&clients_at.key("ca"), text),
                    Wrong::Revoked(text) => self.fault(&clients_at.key("crl"), text),
                    Wrong::Other(text) => self.fault(path, text),
                }
                None
            }
        }
    }

    fn identity(&mut self, path: &KeyPath, raw: &raw::Certificate) -> Option<Identity> {
        let cert = self.read(&path.key("cert"), &raw.cert);
        let key = self.read(&path.key("key"), &raw.key);
        match Identity::read(&cert?, &key?) {
            Ok(identity) => Some(identity),
            Err(Fault::Certificate(text)) => {
                self.fault(&path.key("cert"), text);
                None
            }
            Err(Fault::Key(text)) => {
                self.fault(&path.key("key"), text);
                None
            }
        }
    }

    fn clients(&mut self, path: &KeyPath, raw: raw::ClientCertificates) -> Option<Clients> {
        let authorities = self.read(&path.key("ca"), &raw.ca);
        let revoked = match &raw.crl {
            Some(crl) => Some(self.read(&path.key("crl"), crl)?),
            None => None,
        };
        Some(Clients { authorities: authorities?, revoked, required: raw.required })
    }

    /// A change of the file is a change of the config.
    fn read(&mut self, path: &KeyPath, file: &str) -> Option<Vec<u8>> {
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
