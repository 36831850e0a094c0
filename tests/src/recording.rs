//! What came of one exchange through a gateway with filters, as lines that can be compared with those of another
//! gateway: without ports, dates and what a gateway adds in its own name.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Client, Envoy, Filter, FilterListener, TestGateway, TestUpstream, client,
    filters::TIMEOUT_MS,
    message::{Fields, Request},
    transcript::{Told, transcript, unescaped},
};

/// A gateway with filters.
pub trait Filtering {
    fn address(&self, listener: &str) -> SocketAddr;

    /// What plugins have logged from a place in the log on, which moves to its end.
    fn told(&self, from: &mut usize) -> Vec<Told>;

    /// How many VMs each filter has, all of which do what it does of its own accord.
    fn vms(&self) -> usize;

    /// Its metrics in the text format of Prometheus.
    fn metrics(&self) -> String;

    /// Ends it in order, and waits for that.
    fn stop(&mut self);
}

/// What a client does.
#[derive(Clone, Debug)]
pub enum Step {
    Send(Vec<u8>),
    /// Reads responses up to one that is not interim. The method is that of the request.
    Answer(&'static str),
    /// The same where there may be no answer: it waits for a moment only.
    Silence,
    /// Waits until a filter has logged this.
    Told(&'static str),
    /// Waits until upstreams have got so many requests.
    Requests(usize),
    /// Waits for bytes, which need not be HTTP.
    Bytes(usize),
    /// Waits for the gateway's end of the connection.
    End,
    /// Ends this side's sending.
    Finish,
}

/// The beginning of lines of a log, and how many there are to be.
pub type Lines = (&'static str, usize);

/// An exchange with the filters of a listener.
#[derive(Clone, Debug)]
pub struct Case {
    pub listener: String,
    pub name: String,
    pub steps: Vec<Step>,
    /// A case is over when lines that begin with these were logged so many times, by all filters together.
    pub until: Vec<Lines>,
    /// As many requests have reached upstreams then.
    pub requests: usize,
}

/// What came of a case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// What the client got.
    pub answer: Vec<String>,
    /// What upstreams got.
    pub upstream: Vec<String>,
    /// What the filters logged.
    pub log: Vec<String>,
}

/// Recordings by the names of their cases.
pub type Recordings = BTreeMap<String, Recording>;

/// Records cases one after the other.
pub struct Recorder<'a> {
    gateway: &'a mut dyn Filtering,
    upstreams: &'a [(&'static str, &'a TestUpstream)],
    /// How far the log was read.
    read: usize,
    /// What plugins have logged that is in no recording so far.
    fresh: Vec<Told>,
    /// What they logged before their first streams.
    started: Vec<Told>,
    /// How many plugins have called an upstream when they started.
    calls: usize,
    /// Plugins that have had a stream.
    begun: BTreeSet<String>,
}

const FENCE: &str = "fence";

/// How long silence has to last: longer than an upstream's.
const SILENCE: Duration = Duration::from_millis(TIMEOUT_MS as u64 + 200);

/// How long lines and answers that never come are waited for.
const LATE: Duration = Duration::from_secs(5);

impl Filtering for Envoy {
    fn address(&self, listener: &str) -> SocketAddr {
        self.listener(listener)
    }

    fn told(&self, from: &mut usize) -> Vec<Told> {
        let told = Envoy::told(self, *from);
        *from += told.len();
        told
    }

    /// One of the worker and one of the main thread.
    fn vms(&self) -> usize {
        2
    }

    fn metrics(&self) -> String {
        self.page("/stats/prometheus")
    }

    fn stop(&mut self) {
        self.terminate();
    }
}

impl Filtering for TestGateway {
    fn address(&self, listener: &str) -> SocketAddr {
        self.listener(listener)
    }

    fn told(&self, from: &mut usize) -> Vec<Told> {
        let log = self.log_from(*from);
        // A VM that was made to see whether the filter starts at all has said the same before.
        let start = if *from == 0 { log.find("::load: loaded ") } else { Some(0) };
        let Some(start) = start else { return Vec::new() };
        *from += log.len();
        let own = log[start..].lines().filter_map(|line| {
            let (line, plugin) = line.strip_suffix('"')?.rsplit_once(" plugin=\"")?;
            let (time_and_level, line) = line.split_once(" wasmgate::wasm::host::log: ")?;
            let (_, level) = time_and_level.split_once(' ')?;
            let lines = unescaped(line);
            Some(lines.split('\n').map(|line| Told::new(level.trim(), line, plugin)).collect::<Vec<_>>())
        });
        own.flatten().collect()
    }

    fn vms(&self) -> usize {
        1
    }

    fn metrics(&self) -> String {
        TestGateway::metrics(self)
    }

