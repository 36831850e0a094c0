//! The gateway as the admin listener sees it.

use std::{
    collections::BTreeMap,
    fmt,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::{
    Error,
    plugins::{Facts, Next},
    reload::{Applied, Reloader, Trigger},
};
use crate::{
    admin::{
        self, Changing, Refusal,
        report::{
            BranchReport, BreakerReport, ConfigStatus, EndpointReport, FailureReport, ForcedState,
            PluginReport, ReloadStatus, Reloaded, RolloutReport, RouteReport, Status, UpstreamReport,
            UseReport, VersionReport,
        },
    },
    capability::{Capabilities, consumers::Book, passwords::Passwords},
    config::{self, LogLevel},
    drain::Signal,
    plugin::rollout::Version,
    telemetry::{
        self,
        access_log::timestamp,
        audit::Audit,
        metrics::{Format, Metrics},
        numbers::{FAILURES, PHASES, PluginNumbers},
        page,
        tally::{sum, under_way},
    },
    upstream::{Member, Out, Upstream, breaker::Forced},
    wasm::compile::{Sha256Digest, hex},
};

pub struct Control {
    pub reloader: Rc<Reloader>,
    pub capabilities: Arc<Capabilities>,
    pub metrics: Arc<Metrics>,
    pub drain: Signal,
    /// Told when an operator wants the gateway to end.
    pub stop: Rc<Notify>,
    pub started: SystemTime,
}

impl Control {
    fn facts<T>(&self, plugin: &str, read: impl FnOnce(Facts<'_>) -> T) -> Result<T, Refusal> {
        self.reloader.running().plugins.facts(plugin).map(read).ok_or(Refusal::UnknownPlugin)
    }

    fn upstream(&self, name: &str) -> Result<Arc<Upstream>, Refusal> {
        let snapshot = self.reloader.snapshot();
        let known = snapshot.upstreams.iter().find(|known| *known.settings.name == *name);
        known.cloned().ok_or(Refusal::UnknownUpstream)
    }
}

impl admin::Control for Control {
    fn token(&self) -> Option<String> {
        self.reloader.config().admin.as_ref()?.token.clone()
    }

    fn audit(&self) -> Option<Audit> {
        self.reloader.running().records.audit()
    }

    fn is_draining(&self) -> bool {
        self.drain.is_draining()
    }

    fn metrics(&self, format: Format) -> Result<String, fmt::Error> {
        self.metrics.page(format)
    }

    fn status(&self) -> Status {
        let running = self.reloader.running();
        let config = &running.config;
        let listeners = running.listeners.addresses();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            state: if self.drain.is_draining() { "draining" } else { "running" },
            started: timestamp(self.started),
            workers: config.server.workers,
            listeners: listeners.map(|(name, address)| (name.to_owned(), address.to_string())).collect(),
            config: ConfigStatus {
                file: config.source.name().to_owned(),
                since: timestamp(running.since),
                routes: config.routes.len(),
                plugins: config.plugins.len(),
                upstreams: config.upstreams.len(),
                disabling: running.disabling.clone(),
            },
            last_reload: running.last.as_ref().map(|attempt| ReloadStatus {
                at: timestamp(attempt.at),
                trigger: attempt.trigger.to_string(),
                took_ms: milliseconds(attempt.took),
                applied: attempt.faults.is_empty(),
                faults: attempt.faults.clone(),
            }),
        }
    }

    fn config(&self) -> Value {
        config::effective(&self.reloader.config().source)
    }

    fn routes(&self) -> Vec<RouteReport> {
        let (config, snapshot) = (self.reloader.config(), self.reloader.snapshot());
        let routes = config.routes.iter().zip(&snapshot.routes).enumerate();
        let name = |upstream: usize| config.upstreams[upstream].name.to_string();
        let report = |(place, (route, live)): (usize, (&config::Route, &crate::snapshot::RouteSpec))| {
            let sheets = self.metrics.sheaf().routes.get(&live.name);
            let path = config::KeyPath::root().key("route").index(place).key("match");
            RouteReport {
                name: route.name.clone(),
                r#match: config
                    .source
                    .get(&path)
                    .cloned()
                    .unwrap_or_else(|| Value::Object(Default::default())),
                upstream: route.upstream.map(name),
                branches: route
                    .shares(SystemTime::now())
                    .map(|(upstream, percent)| BranchReport { upstream: name(upstream), percent })
                    .collect(),
                fallback: route.fallback.map(name),
                mirror: route.mirror.as_ref().map(|mirror| name(mirror.upstream)),
                plugins: route
                    .plugins
                    .iter()
                    .map(|used| UseReport {
                        name: config.plugins[used.plugin].name.clone(),
                        failure_policy: used.failure_policy,
                    })
                    .collect(),
                disabled: live.disabled,
                requests: sum(&sheets, |sheet| &sheet.begun),
                in_flight: under_way(&sheets, |sheet| &sheet.begun, |sheet| &sheet.ended),
            }
        };
        routes.map(report).collect()
    }

    fn plugins(&self) -> Vec<PluginReport> {
        let running = self.reloader.running();
        let mut reports = Vec::new();
        for (place, plugin) in running.config.plugins.iter().enumerate() {
            let Some(facts) = running.plugins.facts(&plugin.name) else { continue };
            let sheets = &self.metrics.sheaf().plugins.get(plugin.name.as_str());
            let uses = |route: &&config::Route| route.plugins.iter().any(|used| used.plugin == place);
            let routes = running.config.routes.iter().filter(uses).map(|route| route.name.clone()).collect();
            reports.push(PluginReport {
                name: plugin.name.clone(),
                file: plugin.file.display().to_string(),
                sha256: hex(&facts.digest),
                kind: "native",
                phases: facts.phases.names().collect(),
                configs: facts.configs,
                routes,
                instances: sum(sheets, |sheet| &sheet.instances),
                memory_bytes: sum(sheets, |sheet| &sheet.memory),
                calls: over_phases(sheets, |sheet, phase| sheet.phases[phase].calls.get()),
                time_seconds: plugin_time(sheets).as_secs_f64(),
                host_calls: sum(sheets, |sheet| &sheet.host_calls),
                failures: failures(sheets),
                breakers_open: sum(sheets, |sheet| &sheet.open),
                last_failure: last_failure(sheets),
                changed: running.config.overlay.plugins().any(|changed| changed == plugin.name),
                rollout: facts.next.map(|(next, digest)| rollout(next, &digest)),
            });
        }
        reports
    }

    fn upstreams(&self) -> Vec<UpstreamReport> {
        let sheaf = self.metrics.sheaf();
        let report = |upstream: &Arc<Upstream>| {
            let name = &upstream.settings.name;
            let sheets = sheaf.upstreams.get(name);
            let breaker = upstream.breaker.as_ref().map(|breaker| BreakerReport {
                state: breaker.state().name(),
                refused: sum(&sheets, |sheet| &sheet.broken),
            });
            UpstreamReport {
                name: name.to_string(),
                endpoints: upstream
                    .members()
                    .iter()
                    .map(|member| endpoint_report(upstream, member))
                    .collect(),
                requests: sum(&sheets, |sheet| &sheet.begun),
                failures: sum(&sheets, |sheet| &sheet.failures),
                in_flight: under_way(&sheets, |sheet| &sheet.begun, |sheet| &sheet.ended),
                retries: sum(&sheets, |sheet| &sheet.retries),
                retries_refused: sum(&sheets, |sheet| &sheet.retries_refused),
                overloaded: sum(&sheets, |sheet| &sheet.overloaded),
                connections: upstream.gauges.connections.get(),
                pending: upstream.gauges.pending.get(),
                breaker,
            }
        };
        self.reloader.snapshot().upstreams.iter().map(report).collect()
    }

    fn consumers(&self) -> &Book {
        &self.capabilities.consumers
    }

    fn passwords(&self) -> &Passwords {
        &self.capabilities.passwords
    }

    fn drain_endpoint(&self, upstream: &str, address: &str, drained: bool) -> Result<(), Refusal> {
        if self.upstream(upstream)?.drain(address, drained) { Ok(()) } else { Err(Refusal::UnknownEndpoint) }
    }

    fn force_breaker(&self, upstream: &str, forced: Option<ForcedState>) -> Result<(), Refusal> {
        let upstream = self.upstream(upstream)?;
        let forced = forced.map(|state| match state {
            ForcedState::Open => Forced::Open,
            ForcedState::Closed => Forced::Closed,
        });
        if upstream.force_breaker(forced) { Ok(()) } else { Err(Refusal::NoBreaker) }
    }

    fn log_level(&self) -> LogLevel {
        telemetry::log_level()
    }

    fn set_log_level(&self, level: LogLevel) {
        telemetry::set_log_level(level);
    }

    fn reload(&self, dry_run: bool) -> Changing<'_> {
        Box::pin(async move {
            let applied = match dry_run {
                true => self.reloader.dry_run().await,
                false => self.reloader.reload(Trigger::Admin).await,
            };
            reloaded(!dry_run, applied)
        })
    }

    fn roll_out<'a>(&'a self, plugin: &'a str, rollout: Value) -> Changing<'a> {
        Box::pin(async move {
            self.facts(plugin, |_| ())?;
            let keys = Map::from_iter([("rollout".to_owned(), rollout)]);
            reloaded(true, self.reloader.change(plugin, keys).await)
        })
    }

    fn promote<'a>(&'a self, plugin: &'a str) -> Changing<'a> {
        Box::pin(async move {
            let next = self.facts(plugin, |facts| facts.next.map(|(next, _)| next.file.clone()))?;
            let file = std::path::absolute(next.ok_or(Refusal::NoRollout)?);
            let file = file.map_err(|error| Refusal::Faults(vec![error.to_string()]))?;
            let keys = [
                ("file", Value::String(file.display().to_string())),
                ("sha256", Value::Null),
                ("rollout", Value::Null),
            ];
            let keys = Map::from_iter(keys.map(|(key, value)| (key.to_owned(), value)));
            reloaded(true, self.reloader.change(plugin, keys).await)
        })
    }

    fn roll_back(&self, plugin: &str) -> Result<(), Refusal> {
        let rollout = self.facts(plugin, |facts| facts.next.map(|(next, _)| next.rollout.clone()))?;
        let stopped =
            rollout.is_some_and(|rollout| self.reloader.roll_back(plugin, &rollout, "by an operator"));
        if stopped { Ok(()) } else { Err(Refusal::NoRollout) }
    }

    fn drain(&self) {
        self.stop.notify_one();
    }
}

