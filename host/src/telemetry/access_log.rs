//! One line per request, as JSON or text.

use std::{
    borrow::Cow,
    io,
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Method, Version, uri::PathAndQuery};
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;

use super::{
    sink::{Form, Sink, Writer},
    trace::TraceId,
};
use crate::config::{Field, LineFormat, Piece};

/// What one line tells.
pub struct Entry {
    pub time: SystemTime,
    pub client: IpAddr,
    pub method: Method,
    pub authority: String,
    pub target: PathAndQuery,
    pub version: Version,
    pub status: u16,
    pub code: Option<Cow<'static, str>>,
    pub route: Arc<str>,
    pub upstream: Option<Arc<str>>,
    pub endpoint: Option<Arc<str>>,
    pub attempts: u32,
    pub duration: Duration,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub user_agent: Option<HeaderValue>,
    pub referer: Option<HeaderValue>,
    pub request_id: Option<String>,
    pub consumer: Option<String>,
    pub trace: Option<TraceId>,
}

#[derive(Clone)]
pub struct AccessLog(Sink<Entry>);

impl AccessLog {
    /// Opens the file (standard output where there is none) and starts the writer.
    pub fn start(
        format: LineFormat,
        file: Option<&Path>,
        queue: usize,
        dropped: Counter,
    ) -> io::Result<(AccessLog, Writer)> {
        let line = move |entry: &Entry| line(entry, &format);
        let form = Form { name: "access log", line: Box::new(line), gap: None };
        let (sink, writer) = Sink::start(form, file, queue, dropped)?;
        Ok((AccessLog(sink), writer))
    }

    pub fn write(&self, entry: Box<Entry>) {
        self.0.write(entry);
    }
}

fn line(entry: &Entry, format: &LineFormat) -> String {
    match format {
        LineFormat::Json(fields) => json_line(entry, fields),
        LineFormat::Combined => combined_line(entry),
        LineFormat::Template(pieces) => template_line(entry, pieces),
    }
}

fn value(entry: &Entry, field: Field) -> Value {
    match field {
        Field::Time => timestamp(entry.time).into(),
        Field::Client => entry.client.to_string().into(),
        Field::Method => entry.method.as_str().into(),
        Field::Host => entry.authority.as_str().into(),
        Field::Path => entry.target.as_str().into(),
        Field::Protocol => format!("{:?}", entry.version).into(),
        Field::Status => entry.status.into(),
        Field::Code => entry.code.as_deref().into(),
        Field::Route => (*entry.route).into(),
        Field::Upstream => entry.upstream.as_deref().into(),
        Field::Endpoint => entry.endpoint.as_deref().into(),
        Field::Attempts => entry.attempts.into(),
        Field::DurationMs => millis(entry.duration).into(),
        Field::BytesIn => entry.bytes_in.into(),
        Field::BytesOut => entry.bytes_out.into(),
        Field::UserAgent => readable(&entry.user_agent).into(),
        Field::Referer => readable(&entry.referer).into(),
        Field::RequestId => entry.request_id.as_deref().into(),
        Field::Consumer => entry.consumer.as_deref().into(),
        Field::TraceId => entry.trace.map(|trace| trace.to_string()).into(),
    }
}

fn readable(value: &Option<HeaderValue>) -> Option<Cow<'_, str>> {
    value.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// Written by hand, because a map of `serde_json` sorts its keys.
