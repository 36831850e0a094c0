//! One line per decision about who may pass: whose request it was, what decided and why; and one per change by the admin
//! listener. It is written apart from all else, and holds no secret.

use std::{
    borrow::Cow,
    io,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Method;
use prometheus_client::metrics::counter::Counter;
use serde::{Serialize, Serializer};

use super::{
    access_log::timestamp,
    sink::{Form, Sink, Writer},
};
use crate::config::{self, Decisions};

/// Longest of the texts that plugins and clients have a say in.
pub const MAX_TEXT: usize = 1024;

/// The workers' end of the queue.
#[derive(Clone)]
pub struct Audit {
    sink: Sink<Entry>,
    /// Whether it is also written who was let in.
    pub all: bool,
}

/// What one line tells. A field that is not known is left out.
#[derive(Serialize)]
pub struct Entry {
    #[serde(serialize_with = "time")]
    pub time: SystemTime,
    pub decision: Decision,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub client: IpAddr,
    #[serde(flatten)]
    pub about: About,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Allowed,
    Refused,
    /// A change by the admin listener, or an attempt at one.
    Admin,
}

#[derive(Serialize)]
#[serde(untagged)]
pub enum About {
    Request {
        #[serde(serialize_with = "text")]
        route: Arc<str>,
        #[serde(serialize_with = "text")]
        plugin: Arc<str>,
        #[serde(serialize_with = "text")]
        method: Method,
        /// Without the query: credentials may stand there.
        path: String,
        #[serde(flatten)]
        reason: Box<Reason>,
    },
    Change {
        action: &'static str,
        /// Names of what was to be changed, from the outermost: consumer and key.
        object: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<&'static str>,
        /// What it has become: the id of a new key.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
}

/// Why, and whose it was. No part of it is a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reason {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// A short word of a fixed set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Audit {
    /// Opens the file (standard output where there is none) and starts the writer.
    pub fn start(config: &config::Audit, lost: Counter) -> io::Result<(Audit, Writer)> {
        let form = Form { name: "audit", line: Box::new(line), gap: Some(gap) };
        let (sink, writer) = Sink::start(form, config.file.as_deref(), config.queue, lost)?;
        Ok((Audit { sink, all: config.decisions == Decisions::All }, writer))
    }

    pub fn write(&self, entry: Entry) {
        self.sink.write(Box::new(entry));
    }
}

/// The beginning of it, of so many bytes.
pub fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

fn line(entry: &Entry) -> String {
    // Texts, numbers and one level of names are always JSON.
    serde_json::to_string(entry).unwrap_or_default()
}

/// Stands where lines are missing.
fn gap(lines: u64) -> String {
    format!("{{\"time\":\"{}\",\"decision\":\"lost\",\"lines\":{lines}}}", timestamp(SystemTime::now()))
}

fn time<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    // Of times before 1970 and after 9999, which no clock has, the end is shown.
    let longest = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    serializer.collect_str(&timestamp((*time).clamp(SystemTime::UNIX_EPOCH, longest)))
}

fn text<S: Serializer>(text: &impl AsRef<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(decision: Decision, about: About) -> Entry {
        Entry {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_210_096_007),
            decision,
            request_id: None,
            client: "192.0.2.1".parse().unwrap(),
            about,
            status: Some(401),
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("aé".to_owned(), 3), "aé");
        assert_eq!(cut("aé".to_owned(), 2), "a");
    }

    #[test]
    fn lines() {
        let reason = Reason {
            consumer: Some("alice\n\"x\"".to_owned()),
            credential: None,
            why: Some("expired".into()),
            detail: None,
        };
        let about = About::Request {
            route: "api".into(),
            plugin: "key-auth".into(),
            method: Method::GET,
            path: "/a".to_owned(),
            reason: Box::new(reason),
        };
        assert_eq!(
            line(&entry(Decision::Refused, about)),
            r#"{"time":"2024-02-29T12:34:56.007Z","decision":"refused","client":"192.0.2.1","route":"api","plugin":"key-auth","method":"GET","path":"/a","consumer":"alice\n\"x\"","why":"expired","status":401}"#
        );
        let object = vec!["acme".to_owned(), "k1".to_owned()];
        let change = About::Change { action: "revoke_key", object, why: None, detail: None };
        let line = line(&Entry { request_id: Some("7".to_owned()), ..entry(Decision::Admin, change) });
        assert_eq!(
            line,
            r#"{"time":"2024-02-29T12:34:56.007Z","decision":"admin","request_id":"7","client":"192.0.2.1","action":"revoke_key","object":["acme","k1"],"status":401}"#
        );
        assert!(gap(3).ends_with(r#""decision":"lost","lines":3}"#));
    }
}
