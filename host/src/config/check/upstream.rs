//! Upstreams and how names of their endpoints are looked up.

use std::{collections::BTreeMap, net::SocketAddr, ops::RangeInclusive};

use http::{HeaderValue, Method, uri::Authority, uri::PathAndQuery};

use super::{ADDRESS, Check, KeyPath, NETWORK, Section, TARGET, network, raw, target};
use crate::config::{
    Adaptive, BackOff, Balance, BalanceMethod, Budget, CheckKind, Choice, CircuitBreaker, Dns, FailureRate,
    Health, HostHeader, KeepAlive, Key, Maintenance, Outliers, Probe, Protocol, Retry, RetryOn, SameSite,
    Sticky, SuccessRate, Timeouts, Upstream, UpstreamLimits,
};

/// What upstreams need of the rest of the file.
pub(super) struct Surroundings {
    pub workers: usize,
    pub zone: Option<String>,
}

impl Check<'_> {
    pub(super) fn upstreams(
        &mut self,
        section: Section<BTreeMap<String, Section<raw::Upstream>>>,
        around: &Surroundings,
    ) -> Vec<Upstream> {
        let path = KeyPath::root().key("upstream");
        let sections = self.or_default(&path, section);
        let mut upstreams = Vec::new();
        for (name, section) in sections {
            let path = path.key(&name);
            if let Some(raw) = self.section(&path, section) {
                upstreams.push(self.upstream(&path, name, raw, around));
            }
        }
        upstreams
    }

    pub(super) fn dns(&mut self, raw: raw::Dns) -> Dns {
        let path = KeyPath::root().key("dns");
        let servers = raw.servers.iter().enumerate();
        let servers = servers.filter_map(|(i, text)| {
            self.parsed(&path.key("servers").index(i), text, ADDRESS, |text| {
                text.parse::<SocketAddr>().map_err(|_| format!("expected {ADDRESS}, found {text:?}"))
            })
        });
        let servers = servers.collect();
        let dns = Dns {
            servers,
            family: raw.family,
            min_ttl: self.duration(&path, "min_ttl", &raw.min_ttl),
            max_ttl: self.duration(&path, "max_ttl", &raw.max_ttl),
            timeout: self.duration(&path, "timeout", &raw.timeout),
        };
        if dns.max_ttl < dns.min_ttl && !self.has_problem_within(&path) {
            self.fault(&path.key("max_ttl"), "`max_ttl` is less than `min_ttl`");
        }
        dns
    }

    fn upstream(
        &mut self,
        path: &KeyPath,
        name: String,
        raw: raw::Upstream,
        around: &Surroundings,
    ) -> Upstream {
        let endpoints = self.endpoints(&path.key("endpoints"), raw.endpoints, around);
        let (timeouts, keep_alive) = (path.key("timeouts"), path.key("keep_alive"));
        let total = raw.timeouts.total;
        // In the clear nobody can be asked.
        let protocol = match raw.protocol {
            Protocol::Auto if raw.tls.is_none() => Protocol::Http1,
            protocol => protocol,
        };
        Upstream {
            name: name.into(),
            endpoints,
            host: self
                .parsed(&path.key("host"), &raw.host, HOST, host_header)
                .unwrap_or(HostHeader::Preserve),
            tls: raw.tls.and_then(|tls| self.upstream_tls(&path.key("tls"), tls)),
            protocol,
            timeouts: Timeouts {
                connect: self.duration(&timeouts, "connect", &raw.timeouts.connect),
                read: self.duration(&timeouts, "read", &raw.timeouts.read),
                total: total.map(|total| self.duration(&timeouts, "total", &total)),
                tunnel: self.duration(&timeouts, "tunnel", &raw.timeouts.tunnel),
            },
            keep_alive: KeepAlive {
                connections: raw.keep_alive.connections,
                idle: self.duration(&keep_alive, "idle", &raw.keep_alive.idle),
            },
            balance: self.balance(&path.key("balance"), raw.balance),
            health: raw.health.map(|health| self.health(&path.key("health"), health)),
            outliers: self.outliers(&path.key("outliers"), raw.outliers),
            limits: self.upstream_limits(&path.key("limits"), raw.limits),
            breaker: raw.breaker.map(|breaker| self.circuit_breaker(&path.key("breaker"), breaker)),
            retry: self.retry(&path.key("retry"), raw.retry, around),
            maintenance: raw.maintenance.map(|raw| self.maintenance(&path.key("maintenance"), raw)),
        }
    }

    fn balance(&mut self, path: &KeyPath, raw: raw::Balance) -> Balance {
        let hashes = raw.method == BalanceMethod::Hash;
        let key = raw.key.map(|text| self.parsed(&path.key("key"), &text, KEY, key));
        let choice = match (raw.method, key) {
            (BalanceMethod::RoundRobin, None) => Choice::RoundRobin,
            (BalanceMethod::Random, None) => Choice::Random,
            (BalanceMethod::LeastRequest, None) => Choice::LeastRequest { choices: raw.choices },
            (BalanceMethod::Hash, Some(key)) => {
                Choice::Hash { key: key.unwrap_or(Key::Ip), table: raw.table, bound: raw.bound }
            }
            (BalanceMethod::Hash, None) => {
                self.fault(path, format!("`method = \"hash\"` needs a `key`: {KEY}"));
                Choice::Random
            }
            (_, Some(_)) => {
                self.fault(&path.key("key"), "a key is for `method = \"hash\"`");
                Choice::RoundRobin
            }
        };
        if raw.bound.is_some() && !hashes {
            self.fault(&path.key("bound"), "a bound is for `method = \"hash\"`");
        }
        Balance {
            choice,
            slow_start: raw.slow_start.map(|time| self.duration(path, "slow_start", &time)),
            panic: raw.panic,
            sticky: raw.sticky.map(|raw| self.sticky_cookie(&path.key("sticky"), raw)),
        }
    }

    pub(super) fn sticky_cookie(&mut self, path: &KeyPath, raw: raw::Sticky) -> Sticky {
        let name = self.parsed(&path.key("cookie"), &raw.cookie, COOKIE, cookie_name);
        let age = raw.max_age.map(|age| self.duration(path, "max_age", &age));
        let place = path.key("path");
        let of = self.parsed(&place, &raw.path, "a path such as \"/\"", |text| {
            match text.starts_with('/') && !text.contains([';', ',']) && HeaderValue::from_str(text).is_ok() {
                true => Ok(text.to_owned()),
                false => Err(format!("expected a path such as \"/\", found {text:?}")),
            }
        });
        let same_site = match raw.same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        };
        if raw.same_site == SameSite::None && !raw.secure {
            self.fault(&path.key("same_site"), "browsers take `same_site = \"none\"` only with `secure`");
        }
        let mut attributes = format!("; Path={}; HttpOnly; SameSite={same_site}", of.unwrap_or_default());
        if let Some(age) = age {
            attributes += &format!("; Max-Age={}", age.as_secs());
        }
        if raw.secure {
            attributes += "; Secure";
        }
        Sticky { cookie: name.unwrap_or_default(), attributes }
    }

    fn health(&mut self, path: &KeyPath, raw: raw::Health) -> Health {
        let host = raw.host.and_then(|host| {
            self.parsed(&path.key("host"), &host, "a host name", |text| match host_header(text)? {
                HostHeader::Literal(name) => Ok(name),
                _ => Err(format!("expected a host name, found {text:?}")),
            })
        });
        let probe = match raw.kind {
            CheckKind::Tcp => Probe::Tcp,
            CheckKind::Grpc => Probe::Grpc { service: raw.service, host },
            CheckKind::Http => Probe::Http {
                method: self
                    .parsed(&path.key("method"), &raw.method, super::route::METHOD, super::route::method)
                    .unwrap_or(Method::GET),
                target: self
                    .parsed(&path.key("path"), &raw.path, TARGET, target)
                    .unwrap_or(PathAndQuery::from_static("/")),
                host,
                headers: self.header_fields(&path.key("headers"), &raw.headers),
                status: self.each(&path.key("status"), &raw.status, STATUSES, statuses),
                body: raw.body,
            },
        };
        let interval = self.duration(path, "interval", &raw.interval);
        let unhealthy = raw.unhealthy_interval.map(|time| self.duration(path, "unhealthy_interval", &time));
        Health {
            probe,
            port: raw.port,
            interval,
            unhealthy_interval: unhealthy.unwrap_or(interval),
            jitter: f64::from(raw.jitter) / 100.0,
            timeout: self.duration(path, "timeout", &raw.timeout),
            successes: raw.successes,
            failures: raw.failures,
            initial: raw.initial,
        }
    }

    fn outliers(&mut self, path: &KeyPath, raw: raw::Outliers) -> Outliers {
        let success_rate = raw.success_rate.map(|raw::SuccessRate { endpoints, requests, factor }| {
            SuccessRate { endpoints, requests, factor }
        });
        let failure_rate =
            raw.failure_rate.map(|raw::FailureRate { percent, requests }| FailureRate { percent, requests });
        Outliers {
            failures: raw.failures,
            errors: raw.errors,
            success_rate,
            failure_rate,
            interval: self.duration(path, "interval", &raw.interval),
            ejection: self.duration(path, "ejection", &raw.ejection),
            max_ejection: self.duration(path, "max_ejection", &raw.max_ejection),
            max_ejected: raw.max_ejected,
        }
    }

    fn upstream_limits(&mut self, path: &KeyPath, raw: raw::UpstreamLimits) -> UpstreamLimits {
        if raw.adaptive.as_ref().is_some_and(|adaptive| adaptive.max < adaptive.min) {
            self.fault(&path.key("adaptive"), "`max` is less than `min`");
        }
        UpstreamLimits {
            connections: raw.connections,
            pending: raw.pending,
            requests: raw.requests,
            retries: raw.retries,
            adaptive: raw.adaptive.map(|raw::Adaptive { min, max }| Adaptive { min, max }),
        }
    }

    fn circuit_breaker(&mut self, path: &KeyPath, raw: raw::CircuitBreaker) -> CircuitBreaker {
        if raw.failures == 0 && raw.failure_rate == 0.0 {
            self.fault(path, "it would never open: both `failures` and `failure_rate` are 0");
        }
        CircuitBreaker {
            failures: raw.failures,
            failure_rate: raw.failure_rate / 100.0,
            requests: raw.requests,
            window: self.duration(path, "window", &raw.window),
            open: self.duration(path, "open", &raw.open),
            max_open: self.duration(path, "max_open", &raw.max_open),
            trials: raw.trials,
            successes: raw.successes,
        }
    }

    fn retry(&mut self, path: &KeyPath, raw: raw::Retry, around: &Surroundings) -> Retry {
        let mut on = self.each(&path.key("on"), &raw.on, CONDITION, condition);
        on.extend(self.each(&path.key("headers"), &raw.headers, FIELD, |text| {
            let name = text.parse().map(RetryOn::Header);
            name.map_err(|_| format!("expected {FIELD}, found {text:?}"))
        }));
        let base = self.duration(path, "back_off", &raw.back_off);
        let max = self.duration(path, "max_back_off", &raw.max_back_off);
        let raw::Budget { percent, per_second } = raw.budget;
        Retry {
            attempts: raw.attempts,
            on,
            non_idempotent: raw.non_idempotent,
            per_try: raw.per_try.map(|time| self.duration(path, "per_try", &time)),
            back_off: BackOff { base, max },
            retry_after: raw.retry_after.map(|time| self.duration(path, "retry_after", &time)),
            body: self.bytes(path, "body", &raw.body, 0..=1 << 30),
            budget: Budget { share: percent / 100.0, per_second: per_second / around.workers as f64 },
            hedge: raw.hedge.map(|time| self.duration(path, "hedge", &time)),
        }
    }

    fn maintenance(&mut self, path: &KeyPath, raw: raw::Maintenance) -> Maintenance {
        let media_type = self.parsed(&path.key("content_type"), &raw.content_type, "a media type", |text| {
            HeaderValue::from_str(text).map_err(|_| format!("expected a media type, found {text:?}"))
        });
        Maintenance {
            status: raw.status,
            retry_after: raw.retry_after.map(|time| self.duration(path, "retry_after", &time)),
            body: raw.body,
            content_type: media_type.map(|_| raw.content_type).unwrap_or_default(),
            allow: self.each(&path.key("allow"), &raw.allow, NETWORK, network),
        }
    }

    /// Parses all strings of an array.
    pub(super) fn each<T>(
        &mut self,
        path: &KeyPath,
        texts: &[String],
        expected: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let texts = texts.iter().enumerate();
        texts.filter_map(|(i, text)| self.parsed(&path.index(i), text, expected, &parse)).collect()
    }
}

