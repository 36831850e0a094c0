//! Recorded requests on their way to a collector (OTLP). Workers put them into a bounded queue and
//! never wait; a thread sends them. What does not fit, or finds no collector, is counted and gone.

use std::{
    borrow::Cow,
    collections::HashMap,
    io, thread,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
    tonic_types::metadata::MetadataMap,
};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    access_log::Entry,
    metrics::Spans,
    trace::{Sampling, Span, Trace, What},
};
use crate::config::{Export, OtlpProtocol, Traces};

/// Requests that are sent at once, and how long the first of them waits for the others.
const BATCH: usize = 256;
const INTERVAL: Duration = Duration::from_secs(1);

/// Begins traces, and takes them when they have ended.
#[derive(Clone)]
pub struct Tracer {
    sampling: Sampling,
    /// None where nothing is exported: then traces are only passed on.
    queue: Option<mpsc::Sender<Finished>>,
    spans: Spans,
}

/// Waits for the last spans when it is dropped after all [`Tracer`]s are.
pub struct Exporter(Option<thread::JoinHandle<()>>);

struct Finished {
    trace: Box<Trace>,
    entry: Box<Entry>,
    ended: Instant,
}

impl Tracer {
    /// Starts the thread that exports, if anything is to be.
    pub fn start(config: &Traces, spans: Spans) -> io::Result<(Tracer, Exporter)> {
        let sampling = Sampling { ratio: config.sample, trust_parent: config.trust_parent };
        let Some(export) = &config.otlp else {
            return Ok((Tracer { sampling, queue: None, spans }, Exporter(None)));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = {
            // Connections belong to the runtime in which they are made.
            let _inside = runtime.enter();
            client(config, export).map_err(io::Error::other)?
        };
        let (queue, finished) = mpsc::channel(export.queue);
        let (told, limit) = (spans.clone(), export.timeout);
        let thread = thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || runtime.block_on(send_all(finished, client, limit, &told)))?;
        Ok((Tracer { sampling, queue: Some(queue), spans }, Exporter(Some(thread))))
    }

    /// The trace of a request that has just come.
    pub fn begin(&self, headers: &mut HeaderMap) -> Box<Trace> {
        Box::new(Trace::begin(headers, &self.sampling, self.queue.is_some(), rand::random))
    }

