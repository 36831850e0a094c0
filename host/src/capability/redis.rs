//! A Redis of the config: one server, one that Sentinels name, or a Cluster. Each worker has one connection to it, on which
//! what its guests ask for is pipelined. Where it cannot be reached, who asks is told at once, and it is tried again in the
//! background.

mod connection;
pub mod ledger;
mod script;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use redis::RedisError;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::config;
use connection::Connection;

pub struct Redis {
    settings: config::Redis,
    /// One per worker.
    links: Mutex<HashMap<ThreadId, Weak<Link>>>,
}

/// A worker's way to it.
pub struct Link {
    redis: Arc<Redis>,
    state: Mutex<State>,
    /// Answers in a row that did not come in time.
    missed: AtomicU32,
}

enum State {
    New,
    /// It is opened for the first time. The channel closes when that is over.
    Opening(watch::Receiver<()>),
    Up(Connection),
    Down,
}

/// It gives no answer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// So many answers in a row that do not come in time end a connection.
const MISSED: u32 = 3;

/// How long to wait between attempts to connect.
const BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_millis(800);

impl Redis {
    pub fn new(settings: config::Redis) -> Arc<Self> {
        Arc::new(Redis { settings, links: Mutex::default() })
    }

    /// Whether it is reached in this way.
    pub fn has(&self, settings: &config::Redis) -> bool {
        self.settings == *settings
    }

    /// What the config calls it.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The way of the thread that asks.
    pub fn link(self: &Arc<Self>) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let here = thread::current().id();
        if let Some(link) = links.get(&here).and_then(Weak::upgrade) {
            return link;
        }
        let state = Mutex::new(State::New);
        let link = Arc::new(Link { redis: self.clone(), state, missed: AtomicU32::new(0) });
        links.retain(|_, link| link.strong_count() > 0);
        links.insert(here, Arc::downgrade(&link));
        link
    }
}

impl Link {
    /// The name of a key, by the kind of what is under it. What stands in braces alone says where in a Cluster it is.
    fn key(&self, kind: &str, plugin: &str, key: &str) -> String {
        [&self.redis.settings.prefix, kind, ":{", plugin, ":", key, "}"].concat()
    }

    /// Asks it something, and waits for the answer as long as the config says.
    async fn ask<T>(
        self: &Arc<Self>,
        question: impl AsyncFnOnce(&mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, Unavailable> {
        self.ask_within(self.redis.settings.timeout, question).await
    }

    async fn ask_within<T>(
        self: &Arc<Self>,
        limit: Duration,
        question: impl AsyncFnOnce(&mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, Unavailable> {
        let asked = timeout(limit, async {
            let mut connection = self.connection().await.ok_or(Unavailable)?;
            Ok((question(&mut connection).await, connection))
        });
        match asked.await {
            Ok(Ok((Ok(answer), _))) => {
                self.missed.store(0, Relaxed);
                Ok(answer)
            }
            Ok(Ok((Err(error), connection))) => {
                self.failed(&error, &connection);
                Err(Unavailable)
            }
            Ok(Err(unavailable)) => Err(unavailable),
            Err(_) => {
                if self.missed.fetch_add(1, Relaxed) + 1 >= MISSED {
                    self.lost("it does not answer in time");
                }
                Err(Unavailable)
            }
        }
    }

    /// None where there is none now.
    async fn connection(self: &Arc<Self>) -> Option<Connection> {
        let mut opening = match &mut *self.state() {
            State::Up(connection) => return Some(connection.clone()),
            State::Down => return None,
            State::Opening(end) => end.clone(),
            state @ State::New => {
                let (opening, end) = watch::channel(());
                *state = State::Opening(end.clone());
                self.open(Some(opening));
                end
            }
        };
        // It ends with an error: nothing is ever sent.
        let _ = opening.changed().await;
        match &*self.state() {
            State::Up(connection) => Some(connection.clone()),
            _ => None,
        }
    }

    /// Tries until there is a connection, or nobody wants one any more.
    fn open(self: &Arc<Self>, mut first: Option<watch::Sender<()>>) {
        let (redis, link) = (self.redis.clone(), Arc::downgrade(self));
        tokio::spawn(async move {
            let (name, limit) = (&redis.settings.name, redis.settings.connect_timeout);
            let mut backoff = BACKOFF;
            while link.strong_count() > 0 {
                let opened = timeout(limit, Connection::open(&redis.settings)).await;
                let opened = opened.map_err(|_| "it does not answer in time".to_owned());
                let opened = opened.and_then(|opened| opened.map_err(|error| error.to_string()));
                let Some(link) = link.upgrade() else { return };
                match opened {
                    Ok(connection) => {
                        let before = std::mem::replace(&mut *link.state(), State::Up(connection));
                        if matches!(before, State::Down) {
                            tracing::info!(redis = name, "Redis is back");
                        }
                        return;
                    }
                    Err(error) => {
                        let before = std::mem::replace(&mut *link.state(), State::Down);
                        if !matches!(before, State::Down) {
                            tracing::warn!(redis = name, error, "Redis cannot be reached");
                        }
                    }
                }
                first = None;
                drop(link);
                sleep(backoff).await;
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
            drop(first);
        });
    }

    fn failed(self: &Arc<Self>, error: &RedisError, connection: &Connection) {
        let still = matches!(&*self.state(), State::Up(current) if current.is(connection));
        if still && connection.is_ended_by(error) {
            self.lost(&error.to_string());
        } else if still {
            tracing::warn!(redis = self.redis.settings.name, error = error.to_string(), "Redis refuses");
        }
    }

    /// What comes next is told so at once, until there is a new connection.
    fn lost(self: &Arc<Self>, error: &str) {
        self.missed.store(0, Relaxed);
        let mut state = self.state();
        // In any other state there is none to lose, and whoever opens one goes on.
        if matches!(*state, State::Up(_)) {
            *state = State::Down;
            tracing::warn!(redis = self.redis.settings.name, error, "Redis is lost");
            self.open(None);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}
