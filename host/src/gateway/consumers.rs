//! The book of consumers on its way from the config: its store is opened with the first config that names it, and stays
//! open for as long as configs do.

use std::time::Duration;

use super::records::writable;
use crate::{
    capability::consumers::{Book, Pages, Refused},
    config::{Config, KeyPath, Problem, Problems},
};

/// What the book is to say; nothing changes yet.
pub fn prepare(config: &Config, book: &Book) -> Result<Pages, Problems> {
    book.prepare(&config.consumers).map_err(|fault| {
        Problems::new(&config.source, vec![Problem::at_value(&config.source, &place(), fault)])
    })
}

/// Why the store could not be used, without making one or keeping the gateway that runs from it.
pub fn fault(config: &Config) -> Option<Problem> {
    let file = config.consumers.store.as_deref()?;
    let error = writable(file).err()?;
    let message = format!("{} cannot be used: {error}", file.display());
    Some(Problem::at_value(&config.source, &place(), message))
}

/// Learns for ever what other processes change in the store: a predecessor, while it still serves.
pub async fn follow(book: &Book) {
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        if let Err(Refused::Unavailable(reason)) = book.refresh().await {
            tracing::warn!("{reason}");
        }
    }
}

fn place() -> KeyPath {
    KeyPath::root().key("consumers").key("store")
}
