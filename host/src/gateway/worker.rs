//! One worker: a thread with a runtime, listeners, connections, plugin instances and upstream
//! connections of its own.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::Weak,
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::{sync::mpsc::UnboundedReceiver, task::spawn_local};

use super::listeners::Order;
use crate::{
    capability::Capabilities,
    drain::Drain,
    plugin::services::{Task, Tasks},
    proxy::{Ended, Journal},
    runtime::{Current, Worker},
    server::{Door, Listening, Site},
    snapshot::Snapshot,
};

/// Guests run on fibers of their own; this is for the proxy itself.
pub const STACK: usize = 4 << 20;

/// Serves until the drain is over.
pub async fn run(number: usize, current: Current, orders: UnboundedReceiver<Order>, drain: Drain) {
    let (journal, ended) = Journal::new();
    let (tasks, new_tasks) = Tasks::new();
    let log = spawn_local(log_phases(ended));
    let tasks_of_filters = spawn_local(run_tasks(new_tasks));
    let site = Site::new(Worker::new(current, number, tasks), journal);
    let doors = spawn_local(follow(orders, site.clone(), drain.clone()));
    site.sweep(drain.clone()).await;
    doors.abort();
    tasks_of_filters.abort();
    // With the last sender the journal ends, once all of its log phases are done.
    let _ = log.await;
    drop(drain);
}

/// Opens and closes listeners as it is told to.
async fn follow(mut orders: UnboundedReceiver<Order>, site: Rc<Site>, drain: Drain) {
    let mut doors = HashMap::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Open { door, name, socket } => match Listening::new(socket) {
                Ok(listener) => {
                    let opened =
                        doors.entry(door).or_insert_with(|| Door::new(door, site.listener_numbers(&name)));
                    spawn_local(site.clone().accept(listener, opened.clone(), drain.clone()));
                }
                Err(error) => tracing::error!("a listener cannot be served: {error}"),
            },
            Order::Close { door } => {
                if let Some(door) = doors.remove(&door) {
                    door.close();
                }
            }
        }
    }
}

/// Runs what filters have to do between requests.
async fn run_tasks(mut new: UnboundedReceiver<Task>) {
    let mut running = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Some(task) = new.recv() => { running.spawn_local(task); }
            Some(_) = running.join_next() => {}
            else => break,
        }
    }
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

/// Forgets counters that are as good as new, every few seconds, for as long as there is a snapshot. It keeps none: the
/// access log ends with the last one.
pub fn sweep_counters(capabilities: &Capabilities, current: &Weak<ArcSwap<Snapshot>>) {
    loop {
        thread::sleep(Duration::from_secs(10));
        let Some(current) = current.upgrade() else { return };
        let now = Instant::now();
        capabilities.counters.sweep(now);
        capabilities.rate_limits.sweep(now);
        current.load().entrances.iter().for_each(|entrance| entrance.limiter.sweep(now));
    }
}
