//! The fake host itself: what outlives a request. Which host answers a plugin's calls is a matter
//! of the thread; see [`Host::enter`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use wasmgate_networks::{Entry, NetworkSet};

use super::consumers::Consumers;
use super::metrics::Metrics;
use super::run::Loaded;
use super::store::Store;
use super::upstreams::{Fetched, Upstream};
use crate::audit::Reason;
use crate::log::Level;
use crate::{Plugin, Result, config, http};

/// 2026-01-01T00:00:00Z
const START: Duration = Duration::from_secs(1_767_225_600);

/// A gateway in miniature. Clones are the same host.
///
/// ```
/// use std::time::Duration;
/// use wasmgate_sdk::{clock, log, testing::Host};
///
/// let host = Host::new();
/// host.advance(Duration::from_secs(60));
/// host.enter(|| log::info!("a minute later it is {}", clock::now().as_secs()));
/// assert_eq!(host.log()[0].message, "a minute later it is 1767225660");
/// ```
#[derive(Clone, Default)]
pub struct Host {
    pub(super) state: Rc<RefCell<State>>,
}

/// A line that the plugin wrote.
///
/// ```
/// use wasmgate_sdk::{log::{self, Level}, testing::{Host, LogLine}};
///
/// let host = Host::new();
/// host.enter(|| log::warn!("slow"));
/// assert_eq!(host.log(), [LogLine { level: Level::Warn, message: "slow".to_string() }]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its level.
    pub level: Level,
    /// Its text.
    pub message: String,
}

impl Host {
    /// A host without upstreams to choose from, at 2026-01-01T00:00:00Z, that logs every level.
    ///
    /// ```
    /// let host = wasmgate_sdk::testing::Host::new();
    /// assert_eq!(host.enter(wasmgate_sdk::clock::now).as_secs(), 1_767_225_600);
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an upstream that a plugin may choose.
    ///
    /// ```
    /// let host = wasmgate_sdk::testing::Host::new().upstream("users").upstream("users-next");
    /// # let _ = host;
    /// ```
    pub fn upstream(self, name: &str) -> Self {
        self.state.borrow_mut().upstreams.push(name.to_string());
        self
    }

    /// Answers the requests of a plugin's own; without this nobody does, and each is
    /// [`Failure::Unknown`](crate::http::Failure::Unknown).
    ///
    /// ```
    /// use wasmgate_sdk::{http::{Answer, Call}, testing::Host};
    ///
    /// let host = Host::new().answer(|call| Ok(Answer { body: call.path_with_query.clone().into(), ..Answer::new(200) }));
    /// assert_eq!(host.enter(|| Call::get("users", "/7").send()).unwrap().body, b"/7");
    /// ```
    pub fn answer(
        self,
        answer: impl Fn(&http::Call) -> Result<http::Answer, http::Failure> + 'static,
    ) -> Self {
        self.state.borrow_mut().upstream = Some(Rc::new(answer));
        self
    }

    /// Grants a text of the config, as `secrets` of a plugin's table does.
    ///
    /// ```
    /// let host = wasmgate_sdk::testing::Host::new().secret("signing", "s3cret");
    /// assert_eq!(host.enter(|| wasmgate_sdk::secrets::get("signing")).as_deref(), Some("s3cret"));
    /// assert_eq!(host.enter(|| wasmgate_sdk::secrets::get("other")), None);
    /// ```
    pub fn secret(self, name: &str, text: &str) -> Self {
        self.state.borrow_mut().secrets.insert(name.to_string(), text.to_string());
        self
    }

