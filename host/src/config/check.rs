//! From the file's shape to checked values. First the whole document is held against the schema, then what is well
//! formed is checked for its meaning; faults are gathered, never the first one only.
//!
//! A value that is at fault is replaced by any other of its type: the fault keeps the result from being used.

mod consumers;
mod credential;
mod endpoint;
mod networks;
mod plugin;
mod redis;
mod route;
mod tls;
mod upstream;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, uri::PathAndQuery};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::{
    AccessLog, AccessLogFormat, Address, Admin, Audit, Config, Export, Field, Files, Forwarded, KeyPath,
    Limits, LineFormat, Listener, ListenerLimits, ListenerTls, Metrics, Networks, OtlpProtocol, Overlay,
    Plugin, Problem, Problems, Reload, Rollout, RolloutTo, Secret, Server, Source, Traces, check_value, line,
    problem::nearest,
    raw::{self, DurationText, Section, SizeText},
    unit,
};
use crate::{bucket::Rate, pace::Pace, router::Table};
use consumers::Taken;
use upstream::Surroundings;

/// `problems` are those that reading the source has found. What is at fault has a default in the config.
pub fn config(
    source: Source,
    problems: Vec<Problem>,
    base: &Path,
    known: &[Networks],
) -> Result<(Config, Problems), Problems> {
    if source.value().is_null() {
        return Err(Problems::new(&source, problems).with_files(source.files()));
    }
    let mut check = Check::new(source, problems, base, known);
    let file = raw::File::deserialize(check.source.value());
    let file = Section(file.map_err(|error| error.to_string()));
    match check.section(&KeyPath::root(), file) {
        Some(file) => Ok(check.file(file)),
        None => {
            let files = check.files();
            Err(Problems::new(&check.source, check.problems).with_files(&files))
        }
    }
}

struct Check<'a> {
    source: Source,
    base: &'a Path,
    problems: Vec<Problem>,
    /// Places whose form is wrong: their meaning is not asked for.
    malformed: BTreeSet<KeyPath>,
    /// Names that may be referred to, also those of malformed sections.
    listeners: Vec<String>,
    upstreams: Vec<String>,
    plans: Vec<String>,
    plugins: Vec<Plugin>,
    /// Sets of networks that were read before.
    known: &'a [Networks],
    /// Of consumers so far.
    taken: Taken,
    /// Files that were read beside the config: endpoints, certificates, keys, consumers.
    read_files: Files,
    /// Plugins that are in the plugin directory, as far as was looked.
    present: BTreeSet<String>,
}

impl<'a> Check<'a> {
    fn new(source: Source, problems: Vec<Problem>, base: &'a Path, known: &'a [Networks]) -> Self {
        Check { known, ..Check::against(source, problems, base, &raw::schema()) }
    }

    /// Of a document with this schema.
    fn against(source: Source, mut problems: Vec<Problem>, base: &'a Path, schema: &Value) -> Self {
        let unread: BTreeSet<KeyPath> = problems.iter().map(|p| p.path.clone()).collect();
        let form = check_value(&source, &KeyPath::root(), schema);
        problems.extend(form.into_iter().filter(|p| !unread.contains(&p.path)));
        Check {
            malformed: problems.iter().map(|p| p.path.clone()).collect(),
            listeners: listener_names(&source),
            upstreams: names(&source, "upstream"),
            plans: names(&source, "plan"),
            plugins: Vec::new(),
            known: &[],
            taken: Taken::default(),
            read_files: Files::default(),
            present: BTreeSet::new(),
            source,
            base,
            problems,
        }
    }

