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
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use redis::RedisError;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    config,
    telemetry::{metrics::Metrics, numbers::RedisNumbers},
};
use connection::Connection;

pub struct Redis {
    settings: config::Redis,
    /// One per worker, and one of the thread that asks for consumers.
    links: Mutex<HashMap<usize, Weak<Link>>>,
    metrics: Arc<Metrics>,
}

/// A worker's way to it.
pub struct Link {
    redis: Arc<Redis>,
    state: Mutex<State>,
    /// Answers in a row that did not come in time.
    missed: AtomicU32,
    /// Only changed by this thread.
    numbers: Arc<RedisNumbers>,
}

enum State {
    New,
    /// It is opened for the first time, or at once after it has ended. The channel closes when that is over.
    Opening(watch::Receiver<()>),
    Up(Arc<Connection>),
    /// That was in vain.
    Down,
}

/// Places of [`REDIS_FAILURES`](crate::telemetry::numbers::REDIS_FAILURES).
const UNREACHABLE: usize = 0;
const TIMEOUT: usize = 1;
const ERROR: usize = 2;

/// It gives no answer now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// So many answers in a row that do not come in time end a connection.
const MISSED: u32 = 3;

/// How long to wait between attempts to connect.
const BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_millis(800);

impl Redis {
    pub fn new(settings: config::Redis, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Redis { settings, links: Mutex::default(), metrics })
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
        let here = place();
        if let Some(link) = links.get(&here).and_then(Weak::upgrade) {
            return link;
        }
        let state = Mutex::new(State::New);
        let numbers = self.metrics.redis(&self.settings.name.as_str().into(), here);
        let link = Arc::new(Link { redis: self.clone(), state, missed: AtomicU32::new(0), numbers });
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

    /// Asks it something, and waits for the answer as long as the config says. A connection may have ended while nobody asked
    /// anything: then it is asked again over another one. What was done already without telling is done twice then: rather too much
    /// is counted than nothing.
    async fn ask<T, F: Future<Output = Result<T, RedisError>>>(
        self: &Arc<Self>,
        question: impl Fn(Connection) -> F,
    ) -> Result<T, Unavailable> {
        self.ask_for(self.redis.settings.timeout, question).await
    }

    async fn ask_for<T, F: Future<Output = Result<T, RedisError>>>(
        self: &Arc<Self>,
        limit: Duration,
        question: impl Fn(Connection) -> F,
    ) -> Result<T, Unavailable> {
        self.within(limit, async {
            let connection = self.connection().await?;
            match question((*connection).clone()).await {
                Err(error) if connection.has_ended(&error) => {
                    self.failed(&error, &connection);
                    let connection = self.connection().await?;
                    Some((question((*connection).clone()).await, connection))
                }
                answer => Some((answer, connection)),
            }
        })
        .await
    }

    /// The same once.
    async fn ask_once<T, F: Future<Output = Result<T, RedisError>>>(
        self: &Arc<Self>,
        limit: Duration,
        question: impl FnOnce(Connection) -> F,
    ) -> Result<T, Unavailable> {
        self.within(limit, async {
            let connection = self.connection().await?;
            Some((question((*connection).clone()).await, connection))
        })
        .await
    }

    async fn within<T>(
        self: &Arc<Self>,
        limit: Duration,
        answer: impl Future<Output = Option<(Result<T, RedisError>, Arc<Connection>)>>,
    ) -> Result<T, Unavailable> {
        let begun = Instant::now();
        let failure = match timeout(limit, answer).await {
            Ok(Some((Ok(answer), _))) => {
                self.missed.store(0, Relaxed);
                self.numbers.duration.observe(begun.elapsed());
                return Ok(answer);
            }
            Ok(Some((Err(error), connection))) => {
                self.failed(&error, &connection);
                ERROR
            }
            Ok(None) => UNREACHABLE,
            Err(_) => {
                if self.missed.fetch_add(1, Relaxed) + 1 >= MISSED {
                    self.lost("it does not answer in time", State::Down, None);
                }
                TIMEOUT
            }
        };
        self.numbers.failures[failure].add(1);
        Err(Unavailable)
    }

    /// None where there is none now.
    async fn connection(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let mut opening = match &mut *self.state() {
            State::Up(connection) => return Some(connection.clone()),
            State::Down => return None,
            State::Opening(end) => end.clone(),
            state @ State::New => {
                let (opening, end) = watch::channel(());
                *state = State::Opening(end.clone());
                self.open(Some(opening), false);
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

    /// Tries until there is a connection, or nobody wants one any more. `told`: that there was one and is none.
    fn open(self: &Arc<Self>, mut first: Option<watch::Sender<()>>, mut told: bool) {
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
                        *link.state() = State::Up(connection.into());
                        link.numbers.opened.inc();
                        if told {
                            tracing::info!(redis = name, "Redis is back");
                        }
                        return;
                    }
                    Err(error) => {
                        *link.state() = State::Down;
                        if !told {
                            tracing::warn!(redis = name, error, "Redis cannot be reached");
                        }
                        told = true;
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

    fn failed(self: &Arc<Self>, error: &RedisError, connection: &Arc<Connection>) {
        let still = matches!(&*self.state(), State::Up(current) if Arc::ptr_eq(current, connection));
        if still && connection.has_ended(error) {
            let (opening, end) = watch::channel(());
            self.lost(&error.to_string(), State::Opening(end), Some(opening));
        } else if still && connection.is_useless(error) {
            self.lost(&error.to_string(), State::Down, None);
        } else if still {
            tracing::warn!(redis = self.redis.settings.name, error = error.to_string(), "Redis refuses");
        }
    }

    /// Another one is opened, for which who comes next waits, or is told at once that there is none.
    fn lost(self: &Arc<Self>, error: &str, next: State, opening: Option<watch::Sender<()>>) {
        self.missed.store(0, Relaxed);
        let mut state = self.state();
        // In any other state there is none to lose, and whoever opens one goes on.
        if matches!(*state, State::Up(_)) {
            *state = next;
            self.numbers.closed.inc();
            tracing::warn!(redis = self.redis.settings.name, error, "Redis is lost");
            self.open(opening, true);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if matches!(*self.state(), State::Up(_)) {
            self.numbers.closed.inc();
        }
    }
}

/// The number of this thread, among those that ask.
fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static PLACE: usize = NEXT.fetch_add(1, Relaxed));
    PLACE.with(|place| *place)
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}