    /// Grants a set of addresses and networks under this name, in place of one that is there. An entry that is neither ends
    /// the test.
    ///
    /// ```
    /// use wasmgate_sdk::{networks, testing::Host};
    ///
    /// let host = Host::new().networks("offices", &["192.0.2.0/24", "2001:db8::/32"]);
    /// let found = host.enter(|| networks::find("offices", "192.0.2.7"))?;
    /// assert_eq!(found.as_deref(), Some("192.0.2.0/24"));
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn networks(self, name: &str, entries: &[&str]) -> Self {
        let network = |text: &&str| match Entry::read(text) {
            Some(entry) => entry.network,
            None => panic!("networks: {text:?} is neither an address nor a network"),
        };
        let set = entries.iter().map(network).collect();
        self.state.borrow_mut().networks.insert(name.to_string(), set);
        self
    }

    /// Most keys that [`counters`](crate::counters) hold, to see what a plugin does when they are
    /// exhausted. Default: a million, as in the gateway.
    ///
    /// ```
    /// use std::time::Duration;
    /// use wasmgate_sdk::{HostError, counters, testing::Host};
    ///
    /// let host = Host::new().max_keys(1);
    /// let increment = |key| host.enter(|| counters::increment(key, 1, Duration::from_secs(1)));
    /// assert_eq!(increment("a"), Ok(1));
    /// assert_eq!(increment("b"), Err(HostError::Exhausted));
    /// ```
    pub fn max_keys(self, keys: usize) -> Self {
        self.state.borrow_mut().store.max_keys = keys;
        self
    }

    /// Least important level that is still logged.
    ///
    /// ```
    /// use wasmgate_sdk::{log::{self, Level}, testing::Host};
    ///
    /// let host = Host::new().log_level(Level::Warn);
    /// host.enter(|| log::info!("not written"));
    /// assert!(host.log().is_empty());
    /// ```
    pub fn log_level(self, level: Level) -> Self {
        self.state.borrow_mut().log_level = level;
        self
    }

    /// Another sequence of random bytes.
    ///
    /// ```
    /// use wasmgate_sdk::{random, testing::Host};
    ///
    /// let bytes = |seed| Host::new().seed(seed).enter(|| random::bytes(8));
    /// assert_eq!(bytes(1), bytes(1));
    /// assert_ne!(bytes(1), bytes(2));
    /// ```
    pub fn seed(self, seed: u64) -> Self {
        self.state.borrow_mut().random = seed;
        self
    }

    /// Makes an instance of a plugin from a config in JSON, as the gateway does: "null" where a
    /// route gives none. The error is the one that the gateway would report.
    ///
    /// ```
    /// use wasmgate_sdk::{Plugin, Result, config, plugin, testing::Host};
    ///
    /// #[config]
    /// struct Config {
    ///     limit: u32,
    /// }
    ///
    /// struct Limit;
    ///
    /// #[plugin]
    /// impl Plugin for Limit {
    ///     type Config = Config;
    ///
    ///     fn new(config: Config) -> Result<Self> {
    ///         Ok(Limit)
    ///     }
    /// }
    ///
    /// # fn main() {
    /// let refused = Host::new().load::<Limit>(r#"{"limit": "much"}"#).err().unwrap();
    /// assert_eq!(refused.to_string(), "limit: invalid type: string \"much\", expected u32");
    /// # }
    /// ```
    pub fn load<P: Plugin>(&self, config: &str) -> Result<Loaded<P>> {
        let plugin = self.enter(|| config::read(config).and_then(P::new))?;
        Ok(Loaded::new(self.clone(), plugin))
    }

    /// Moves the clock forward.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let host = wasmgate_sdk::testing::Host::new();
    /// let before = host.enter(wasmgate_sdk::clock::now);
    /// host.advance(Duration::from_secs(90));
    /// assert_eq!(host.enter(wasmgate_sdk::clock::now) - before, Duration::from_secs(90));
    /// ```
    pub fn advance(&self, by: Duration) {
        self.state.borrow_mut().elapsed += by;
    }

