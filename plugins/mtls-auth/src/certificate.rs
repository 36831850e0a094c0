//! What a certificate says of who has it.

use std::fmt::Write;

use wasmgate_sdk::crypto::{self, Hash};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
    x509::{AttributeTypeAndValue, X509Name},
};

/// Attributes of subjects by their object identifiers: those of RFC 4514, section 3, and two that many have.
const ATTRIBUTES: [(&str, &str); 11] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("2.5.4.5", "serialNumber"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// Names that the gateway looks at.
const MAX_NAMES: usize = 64;

#[derive(Debug, Default)]
pub struct Certificate {
    /// SHA-256 of all of it, hex digits.
    pub fingerprint: String,
    pub uris: Vec<String>,
    /// Lower case.
    pub dns: Vec<String>,
    pub emails: Vec<String>,
    /// None where the subject has several.
    pub common_name: Option<String>,
    /// As RFC 4514 writes it.
    pub subject: String,
}

impl Certificate {
    pub fn read(der: &[u8]) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let mut certificate = Certificate {
            fingerprint: hex(&crypto::digest(Hash::Sha256, der)),
            common_name: common_name(parsed.subject()),
            subject: distinguished(parsed.subject()),
            ..Certificate::default()
        };
        for extension in parsed.extensions() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                names.general_names.iter().for_each(|name| certificate.add(name));
            }
        }
        Some(certificate)
    }

    /// As the gateway's consumers are known by them, the one that says the most first. More than the gateway looks at are cut off.
    pub fn names(&self) -> Vec<String> {
        let fingerprint = [format!("fingerprint:{}", self.fingerprint)].into_iter();
        let uris = self.uris.iter().map(|uri| format!("san_uri:{uri}"));
        let dns = self.dns.iter().map(|name| format!("san_dns:{name}"));
        let emails = self.emails.iter().map(|address| format!("san_email:{address}"));
        let common_name = self.common_name.iter().map(|name| format!("subject_cn:{name}"));
        let subject = [format!("subject:{}", self.subject)];
        let names = fingerprint.chain(subject).chain(uris).chain(dns).chain(emails).chain(common_name);
        names.take(MAX_NAMES).collect()
    }

    fn add(&mut self, name: &GeneralName) {
        match name {
            GeneralName::URI(uri) => self.uris.push((*uri).to_string()),
            GeneralName::DNSName(name) => self.dns.push(name.to_ascii_lowercase()),
            GeneralName::RFC822Name(address) => self.emails.push(email(address)),
            _ => {}
        }
    }
}

/// Domains are the same in either case (RFC 5280, section 7.5), what stands before them need not be.
pub fn email(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
        None => address.to_string(),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn common_name(subject: &X509Name) -> Option<String> {
    let mut names = subject.iter_common_name();
    let name = names.next()?.as_str().ok()?;
    names.next().is_none().then(|| name.to_string())
}

/// The last part first, with what separates parts escaped, so that no part can look like two (RFC 4514, section 2).
fn distinguished(subject: &X509Name) -> String {
    let parts: Vec<_> =
        subject.iter_rdn().map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue) -> String {
    let oid = attribute.attr_type().to_id_string();
    let name = ATTRIBUTES.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name);
    match (name, attribute.as_str()) {
        (Some(name), Ok(value)) => format!("{name}={}", escaped(value)),
        (name, _) => format!("{}=#{}", name.unwrap_or(&oid), hex(attribute.as_slice())),
    }
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, c) in value.char_indices() {
        let is_last = at + c.len_utf8() == value.len();
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', c]),
            '#' if at == 0 => text.push_str("\\#"),
            ' ' if at == 0 || is_last => text.push_str("\\ "),
            c if c.is_control() => c.to_string().bytes().for_each(|byte| _ = write!(text, "\\{byte:02X}")),
            c => text.push(c),
        }
    }
    text
}