fn json_line(entry: &Entry, fields: &[Field]) -> String {
    let fields = fields.iter().map(|field| format!("\"{}\":{}", field.name(), value(entry, *field)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn template_line(entry: &Entry, pieces: &[Piece]) -> String {
    let text = |piece: &Piece| match piece {
        Piece::Literal(literal) => literal.clone(),
        Piece::Field(Field::UserAgent) => field_value(&entry.user_agent),
        Piece::Field(Field::Referer) => field_value(&entry.referer),
        Piece::Field(field) => match value(entry, *field) {
            Value::Null => "-".to_owned(),
            Value::String(text) => escaped(text.as_bytes()),
            number => number.to_string(),
        },
    };
    pieces.iter().map(text).collect()
}

/// The combined format of Apache and nginx, then route, code, duration in milliseconds, endpoint, request id.
fn combined_line(entry: &Entry) -> String {
    let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    format!(
        "{} - {} [{}] \"{} {} {:?}\" {} {} \"{}\" \"{}\" {} {} {:.3} {} {}",
        entry.client,
        escaped(or_dash(entry.consumer.as_deref()).as_bytes()),
        clf_time(entry.time),
        entry.method,
        escaped(entry.target.as_str().as_bytes()),
        entry.version,
        entry.status,
        entry.bytes_out,
        field_value(&entry.referer),
        field_value(&entry.user_agent),
        entry.route,
        or_dash(entry.code.as_deref()),
        millis(entry.duration),
        or_dash(entry.endpoint.as_deref()),
        escaped(or_dash(entry.request_id.as_deref()).as_bytes()),
    )
}

fn field_value(value: &Option<HeaderValue>) -> String {
    value.as_ref().map_or_else(|| "-".to_owned(), |value| escaped(value.as_bytes()))
}

/// Quotes, backslashes and bytes that are not printable ASCII as \xNN, so that a client cannot forge a line.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => text.push_str(&format!("\\x{byte:02x}")),
            _ => text.push(char::from(byte)),
        }
    }
    text
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// As Apache and nginx write it, in UTC: `21/Nov/2026:23:36:02 +0000`.
fn clf_time(time: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // Always YYYY-MM-DDThh:mm:ssZ.
    let text = humantime::format_rfc3339_seconds(time).to_string();
    let month = text[5..7].parse().map_or(0, |month: usize| month - 1);
    format!("{}/{}/{}:{} +0000", &text[8..10], MONTHS[month], &text[..4], &text[11..19])
}

/// RFC 3339 in UTC with milliseconds.
pub fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Box<Entry> {
        Box::new(Entry {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_709_210_096_007),
            client: "192.0.2.1".parse().unwrap(),
            method: Method::GET,
            authority: "a.test".to_owned(),
            target: "/x?y=1".parse().unwrap(),
            version: Version::HTTP_11,
            status: 429,
            code: Some("rate_limited".into()),
            route: "all".into(),
            upstream: None,
            endpoint: None,
            attempts: 2,
            duration: Duration::from_micros(1234),
            bytes_in: 0,
            bytes_out: 17,
            user_agent: Some(HeaderValue::from_bytes(b"a \"b\" \xff").unwrap()),
            referer: Some(HeaderValue::from_static("http://b.test/\"")),
            request_id: None,
            consumer: None,
            trace: None,
        })
    }

    #[test]
    fn lines() {
        assert_eq!(
            line(&entry(), &LineFormat::Combined),
            "192.0.2.1 - - [29/Feb/2024:12:34:56 +0000] \"GET /x?y=1 HTTP/1.1\" 429 17 \"http://b.test/\\x22\" \
             \"a \\x22b\\x22 \\xff\" all rate_limited 1.234 - -"
        );
        let json: serde_json::Value =
            serde_json::from_str(&line(&entry(), &LineFormat::Json(Field::ALL.to_vec()))).unwrap();
        assert_eq!(json["time"], "2024-02-29T12:34:56.007Z");
        assert_eq!(json["code"], "rate_limited");
        assert_eq!(json["duration_ms"], 1.234);
        assert_eq!(json["referer"], "http://b.test/\"");
        assert_eq!(json["endpoint"], Value::Null);
        assert_eq!(json["attempts"], 2);
        let chosen = LineFormat::Json(vec![Field::Status, Field::Path, Field::Client]);
        assert_eq!(line(&entry(), &chosen), r#"{"status":429,"path":"/x?y=1","client":"192.0.2.1"}"#);
        let pieces =
            [Piece::Field(Field::Status), Piece::Literal(" ".into()), Piece::Field(Field::UserAgent)];
        let mut template = pieces.to_vec();
        template.extend([Piece::Literal(" ".into()), Piece::Field(Field::Upstream)]);
        assert_eq!(line(&entry(), &LineFormat::Template(template)), r#"429 a \x22b\x22 \xff -"#);
    }
}