    fn file(mut self, file: raw::File) -> (Config, Problems) {
        let root = KeyPath::root();
        let server = self.or_default(&root.key("server"), file.server);
        let zone = server.zone.clone();
        let server = self.server(server);
        let listeners = self.listeners(file.listener);
        let reload = self.or_default(&root.key("reload"), file.reload);
        let reload = self.reload(reload);
        let admin = self.admin(file.admin);
        self.distinct_addresses(&listeners, admin.as_ref());
        let listeners = listeners.into_iter().map(|(_, listener)| listener).collect();
        let log = self.or_default(&root.key("log"), file.log).level;
        let access_log = self.access_log(file.access_log);
        let audit = self.audit(file.audit, access_log.as_ref());
        let metrics = self.or_default(&root.key("metrics"), file.metrics);
        let metrics = self.metrics(metrics);
        let traces = self.traces(file.traces);
        let limits = self.or_default(&root.key("limits"), file.limits);
        let limits = self.limits(limits);
        let forwarded = self.or_default(&root.key("forwarded"), file.forwarded);
        let forwarded = self.forwarded(forwarded);
        let dns = self.or_default(&root.key("dns"), file.dns);
        let dns = self.dns(dns);
        let networks = self.network_sets(file.networks);
        let around = Surroundings { workers: server.workers, zone };
        let upstreams = self.upstreams(file.upstream, &around);
        let redis = self.redis(file.redis);
        let secrets = self.or_default(&root.key("secrets"), file.secrets).into_iter();
        let secrets = secrets.map(|(name, text)| (name, Secret(text.into()))).collect();
        let plugins = self.or_default(&root.key("plugins"), file.plugins);
        let cache = plugins.cache.as_ref().map(|cache| self.file_path(cache));
        let defaults = self.plugin_defaults(&plugins);
        self.declared_plugins(file.plugin, &defaults);
        let (routes, rules) = self.routes(file.route, &limits, &defaults);
        let consumers = self.consumers(file.consumers, file.plan, file.consumer);
        let (table, files) = (self.table(rules).unwrap_or_default(), self.files());
        let problems = Problems::new(&self.source, self.problems).with_files(&files);
        let config = Config {
            server,
            listeners,
            reload,
            admin,
            log,
            access_log,
            audit,
            metrics,
            traces,
            limits,
            forwarded,
            dns,
            networks,
            cache,
            upstreams,
            redis,
            secrets,
            consumers,
            routes,
            table: table.into(),
            files,
            plugins: self.plugins,
            source: self.source,
            overlay: Overlay::default(),
        };
        (config, problems)
    }

    fn server(&mut self, raw: raw::Server) -> Server {
        let path = KeyPath::root().key("server");
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let drain = self.parsed(&path.key("drain_timeout"), &raw.drain_timeout.0, DURATION, unit::duration);
        Server { workers: raw.workers.unwrap_or_else(cores), drain_timeout: drain.unwrap_or_default() }
    }

    fn listeners(&mut self, section: Section<Vec<Section<raw::Listener>>>) -> Vec<(KeyPath, Listener)> {
        let path = KeyPath::root().key("listener");
        let (mut listeners, mut names) = (Vec::new(), Vec::new());
        for (i, section) in self.or_default(&path, section).into_iter().enumerate() {
            let path = path.index(i);
            let Some(raw) = self.section(&path, section) else {
                continue;
            };
            names.extend(raw.name.clone().map(|name| (path.key("name"), name)));
            let mode = raw.mode.and_then(|mode| self.parsed(&path.key("mode"), &mode, MODE, mode_of));
            let proxy_protocol = self.networks(&path.key("proxy_protocol"), &raw.proxy_protocol);
            if let Some(address) = self.address(&path.key("address"), &raw.address) {
                if let (Some(_), Address::Ip(_)) = (mode, &address) {
                    self.fault(&path.key("mode"), "only the file of a Unix socket has a mode");
                }
                let name = raw.name.unwrap_or(raw.address);
                let limits = self.listener_limits(&path.key("limits"), raw.limits);
                let tls = raw.tls.and_then(|tls| self.listener_tls(&path.key("tls"), tls, raw.http2));
                let (http2, half_close) = (raw.http2, raw.half_close);
                listeners.push((
                    path,
                    Listener { name, address, mode, proxy_protocol, limits, tls, http2, half_close },
                ));
            }
        }
        self.distinct("name of a listener", names.into_iter());
        listeners
    }

    fn listener_limits(&mut self, path: &KeyPath, raw: raw::ListenerLimits) -> ListenerLimits {
        let mut rate = |key, raw: Option<raw::RequestRate>| self.request_rate(&path.key(key), raw?);
        ListenerLimits {
            connections: raw.connections,
            connections_per_client: raw.connections_per_client,
            requests: rate("requests", raw.requests),
            requests_per_client: rate("requests_per_client", raw.requests_per_client),
        }
    }

