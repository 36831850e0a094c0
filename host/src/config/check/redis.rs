//! Redis servers, and what plugins keep in them.

use std::collections::BTreeMap;

use super::{Check, KeyPath, Section, endpoint, names, raw};
use crate::config::{Login, Redis, RedisKind, RedisTls, Store};

impl Check<'_> {
    pub(super) fn redis(&mut self, section: Section<BTreeMap<String, Section<raw::Redis>>>) -> Vec<Redis> {
        let path = KeyPath::root().key("redis");
        let sections = self.or_default(&path, section).into_iter();
        let all = sections.filter_map(|(name, section)| {
            let path = path.key(&name);
            let raw = self.section(&path, section)?;
            Some(self.one_redis(&path, name, raw))
        });
        all.collect()
    }

    fn one_redis(&mut self, path: &KeyPath, name: String, raw: raw::Redis) -> Redis {
        let endpoints = raw.endpoints.iter().enumerate().filter_map(|(i, text)| {
            self.parsed(&path.key("endpoints").index(i), text, endpoint::ENDPOINT, endpoint::target)
        });
        let endpoints: Vec<_> = endpoints.collect();
        let (mode, several) = (raw.mode, raw.endpoints.len() > 1);
        if mode == raw::RedisMode::Single && several {
            let several =
                "one server has one endpoint; several are for `mode = \"sentinel\"` and \"cluster\"";
            self.fault(&path.key("endpoints"), several);
        }
        if mode == raw::RedisMode::Cluster && raw.database != 0 {
            self.fault(&path.key("database"), "a Cluster has only database 0");
        }
        let is_sentinel = mode == raw::RedisMode::Sentinel;
        let others = [
            ("master", raw.master.is_some()),
            ("sentinel_username", raw.sentinel_username.is_some()),
            ("sentinel_password", raw.sentinel_password.is_some()),
        ];
        for (key, given) in others {
            if given && !is_sentinel {
                self.fault(&path.key(key), format!("`{key}` is for `mode = \"sentinel\"`"));
            }
        }
        let kind = match (mode, raw.master) {
            (raw::RedisMode::Single, _) => RedisKind::Single,
            (raw::RedisMode::Cluster, _) => RedisKind::Cluster,
            (raw::RedisMode::Sentinel, Some(master)) => RedisKind::Sentinel(master),
            (raw::RedisMode::Sentinel, None) => {
                self.fault(path, "`mode = \"sentinel\"` needs `master`: what the Sentinels call it");
                RedisKind::Single
            }
        };
        Redis {
            name,
            kind,
            endpoints,
            login: Login { username: raw.username, password: raw.password },
            sentinel_login: Login { username: raw.sentinel_username, password: raw.sentinel_password },
            database: raw.database,
            tls: raw.tls.and_then(|tls| self.redis_tls(&path.key("tls"), tls)),
            timeout: self.duration(path, "timeout", &raw.timeout),
            connect_timeout: self.duration(path, "connect_timeout", &raw.connect_timeout),
            prefix: raw.prefix,
        }
    }

    fn redis_tls(&mut self, path: &KeyPath, raw: raw::RedisTls) -> Option<RedisTls> {
        let ca = self.read_if_any(&path.key("ca"), raw.ca.as_deref())?;
        let identity = match &raw.certificate {
            None => None,
            Some(certificate) => {
                let path = path.key("certificate");
                let (cert, key) = self.identity_files(&path, certificate)?;
                // The client of Redis reads them itself; what is wrong with them is told here.
                self.identity_of(&path, &cert, &key)?;
                Some((cert, key))
            }
        };
        Some(RedisTls { ca, identity })
    }

    /// `path` is the plugin's table.
    pub(super) fn store(&mut self, path: &KeyPath, raw: &raw::Plugin) -> Option<Store> {
        let Some(name) = &raw.store else {
            if raw.on_error.is_some() {
                self.fault(&path.key("on_error"), "`on_error` is for plugins with a `store`");
            }
            return None;
        };
        let known = names(&self.source, "redis");
        let redis = self.reference("redis", &known, &path.key("store"), name);
        Some(Store { redis, on_error: raw.on_error.unwrap_or_default() })
    }
}
