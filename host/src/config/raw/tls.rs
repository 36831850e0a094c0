//! TLS as it is written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Speaks TLS with its clients. Files are PEM, relative to this file; a change of them is noticed like one of this file,
/// and holds for new connections.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ListenerTls {
    /// At least one. Which one a client gets is decided by the name that it asks for (SNI, RFC 6066): the certificate with
    /// this name, or with a wildcard for it, or else the first one. Of several with the same names it is the first whose
    /// kind of key the client knows.
    #[schemars(length(min = 1))]
    pub certificates: Vec<Certificate>,
    /// The oldest version that is spoken: "1.2" or "1.3".
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Only who asks for a name that a certificate has gets one: for all others the handshake ends with unrecognized_name.
    #[serde(default)]
    pub strict_sni: bool,
    /// Asks clients for a certificate. Default: nobody is asked.
    pub clients: Option<ClientCertificates>,
}

/// A certificate and its key.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Certificate {
    /// The certificate, and behind it those that lead to its authority.
    #[schemars(length(min = 1), extend("examples" = ["example.crt"]))]
    pub cert: String,
    /// The private key: PKCS #8, PKCS #1 or SEC 1.
    #[schemars(length(min = 1), extend("examples" = ["example.key"]))]
    pub key: String,
}

/// What clients have to show. Plugins see it.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ClientCertificates {
    /// Certificates of those who vouch for clients.
    #[schemars(length(min = 1), extend("examples" = ["clients.pem"]))]
    pub ca: String,
    /// Certificates that are no longer good (RFC 5280, section 5). Default: none.
    #[schemars(length(min = 1))]
    pub crl: Option<String>,
    /// Whoever has none is not let in. Otherwise it is for plugins to ask for it; a bad one is refused in any case.
    #[serde(default = "yes")]
    pub required: bool,
    /// Tells the upstream in X-Forwarded-Client-Cert, in place of what the request says there: the hash of the
    /// certificate, its subject and its names.
    #[serde(default)]
    pub header: bool,
}

/// Speaks TLS with an upstream. Files are PEM, relative to this file; a change of them is noticed like one of this file.
#[derive(Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct UpstreamTls {
    /// Certificates of those who vouch for it. Default: the authorities that this system trusts.
    #[schemars(length(min = 1), extend("examples" = ["internal.pem"]))]
    pub ca: Option<String>,
    /// The name that it is asked for (SNI) and that its certificate has to have. Default: the host of the endpoint, a name
    /// or an address.
    #[schemars(length(min = 1), extend("examples" = ["users.internal"]))]
    pub name: Option<String>,
    /// What the gateway shows where it is asked for a certificate. Default: nothing.
    pub certificate: Option<Certificate>,
    /// The oldest version that is spoken: "1.2" or "1.3".
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Without it anybody is believed to be the upstream: whoever is in between reads and changes everything.
    #[serde(default = "yes")]
    pub verify: bool,
}

pub(super) fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}