    /// The request has ended; `entry` is what there is to tell of it.
    pub fn finish(&self, trace: Box<Trace>, entry: Box<Entry>) {
        let Some(queue) = &self.queue else { return };
        let spans = trace.spans.len() as u64 + 1;
        if queue.try_send(Finished { trace, entry, ended: Instant::now() }).is_err() {
            self.spans.dropped.inc_by(spans);
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

fn client(config: &Traces, export: &Export) -> Result<SpanExporter, String> {
    let builder = SpanExporter::builder();
    let built = match export.protocol {
        OtlpProtocol::Http => {
            let text = |(name, value): (&HeaderName, &HeaderValue)| {
                Some((name.to_string(), value.to_str().ok()?.to_owned()))
            };
            let headers: HashMap<_, _> = export.headers.iter().filter_map(text).collect();
            builder
                .with_http()
                .with_http_client(HyperClient::with_default_connector(export.timeout, None))
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(&export.endpoint)
                .with_timeout(export.timeout)
                .with_headers(headers)
                .build()
        }
        OtlpProtocol::Grpc => builder
            .with_tonic()
            .with_endpoint(&export.endpoint)
            .with_timeout(export.timeout)
            .with_metadata(MetadataMap::from_headers(export.headers.clone()))
            .build(),
    };
    let mut client = built.map_err(|error| error.to_string())?;
    let resource = Resource::builder_empty()
        .with_service_name(config.service.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    client.set_resource(&resource.build());
    Ok(client)
}

async fn send_all(
    mut finished: mpsc::Receiver<Finished>,
    client: SpanExporter,
    limit: Duration,
    told: &Spans,
) {
    let (scope, mut batch, mut failing) = (scope(), Vec::new(), false);
    // When the last of them are given up, once no more can come.
    let mut end = None;
    while finished.recv_many(&mut batch, BATCH).await > 0 {
        let fill = async {
            loop {
                let room = BATCH - batch.len();
                if room == 0 || finished.recv_many(&mut batch, room).await == 0 {
                    break;
                }
            }
        };
        let _ = timeout(INTERVAL, fill).await;
        let spans: Vec<_> = batch.drain(..).flat_map(|finished| spans(&finished, &scope)).collect();
        let count = spans.len() as u64;
        let left = match finished.is_closed() {
            true => {
                end.get_or_insert_with(|| Instant::now() + limit).saturating_duration_since(Instant::now())
            }
            false => limit,
        };
        let sent = match timeout(left, client.export(spans)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        match &sent {
            Ok(()) => _ = told.exported.inc_by(count),
            Err(error) => {
                told.failed.inc_by(count);
                if !failing {
                    tracing::warn!("traces are not taken: {error}");
                }
            }
        }
        failing = sent.is_err();
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("wasmgate").with_version(env!("CARGO_PKG_VERSION")).build()
}

/// The request's own span, and those below it. Names of attributes are those of OpenTelemetry's semantic
/// conventions for HTTP where they have one.
fn spans(finished: &Finished, scope: &InstrumentationScope) -> Vec<SpanData> {
    let Finished { trace, entry, ended } = finished;
    let context = |span: u64| {
        let (trace, span) = (trace.id.0.into(), SpanId::from(span));
        SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
    };
    let at = |instant: Instant| trace.began_at + instant.saturating_duration_since(trace.began);
    let empty = SpanData {
        span_context: SpanContext::NONE,
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: Cow::Borrowed(""),
        start_time: trace.began_at,
        end_time: trace.began_at,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope.clone(),
    };
    let mut spans = vec![SpanData {
        span_context: context(trace.span),
        parent_span_id: trace.parent.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: trace.parent.is_some(),
        span_kind: SpanKind::Server,
        name: format!("{} {}", entry.method, entry.route).into(),
        end_time: at(*ended),
        attributes: request_attributes(entry, trace.dropped),
        status: status(entry.status >= 500, entry.code.as_deref()),
        ..empty.clone()
    }];
    spans.extend(trace.spans.iter().map(|span| SpanData {
        span_context: context(span.id),
        parent_span_id: trace.span.into(),
        span_kind: match span.what {
            What::Call { .. } => SpanKind::Internal,
            What::Attempt { .. } => SpanKind::Client,
        },
        name: match &span.what {
            What::Call { plugin, phase } => format!("{plugin} {phase}").into(),
            What::Attempt { upstream, .. } => format!("{} {upstream}", entry.method).into(),
        },
        start_time: at(span.began),
        end_time: at(span.ended),
        attributes: attributes(entry, span),
        status: status(failed(span), span.error.as_deref()),
        ..empty.clone()
    }));
    spans
}

/// To whoever asks an upstream its 4xx is an error too.
fn failed(span: &Span) -> bool {
    let refused = matches!(span.what, What::Attempt { status: Some(400..), .. });
    refused || span.error.is_some()
}

fn status(failed: bool, why: Option<&str>) -> Status {
    match failed {
        true => Status::error(why.unwrap_or_default().to_owned()),
        false => Status::Unset,
    }
}

fn request_attributes(entry: &Entry, dropped: u32) -> Vec<KeyValue> {
    let text = |key: &'static str, value: &str| KeyValue::new(key, value.to_owned());
    let mut attributes = vec![
        text("http.request.method", entry.method.as_str()),
        text("url.path", entry.target.path()),
        text("server.address", host_and_port(&entry.authority).0),
        text("client.address", &entry.client.to_string()),
        text("network.protocol.version", protocol(entry.version)),
        KeyValue::new("http.response.status_code", i64::from(entry.status)),
        text("wasmgate.route", &entry.route),
    ];
    attributes.extend(entry.code.as_deref().map(|code| text("wasmgate.code", code)));
    attributes.extend((entry.status >= 500).then(|| text("error.type", &entry.status.to_string())));
    attributes.extend(entry.consumer.as_deref().map(|consumer| text("user.id", consumer)));
    let agent = entry.user_agent.as_ref().and_then(|agent| agent.to_str().ok());
    attributes.extend(agent.map(|agent| text("user_agent.original", agent)));
    attributes.extend((dropped > 0).then(|| KeyValue::new("wasmgate.dropped_spans", i64::from(dropped))));
    attributes
}

fn attributes(entry: &Entry, span: &Span) -> Vec<KeyValue> {
    let text = |key: &'static str, value: &str| KeyValue::new(key, value.to_owned());
    match &span.what {
        What::Call { plugin, phase } => {
            vec![text("wasmgate.plugin", plugin), text("wasmgate.phase", phase)]
        }
        What::Attempt { upstream, endpoint, status } => {
            let (address, port) = host_and_port(endpoint);
            let mut attributes = vec![
                text("http.request.method", entry.method.as_str()),
                text("server.address", address),
                text("wasmgate.upstream", upstream),
            ];
            attributes.extend(port.map(|port| KeyValue::new("server.port", port)));
            let status = status.map(i64::from);
            attributes.extend(status.map(|status| KeyValue::new("http.response.status_code", status)));
            attributes
        }
    }
}

/// Of an authority; an IPv6 address without its brackets.
fn host_and_port(authority: &str) -> (&str, Option<i64>) {
    let parsed = authority.rsplit_once(':').and_then(|(host, port)| Some((host, Some(port.parse().ok()?))));
    let (host, port) = parsed.unwrap_or((authority, None));
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2",
        _ => "1.1",
    }
}