    fn request_rate(&mut self, path: &KeyPath, raw: raw::RequestRate) -> Option<Rate> {
        let per = self.duration(path, "per", &raw.per);
        let rate = Rate::new(raw.burst.unwrap_or(raw.rate), raw.rate, per);
        if rate.is_none() && !self.has_problem_within(path) {
            self.fault(path, "a burst that takes longer than a century to come back");
        }
        rate
    }

    fn reload(&mut self, raw: raw::Reload) -> Reload {
        let path = KeyPath::root().key("reload");
        Reload { watch: raw.watch, debounce: self.duration(&path, "debounce", &raw.debounce) }
    }

    fn admin(&mut self, section: Option<Section<raw::Admin>>) -> Option<Admin> {
        let path = KeyPath::root().key("admin");
        let raw = self.section(&path, section?)?;
        let address = self.socket_address(&path.key("address"), &raw.address)?;
        let token = path.key("token");
        if raw.token.is_some() && !self.source.is_hidden(&token) {
            self.fault(&token, "a token is a secret: take it from `${env:NAME}` or `${file:PATH}`");
        }
        if raw.token.is_none() && !address.ip().is_loopback() {
            let open = "this address can be reached from other machines: that needs a `token`";
            self.fault(&path.key("address"), open);
        }
        Some(Admin { address, token: raw.token })
    }

    /// Port 0 is another port each time.
    fn distinct_addresses(&mut self, listeners: &[(KeyPath, Listener)], admin: Option<&Admin>) {
        let places = listeners.iter().map(|(path, listener)| (path.key("address"), listener.address.clone()));
        let place = KeyPath::root().key("admin").key("address");
        let admin = admin.map(|admin| (place, Address::Ip(admin.address)));
        let is_fixed = |address: &Address| !matches!(address, Address::Ip(address) if address.port() == 0);
        self.distinct("address", places.chain(admin).filter(|(_, address)| is_fixed(address)));
    }

    fn access_log(&mut self, section: Option<Section<raw::AccessLog>>) -> Option<AccessLog> {
        let path = KeyPath::root().key("access_log");
        let raw = self.or_default(&path, section?);
        let file = raw.file.map(|file| self.file_path(&file));
        let format = match (raw.format, raw.fields, raw.template) {
            (AccessLogFormat::Json, fields, None) => {
                LineFormat::Json(fields.unwrap_or_else(|| Field::ALL.to_vec()))
            }
            (AccessLogFormat::Text, None, None) => LineFormat::Combined,
            (AccessLogFormat::Text, None, Some(text)) => {
                let pieces = self.parsed(&path.key("template"), &text, LINE, line::template);
                LineFormat::Template(pieces.unwrap_or_default())
            }
            (AccessLogFormat::Json, _, Some(_)) => {
                self.fault(&path.key("template"), "a template is for `format = \"text\"`");
                LineFormat::Combined
            }
            (AccessLogFormat::Text, Some(_), _) => {
                self.fault(&path.key("fields"), "fields are for `format = \"json\"`");
                LineFormat::Combined
            }
        };
        Some(AccessLog { format, file, queue: raw.queue })
    }

    fn audit(
        &mut self,
        section: Option<Section<raw::Audit>>,
        access_log: Option<&AccessLog>,
    ) -> Option<Audit> {
        let path = KeyPath::root().key("audit");
        let raw::Audit { decisions, file, queue } = self.or_default(&path, section?);
        let file = file.map(|file| self.file_path(&file));
        if access_log.is_some_and(|log| log.file == file) {
            let (place, fault) = match file {
                Some(_) => {
                    (path.key("file"), "this is the file of the access log: the audit has one of its own")
                }
                None => (path, "standard output is where the access log goes: the audit has a `file`"),
            };
            self.fault(&place, fault);
        }
        Some(Audit { decisions, file, queue })
    }

    fn metrics(&mut self, raw: raw::Metrics) -> Metrics {
        let path = KeyPath::root().key("metrics").key("buckets");
        let mut buckets = Vec::new();
        for (i, seconds) in raw.buckets.into_iter().enumerate() {
            match Duration::try_from_secs_f64(seconds) {
                Ok(bound) if bound > buckets.last().copied().unwrap_or_default() => buckets.push(bound),
                _ => self.fault(&path.index(i), "expected seconds above zero and above those before"),
            }
        }
        Metrics { buckets }
    }

