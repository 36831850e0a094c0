//! Credentials of consumers that are no API keys, as an operator sees and orders them. No answer has a secret but the one that
//! made it.

use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    answer::Problem,
    consumers::{StandingReport, end, unread},
};
use crate::{
    capability::{
        consumers::{Book, CredentialFacts, Offer, Refused},
        passwords::Passwords,
        random,
    },
    config::{CertificateName, CredentialKind, Proof, hash_fault, hmac_secret, name_fault, username_fault},
    telemetry::access_log::timestamp,
};

/// A credential that is no API key.
#[derive(Serialize, JsonSchema)]
pub struct CredentialReport {
    /// "password", "hmac" or "certificate".
    kind: &'static str,
    /// The user's name; what signatures name the secret by; or what certificates have to be, such as "san_dns:a.test".
    id: String,
    #[serde(flatten)]
    standing: StandingReport,
}

/// What a consumer is to be known by, in the place of its credential of the same kind and name, if there is one. `expires`: from
/// when on it is no longer good (RFC 3339, UTC); default: it stays good.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum CredentialOrder {
    /// Exactly one of `password`, of which only an Argon2id hash is kept, and `hash` (bcrypt, Argon2, {SHA} or $apr1$).
    Password { username: String, password: Option<String>, hash: Option<String>, expires: Option<String> },
    /// A secret that signs: a text, or "base64:" and its bytes, at least 16. Default: the gateway makes one, and shows it this
    /// once.
    Hmac { id: String, secret: Option<String>, expires: Option<String> },
    /// Exactly one of what certificates have to be or to have.
    Certificate {
        fingerprint: Option<String>,
        san_uri: Option<String>,
        san_dns: Option<String>,
        san_email: Option<String>,
        subject_cn: Option<String>,
        subject: Option<String>,
        expires: Option<String>,
    },
}

/// A credential that was set.
#[derive(Serialize, JsonSchema)]
pub struct SetCredential {
    kind: &'static str,
    id: String,
    /// The secret that the gateway has made: "base64:" and its bytes. It is not shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

impl SetCredential {
    /// As it stands in a path.
    pub fn name(&self) -> String {
        format!("{}/{}", self.kind, self.id)
    }
}

pub fn all(book: &Book, name: &str, now: SystemTime) -> Result<Vec<CredentialReport>, Problem> {
    Ok(book.credentials(name, now).map_err(unread)?.into_iter().map(CredentialReport::from).collect())
}

pub async fn set(
    book: &Book,
    passwords: &Passwords,
    name: &str,
    order: CredentialOrder,
    now: SystemTime,
) -> Result<SetCredential, Problem> {
    let (id, proof, made, expires) = match order {
        CredentialOrder::Password { username, password, hash, expires } => {
            check("username", username_fault(&username))?;
            let hash = hashed(passwords, password, hash).await?;
            (username, Proof::Password(hash.into()), None, expires)
        }
        CredentialOrder::Hmac { id, secret, expires } => {
            check("id", name_fault(&id))?;
            let made = secret.is_none().then(new_secret);
            let text = secret.or_else(|| made.clone()).unwrap_or_default();
            let secret = hmac_secret(&text).map_err(|fault| faulty(format!("secret {fault}")))?;
            (id, Proof::Hmac(secret), made, expires)
        }
        CredentialOrder::Certificate {
            fingerprint,
            san_uri,
            san_dns,
            san_email,
            subject_cn,
            subject,
            expires,
        } => {
            let names = [fingerprint, san_uri, san_dns, san_email, subject_cn, subject];
            (certificate(names)?, Proof::Certificate, None, expires)
        }
    };
    let (kind, expires) = (proof.kind().word(), end(expires)?);
    let set = SetCredential { kind, id: id.clone(), secret: made, expires: expires.map(timestamp) };
    book.set_credential(name, Offer { id, proof, expires }, now).await?;
    Ok(set)
}

/// `kind` is as it stands in the path.
pub async fn revoke(book: &Book, name: &str, kind: &str, id: &str) -> Result<(), Refused> {
    let kind = CredentialKind::named(kind).ok_or(Refused::UnknownCredential)?;
    book.revoke_credential(name, kind, id).await
}

async fn hashed(
    passwords: &Passwords,
    password: Option<String>,
    hash: Option<String>,
) -> Result<String, Problem> {
    match (password, hash) {
        (None, Some(hash)) => {
            check("hash", hash_fault(&hash))?;
            Ok(hash)
        }
        (Some(password), None) if password.is_empty() || password.len() > 4096 => {
            Err(faulty("password has from 1 to 4096 bytes".to_owned()).into())
        }
        (Some(password), None) => passwords.hash(password.into()).await.ok_or_else(|| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Too many passwords are being checked: try again.")
        }),
        _ => Err(faulty("exactly one of password and hash is to be given".to_owned()).into()),
    }
}

fn certificate(names: [Option<String>; 6]) -> Result<String, Refused> {
    let given = CertificateName::ALL.into_iter().zip(names);
    let given: Vec<_> = given.filter_map(|(name, text)| Some((name, text?))).collect();
    let [(name, text)] = &given[..] else {
        let words = CertificateName::ALL.map(CertificateName::word);
        return Err(faulty(format!("exactly one of {} is to be given", words.join(", "))));
    };
    name.id(text).map_err(|fault| faulty(format!("{} {fault}", name.word())))
}

fn new_secret() -> String {
    let mut secret = [0; 32];
    random::fill(&mut secret);
    format!("base64:{}", STANDARD.encode(secret))
}

fn check(key: &str, fault: Option<&'static str>) -> Result<(), Refused> {
    fault.map_or(Ok(()), |fault| Err(faulty(format!("{key} {fault}"))))
}

fn faulty(fault: String) -> Refused {
    Refused::Faulty(fault)
}

impl From<CredentialFacts> for CredentialReport {
    fn from(facts: CredentialFacts) -> Self {
        CredentialReport {
            kind: facts.kind.word(),
            id: facts.id.as_ref().to_owned(),
            standing: facts.standing.into(),
        }
    }
}
