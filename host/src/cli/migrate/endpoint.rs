//! Where a cluster runs.

use std::net::{Ipv6Addr, SocketAddr};

use serde_json::{Value, json};

use super::{
    output::{Endpoint, Keys},
    tree::Table,
};
use crate::config::KeyPath;

#[derive(Default)]
pub struct Endpoints {
    pub all: Vec<Endpoint>,
    /// Where health checks go instead; one for all of them.
    pub health_port: Option<u16>,
}

impl Endpoints {
    pub fn have_names(&self) -> bool {
        self.all.iter().any(|endpoint| {
            let address = match endpoint {
                Endpoint::Address(address) => Some(address.as_str()),
                Endpoint::Table(keys) => keys.get("address").and_then(Value::as_str),
            };
            address.is_some_and(|text| !text.starts_with("unix:") && text.parse::<SocketAddr>().is_err())
        })
    }
}

/// What the endpoints of a locality share.
struct Locality {
    priority: u8,
    zone: Option<String>,
}

/// A `load_assignment`.
pub fn read(mut assignment: Table) -> Endpoints {
    assignment.skip(&["cluster_name"]);
    if let Some(mut policy) = assignment.table("policy") {
        policy.skip_if("overprovisioning_factor", &["140"]);
    }
    let mut endpoints = Vec::new();
    let mut ports = Vec::new();
    for mut table in assignment.tables("endpoints") {
        let locality = Locality {
            priority: table.take("priority", |number| u8::try_from(number.as_u64()?).ok()).unwrap_or(0),
            zone: table
                .table("locality")
                .and_then(|mut place| place.text("zone"))
                .filter(|zone| !zone.is_empty()),
        };
        table.leave_entry("load_balancing_weight", "the weight of a locality; write it into its endpoints");
        for table in table.tables("lb_endpoints") {
            endpoints.extend(endpoint(table, &locality, &mut ports));
        }
    }
    let mut given: Vec<_> = ports.iter().map(|(_, port)| *port).collect();
    given.dedup();
    if let [health_port] = given[..] {
        return Endpoints { all: endpoints, health_port };
    }
    for (place, _) in ports.iter().filter(|(_, port)| port.is_some()) {
        assignment.notes().left(place, "a port for checks that not all endpoints have; see `port` of health");
    }
    Endpoints { all: endpoints, health_port: None }
}

fn endpoint(
    mut table: Table,
    locality: &Locality,
    ports: &mut Vec<(KeyPath, Option<u16>)>,
) -> Option<Endpoint> {
    table.skip_if("health_status", &["HEALTHY", "UNKNOWN"]);
    let weight = table.take("load_balancing_weight", |weight| u16::try_from(weight.as_u64()?).ok());
    let mut inner = table.table("endpoint")?;
    let Some(address) = inner.table("address").and_then(target) else {
        inner.leave("its address is neither a host and port of TCP nor the path of a socket");
        return None;
    };
    inner.skip(&["hostname"]);
    let check = inner.table("health_check_config");
    ports.push(check.map_or_else(|| (inner.path().clone(), None), health_port));
    let mut keys = Keys::from([("address", json!(address))]);
    keys.extend(weight.filter(|weight| *weight != 1).map(|weight| ("weight", json!(weight))));
    keys.extend((locality.priority > 0).then(|| ("priority", json!(locality.priority))));
    keys.extend(locality.zone.as_ref().map(|zone| ("zone", json!(zone))));
    Some(if keys.len() == 1 { Endpoint::Address(address) } else { Endpoint::Table(keys) })
}

/// And where it is written.
fn health_port(mut table: Table) -> (KeyPath, Option<u16>) {
    table.leave_entry("hostname", "checks of all endpoints have the same Host; see `host` of health");
    let place = table.at("port_value");
    (place, table.take("port_value", port).filter(|port| *port != 0))
}

/// The address as the config has it.
fn target(mut table: Table) -> Option<String> {
    if let Some(mut pipe) = table.table("pipe") {
        pipe.skip(&["mode"]);
        return socket_file(&mut pipe);
    }
    let (host, port) = socket_address(&mut table)?;
    (port != 0 && is_host(&host)).then(|| address(&host, port))
}

fn is_host(text: &str) -> bool {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.parse::<Ipv6Addr>().is_ok() || (!text.is_empty() && text.chars().all(part_of_name))
}

pub fn socket_file(pipe: &mut Table) -> Option<String> {
    pipe.take("path", |path| {
        // What the system has room for; those that begin with `@` are no files.
        let path = path.as_str().filter(|path| path.starts_with('/') && path.len() < 108)?;
        Some(format!("unix:{path}"))
    })
}

/// The TCP address in a table with an `address`.
pub fn socket(table: &mut Table) -> Option<(String, u16)> {
    socket_address(&mut table.table("address")?)
}

pub fn socket_address(table: &mut Table) -> Option<(String, u16)> {
    let mut socket = table.table("socket_address")?;
    socket.skip_if("protocol", &["TCP"]);
    if socket.has("protocol") {
        socket.leave("another protocol than TCP");
        return None;
    }
    let host = socket.text("address")?;
    Some((host, socket.take("port_value", port)?))
}

fn port(value: &Value) -> Option<u16> {
    u16::try_from(value.as_u64()?).ok()
}

pub fn address(host: &str, port: u16) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(host) => format!("[{host}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}
