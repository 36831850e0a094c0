//! Consumers and their keys, as an operator sees and orders them. No answer has a secret but the one that made it.

use std::{collections::BTreeMap, time::SystemTime};

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Problem;
use crate::{
    capability::consumers::{Book, Entry, Issued, KeyFacts, Origin, Refused, Standing, State, Terms},
    config::{self, Consumer},
    telemetry::access_log::timestamp,
};

/// A consumer.
#[derive(Serialize, JsonSchema)]
pub struct ConsumerReport {
    name: String,
    /// Where it stands: "config" (or the file of consumers that the config names) or "store".
    origin: &'static str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    custom_id: Option<String>,
    groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    metadata: BTreeMap<String, String>,
}

/// What a consumer is to be. What is left out is empty.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumerOrder {
    /// What it is called elsewhere; no other consumer is called so.
    custom_id: Option<String>,
    /// Without commas.
    #[serde(default)]
    groups: Vec<String>,
    /// A plan of the config.
    plan: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

/// An API key.
#[derive(Serialize, JsonSchema)]
pub struct KeyReport {
    id: String,
    #[serde(flatten)]
    standing: StandingReport,
}

/// What is told of any credential.
#[derive(Serialize, JsonSchema)]
pub struct StandingReport {
    /// Where it stands: "config" or "store".
    origin: &'static str,
    /// None for those of the config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    /// "active", "replaced" (a key that is good for a while yet), "not_yet", "expired" or "disabled".
    state: &'static str,
}

/// How a key is to be.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyOrder {
    /// From when on it is no longer good (RFC 3339, UTC). Default: it stays good.
    expires: Option<String>,
}

/// Another end of a key, in the place of the one that it had.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndOrder {
    /// From when on it is no longer good (RFC 3339, UTC); null: it stays good.
    #[serde(deserialize_with = "Option::deserialize")]
    expires: Option<String>,
}

/// How one key takes the place of another one.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationOrder {
    /// From when on the new one is no longer good (RFC 3339, UTC). Default: it is good for as long as the old one was made for.
    expires: Option<String>,
    /// How long the old one is still good, such as "1h"; "0s" ends it at once. Default: `consumers.grace` of the config.
    grace: Option<String>,
}