    fn traces(&mut self, section: Option<Section<raw::Traces>>) -> Option<Traces> {
        let path = KeyPath::root().key("traces");
        let raw = self.or_default(&path, section?);
        let otlp = raw.otlp.map(|otlp| self.otlp(&path.key("otlp"), &otlp));
        Some(Traces { sample: raw.sample, trust_parent: raw.trust_parent, service: raw.service, otlp })
    }

    fn otlp(&mut self, path: &KeyPath, raw: &raw::Otlp) -> Export {
        let endpoint =
            self.parsed(&path.key("endpoint"), &raw.endpoint, COLLECTOR, |url| collector(url, raw.protocol));
        Export {
            endpoint: endpoint.unwrap_or_default(),
            protocol: raw.protocol,
            headers: self.header_fields(&path.key("headers"), &raw.headers),
            timeout: self.duration(path, "timeout", &raw.timeout),
            queue: raw.queue,
        }
    }

    fn header_fields(&mut self, path: &KeyPath, raw: &BTreeMap<String, String>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in raw {
            let path = path.key(name);
            let (field, content) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>());
            match (field, content) {
                (Ok(field), Ok(content)) => _ = headers.append(field, content),
                (Err(_), _) => self.fault(&path, "this is no name of a header field"),
                (_, Err(_)) => self.fault(&path, "this cannot be the value of a header field"),
            }
        }
        headers
    }

    fn limits(&mut self, raw: raw::Limits) -> Limits {
        let path = KeyPath::root().key("limits");
        Limits {
            // Less than hyper's smallest buffer would make it panic.
            header_bytes: self.bytes(&path, "header_bytes", &raw.header_bytes, 8 << 10..=1 << 30),
            header_count: raw.header_count,
            // More does not fit into `http::Uri`.
            uri: self.bytes(&path, "uri", &raw.uri, 1..=65_534),
            body: self.size(&path, "body", &raw.body, 0..=u64::MAX),
            header_time: self.duration(&path, "header_time", &raw.header_time),
            idle_time: self.duration(&path, "idle_time", &raw.idle_time),
            streams: raw.streams,
            receive: self.pace(&path, ("body_time", &raw.body_time), ("body_rate", &raw.body_rate)),
            send: self.pace(&path, ("send_time", &raw.send_time), ("send_rate", &raw.send_rate)),
        }
    }

    fn pace(&mut self, path: &KeyPath, time: (&str, &DurationText), rate: (&str, &SizeText)) -> Pace {
        Pace {
            grace: self.duration(path, time.0, time.1),
            rate: self.size(path, rate.0, rate.1, 0..=u64::MAX),
        }
    }

    fn forwarded(&mut self, raw: raw::Forwarded) -> Forwarded {
        let path = KeyPath::root().key("forwarded");
        Forwarded {
            trusted_proxies: self.networks(&path.key("trusted_proxies"), &raw.trusted_proxies),
            x_forwarded: raw.x_forwarded,
            forwarded: raw.forwarded,
            via: self.parsed(&path.key("via"), &raw.via, PSEUDONYM, pseudonym).filter(|via| !via.is_empty()),
        }
    }

    /// What the configuration reads or names.
    fn files(&self) -> Files {
        let mut files = self.source.files().clone();
        files.extend(&self.read_files);
        for plugin in &self.plugins {
            files.note(plugin.file.clone());
            if let Some(Rollout { to: RolloutTo::File(file), .. }) = &plugin.rollout {
                files.note(file.clone());
            }
        }
        files
    }

    fn or_default<T: Default>(&mut self, path: &KeyPath, section: Section<T>) -> T {
        self.section(path, section).unwrap_or_default()
    }

    /// The schema should have told what is wrong with a malformed section; nothing may get lost if it has not.
    fn section<T>(&mut self, path: &KeyPath, section: Section<T>) -> Option<T> {
        match section.0 {
            Ok(section) => Some(section),
            Err(reason) => {
                if !self.has_problem_within(path) {
                    let hidden = self.source.is_hidden(path);
                    self.fault(
                        path,
                        if hidden { "does not have the expected form".to_owned() } else { reason },
                    );
                }
                None
            }
        }
    }

    fn has_problem_within(&self, path: &KeyPath) -> bool {
        self.problems.iter().any(|problem| problem.path.is_within(path))
    }

    fn report(&mut self, problem: Problem) {
        if !self.malformed.contains(&problem.path) {
            self.problems.push(problem);
        }
    }

    fn fault(&mut self, path: &KeyPath, message: impl Into<String>) {
        self.report(Problem::at_value(&self.source, path, message));
    }

    /// Parses a string. The reason why it is refused is told only if the value may be shown.
    fn parsed<T>(
        &mut self,
        path: &KeyPath,
        text: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(text)
            .map_err(|reason| match self.source.is_hidden(path) {
                true => self.fault(path, format!("expected {expected}, found a hidden string")),
                false => self.fault(path, reason),
            })
            .ok()
    }

    fn duration(&mut self, table: &KeyPath, key: &str, text: &DurationText) -> Duration {
        let above_zero = |text: &str| match unit::duration(text) {
            Ok(Duration::ZERO) => Err(format!("expected a duration above zero, found {text:?}")),
            parsed => parsed,
        };
        self.parsed(&table.key(key), &text.0, DURATION, above_zero).unwrap_or_default()
    }

    fn size(&mut self, table: &KeyPath, key: &str, text: &SizeText, range: RangeInclusive<u64>) -> u64 {
        let in_range = |text: &str| match unit::size(text) {
            Ok(size) if size < *range.start() => {
                Err(format!("expected at least {:?}, found {text:?}", unit::show_size(*range.start())))
            }
            Ok(size) if size > *range.end() => {
                Err(format!("expected at most {:?}, found {text:?}", unit::show_size(*range.end())))
            }
            parsed => parsed,
        };
        self.parsed(&table.key(key), &text.0, SIZE, in_range).unwrap_or_default()
    }

    fn bytes(&mut self, table: &KeyPath, key: &str, text: &SizeText, range: RangeInclusive<u64>) -> usize {
        usize::try_from(self.size(table, key, text, range)).unwrap_or(usize::MAX)
    }

    fn socket_address(&mut self, path: &KeyPath, text: &str) -> Option<SocketAddr> {
        self.parsed(path, text, ADDRESS, |text| {
            let any = text.strip_prefix(':').map(|port| format!("0.0.0.0:{port}"));
            let parsed = any.as_deref().unwrap_or(text).parse();
            parsed.map_err(|_| format!("expected {ADDRESS}, found {text:?}"))
        })
    }

    /// Where a listener is.
    fn address(&mut self, path: &KeyPath, text: &str) -> Option<Address> {
        match text.strip_prefix("unix:") {
            Some(file) => self.parsed(path, file, SOCKET, socket_path).map(Address::Unix),
            None => self.socket_address(path, text).map(Address::Ip),
        }
    }

    fn networks(&mut self, path: &KeyPath, texts: &[String]) -> Vec<IpNet> {
        let parsed = texts.iter().enumerate();
        parsed.filter_map(|(i, text)| self.parsed(&path.index(i), text, NETWORK, network)).collect()
    }

    fn file_path(&self, text: &str) -> PathBuf {
        self.base.join(text)
    }

    /// Reports every value that is there a second time.
    fn distinct<T: Ord>(&mut self, what: &str, places: impl Iterator<Item = (KeyPath, T)>) {
        let mut seen = BTreeMap::new();
        for (path, value) in places {
            if let Some(first) = seen.get(&value) {
                let problem = Problem::at_value(&self.source, &path, format!("this {what} is taken"));
                let first = self.source.value_span(first);
                self.report(problem.also(first, "first here"));
            } else {
                seen.insert(value, path);
            }
        }
    }

    /// The index of a name, which has to be known.
    fn reference(&mut self, what: &str, names: &[String], path: &KeyPath, name: &str) -> usize {
        if let Some(index) = names.iter().position(|known| known == name) {
            return index;
        }
        let names = || names.iter().filter(|name| !self.source.is_secret(name));
        let mut message = format!("unknown {what} {}", self.shown(path, name));
        if let Some(near) = self.near(path, name, names().map(String::as_str)) {
            message += &format!(", did you mean `{near}`?");
        }
        let known: Vec<_> = names().map(|name| format!("`{name}`")).collect();
        let help = match known.is_empty() {
            true => format!("the file has no {what}"),
            false => format!("known: {}", known.join(", ")),
        };
        self.report(Problem::at_value(&self.source, path, message).help(help));
        0
    }

    /// None for a hidden value, which a near name would give away.
    fn near<'n>(&self, path: &KeyPath, name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
        nearest(name, names).filter(|_| !self.source.is_hidden(path))
    }

    fn shown(&self, path: &KeyPath, text: &str) -> String {
        match self.source.is_hidden(path) {
            true => "(hidden)".to_owned(),
            false => format!("`{text}`"),
        }
    }
}

