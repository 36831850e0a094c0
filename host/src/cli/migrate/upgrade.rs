//! Protocols that requests may go on in.

use std::collections::BTreeMap;

use http::Method;

use super::tree::Table;

/// Whether each protocol that a level names is allowed. Envoy compares their names without case.
#[derive(Clone, Default)]
pub struct Upgrades(BTreeMap<String, bool>);

impl Upgrades {
    pub fn take(table: &mut Table) -> Self {
        Upgrades(table.tables("upgrade_configs").into_iter().filter_map(upgrade).collect())
    }

    /// Of each protocol the closest to the route counts.
    pub fn or(self, above: &Upgrades) -> Self {
        let mut all = above.0.clone();
        all.extend(self.0);
        Upgrades(all)
    }

    /// None where nothing is said of any.
    pub fn allowed(self) -> Option<Vec<String>> {
        let allowed = |(name, allowed): (&String, &bool)| allowed.then(|| name.clone());
        (!self.0.is_empty()).then(|| self.0.iter().filter_map(allowed).collect())
    }
}

fn upgrade(mut table: Table) -> Option<(String, bool)> {
    let name = table.text("upgrade_type").unwrap_or_default().to_ascii_lowercase();
    let is_token = |part: &str| Method::from_bytes(part.as_bytes()).is_ok();
    if !name.splitn(2, '/').all(is_token) || matches!(&*name, "connect" | "connect-udp" | "h2c") {
        table.leave("what `upgrades` of a route cannot allow");
        return None;
    }
    Some((name, table.flag("enabled").unwrap_or(true)))
}
