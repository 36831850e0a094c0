//! What consumers are known by.

use std::{fmt, sync::Arc, time::SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wasmgate_crypto::{PasswordFault, StoredPassword};

use super::consumers::{Term, name_fault};
use crate::api_key::Digest;

/// Shortest secret of signatures, in bytes.
const MIN_SECRET: usize = 16;
/// Longest name of a certificate, in bytes.
const LONGEST_CERTIFICATE: usize = 1024;

/// What a consumer is known by. Of one kind, no two have the same id.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    pub id: Arc<str>,
    pub proof: Proof,
    pub term: Term,
    pub enabled: bool,
}

/// What shows that somebody has a credential.
#[derive(Clone, PartialEq)]
pub enum Proof {
    /// An API key with this digest.
    Key(Digest),
    /// A password with this hash; the id is the user's name.
    Password(Arc<str>),
    /// Signatures with this secret; the id is what they name it by.
    Hmac(Vec<u8>),
    /// A client certificate; the id says which (see [`CertificateName`]).
    Certificate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CredentialKind {
    /// An API key.
    Key,
    /// A user's name and a password.
    Password,
    /// A secret that signs.
    Hmac,
    /// A client certificate.
    Certificate,
}

/// What of a certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName {
    Fingerprint,
    SanUri,
    SanDns,
    SanEmail,
    SubjectCn,
    Subject,
}

impl Credential {
    /// Why it is not good now.
    pub fn fault(&self, now: SystemTime) -> Option<&'static str> {
        (!self.enabled).then_some("disabled").or_else(|| self.term.fault(now))
    }
}

impl Proof {
    pub fn kind(&self) -> CredentialKind {
        match self {
            Proof::Key(_) => CredentialKind::Key,
            Proof::Password(_) => CredentialKind::Password,
            Proof::Hmac(_) => CredentialKind::Hmac,
            Proof::Certificate => CredentialKind::Certificate,
        }
    }
}

/// Leaves out what is secret.
impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(hidden)", self.kind())
    }
}

impl CredentialKind {
    /// Those that are found by a name.
    const NAMED: [Self; 3] = [Self::Password, Self::Hmac, Self::Certificate];

    /// One that is found by a name, by its word.
    pub fn named(word: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|kind| kind.word() == word)
    }

    /// What the config calls it.
    pub fn word(self) -> &'static str {
        match self {
            CredentialKind::Key => "key",
            CredentialKind::Password => "password",
            CredentialKind::Hmac => "hmac",
            CredentialKind::Certificate => "certificate",
        }
    }
}

impl CertificateName {
    pub const ALL: [Self; 6] =
        [Self::Fingerprint, Self::SanUri, Self::SanDns, Self::SanEmail, Self::SubjectCn, Self::Subject];

    pub fn word(self) -> &'static str {
        match self {
            Self::Fingerprint => "fingerprint",
            Self::SanUri => "san_uri",
            Self::SanDns => "san_dns",
            Self::SanEmail => "san_email",
            Self::SubjectCn => "subject_cn",
            Self::Subject => "subject",
        }
    }

    /// The id of a credential for certificates with this name, such as "san_dns:a.test": one for all ways to write the same name.
    pub fn id(self, name: &str) -> Result<String, &'static str> {
        if name.trim().is_empty() || name.len() > LONGEST_CERTIFICATE || name.chars().any(char::is_control) {
            return Err("is empty, longer than 1024 bytes or holds a control character");
        }
        let name = match self {
            Self::Fingerprint => fingerprint(name)?,
            Self::SanUri if name.contains('*') => return Err("names one URI: there is no `*`"),
            Self::SanDns => name.to_ascii_lowercase(),
            // Domains are the same in either case (RFC 5280, section 7.5), what stands before them need not be.
            Self::SanEmail => match name.rsplit_once('@') {
                Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
                None => return Err("is no e-mail address"),
            },
            Self::SanUri | Self::SubjectCn | Self::Subject => name.to_owned(),
        };
        Ok(format!("{}:{name}", self.word()))
    }
}

