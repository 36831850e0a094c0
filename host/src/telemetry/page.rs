//! The workers' sheets as metrics: names, labels, units. Labels are bounded: routes, upstreams,
//! plugins and listeners are those of the config, an unknown method is OTHER, and of reasons there
//! are only so many.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::{
    metrics::Sheaf,
    numbers::{
        Answer, CLASSES, CONNECTION_LIMITS, EndpointNumbers, FAILURES, ListenerNumbers, METHODS, PHASES,
        PhaseNumbers, PluginNumbers, REDIS_FAILURES, Reasons, RedisNumbers, RouteNumbers, UpstreamNumbers,
        call_bounds,
    },
    tally::{Spread, Tally, Total, sum, total, under_way},
};

impl Collector for Sheaf {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut page = Page(encoder);
        page.routes(&self.routes.all(), &self.bounds)?;
        page.upstreams(&self.upstreams.all(), &self.bounds)?;
        page.endpoints(&self.endpoints.all())?;
        page.listeners(&self.listeners.all())?;
        page.plugins(&self.plugins.all())?;
        page.redis(&self.redis.all())
    }
}

/// Upstream and address.
type Place = (Arc<str>, Arc<str>);

type Group<S> = [(Arc<str>, Vec<Arc<S>>)];

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn routes(&mut self, routes: &Group<RouteNumbers>, bounds: &Arc<[Duration]>) -> fmt::Result {
        let help =
            "Requests by route, method, class of status and, where the gateway or a plugin answered, why";
        self.family("requests", help, None, MetricType::Counter, |mut metric| {
            for (route, sheets) in routes {
                for ((answer, reason), count) in answers(sheets) {
                    let labels = [
                        ("route", &**route),
                        ("method", METHODS[answer.method]),
                        ("status", CLASSES[answer.class]),
                        ("reason", &reason),
                    ];
                    counter(&mut metric, &labels, count)?;
                }
            }
            Ok(())
        })?;
        let help = "From the end of a request's head to the last byte of its answer";
        self.durations("request_duration", help, "route", routes, bounds, |sheet| &sheet.duration)?;
        let help = "Requests without the end of their answer";
        self.gauges("requests_in_flight", help, None, "route", routes, |sheets| {
            under_way(sheets, |sheet| &sheet.begun, |sheet| &sheet.ended)
        })
    }

    fn upstreams(&mut self, upstreams: &Group<UpstreamNumbers>, bounds: &Arc<[Duration]>) -> fmt::Result {
        let help =
            "Responses of an upstream by class of status; failed: none came; cancelled: nobody waited for it";
        self.family("upstream_requests", help, None, MetricType::Counter, |mut metric| {
            for (upstream, sheets) in upstreams {
                let classes = CLASSES.iter().enumerate();
                let counts = classes.map(|(place, class)| (*class, sum(sheets, |s| &s.responses[place])));
                let failed = ("failed", sum(sheets, |sheet| &sheet.failures));
                let cancelled = ("cancelled", sum(sheets, |sheet| &sheet.cancelled));
                for (status, count) in counts.chain([failed, cancelled]).filter(|(_, count)| *count > 0) {
                    counter(&mut metric, &[("upstream", &**upstream), ("status", status)], count)?;
                }
            }
            Ok(())
        })?;
        let help = "Responses of an upstream that ended before their end";
        self.counters("upstream_responses_broken_off", help, "upstream", upstreams, |sheet| {
            &sheet.broken_off
        })?;
        let help = "From sending a request to an upstream to the head of its response";
        self.durations("upstream_duration", help, "upstream", upstreams, bounds, |sheet| &sheet.duration)?;
        let help = "Requests to an upstream without the head of their response";
        self.gauges("upstream_requests_in_flight", help, None, "upstream", upstreams, |sheets| {
            under_way(sheets, |sheet| &sheet.begun, |sheet| &sheet.ended)
        })?;
        let help = "Connections opened to an upstream";
        self.counters("upstream_connections", help, "upstream", upstreams, |sheet| &sheet.connections)?;
        let help = "Further attempts at an upstream";
        self.counters("upstream_retries", help, "upstream", upstreams, |sheet| &sheet.retries)?;
        let help = "Further attempts that the budget or the limit did not allow";
        self.counters("upstream_retries_refused", help, "upstream", upstreams, |sheet| {
            &sheet.retries_refused
        })?;
        let help = "Requests that were not sent because the breaker was open";
        self.counters("upstream_breaker_refused", help, "upstream", upstreams, |sheet| &sheet.broken)?;
        let help = "Requests that were not sent because of a limit of the upstream";
        self.counters("upstream_overloaded", help, "upstream", upstreams, |sheet| &sheet.overloaded)?;
        let help = "Copies of requests that an upstream got";
        self.counters("upstream_mirrored", help, "upstream", upstreams, |sheet| &sheet.mirrored)?;
        let help =
            "Copies of requests that were not made, because there were too many or the body is too long";
        self.counters("upstream_mirror_dropped", help, "upstream", upstreams, |sheet| &sheet.mirror_dropped)
    }

    fn endpoints(&mut self, endpoints: &[(Place, Vec<Arc<EndpointNumbers>>)]) -> fmt::Result {
        let help = "Requests that an endpoint got, by what came of them: failed is no answer, error a 5xx, cancelled that \
                    nobody waited for the answer";
        self.family("upstream_endpoint_requests", help, None, MetricType::Counter, |mut metric| {
            for ((upstream, endpoint), sheets) in endpoints {
                let failed = sum(sheets, |sheet| &sheet.failures);
                let errors = sum(sheets, |sheet| &sheet.errors);
                let ended = sum(sheets, |sheet| &sheet.ended);
                let cancelled = sum(sheets, |sheet| &sheet.cancelled);
                let answered = ended.saturating_sub(failed + errors + cancelled);
                let counts =
                    [("answered", answered), ("error", errors), ("failed", failed), ("cancelled", cancelled)];
                for (result, count) in counts {
                    let labels = [("upstream", &**upstream), ("endpoint", &**endpoint), ("result", result)];
                    counter(&mut metric, &labels, count)?;
                }
            }
            Ok(())
        })?;
        let help = "Requests at an endpoint, to the end of their answers";
        self.family("upstream_endpoint_requests_in_flight", help, None, MetricType::Gauge, |mut metric| {
            endpoints.iter().try_for_each(|((upstream, endpoint), sheets)| {
                let labels = [("upstream", &**upstream), ("endpoint", &**endpoint)];
                let count = under_way(sheets, |sheet| &sheet.begun, |sheet| &sheet.ended);
                metric.encode_family(&labels)?.encode_gauge(&count)
            })
        })
    }

    fn listeners(&mut self, listeners: &Group<ListenerNumbers>) -> fmt::Result {
        let help = "Connections accepted by a listener";
        self.counters("connections_accepted", help, "listener", listeners, |sheet| &sheet.accepted)?;
        let help = "Connections that a listener did not let in, by the limit that was reached";
        self.reasons("connections_refused", help, "listener", listeners, &CONNECTION_LIMITS, |sheet| {
            &sheet.refused
        })?;
        let help = "TLS handshakes with clients, those that came to nothing too";
        self.counters("tls_handshakes", help, "listener", listeners, |sheet| &sheet.handshakes)?;
        let help = "TLS handshakes with clients that came to nothing";
        self.counters("tls_handshake_failures", help, "listener", listeners, |sheet| {
            &sheet.handshake_failures
        })?;
        let help = "Connections of HTTP/2 closed for too many frames that carried no message";
        self.counters("http2_floods", help, "listener", listeners, |sheet| &sheet.http2_floods)?;
        let help = "Headers of the PROXY protocol, faulty ones too";
        self.counters("proxy_headers", help, "listener", listeners, |sheet| &sheet.proxy_headers)?;
        let help = "Headers of the PROXY protocol that were faulty or did not come in time";
        self.counters("proxy_header_failures", help, "listener", listeners, |sheet| {
            &sheet.proxy_header_failures
        })?;
        let help = "Open connections of a listener";
        self.gauges("connections", help, None, "listener", listeners, |sheets| {
            under_way(sheets, |sheet| &sheet.accepted, |sheet| &sheet.closed)
        })
    }

    fn plugins(&mut self, plugins: &Group<PluginNumbers>) -> fmt::Result {
        let help = "Calls of a plugin by phase";
        self.family("plugin_calls", help, None, MetricType::Counter, |mut metric| {
            each_phase(plugins, |plugin, phase, sheets| {
                counter(
                    &mut metric,
                    &[("plugin", plugin), ("phase", phase)],
                    sum(sheets, |phase| &phase.calls),
                )
            })
        })?;
        let help = "Time of a plugin's calls, of one call in 16";
        let seconds = Some(Unit::Seconds);
        self.family("plugin_call_duration", help, seconds.clone(), MetricType::Histogram, |mut metric| {
            each_phase(plugins, |plugin, phase, sheets| {
                let total = call_total(sheets);
                histogram(&mut metric, &[("plugin", plugin), ("phase", phase)], &total)
            })
        })?;
        let help = "Time of all calls of a plugin, as the timed ones let expect";
        self.family("plugin_time", help, seconds, MetricType::Counter, |mut metric| {
            each_phase(plugins, |plugin, phase, sheets| {
                let labels: Labels<'_> = &[("plugin", plugin), ("phase", phase)];
                let mut metric = metric.encode_family(&labels)?;
                metric.encode_counter::<NoLabelSet, f64, f64>(&time(sheets).as_secs_f64(), None)
            })
        })?;
        let help = "Failures of a plugin by phase and reason";
        self.family("plugin_failures", help, None, MetricType::Counter, |mut metric| {
            each_phase(plugins, |plugin, phase, sheets| {
                for (place, reason) in FAILURES.iter().enumerate() {
                    let count = sum(sheets, |phase| &phase.failures[place]);
                    if count > 0 {
                        let labels = [("plugin", plugin), ("reason", *reason), ("phase", phase)];
                        counter(&mut metric, &labels, count)?;
                    }
                }
                Ok(())
            })
        })?;
        let help = "Requests that a plugin refused, by the reason that it told";
        self.family("plugin_refusals", help, None, MetricType::Counter, |mut metric| {
            for (plugin, sheets) in plugins {
                for ((_, why), count) in by_reason(sheets.iter().map(|sheet| &sheet.refusals)) {
                    counter(&mut metric, &[("plugin", &**plugin), ("why", &why)], count)?;
                }
            }
            Ok(())
        })?;
        let help = "Calls of host functions by a plugin";
        self.counters("plugin_host_calls", help, "plugin", plugins, |sheet| &sheet.host_calls)?;
        let help = "Live instances of a plugin";
        self.gauges("plugin_instances", help, None, "plugin", plugins, |sheets| {
            sum(sheets, |sheet| &sheet.instances)
        })?;
        let help = "Workers whose breaker keeps a plugin out";
        self.gauges("plugin_breakers_open", help, None, "plugin", plugins, |sheets| {
            sum(sheets, |sheet| &sheet.open)
        })?;
        let help = "Linear memory of a plugin's live instances";
        self.gauges("plugin_memory", help, Some(Unit::Bytes), "plugin", plugins, |sheets| {
            sum(sheets, |sheet| &sheet.memory)
        })
    }

    fn redis(&mut self, all: &Group<RedisNumbers>) -> fmt::Result {
        let help = "From asking a Redis to its answer, for those that came";
        self.durations("redis_duration", help, "redis", all, &call_bounds(), |sheet| &sheet.duration)?;
        let help = "Questions without an answer of a Redis: there was no connection (unreachable), it did not come in time \
                    (timeout), or was an error";
        self.reasons("redis_failures", help, "redis", all, &REDIS_FAILURES, |sheet| &sheet.failures)?;
        let opened =
            |sheets: &[Arc<RedisNumbers>]| sheets.iter().map(|sheet| sheet.opened.get()).sum::<u64>();
        let closed = |sheets: &[Arc<RedisNumbers>]| sheets.iter().map(|sheet| sheet.closed.get()).sum();
        let help = "Connections opened to a Redis";
        self.family("redis_connections_opened", help, None, MetricType::Counter, |mut metric| {
            let mut all = all.iter();
            all.try_for_each(|(redis, sheets)| counter(&mut metric, &[("redis", &**redis)], opened(sheets)))
        })?;
        let help = "Open connections to a Redis";
        self.gauges("redis_connections", help, None, "redis", all, |sheets| {
            // First, because others go on: nothing is closed that was not opened.
            let closed = closed(sheets);
            opened(sheets).saturating_sub(closed)
        })
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        write: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(self.0.encode_descriptor(name, help, unit.as_ref(), kind)?)
    }

    fn counters<S>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        group: &Group<S>,
        number: impl Fn(&S) -> &Tally,
    ) -> fmt::Result {
        self.family(name, help, None, MetricType::Counter, |mut metric| {
            let mut group = group.iter();
            group.try_for_each(|(name, sheets)| {
                counter(&mut metric, &[(label, &**name)], sum(sheets, &number))
            })
        })
    }

    /// Counters by reason, each of which has its place.
    fn reasons<S>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        group: &Group<S>,
        reasons: &[&str],
        numbers: impl Fn(&S) -> &[Tally],
    ) -> fmt::Result {
        self.family(name, help, None, MetricType::Counter, |mut metric| {
            for (name, sheets) in group {
                for (place, reason) in reasons.iter().enumerate() {
                    let count = sum(sheets, |sheet| &numbers(sheet)[place]);
                    counter(&mut metric, &[(label, &**name), ("reason", *reason)], count)?;
                }
            }
            Ok(())
        })
    }

    fn gauges<S>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        label: &str,
        group: &Group<S>,
        value: impl Fn(&[Arc<S>]) -> u64,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge, |mut metric| {
            let mut group = group.iter();
            group.try_for_each(|(name, sheets)| {
                metric.encode_family(&[(label, &**name)])?.encode_gauge(&value(sheets))
            })
        })
    }

    fn durations<S>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        group: &Group<S>,
        bounds: &Arc<[Duration]>,
        spread: impl Fn(&S) -> &Spread,
    ) -> fmt::Result {
        self.family(name, help, Some(Unit::Seconds), MetricType::Histogram, |mut metric| {
            let mut group = group.iter();
            group.try_for_each(|(name, sheets)| {
                histogram(&mut metric, &[(label, &**name)], &total(bounds, sheets, &spread))
            })
        })
    }
}