/// A new key.
#[derive(Serialize, JsonSchema)]
pub struct IssuedKey {
    pub id: String,
    /// The key itself. It is not kept, and so not shown again.
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

pub fn all(book: &Book) -> Result<Vec<ConsumerReport>, Problem> {
    Ok(book.entries().map_err(unread)?.into_iter().map(ConsumerReport::from).collect())
}

pub fn one(book: &Book, name: &str) -> Result<ConsumerReport, Problem> {
    book.entry(name).map(ConsumerReport::from).map_err(unread)
}

pub async fn set(book: &Book, name: &str, order: ConsumerOrder) -> Result<ConsumerReport, Problem> {
    let ConsumerOrder { custom_id, groups, plan, metadata } = order;
    book.set(Consumer { name: name.to_owned(), custom_id, groups, plan, metadata }).await?;
    one(book, name)
}

pub fn keys(book: &Book, name: &str, now: SystemTime) -> Result<Vec<KeyReport>, Problem> {
    Ok(book.keys(name, now).map_err(unread)?.into_iter().map(KeyReport::from).collect())
}

pub async fn issue(book: &Book, name: &str, order: KeyOrder, now: SystemTime) -> Result<IssuedKey, Problem> {
    Ok(book.issue(name, end(order.expires)?, now).await?.into())
}

pub async fn rotate(
    book: &Book,
    name: &str,
    id: &str,
    order: RotationOrder,
    now: SystemTime,
) -> Result<IssuedKey, Problem> {
    let grace = order.grace.as_deref().map(config::duration).transpose();
    let grace =
        grace.map_err(|reason| Problem::new(StatusCode::BAD_REQUEST, format!("`grace`: {reason}.")))?;
    let terms = Terms { expires: end(order.expires)?, grace };
    Ok(book.rotate(name, id, terms, now).await?.into())
}

pub async fn set_end(
    book: &Book,
    name: &str,
    id: &str,
    order: EndOrder,
    now: SystemTime,
) -> Result<KeyReport, Problem> {
    Ok(book.set_end(name, id, end(order.expires)?, now).await?.into())
}

pub(super) fn end(text: Option<String>) -> Result<Option<SystemTime>, Problem> {
    let end = text.as_deref().map(humantime::parse_rfc3339).transpose();
    end.map_err(|_| {
        let detail = "`expires` is a time such as \"2027-01-01T00:00:00Z\".";
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

/// Why something is not told; who only reads has changed nothing.
pub(super) fn unread(refused: Refused) -> Problem {
    match refused {
        Refused::Unavailable(reason) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("This cannot be told: {reason}."))
        }
        refused => refused.into(),
    }
}

impl From<Entry> for ConsumerReport {
    fn from(Entry { consumer, origin }: Entry) -> Self {
        let Consumer { name, custom_id, groups, plan, metadata } = (*consumer).clone();
        ConsumerReport { name, origin: origin_word(origin), custom_id, groups, plan, metadata }
    }
}

impl From<KeyFacts> for KeyReport {
    fn from(facts: KeyFacts) -> Self {
        KeyReport { id: facts.id.as_ref().to_owned(), standing: facts.standing.into() }
    }
}

impl From<Standing> for StandingReport {
    fn from(Standing { origin, created, term, state }: Standing) -> Self {
        StandingReport {
            origin: origin_word(origin),
            created: created.map(timestamp),
            not_before: term.not_before.map(timestamp),
            expires: term.expires.map(timestamp),
            state: match state {
                State::Active => "active",
                State::Replaced => "replaced",
                State::NotYet => "not_yet",
                State::Expired => "expired",
                State::Disabled => "disabled",
            },
        }
    }
}

impl From<Issued> for IssuedKey {
    fn from(Issued { id, key, expires }: Issued) -> Self {
        IssuedKey { id: id.as_ref().to_owned(), key, expires: expires.map(timestamp) }
    }
}

fn origin_word(origin: Origin) -> &'static str {
    match origin {
        Origin::Config => "config",
        Origin::Store => "store",
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let (status, detail) = match refused {
            Refused::NoStore => (
                StatusCode::CONFLICT,
                "There is no store of consumers: the config names none in `consumers`.",
            ),
            Refused::UnknownConsumer => (StatusCode::NOT_FOUND, "There is no consumer of this name."),
            Refused::UnknownKey => (StatusCode::NOT_FOUND, "The consumer has no key of this id."),
            Refused::UnknownPlan => {
                (StatusCode::UNPROCESSABLE_ENTITY, "The config has no plan of this name.")
            }
            Refused::OfConfig => (StatusCode::CONFLICT, "This stands in the config, and is changed there."),
            Refused::TakenCustomId => (StatusCode::CONFLICT, "Another consumer has this custom_id."),
            Refused::UnknownCredential => {
                (StatusCode::NOT_FOUND, "The consumer has no credential of this kind and name.")
            }
            Refused::TakenCredential => (StatusCode::CONFLICT, "Another consumer is known by the same."),
            Refused::NoSealKeys => (
                StatusCode::CONFLICT,
                "The store takes no secrets: the config has no key to seal them with in `consumers.seal_keys`.",
            ),
            Refused::Expired => (StatusCode::CONFLICT, "The key has expired: make a new one."),
            Refused::Replaced => {
                (StatusCode::CONFLICT, "Another key has taken the place of this one already.")
            }
            Refused::Faulty(faults) => {
                return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("This cannot be: {faults}."));
            }
            Refused::Unavailable(reason) => {
                return Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("Nothing was changed: {reason}."),
                );
            }
            Refused::Unknown(reason) => {
                return Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("It is not known whether this was changed: {reason}."),
                );
            }
        };
        Problem::new(status, detail)
    }
}
