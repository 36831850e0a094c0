//! The book of consumers on its way from the config: its store is opened with the first config that names it, and stays
//! open for as long as configs do.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::records::writable;
use crate::{
    capability::{
        Capabilities,
        consumers::{Book, Pages, Refused, Unavailable},
    },
    config::{Config, ConsumerStore, KeyPath, Problem, Problems},
};

/// How often is asked what others have changed.
const PACE: Duration = Duration::from_millis(200);

/// How long a config waits for what a store elsewhere has: for one that does not answer a second, and longer for a large one. Until
/// it is read, requests that need it are answered with 503.
const FIRST: Duration = Duration::from_secs(5);

/// What the book is to say; nothing changes yet.
pub async fn prepare(config: &Config, capabilities: &Capabilities) -> Result<Pages, Problems> {
    let redis = match config.consumers.store {
        Some(ConsumerStore::Redis(place)) => config.redis.get(place),
        _ => None,
    };
    let redis = redis.map(|settings| capabilities.stores.get(settings));
    let pages = capabilities.consumers.prepare(&config.consumers, redis).map_err(|fault| {
        Problems::new(&config.source, vec![Problem::at_value(&config.source, &place(), fault)])
    })?;
    if let Ok(Err(Unavailable(reason))) = timeout(FIRST, capabilities.consumers.read(&pages)).await {
        tracing::warn!("{reason}");
    }
    let token = config.admin.as_ref().and_then(|admin| admin.token.as_ref());
    if let (Some(ConsumerStore::File(_)), None) = (&config.consumers.store, token) {
        tracing::warn!("without `admin.token` nobody can put consumers into `consumers.store`");
    }
    for (plan, consumer) in pages.unknown_plans() {
        tracing::warn!(plan, consumer, "a consumer of the store has a plan that is not in the config");
    }
    Ok(pages)
}

/// Why the store could not be used, without making one or keeping the gateway that runs from it.
pub fn fault(config: &Config) -> Option<Problem> {
    let Some(ConsumerStore::File(file)) = &config.consumers.store else { return None };
    let error = writable(file).err()?;
    let message = format!("{} cannot be used: {error}", file.display());
    Some(Problem::at_value(&config.source, &place(), message))
}

/// Learns for ever what others change in the store: other gateways, or a predecessor, while it still serves.
pub async fn follow(book: &Book) {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        ticks.tick().await;
        let reason = match book.refresh().await {
            Err(Refused::Unavailable(reason)) => Some(reason),
            _ => None,
        };
        match &reason {
            reason if *reason == told => {}
            Some(reason) => tracing::warn!("{reason}"),
            None => tracing::info!("the store of consumers is read again"),
        }
        told = reason;
    }
}

fn place() -> KeyPath {
    KeyPath::root().key("consumers").key("store")
}
