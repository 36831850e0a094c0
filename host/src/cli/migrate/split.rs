//! The clusters of a route, and their shares of its requests.

use super::{header::Changes, resilience::literal_host, tree::Table};

pub struct Shares {
    /// At least one.
    pub all: Vec<Share>,
    /// Only of a cluster that is alone.
    pub changes: Changes,
    /// Requests that are hashed alike go to the same cluster.
    pub by_hash: bool,
}

pub struct Share {
    pub cluster: String,
    pub weight: u32,
    pub host: Option<String>,
}

impl Shares {
    pub fn take(route: &mut Table) -> Option<Self> {
        if let Some(cluster) = route.text("cluster") {
            let all = vec![Share { cluster, weight: 1, host: None }];
            return Some(Shares { all, changes: Changes::default(), by_hash: false });
        }
        let mut weighted = route.table("weighted_clusters")?;
        weighted.skip(&["total_weight", "runtime_key_prefix"]);
        let by_hash = weighted.flag("use_hash_policy").unwrap_or(false);
        let mut tables = weighted.tables("clusters");
        let changes = match tables.as_mut_slice() {
            [only] => Changes::take(only),
            _ => Changes::default(),
        };
        let all: Vec<_> = tables.into_iter().filter_map(share).collect();
        let reachable = all.len() == 1 || all.iter().any(|share| share.weight > 0);
        reachable.then_some(Shares { all, changes, by_hash })
    }

    pub fn clusters(&self) -> impl Iterator<Item = &String> {
        self.all.iter().map(|share| &share.cluster)
    }
}

fn share(mut table: Table) -> Option<Share> {
    let cluster = table.text("name").filter(|name| !name.is_empty())?;
    let weight = table.number_in("weight", 0..=u32::MAX).unwrap_or(0);
    let host = table.take("host_rewrite_literal", |host| literal_host(host.as_str()?));
    for message in ["request", "response"] {
        for change in ["add", "remove"] {
            let key = format!("{message}_headers_to_{change}");
            table.leave_entry(
                &key,
                "changes for a part of the requests; the plugins of a route see all of them",
            );
        }
    }
    Some(Share { cluster, weight, host })
}
