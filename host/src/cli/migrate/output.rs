//! The wasmgate config that is printed: the keys that a migration may need, and how they are laid out.

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use toml::{Table, ser::Error};

use crate::config::{self, KeyPath, Node};

/// A table that is written key by key.
pub type Keys = BTreeMap<&'static str, Value>;

pub struct Output {
    pub server: Keys,
    pub listeners: Vec<Listener>,
    pub admin: Option<Admin>,
    pub node: Option<Node>,
    pub plugins: Vec<(String, Plugin)>,
    pub dns: Keys,
    pub upstreams: Vec<(String, Upstream)>,
    pub routes: Vec<Route>,
}

#[derive(Serialize)]
pub struct Listener {
    pub name: String,
    pub address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol: Vec<&'static str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tls: Keys,
}

#[derive(Serialize)]
pub struct Admin {
    pub address: String,
}

/// A Proxy-Wasm filter.
#[derive(PartialEq, Serialize)]
pub struct Plugin {
    pub file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<&'static str>,
    #[serde(skip_serializing_if = "is_false")]
    pub reroute: bool,
    /// Upstreams that are not called as the cluster is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, String>,
}

#[derive(Clone, Default, Serialize)]
pub struct Upstream {
    pub endpoints: Vec<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub timeouts: Keys,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub keep_alive: Keys,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub balance: Keys,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub health: Keys,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outliers: Keys,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: Keys,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub retry: Keys,
}

#[derive(Clone, Serialize)]
#[serde(untagged)]
pub enum Endpoint {
    Address(String),
    Table(Keys),
}

#[derive(Serialize)]
pub struct Route {
    pub name: String,
    /// Where it comes from.
    #[serde(skip)]
    pub place: KeyPath,
    #[serde(rename = "match", skip_serializing_if = "Match::is_empty")]
    pub matches: Match,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mirror: Keys,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<Use>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrades: Option<Vec<String>>,
}

#[derive(Serialize)]
pub struct Split {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<String>,
    pub branches: Vec<Branch>,
}

#[derive(Serialize)]
pub struct Branch {
    pub upstream: String,
    pub weight: u32,
}

#[derive(Default, PartialEq, Serialize)]
pub struct Match {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// None: every host.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "one_or_many")]
    pub host: Vec<String>,
    /// None: every path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// In alphabetical order, without the HEAD that comes with GET.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, ValueTest>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, ValueTest>,
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: i32,
}

impl Match {
    fn is_empty(&self) -> bool {
        *self == Match::default()
    }
}

#[derive(PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueTest {
    Regex(String),
    Prefix(String),
    Suffix(String),
    Contains(String),
    Present(bool),
    #[serde(untagged)]
    Exact(String),
}

#[derive(Clone, Serialize)]
#[serde(untagged)]
pub enum Use {
    Name(String),
    Configured { name: &'static str, config: Value },
}

impl Output {
    pub fn text(&self) -> Result<String, Error> {
        let mut text = String::new();
        if !self.server.is_empty() {
            section(&mut text, "[server]", &self.server)?;
        }
        for listener in &self.listeners {
            section(&mut text, "[[listener]]", listener)?;
        }
        if let Some(admin) = &self.admin {
            section(&mut text, "[admin]", admin)?;
        }
        if let Some(node) = &self.node {
            section(&mut text, "[plugins]", &BTreeMap::from([("node", node)]))?;
        }
        for (name, plugin) in &self.plugins {
            section(&mut text, &header("plugin", name), plugin)?;
        }
        if !self.dns.is_empty() {
            section(&mut text, "[dns]", &self.dns)?;
        }
        for (name, upstream) in &self.upstreams {
            section(&mut text, &header("upstream", name), upstream)?;
        }
        for route in &self.routes {
            section(&mut text, "[[route]]", route)?;
        }
        Ok(text)
    }
}

/// A duration as the config has it, at least a millisecond.
pub fn duration(duration: Duration) -> Value {
    json!(match duration.as_millis().max(1) {
        millis if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    })
}

fn header(kind: &str, name: &str) -> String {
    format!("[{}]", KeyPath::root().key(kind).key(name))
}

/// Inner tables on a line, as in configs that are written by hand, unless the line is a long one.
fn section(text: &mut String, header: &str, body: &impl Serialize) -> Result<(), Error> {
    *text += &format!("\n{header}\n");
    let mut tables = Vec::new();
    for (key, mut value) in Table::try_from(body)? {
        escape(&mut value);
        let line = written(&value);
        match value {
            toml::Value::Table(table) if line.len() > 100 && is_plain(&table) => tables.push((key, table)),
            _ => *text += &format!("{key} = {line}\n"),
        }
    }
    for (key, table) in tables {
        *text += &format!("\n[{}.{key}]\n", header.trim_matches(['[', ']']));
        for (key, value) in table {
            *text += &format!("{key} = {}\n", written(&value));
        }
    }
    Ok(())
}

/// Whether its keys need no quotes.
fn is_plain(table: &Table) -> bool {
    table.keys().all(|key| KeyPath::root().key(key).to_string() == *key)
}

/// A long array takes a line for each of its values.
fn written(value: &toml::Value) -> String {
    let line = value.to_string();
    match value {
        toml::Value::Array(values) if line.len() > 100 => {
            let lines: String = values.iter().map(|value| format!("    {value},\n")).collect();
            format!("[\n{lines}]")
        }
        _ => line,
    }
}

/// Envoy's strings are literal.
fn escape(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) => *text = config::escape(text),
        toml::Value::Array(values) => values.iter_mut().for_each(escape),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| escape(value)),
        _ => {}
    }
}

fn one_or_many<S: Serializer>(texts: &Vec<String>, serializer: S) -> Result<S::Ok, S::Error> {
    match texts.as_slice() {
        [one] => one.serialize(serializer),
        many => many.serialize(serializer),
    }
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}