const COLLECTOR: &str = "a URL such as \"http://127.0.0.1:4318\"";
const LINE: &str = "a text with fields in braces such as \"{client} {status}\"";
const DURATION: &str = "a duration such as \"5s\"";
const SIZE: &str = "a size such as \"64KiB\"";
const ADDRESS: &str = "an IP address and a port such as \"127.0.0.1:8080\"";
const SOCKET: &str = "an absolute path of less than 108 bytes";
const MODE: &str = "three octal digits such as \"0660\"";
const TARGET: &str = "a path such as \"/users?id=1\"";
pub(super) const NETWORK: &str = "an IP address or a network such as \"10.0.0.0/8\"";
const PSEUDONYM: &str = "a name of letters, digits, `-`, `_` and `.`";

/// The URL with the path that a collector takes traces at.
fn collector(text: &str, protocol: OtlpProtocol) -> Result<String, String> {
    let url: Uri = text.parse().map_err(|_| format!("`{text}` is no URL"))?;
    match url.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err("traces are sent over http only: let a collector near by add TLS".to_owned());
        }
        _ => return Err(format!("`{text}` is no URL: it begins with http://")),
    }
    let path = match (url.path(), protocol) {
        ("/", OtlpProtocol::Http) => "v1/traces",
        _ => "",
    };
    Ok(format!("{url}{path}"))
}