const HOST: &str = "`preserve`, `upstream` or a host name";
const STATUSES: &str = "a status or a range such as \"200-299\"";
const FIELD: &str = "a name of a header field";
const COOKIE: &str = "a name of letters, digits, `-` and `_`";
const CONDITION: &str =
    "`connect-failure`, `reset`, `timeout`, `5xx`, `gateway-error`, `retriable-4xx` or a status";
pub(super) const KEY: &str = "`ip`, `header:NAME`, `cookie:NAME`, `query:NAME`, `path` or `consumer`";

pub(super) fn key(text: &str) -> Result<Key, String> {
    let wrong = || format!("expected {KEY}, found {text:?}");
    match text.split_once(':') {
        None => match text {
            "ip" => Ok(Key::Ip),
            "path" => Ok(Key::Path),
            "consumer" => Ok(Key::Consumer),
            _ => Err(wrong()),
        },
        Some((_, "")) => Err(wrong()),
        Some(("header", name)) => name.parse().map(Key::Header).map_err(|_| wrong()),
        Some(("cookie", name)) => Ok(Key::Cookie(name.to_owned())),
        Some(("query", name)) => Ok(Key::Query(name.to_owned())),
        Some(_) => Err(wrong()),
    }
}

fn condition(text: &str) -> Result<RetryOn, String> {
    Ok(match text {
        "connect-failure" => RetryOn::ConnectFailure,
        "reset" => RetryOn::Reset,
        "timeout" => RetryOn::Timeout,
        "5xx" => RetryOn::ServerError,
        "gateway-error" => RetryOn::GatewayError,
        "retriable-4xx" => RetryOn::RetriableClientError,
        status => match status.parse() {
            Ok(status) if (400..=599).contains(&u16::from(status)) => RetryOn::Status(status),
            _ => return Err(format!("expected {CONDITION}, found {text:?}")),
        },
    })
}

fn statuses(text: &str) -> Result<RangeInclusive<u16>, String> {
    let status = |text: &str| text.parse().ok().filter(|status| (100..=599).contains(status));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("expected {STATUSES}, found {text:?}")),
    }
}

fn cookie_name(text: &str) -> Result<String, String> {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match !text.is_empty() && text.chars().all(part) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected {COOKIE}, found {text:?}")),
    }
}

fn host_header(text: &str) -> Result<HostHeader, String> {
    match text {
        "preserve" => Ok(HostHeader::Preserve),
        "upstream" => Ok(HostHeader::Upstream),
        literal => match literal.parse::<Authority>() {
            Ok(_) if !literal.contains('@') => Ok(HostHeader::Literal(literal.to_owned())),
            _ => Err(format!("expected {HOST}, found {literal:?}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{HostHeader, host_header};

    #[test]
    fn host_headers() {
        assert_eq!(host_header("upstream"), Ok(HostHeader::Upstream));
        assert_eq!(host_header("a.example:80"), Ok(HostHeader::Literal("a.example:80".to_owned())));
        for text in ["", "a b", "a/b", "http://a", "u@a", "a\nb"] {
            assert!(host_header(text).is_err(), "{text}");
        }
    }
}