type Labels<'a> = &'a [(&'a str, &'a str)];

fn counter(metric: &mut MetricEncoder<'_>, labels: Labels<'_>, count: u64) -> fmt::Result {
    metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, f64>(&count, None)
}

fn histogram(metric: &mut MetricEncoder<'_>, labels: Labels<'_>, total: &Total) -> fmt::Result {
    let bounds = total.bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(total.counts.iter().copied()).collect();
    let (sum, count) = (total.sum.as_secs_f64(), total.count());
    metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

/// Answers of all workers, those that occurred.
fn answers(sheets: &[Arc<RouteNumbers>]) -> BTreeMap<(Answer, Cow<'static, str>), u64> {
    let mut answers = by_reason(sheets.iter().map(|sheet| &sheet.reasons));
    for sheet in sheets {
        for (method, classes) in sheet.plain.iter().enumerate() {
            for (class, tally) in classes.iter().enumerate().filter(|(_, tally)| tally.get() > 0) {
                *answers.entry((Answer { method, class }, "".into())).or_default() += tally.get();
            }
        }
    }
    answers
}

/// Those of all workers.
fn by_reason<'a, K: Copy + Ord + 'a>(
    sheets: impl Iterator<Item = &'a Reasons<K>>,
) -> BTreeMap<(K, Cow<'static, str>), u64> {
    let mut all = BTreeMap::new();
    for (key, reason, count) in sheets.flat_map(Reasons::all) {
        *all.entry((key, reason)).or_default() += count;
    }
    all
}

/// Phases that were called or failed, of all plugins.
fn each_phase(
    plugins: &Group<PluginNumbers>,
    mut write: impl FnMut(&str, &str, &[&PhaseNumbers]) -> fmt::Result,
) -> fmt::Result {
    for (plugin, sheets) in plugins {
        for (place, phase) in PHASES.iter().enumerate() {
            let phases: Vec<_> = sheets.iter().map(|sheet| &sheet.phases[place]).collect();
            let touched = |phase: &&PhaseNumbers| {
                phase.calls.get() > 0 || phase.failures.iter().any(|failures| failures.get() > 0)
            };
            if phases.iter().any(touched) {
                write(plugin, phase, &phases)?;
            }
        }
    }
    Ok(())
}

/// Of all calls, as the timed ones let expect.
pub fn time(phases: &[&PhaseNumbers]) -> Duration {
    let (calls, total) = (sum(phases, |phase| &phase.calls), call_total(phases));
    match total.count() {
        0 => Duration::ZERO,
        timed => total.sum.mul_f64(calls as f64 / timed as f64),
    }
}

fn call_total(phases: &[&PhaseNumbers]) -> Total {
    total(&call_bounds(), phases, |phase| &phase.duration)
}