fn endpoint_report(upstream: &Upstream, member: &Member) -> EndpointReport {
    let endpoint = &member.endpoint;
    let sheets = upstream.endpoint_numbers(endpoint);
    let record = endpoint.record();
    let left = |until: Instant| until.saturating_duration_since(Instant::now()).as_secs();
    EndpointReport {
        address: endpoint.label.to_string(),
        name: endpoint.authority.to_string(),
        weight: member.weight,
        priority: member.priority,
        state: match endpoint.out() {
            None => "in service",
            Some(Out::Ill) => "unhealthy",
            Some(Out::Ejected) => "ejected",
            Some(Out::Drained) => "drained",
        },
        since: timestamp(record.changed),
        trouble: record.trouble,
        ejected_seconds: record.ejected_until.map(left),
        requests: sum(&sheets, |sheet| &sheet.begun),
        in_flight: under_way(&sheets, |sheet| &sheet.begun, |sheet| &sheet.ended),
        failures: sum(&sheets, |sheet| &sheet.failures),
        errors: sum(&sheets, |sheet| &sheet.errors),
    }
}

fn reloaded(applied: bool, result: Result<Applied, Error>) -> Result<Reloaded, Refusal> {
    let Applied { took, routes, disabling } = result.map_err(|error| Refusal::Faults(error.lines()))?;
    Ok(Reloaded { applied, took_ms: milliseconds(took), routes, disabling })
}