    fn stop(&mut self) {
        self.terminate();
        self.wait();
        self.wait_for_end_of_log();
    }
}

impl<'a> Recorder<'a> {
    /// One of its gateway's listeners is [`fence`].
    pub fn new(
        gateway: &'a mut dyn Filtering,
        upstreams: &'a [(&'static str, &'a TestUpstream)],
    ) -> Recorder<'a> {
        let (fresh, started, begun) = (Vec::new(), Vec::new(), BTreeSet::new());
        Recorder { gateway, upstreams, read: 0, fresh, started, calls: 0, begun }
    }

    /// Runs a case on a listener with these plugins.
    pub fn record(&mut self, case: &Case, plugins: &[&str]) -> Recording {
        let address = self.gateway.address(&case.listener);
        for (_, upstream) in self.upstreams {
            upstream.take_requests();
        }
        let mut answer = Vec::new();
        let mut client = Client::connect(address);
        client.patience(LATE);
        for step in &case.steps {
            match step {
                Step::Told(line) => self.wait(plugins, (line, 1)),
                Step::Requests(count) => self.wait_for_requests(*count, LATE),
                step => act(&mut client, step, &mut answer),
            }
        }
        drop(client);
        case.until.iter().for_each(|lines| self.wait(plugins, *lines));
        self.pass_fence();
        // They are under way by now, if they come at all.
        self.wait_for_requests(case.requests, SILENCE);
        let mut told = self.take(plugins);
        // Some gateways start a filter with its first stream only.
        let begun = &mut self.begun;
        self.started.extend(told.extract_if(.., |told| {
            if ["http on_", "tcp on_"].iter().any(|stream| told.line.starts_with(stream)) {
                begun.insert(told.plugin.clone());
            }
            !begun.contains(&told.plugin)
        }));
        let log = self.transcript(told, plugins, Some(address));
        Recording { answer, upstream: self.seen(), log }
    }

    /// Lines as recordings have them: where there are several plugins, with the one that logged it.
    fn transcript(&self, told: Vec<Told>, plugins: &[&str], listener: Option<SocketAddr>) -> Vec<String> {
        let upstreams = self.upstreams.iter().map(|(name, upstream)| (upstream.address(), *name));
        let names: Vec<_> = upstreams.chain(listener.map(|address| (address, "listener"))).collect();
        let line = |told: Told| match plugins.len() {
            1 => told.line,
            _ => format!("{} @{}", told.line, told.plugin),
        };
        transcript(&told.into_iter().map(line).collect::<Vec<_>>(), &names)
    }

    /// Metrics with this in their names, without labels and buckets.
    pub fn metrics(&self, part: &str) -> Recording {
        let page = self.gateway.metrics();
        let own = page.lines().filter(|line| line.contains(part) && !line.contains("_bucket{"));
        let series = |line: &str| match (line.split_once('{'), line.rsplit_once('}')) {
            (Some((name, _)), Some((_, value))) if !line.starts_with('#') => format!("{name}{value}"),
            _ => line.to_owned(),
        };
        let mut answer: Vec<_> = own.filter(|line| !line.starts_with("# HELP")).map(series).collect();
        answer.sort();
        Recording { answer, ..Recording::default() }
    }

    /// Ends the gateway.
    pub fn stop(&mut self) {
        self.gateway.stop();
    }

    /// Waits until plugins have done what they do of their own accord. Before the first case for all of them, or their
    /// calls would count as its own.
    pub fn start(&mut self, plugins: &[&str], until: Option<Lines>) {
        if let Some(lines) = until {
            self.wait(plugins, lines);
            self.calls += usize::from(lines.0 == "root on_http_call_response");
            self.wait_for_requests(self.calls * self.gateway.vms(), LATE);
        }
        self.pass_fence();
        let told = self.take(plugins);
        self.started.extend(told);
    }

    /// What was logged by plugins before their first streams.
    pub fn started(&mut self, plugins: &[&str]) -> Recording {
        let own = self.started.extract_if(.., |told| plugins.contains(&told.plugin.as_str())).collect();
        self.roots(own, plugins)
    }

    /// What was logged by plugins after their last case.
    pub fn rest(&mut self, plugins: &[&str]) -> Recording {
        let rest = self.take(plugins);
        self.roots(rest, plugins)
    }

    /// What root contexts have logged, which begin and end in any order.
    fn roots(&self, mut told: Vec<Told>, plugins: &[&str]) -> Recording {
        told.sort_by(|one, other| one.plugin.cmp(&other.plugin));
        Recording { log: self.transcript(told, plugins, None), ..Recording::default() }
    }

    /// What upstreams got.
    fn seen(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (name, upstream) in self.upstreams {
            let mut requests: Vec<_> =
                upstream.take_requests().iter().map(|request| lines_of(name, request)).collect();
            // Calls that run at the same time come in any order.
            requests.sort();
            all.extend(requests.into_iter().flatten());
        }
        all
    }

    /// What plugins have logged that is in no recording so far.
    fn take(&mut self, plugins: &[&str]) -> Vec<Told> {
        self.fresh.extend(self.gateway.told(&mut self.read));
        self.fresh.extract_if(.., |told| plugins.contains(&told.plugin.as_str())).collect()
    }

