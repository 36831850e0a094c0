//! TLS with upstreams.

use std::{fmt, sync::Arc};

use http::uri::Authority;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{Identity, Version, Wrong};

/// What connections to an upstream begin with. Two are the same that were made of the same.
#[derive(Clone)]
pub struct Connector {
    terms: Servers,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    either: Arc<ClientConfig>,
}

/// What an upstream has to show, and what it is shown.
#[derive(Clone, PartialEq)]
pub struct Servers {
    /// PEM: who vouches for it; without it those whom this system trusts.
    pub authorities: Option<Vec<u8>>,
    /// The name that it is asked for; otherwise that of the endpoint.
    pub name: Option<ServerName<'static>>,
    pub identity: Option<Identity>,
    pub oldest: Version,
    /// Otherwise anybody is believed to be the upstream.
    pub verified: bool,
}

impl Connector {
    pub fn new(terms: Servers) -> Result<Connector, Wrong> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&terms.oldest.and_newer())
            .map_err(|error| Wrong::Other(error.to_string()))?;
        let builder = match terms.verified {
            true => builder.with_root_certificates(roots(&terms)?),
            false => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(algorithms))),
        };
        let config = match &terms.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(
                rustls::sign::SingleCertAndKey::from(identity.certified.clone()),
            )),
            None => builder.with_no_client_auth(),
        };
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        let (http1, http2) = (offering(&[b"http/1.1"]), offering(&[b"h2"]));
        let either = offering(&[b"h2", b"http/1.1"]);
        Ok(Connector { terms, http1, http2, either })
    }

    pub fn http1(&self) -> Arc<ClientConfig> {
        self.http1.clone()
    }

    pub fn http2(&self) -> Arc<ClientConfig> {
        self.http2.clone()
    }

    /// Offers HTTP/2 and HTTP/1.1.
    pub fn either(&self) -> Arc<ClientConfig> {
        self.either.clone()
    }

    /// The name that an endpoint with this authority has to prove; none where that can be none.
    pub fn name(&self, authority: &str) -> Option<ServerName<'static>> {
        if let Some(name) = &self.terms.name {
            return Some(name.clone());
        }
        let authority: Authority = authority.parse().ok()?;
        // IPv6 addresses stand in brackets.
        let host = authority.host().trim_matches(['[', ']']);
        ServerName::try_from(host.to_owned()).ok()
    }
}

impl PartialEq for Connector {
    fn eq(&self, other: &Connector) -> bool {
        self.terms == other.terms
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("name", &self.terms.name).finish_non_exhaustive()
    }
}

fn roots(terms: &Servers) -> Result<RootCertStore, Wrong> {
    let Some(authorities) = &terms.authorities else {
        let mut roots = RootCertStore::empty();
        // Some that this system trusts may be of a kind that is no longer taken.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return match roots.is_empty() {
            true => Err(Wrong::Other("this system trusts nobody; `ca` says who is to be trusted".to_owned())),
            false => Ok(roots),
        };
    };
    super::authorities(authorities)
}

/// Believes whoever answers, as long as they have the key of what they show.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
