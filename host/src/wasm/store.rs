//! What belongs to one instance on the host's side: its limits, its WASI, and for the time of a
//! call the exchange.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use wasmtime::{Engine, Store, UpdateDeadline, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{
    allowance::Allowance,
    host::{Outcome, log::PluginOutput},
    limits::{Clock, Limiter, Waiting},
};
use crate::{
    capability::{Capabilities, http_call::Caller, networks::Place, redis::Link, store},
    config::{CredentialKind, PluginLimits},
    plugin::exchange::State,
    telemetry::{numbers::PluginNumbers, series::Series},
};

pub struct Host {
    pub exchange: Option<Box<State>>,
    /// What the guest says about the phase that runs.
    pub outcome: Outcome,
    pub plugin: Arc<PluginContext>,
    /// The series that this instance defined; their numbers are places in here.
    pub series: Vec<Series>,
    pub limiter: Limiter,
    /// Host functions that the guest has called in this call.
    pub calls: u64,
    pub clock: Clock,
    /// The way to the worker that makes its calls; none before it serves.
    pub caller: Option<Caller>,
    /// The worker's way to its store, where that is a Redis; none before it serves.
    pub link: Option<Arc<Link>>,
    /// Whether the guest waits for the host.
    pub waiting: Waiting,
    wasi: WasiCtx,
    /// What the guest has handles of.
    pub table: ResourceTable,
    /// Keys and sealers among it.
    pub keys: usize,
}

/// What all instances of one configured plugin share.
pub struct PluginContext {
    pub name: Arc<str>,
    /// Under which its counters and stored values stand: those of another plugin are not its.
    pub scope: Arc<str>,
    pub limits: PluginLimits,
    /// Where the limits bound the instances of all workers.
    pub allowance: Option<Allowance>,
    pub grants: Grants,
    pub capabilities: Arc<Capabilities>,
    pub log_budget: LogBudget,
}

/// What the config lets a plugin have.
#[derive(Default)]
pub struct Grants {
    /// Upstreams that it may choose.
    pub upstreams: Vec<Arc<str>>,
    /// Upstreams that it may call.
    pub callable: Vec<Arc<str>>,
    /// Where its counters and values are; none is the memory of the process.
    pub store: Option<store::Store>,
    /// Texts by their names.
    pub secrets: BTreeMap<String, String>,
    /// Sets of addresses that it may ask.
    pub networks: Vec<Place>,
    /// Kinds of credentials for whose consumers it may ask; none where it may ask for no consumers at all.
    pub consumers: Option<Vec<CredentialKind>>,
}

impl Grants {
    /// What differs where anything of it does. It has the secrets in it.
    pub fn identity(&self) -> String {
        let Grants { upstreams, callable, store, secrets, networks, consumers } = self;
        let store = store.as_ref().map(store::Store::identity);
        let networks: Vec<_> = networks.iter().map(Place::name).collect();
        format!("{upstreams:?} {callable:?} {store:?} {secrets:?} {networks:?} {consumers:?}")
    }
}

impl Host {
    pub fn store(engine: &Engine, plugin: Arc<PluginContext>, numbers: Arc<PluginNumbers>) -> Store<Host> {
        let output = PluginOutput::new(plugin.clone());
        let (memory, host_bytes) = (plugin.limits.memory, plugin.limits.host_bytes);
        let mut store = Store::new(
            engine,
            Host {
                exchange: None,
                outcome: Outcome::default(),
                series: Vec::new(),
                limiter: Limiter::new(memory, numbers),
                calls: 0,
                clock: Clock::default(),
                caller: None,
                link: None,
                waiting: Waiting::default(),
                // No files, no environment, no sockets.
                wasi: WasiCtx::builder().stdout(output.clone()).stderr(output).build(),
                table: ResourceTable::new(),
                keys: 0,
                plugin,
            },
        );
        store.limiter(|host| &mut host.limiter);
        store.set_hostcall_fuel(host_bytes);
        // Each tick the guest lets its worker look at its sockets; a plain yield would starve them.
        store.epoch_deadline_callback(|mut context| {
            let clock = &mut context.data_mut().clock;
            if !clock.tick() {
                return Ok(UpdateDeadline::Interrupt);
            }
            let running_since = clock.running_since().clone();
            let others = async move {
                tokio::task::yield_now().await;
                running_since.now();
            };
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(others)))
        });
        store
    }

    /// Gives the next call its time. Without it every call would trap at once.
    pub fn start_clock(store: &mut Store<Host>) {
        let host = store.data_mut();
        host.clock.start(host.plugin.limits.time);
        store.set_epoch_deadline(1);
    }

    pub fn exchange(&mut self) -> wasmtime::Result<&mut State> {
        let state = self.exchange.as_deref_mut();
        state.ok_or_else(|| wasmtime::Error::msg("there is no request outside a phase"))
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Log lines per second of one plugin on all workers; what exceeds it is counted and said once a second.
pub struct LogBudget {
    rate: u32,
    second: AtomicU64,
    used: AtomicU32,
}

impl LogBudget {
    pub fn new(rate: u32) -> Self {
        LogBudget { rate, second: AtomicU64::new(0), used: AtomicU32::new(0) }
    }

    /// Whether one more line may be written in this second. The second value is the number of
    /// lines that were dropped in the last one, told once.
    pub fn take(&self, second: u64) -> (bool, u32) {
        let mut lost = 0;
        if self.second.swap(second, Relaxed) != second {
            lost = self.used.swap(0, Relaxed).saturating_sub(self.rate);
        }
        (self.used.fetch_add(1, Relaxed) < self.rate, lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_have_a_rate() {
        let budget = LogBudget::new(2);
        let taken: Vec<_> = [1, 1, 1, 1, 2, 2, 3].map(|second| budget.take(second)).into();
        let yes = (true, 0);
        assert_eq!(taken, [yes, yes, (false, 0), (false, 0), (true, 2), yes, yes]);
    }
}