    /// Sends a request that a filter of its own answers, and waits for the end of that stream: then whatever the one
    /// worker did before is in the log to its last line.
    fn pass_fence(&mut self) {
        let asks = "X-Do: request_headers:plain\r\n";
        client::request(self.gateway.address(FENCE), "GET", "/ok", asks);
        self.wait(&[FENCE], ("http on_delete", 1));
        self.take(&[FENCE]);
    }

    fn wait_for_requests(&self, count: usize, patience: Duration) {
        let end = Instant::now() + patience;
        let came = || self.upstreams.iter().map(|(_, upstream)| upstream.count()).sum::<usize>();
        while came() < count && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for lines of these plugins. Ones that never come are a difference, which the comparison tells better.
    fn wait(&mut self, plugins: &[&str], (start, times): Lines) {
        let end = Instant::now() + LATE;
        loop {
            self.fresh.extend(self.gateway.told(&mut self.read));
            let own = self.fresh.iter().filter(|told| plugins.contains(&told.plugin.as_str()));
            if own.filter(|told| told.line.starts_with(start)).count() >= times {
                return;
            }
            if Instant::now() >= end {
                println!("{plugins:?}: {start:?} was not logged {times} times");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The listener that each recorder needs besides those whose cases it records.
pub fn fence() -> FilterListener {
    Filter::new("locals").named(FENCE).into()
}

fn act(client: &mut Client, step: &Step, answer: &mut Vec<String>) {
    match step {
        // It may have closed already, which the answer tells.
        Step::Send(bytes) => _ = client.try_send(bytes),
        Step::Answer(method) => answer.extend(response(client, method)),
        Step::Silence => {
            client.patience(SILENCE);
            answer.extend(response(client, "GET"));
        }
        Step::Bytes(count) => answer.push(match client.reader.exactly(*count) {
            Ok(bytes) => text(&bytes),
            Err(error) => format!("no {count} bytes: {}", error.kind()),
        }),
        Step::End => answer.push(match client.reader.to_end() {
            Ok(bytes) if bytes.is_empty() => "closed".to_owned(),
            Ok(bytes) => format!("closed after {}", text(&bytes)),
            Err(error) => error.kind().to_string(),
        }),
        Step::Finish => _ = client.finish(),
        Step::Told(_) | Step::Requests(_) => {}
    }
}

fn response(client: &mut Client, method: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let (status, head) = match client.reader.response_head() {
            Ok(head) => head,
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                lines.push("no answer".to_owned());
                return lines;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                lines.push("silence".to_owned());
                return lines;
            }
            Err(error) => {
                lines.push(format!("no HTTP: {error}"));
                return lines;
            }
        };
        lines.push(status.to_string());
        lines.extend(fields(&head.fields));
        if (100..200).contains(&status) {
            continue;
        }
        match client.reader.response_body(method, status, &head) {
            Ok((body, trailers)) => {
                lines.push(format!("body {}", text(&body)));
                lines.extend(fields(&trailers).into_iter().map(|line| format!("trailer {line}")));
            }
            Err(error) => lines.push(format!("body breaks off: {}", error.kind())),
        }
        return lines;
    }
}

fn lines_of(name: &str, request: &Request) -> Vec<String> {
    let mut lines = vec![format!("{name}: {}", request.head.start)];
    lines.extend(fields(&request.head.fields));
    lines.push(format!("body {}", text(&request.body)));
    lines.extend(fields(&request.trailers).into_iter().map(|line| format!("trailer {line}")));
    lines
}

/// Fields sorted by name, those of one name in their order, without those of the gateway itself.
fn fields(fields: &Fields) -> Vec<String> {
    let mut all: Vec<_> = fields.0.iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all.retain(|(name, _)| {
        !matches!(name.as_str(), "date" | "server" | "x-request-id") && !name.starts_with("x-envoy-")
    });
    all.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

/// Bytes in a line; long ones by their length and a checksum.
fn text(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=400 => format!("\"{}\"", bytes.escape_ascii()),
        length => {
            let sum = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
                (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
            format!("{length} bytes, sum {sum:016x}")
        }
    }
}

/// As it is kept in a file.
pub fn to_json(recordings: &Recordings) -> String {
    let all: BTreeMap<_, _> = recordings
        .iter()
        .map(|(name, r)| (name, json!({ "answer": r.answer, "upstream": r.upstream, "log": r.log })))
        .collect();
    serde_json::to_string_pretty(&all).expect("text") + "\n"
}

pub fn from_json(text: &str) -> Recordings {
    let all: BTreeMap<String, Value> = serde_json::from_str(text).expect("recordings are JSON");
    let lines = |value: &Value| {
        let lines = value.as_array().into_iter().flatten();
        lines.map(|line| line.as_str().unwrap_or_default().to_owned()).collect()
    };
    let one = |value: &Value| Recording {
        answer: lines(&value["answer"]),
        upstream: lines(&value["upstream"]),
        log: lines(&value["log"]),
    };
    all.into_iter().map(|(name, value)| (name, one(&value))).collect()
}