fn rollout(next: &Next, digest: &Sha256Digest) -> RolloutReport {
    let version = |version| {
        let sample = next.rollout.sample(version);
        VersionReport {
            calls: sample.calls,
            failures: sample.failures,
            errors: sample.errors,
            p99_ms: milliseconds(sample.p99()),
        }
    };
    RolloutReport {
        file: next.file.display().to_string(),
        sha256: hex(digest),
        percent: next.rollout.plan.percent,
        shadow: next.rollout.plan.shadow,
        state: if next.rollout.is_stopped() { "rolled-back" } else { "running" },
        reason: next.rollout.reason().map(str::to_owned),
        old: version(Version::Old),
        new: version(Version::New),
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

type PluginSheets<'a> = &'a [Arc<PluginNumbers>];

fn over_phases(sheets: PluginSheets<'_>, number: impl Fn(&PluginNumbers, usize) -> u64) -> u64 {
    let phases = |sheet: &PluginNumbers| (0..PHASES.len()).map(|phase| number(sheet, phase)).sum::<u64>();
    sheets.iter().map(|sheet| phases(sheet)).sum()
}

fn plugin_time(sheets: PluginSheets<'_>) -> Duration {
    let phase = |place: usize| sheets.iter().map(|sheet| &sheet.phases[place]).collect::<Vec<_>>();
    (0..PHASES.len()).map(|place| page::time(&phase(place))).sum()
}

fn failures(sheets: PluginSheets<'_>) -> BTreeMap<&'static str, u64> {
    let count = |place: usize| over_phases(sheets, |sheet, phase| sheet.phases[phase].failures[place].get());
    let counts = FAILURES.iter().enumerate().map(|(place, reason)| (*reason, count(place)));
    counts.filter(|(_, count)| *count > 0).collect()
}

fn last_failure(sheets: PluginSheets<'_>) -> Option<FailureReport> {
    let (at, text) = sheets.iter().filter_map(|sheet| sheet.last_failure()).max()?;
    Some(FailureReport { at: timestamp(at), text })
}
