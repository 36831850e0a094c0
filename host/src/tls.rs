//! TLS: certificates and the names that they are for, and what clients and upstreams have to show. It knows no sockets.

mod connector;
mod identity;
mod resolver;

use std::{fmt::Write as _, sync::Arc};

use data_encoding::HEXLOWER;
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs::{self, Ticketer},
    pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use sha2::{Digest, Sha256};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use resolver::Certificates;

pub use connector::{Connector, Servers};
pub use identity::{Fault, Identity};

/// What is spoken within TLS, the best first (RFC 7301; RFC 9113, section 3.2).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a listener's connections begin with.
#[derive(Clone, Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    /// Whose tickets are good here: those that had to show the same.
    terms: Option<Clients>,
}

/// What clients have to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// PEM: who vouches for them, and what was revoked.
    pub authorities: Vec<u8>,
    pub revoked: Option<Vec<u8>>,
    pub required: bool,
}

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Tls12,
    Tls13,
}

impl Version {
    fn and_newer(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Version::Tls12 => vec![&TLS13, &TLS12],
            Version::Tls13 => vec![&TLS13],
        }
    }
}

/// What of the terms is not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    Authorities(String),
    Revoked(String),
    /// The library cannot do it.
    Other(String),
}

impl Acceptor {
    /// The first identity is for those who ask for no name, or for one that nobody has.
    pub fn new(
        identities: &[Identity],
        oldest: Version,
        http2: bool,
        clients: Option<Clients>,
    ) -> Result<Acceptor, Wrong> {
        let other = |error: rustls::Error| Wrong::Other(error.to_string());
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&oldest.and_newer())
            .map_err(other)?;
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(verifier(clients)?),
            None => builder.with_no_client_auth(),
        };
        let certificates = Arc::new(Certificates::new(identities));
        let mut config = builder.with_cert_resolver(certificates.clone());
        config.alpn_protocols = PROTOCOLS[usize::from(!http2)..].iter().map(|name| name.to_vec()).collect();
        config.ticketer = Ticketer::new().map_err(other)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Acceptor { config: Arc::new(config), certificates, terms: clients })
    }

    /// Takes the tickets of the one before, unless clients had to show something else for them.
    pub fn following(&self, before: &Acceptor) -> Acceptor {
        if before.terms != self.terms {
            return self.clone();
        }
        let mut config = (*self.config).clone();
        config.ticketer = before.config.ticketer.clone();
        Acceptor { config: Arc::new(config), ..self.clone() }
    }

    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Whether a certificate has this name.
    pub fn knows(&self, name: Option<&str>) -> bool {
        self.certificates.know(name)
    }

    /// Whether a certificate has the host, but not the one that connections get which ask for `name`.
    pub fn misdirects(&self, name: &str, host: &str) -> bool {
        self.certificates.misdirect(name, host)
    }
}

impl PartialEq for Acceptor {
    fn eq(&self, other: &Acceptor) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

fn verifier(clients: &Clients) -> Result<Arc<dyn ClientCertVerifier>, Wrong> {
    let roots = authorities(&clients.authorities)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(revoked) = &clients.revoked {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(revoked).collect();
        let lists = lists.map_err(|error| Wrong::Revoked(error.to_string()))?;
        if lists.is_empty() {
            return Err(Wrong::Revoked("there is no revocation list in it".to_owned()));
        }
        // Of authorities without a list nothing is known.
        builder = builder.with_crls(lists).allow_unknown_revocation_status();
    }
    if !clients.required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| match clients.revoked {
        Some(_) => Wrong::Revoked(error.to_string()),
        None => Wrong::Authorities(error.to_string()),
    })
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, Wrong> {
    let wrong = |text: &dyn ToString| Wrong::Authorities(text.to_string());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(pem) {
        roots.add(authority.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    match roots.is_empty() {
        true => Err(wrong(&"there is no certificate in it")),
        false => Ok(roots),
    }
}

/// A client's certificate as X-Forwarded-Client-Cert tells it (Envoy's documentation of HTTP connection managers):
/// `Hash=HEX;Subject="NAME";URI=URI;DNS=NAME`.
pub fn client_header(certificate: &[u8]) -> String {
    let mut text = format!("Hash={}", HEXLOWER.encode(&Sha256::digest(certificate)));
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return text };
    _ = write!(text, ";Subject={}", in_quotes(&parsed.subject().to_string()));
    for name in alternative_names(&parsed) {
        match name {
            GeneralName::URI(uri) => _ = write!(text, ";URI={}", quoted(uri)),
            GeneralName::DNSName(name) => _ = write!(text, ";DNS={}", quoted(name)),
            _ => {}
        }
    }
    text
}

/// Whoever made the certificate must not be able to forge another element.
fn quoted(value: &str) -> String {
    match value.contains([',', ';', '=', '"', '\\', ' ']) {
        true => in_quotes(value),
        false => value.to_owned(),
    }
}

fn in_quotes(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn alternative_names<'a>(certificate: &'a X509Certificate<'a>) -> impl Iterator<Item = &'a GeneralName<'a>> {
    let extensions = certificate.extensions().iter();
    extensions.flat_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => &names.general_names[..],
        _ => &[],
    })
}
