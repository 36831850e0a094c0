//! One line per request, as JSON or text. Workers put entries into a bounded queue and never wait;
//! a thread writes them. What does not fit is dropped and counted.

use std::{
    borrow::Cow,
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    net::IpAddr,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Method, Version, uri::PathAndQuery};
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use crate::config::AccessLogFormat as Format;

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
    pub duration: Duration,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub user_agent: Option<HeaderValue>,
    pub request_id: Option<String>,
    pub consumer: Option<String>,
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
        format: Format,
        file: Option<&Path>,
        queue: usize,
        dropped: Counter,
    ) -> io::Result<(AccessLog, Writer)> {
        let sink: Box<dyn Write + Send> = match file {
            Some(path) => Box::new(OpenOptions::new().append(true).create(true).open(path)?),
            None => Box::new(io::stdout()),
        };
        let (sender, receiver) = mpsc::sync_channel(queue);
        let writer = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(&receiver, format, BufWriter::new(sink)))?;
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

fn write_all(entries: &mpsc::Receiver<Box<Entry>>, format: Format, mut sink: impl Write) {
    let mut failed = false;
    while let Ok(first) = entries.recv() {
        let burst = std::iter::once(first).chain(entries.try_iter());
        let result = burst
            .map(|entry| writeln!(sink, "{}", line(&entry, format)))
            .chain(std::iter::once_with(|| Ok(())))
            .collect::<io::Result<()>>()
            .and_then(|()| sink.flush());
        if let (Err(error), false) = (&result, failed) {
            tracing::error!("the access log cannot be written: {error}");
        }
        failed = result.is_err();
    }
}

fn line(entry: &Entry, format: Format) -> String {
    match format {
        Format::Json => json_line(entry),
        Format::Text => text_line(entry),
    }
}

/// The fields of a JSON line, in their order.
#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    client: IpAddr,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    protocol: String,
    status: u16,
    code: Option<&'a str>,
    route: &'a str,
    upstream: Option<&'a str>,
    endpoint: Option<&'a str>,
    duration_ms: f64,
    bytes_in: u64,
    bytes_out: u64,
    user_agent: Option<Cow<'a, str>>,
    request_id: Option<&'a str>,
    consumer: Option<&'a str>,
}

fn json_line(entry: &Entry) -> String {
    let line = JsonLine {
        time: timestamp(entry.time),
        client: entry.client,
        method: entry.method.as_str(),
        host: &entry.authority,
        path: entry.target.as_str(),
        protocol: format!("{:?}", entry.version),
        status: entry.status,
        code: entry.code.as_deref(),
        route: &entry.route,
        upstream: entry.upstream.as_deref(),
        endpoint: entry.endpoint.as_deref(),
        duration_ms: millis(entry.duration),
        bytes_in: entry.bytes_in,
        bytes_out: entry.bytes_out,
        user_agent: entry.user_agent.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes())),
        request_id: entry.request_id.as_deref(),
        consumer: entry.consumer.as_deref(),
    };
    // Strings and numbers only: there is nothing in it that JSON cannot hold.
    serde_json::to_string(&line).unwrap_or_default()
}

/// The combined format of Apache and nginx, then route, code, duration in milliseconds, endpoint, request id.
fn text_line(entry: &Entry) -> String {
    let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let agent = entry.user_agent.as_ref();
    let agent = agent.map_or_else(|| "-".to_owned(), |v| escaped(v.as_bytes()));
    format!(
        "{} - {} [{}] \"{} {} {:?}\" {} {} \"-\" \"{agent}\" {} {} {:.3} {} {}",
        entry.client,
        escaped(or_dash(entry.consumer.as_deref()).as_bytes()),
        timestamp(entry.time),
        entry.method,
        escaped(entry.target.as_str().as_bytes()),
        entry.version,
        entry.status,
        entry.bytes_out,
        entry.route,
        or_dash(entry.code.as_deref()),
        millis(entry.duration),
        or_dash(entry.endpoint.as_deref()),
        escaped(or_dash(entry.request_id.as_deref()).as_bytes()),
    )
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

/// RFC 3339 in UTC with milliseconds.
fn timestamp(time: SystemTime) -> String {
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
            duration: Duration::from_micros(1234),
            bytes_in: 0,
            bytes_out: 17,
            user_agent: Some(HeaderValue::from_bytes(b"a \"b\" \xff").unwrap()),
            request_id: None,
            consumer: None,
        })
    }

    #[test]
    fn lines() {
        assert_eq!(
            line(&entry(), Format::Text),
            "192.0.2.1 - - [2024-02-29T12:34:56.007Z] \"GET /x?y=1 HTTP/1.1\" 429 17 \"-\" \
             \"a \\x22b\\x22 \\xff\" all rate_limited 1.234 - -"
        );
        let json: serde_json::Value = serde_json::from_str(&line(&entry(), Format::Json)).unwrap();
        assert_eq!(json["time"], "2024-02-29T12:34:56.007Z");
        assert_eq!(json["code"], "rate_limited");
        assert_eq!(json["duration_ms"], 1.234);
        assert_eq!(json["endpoint"], serde_json::Value::Null);
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
