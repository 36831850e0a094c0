//! How names of endpoints are looked up. In Envoy each cluster says so, here it is the same for all upstreams.

use std::time::Duration;

use serde_json::json;

use super::{
    output::{self, Keys},
    tree::{Notes, Table},
};
use crate::config::KeyPath;

/// What a cluster asks for, and where.
pub struct Lookup {
    family: (KeyPath, Option<&'static str>),
    refresh: Option<(KeyPath, Duration)>,
}

/// Of clusters that ask for no family.
const USUAL_FAMILY: &str = "v6-preferred";

impl Lookup {
    /// None for a cluster whose names are not looked up.
    pub fn take(cluster: &mut Table) -> Option<Self> {
        cluster.skip_if("type", &["STATIC"]);
        let place = cluster.at("type");
        let takes_first = cluster.take("type", |kind| match kind.as_str()? {
            "STRICT_DNS" => Some(false),
            "LOGICAL_DNS" => Some(true),
            _ => None,
        })?;
        if takes_first {
            let what = "all addresses of a name get requests; Envoy uses the first one";
            cluster.notes().caution(&place, what);
        }
        let place = cluster.at("dns_lookup_family");
        let family = cluster.take("dns_lookup_family", |family| family_of(family.as_str()?));
        Some(Lookup { family: (place, family), refresh: refresh(cluster) })
    }

    /// The first cluster that asks for something gets it for all of them.
    pub fn of_all<'l>(lookups: impl Iterator<Item = &'l Lookup>, notes: &Notes) -> Keys {
        let lookups: Vec<_> = lookups.collect();
        if lookups.is_empty() {
            return Keys::new();
        }
        let asked = |lookup: &Lookup| lookup.family.1.unwrap_or(USUAL_FAMILY);
        let family = lookups.iter().find_map(|lookup| lookup.family.1).unwrap_or(USUAL_FAMILY);
        for lookup in lookups.iter().filter(|lookup| asked(lookup) != family) {
            let why =
                format!("{} for this cluster alone; family = {family:?} of [dns] is for all", asked(lookup));
            notes.left(&lookup.family.0, &why);
        }
        let mut keys = Keys::from([("family", json!(family))]);
        let mut rates = lookups.iter().filter_map(|lookup| lookup.refresh.as_ref());
        if let Some((_, rate)) = rates.next() {
            keys.extend(["min_ttl", "max_ttl"].map(|key| (key, output::duration(*rate))));
            for (place, _) in rates.filter(|(_, other)| other != rate) {
                notes.left(place, "a rate for one upstream; `min_ttl` and `max_ttl` of [dns] are for all");
            }
        }
        keys
    }
}

fn family_of(text: &str) -> Option<&'static str> {
    Some(match text {
        "AUTO" => USUAL_FAMILY,
        "V4_PREFERRED" => "v4-preferred",
        "V4_ONLY" => "v4",
        "V6_ONLY" => "v6",
        "ALL" => "both",
        _ => return None,
    })
}

/// How often names are looked up, where that is not when their records expire.
fn refresh(cluster: &mut Table) -> Option<(KeyPath, Duration)> {
    let place = cluster.at("dns_refresh_rate");
    let as_they_expire = cluster.flag("respect_dns_ttl").unwrap_or(false);
    let rate = if as_they_expire { None } else { cluster.time("dns_refresh_rate") };
    Some((place, rate?))
}