fn fingerprint(text: &str) -> Result<String, &'static str> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    match Digest::from_hex(&digits) {
        Some(digest) => Ok(digest.hex()),
        None => Err("is not a SHA-256, 64 hexadecimal digits with or without colons"),
    }
}

/// What cannot be the name of a user (RFC 7617, section 2).
pub fn username_fault(name: &str) -> Option<&'static str> {
    name_fault(name).or(name.contains(':').then_some("holds a colon, which ends a name"))
}

/// What cannot be a hash of a password. No message shows it.
pub fn hash_fault(hash: &str) -> Option<&'static str> {
    StoredPassword::read(hash).err().map(|fault| match fault {
        PasswordFault::Unsupported => "is no hash of bcrypt, Argon2, {SHA} or $apr1$",
        PasswordFault::Malformed => "is not a whole hash",
        PasswordFault::TooCostly => "costs more than 17 (bcrypt), or 1 GiB of memory or 100 passes (Argon2)",
    })
}

/// The bytes of a secret: a text, or "base64:" and Base64.
pub fn hmac_secret(text: &str) -> Result<Vec<u8>, &'static str> {
    let secret = match text.strip_prefix("base64:") {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| "has no Base64 behind `base64:`")?,
        None => text.as_bytes().to_vec(),
    };
    if secret.len() < MIN_SECRET { Err("has fewer than 16 bytes") } else { Ok(secret) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_have_one_id_however_their_names_are_written() {
        use CertificateName::*;
        let (colons, digits) = (["AB"; 32].join(":"), "ab".repeat(32));
        let uri = "spiffe://corp/ns/A";
        for (kind, name, id) in [
            (Fingerprint, colons.as_str(), Ok(format!("fingerprint:{digits}"))),
            (Fingerprint, "ab", Err("is not a SHA-256, 64 hexadecimal digits with or without colons")),
            (SanUri, uri, Ok(format!("san_uri:{uri}"))),
            (SanUri, "spiffe://corp/*", Err("names one URI: there is no `*`")),
            (SanDns, "A.Test", Ok("san_dns:a.test".to_owned())),
            (SanEmail, "Alice@Mail.Test", Ok("san_email:Alice@mail.test".to_owned())),
            (SanEmail, "alice", Err("is no e-mail address")),
            (SubjectCn, "Alice", Ok("subject_cn:Alice".to_owned())),
            (Subject, "CN=Alice,O=Acme", Ok("subject:CN=Alice,O=Acme".to_owned())),
            (Subject, " ", Err("is empty, longer than 1024 bytes or holds a control character")),
        ] {
            assert_eq!(kind.id(name), id, "{name}");
        }
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let proofs = [
            Proof::Key(Digest::of("k")),
            Proof::Password("$2b$x".into()),
            Proof::Hmac(b"0123456789abcdef".to_vec()),
            Proof::Certificate,
        ];
        let shown: Vec<_> = proofs.iter().map(|proof| format!("{proof:?}")).collect();
        assert_eq!(shown, ["Key(hidden)", "Password(hidden)", "Hmac(hidden)", "Certificate(hidden)"]);
    }

    #[test]
    fn secrets_are_texts_or_bytes() {
        assert_eq!(hmac_secret("0123456789abcdef"), Ok(b"0123456789abcdef".to_vec()));
        assert_eq!(hmac_secret("base64:AAECAwQFBgcICQoLDA0ODw=="), Ok((0..16).collect()));
        assert_eq!(hmac_secret("0123456789abcde"), Err("has fewer than 16 bytes"));
        assert_eq!(hmac_secret("base64:AAEC"), Err("has fewer than 16 bytes"));
        assert_eq!(hmac_secret("base64:=="), Err("has no Base64 behind `base64:`"));
    }
}