/// Without a name a listener is called by its address.
fn listener_names(source: &Source) -> Vec<String> {
    let listeners = source.value().get("listener").and_then(|value| value.as_array());
    let name = |listener: &Value| {
        let name = listener.get("name").or(listener.get("address"))?;
        name.as_str().map(str::to_owned)
    };
    listeners.into_iter().flatten().map(|listener| name(listener).unwrap_or_default()).collect()
}

/// Names that stand in a table of the file.
fn names(source: &Source, table: &str) -> Vec<String> {
    let table = source.value().get(table).and_then(|value| value.as_object());
    table.into_iter().flat_map(|table| table.keys().cloned()).collect()
}

/// Path and query.
fn target(text: &str) -> Result<PathAndQuery, String> {
    let absolute = text.starts_with('/').then(|| text.parse().ok()).flatten();
    absolute.ok_or_else(|| format!("expected {TARGET}, found {text:?}"))
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(|_| address());
    network.map_err(|_| format!("expected {NETWORK}, found {text:?}"))
}

/// The path of a Unix socket: as long as the system has room for (unix(7)).
fn socket_path(text: &str) -> Result<PathBuf, String> {
    let fits = text.starts_with('/') && text.len() < 108;
    fits.then(|| PathBuf::from(text)).ok_or_else(|| format!("expected {SOCKET}, found {text:?}"))
}

/// Of a file, with or without a zero in front.
fn mode_of(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
    let octal = digits.len() == 3 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten();
    mode.ok_or_else(|| format!("expected {MODE}, found {text:?}"))
}

/// What Via calls a gateway is a token (RFC 9110, 7.6.3); the characters of a method are those of a token.
fn pseudonym(text: &str) -> Result<String, String> {
    match text.is_empty() || Method::from_bytes(text.as_bytes()).is_ok() {
        true => Ok(text.to_owned()),
        false => Err(format!("expected {PSEUDONYM}, found {text:?}")),
    }
}

/// Errors of regular expressions span lines; their last one has the reason.
fn one_line(error: &str) -> String {
    let mut lines = error.lines();
    let first = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(reason) => {
            let context = first.trim_end_matches("regex parse error:");
            format!("{context}{}", reason.trim_start_matches("error: "))
        }
        None => first.to_owned(),
    }
}
