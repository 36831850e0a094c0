//! One line per request, as JSON or text. Workers put entries into a bounded queue and never wait;
//! a thread writes them. What does not fit, or cannot be written, is dropped and counted.

use std::{
    borrow::Cow,
    fs::OpenOptions,
    io::{self, Write},
    net::IpAddr,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Method, Version, uri::PathAndQuery};
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;

use super::trace::TraceId;
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

/// The workers' end of the queue.
#[derive(Clone)]
pub struct AccessLog {
    queue: mpsc::SyncSender<Box<Entry>>,
    dropped: Counter,
}

/// Waits for the last lines when it is dropped after all [`AccessLog`]s are.
pub struct Writer(Option<thread::JoinHandle<()>>);

impl AccessLog {
    /// Opens the file (standard output where there is none) and starts the writer.
    pub fn start(
        format: LineFormat,
        file: Option<&Path>,
        queue: usize,
        dropped: Counter,
    ) -> io::Result<(AccessLog, Writer)> {
        let sink: Box<dyn Write + Send> = match file {
            Some(path) => Box::new(OpenOptions::new().append(true).create(true).open(path)?),
            None => Box::new(io::stdout()),
        };
        let (sender, receiver) = mpsc::sync_channel(queue);
        let writer = thread::Builder::new().name("access-log".to_owned()).spawn({
            let dropped = dropped.clone();
            move || write_all(&receiver, &format, sink, &dropped)
        })?;
        let log = AccessLog { queue: sender, dropped };
        Ok((log, Writer(Some(writer))))
    }

    pub fn write(&self, entry: Box<Entry>) {
        if self.queue.try_send(entry).is_err() {
            self.dropped.inc();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

/// Lines that wait are written at once, up to so many.
const BURST: usize = 64;

fn write_all(
    entries: &mpsc::Receiver<Box<Entry>>,
    format: &LineFormat,
    mut sink: impl Write,
    dropped: &Counter,
) {
    let (mut failed, mut text) = (false, String::new());
    while let Ok(first) = entries.recv() {
        let mut count = 0;
        for entry in std::iter::once(first).chain(entries.try_iter()).take(BURST) {
            text.push_str(&line(&entry, format));
            text.push('\n');
            count += 1;
        }
        let result = sink.write_all(text.as_bytes()).and_then(|()| sink.flush());
        text.clear();
        if let Err(error) = &result {
            dropped.inc_by(count);
            if !failed {
                tracing::error!("the access log cannot be written: {error}");
            }
        }
        failed = result.is_err();
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

    #[test]
    fn what_cannot_be_written_is_counted() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, receiver) = mpsc::sync_channel(3 * BURST);
        (0..3 * BURST).for_each(|_| sender.send(entry()).unwrap());
        drop(sender);
        let dropped = Counter::default();
        let format = LineFormat::Json(vec![Field::Status]);
        let room = BURST * "{\"status\":429}\n".len();
        write_all(&receiver, &format, Full(room), &dropped);
        assert_eq!(dropped.get(), 2 * BURST as u64);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (sender, receiver) = mpsc::sync_channel(1);
        let log = AccessLog { queue: sender, dropped: Counter::default() };
        log.write(entry());
        log.write(entry());
        assert_eq!(log.dropped.get(), 1);
        assert!(receiver.try_recv().is_ok() && receiver.try_recv().is_err());
    }
}
