//! One worker: a thread with a runtime, listeners, connections, plugin instances and upstream
//! connections of its own.

use std::{
    net::TcpListener,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc::UnboundedReceiver, task::spawn_local};

use crate::{
    capability::Capabilities,
    drain::Drain,
    proxy::{Ended, Journal},
    runtime::{Current, Worker},
    server::Site,
};

/// Guests run on fibers of their own; this is for the proxy itself.
pub const STACK: usize = 4 << 20;

/// Serves until the drain is over.
pub async fn run(current: Current, listeners: Vec<TcpListener>, drain: Drain) {
    let (journal, ended) = Journal::new();
    let log = spawn_local(log_phases(ended));
    let site = Site::new(Worker::new(current), journal);
    for (number, listener) in (0u16..).zip(listeners) {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => _ = spawn_local(site.clone().accept(listener, number, drain.clone())),
            Err(error) => tracing::error!("a listener cannot be served: {error}"),
        }
    }
    site.sweep(drain.clone()).await;
    // With the last sender the journal ends, once all of its log phases are done.
    let _ = log.await;
    drop(drain);
}

/// Runs the log phases of ended requests, off the answers' way.
async fn log_phases(mut ended: UnboundedReceiver<Ended>) {
    let mut running = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            request = ended.recv() => match request {
                Some(request) => _ = running.spawn_local(request.log()),
                None => break,
            },
            Some(_) = running.join_next() => {}
        }
    }
    while running.join_next().await.is_some() {}
}

/// Forgets counters that are as good as new, every few seconds and for ever.
pub fn sweep_capabilities(capabilities: &Arc<Capabilities>) {
    loop {
        thread::sleep(Duration::from_secs(10));
        capabilities.counters.sweep(Instant::now());
    }
}