    /// Runs a function that calls the host outside of a loaded plugin. Such a call without an
    /// entered host ends the test.
    ///
    /// ```
    /// let host = wasmgate_sdk::testing::Host::new();
    /// assert_eq!(host.enter(|| wasmgate_sdk::random::bytes(4)).len(), 4);
    /// ```
    pub fn enter<T>(&self, run: impl FnOnce() -> T) -> T {
        ENTERED.with_borrow_mut(|entered| entered.push(self.state.clone()));
        let _leave = Leave;
        run()
    }

    /// All lines that were written, oldest first.
    ///
    /// ```
    /// let host = wasmgate_sdk::testing::Host::new();
    /// host.enter(|| wasmgate_sdk::log::debug!("here"));
    /// assert_eq!(host.log()[0].message, "here");
    /// ```
    pub fn log(&self) -> Vec<LogLine> {
        self.state.borrow().log.clone()
    }

    /// The sum of a counter, the last value of a gauge, or the sum of what a histogram observed;
    /// none where the plugin did not define the series.
    ///
    /// ```
    /// use wasmgate_sdk::{metrics::Gauge, testing::Host};
    ///
    /// let host = Host::new();
    /// let keys = host.enter(|| Gauge::new("keys", &[("set", "a")]))?;
    /// host.enter(|| keys.set(3.0));
    /// assert_eq!(host.metric("keys", &[("set", "a")]), Some(3.0));
    /// # Ok::<(), wasmgate_sdk::Error>(())
    /// ```
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.state.borrow().metrics.value(name, labels)
    }
}

pub struct State {
    pub upstreams: Vec<String>,
    /// Who answers the plugin's own requests.
    pub upstream: Option<Rc<Upstream>>,
    pub kept: HashMap<String, Fetched>,
    pub secrets: HashMap<String, String>,
    pub networks: HashMap<String, NetworkSet>,
    pub log_level: Level,
    pub metrics: Metrics,
    pub store: Store,
    pub consumers: Consumers,
    /// What the audit was told last.
    pub reason: Option<Reason>,
    /// Since the host was made; the monotonic clock.
    pub elapsed: Duration,
    /// Route and client of the request that is under way.
    pub request: Option<(String, String)>,
    log: Vec<LogLine>,
    random: u64,
}

impl Default for State {
    fn default() -> Self {
        State {
            upstreams: Vec::new(),
            upstream: None,
            kept: HashMap::new(),
            secrets: HashMap::new(),
            networks: HashMap::new(),
            log_level: Level::Trace,
            metrics: Metrics::default(),
            store: Store::default(),
            consumers: Consumers::default(),
            reason: None,
            elapsed: Duration::ZERO,
            request: None,
            log: Vec::new(),
            random: 0,
        }
    }
}

impl State {
    pub fn now(&self) -> Duration {
        START + self.elapsed
    }

    pub fn elapsed_ms(&self) -> u64 {
        self.elapsed.as_millis() as u64
    }

    pub fn log(&mut self, level: Level, message: &str) {
        self.log.push(LogLine { level, message: message.to_string() });
    }

    pub fn random_bytes(&mut self, len: u32) -> Vec<u8> {
        assert!(len <= 64 * 1024, "random: the host gives at most 64 KiB at once");
        (0..len).map(|_| self.random_byte()).collect()
    }

    /// SplitMix64.
    fn random_byte(&mut self) -> u8 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 56) as u8
    }
}

thread_local! {
    static ENTERED: RefCell<Vec<Rc<RefCell<State>>>> = const { RefCell::new(Vec::new()) };
}

/// Leaves the host even where the test fails inside.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        ENTERED.with_borrow_mut(|entered| entered.pop());
    }
}

/// The host that answers on this thread.
pub fn current<T>(call: impl FnOnce(&mut State) -> T) -> T {
    let host = ENTERED.with_borrow(|entered| entered.last().cloned());
    match host {
        Some(host) => call(&mut host.borrow_mut()),
        None => panic!("a host function was called outside of Host::enter"),
    }
}
