//! Native plugins: components for package wasmgate:plugin.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;
use tokio::time::timeout;
use wasmtime::{
    Engine,
    component::{Component, InstancePre},
};

use super::{
    allowance::{Allowance, Permit},
    calls,
    host::{self, Outcome},
    instance::{Exports, Instance},
    pool::Pool,
    store::{Host, LogBudget, PluginContext},
};
use crate::{
    capability::Capabilities,
    config::{Breaker, PluginLimits},
    plugin::{
        BodyVerdict, Call, Factory, Failure, Filter, Phases, Stage, Stock, Summary, Verdict,
        exchange::Exchange,
    },
    telemetry::numbers::PluginNumbers,
};

/// A component that is known to be a native plugin: linked, its phases found, not yet configured.
#[derive(Clone)]
pub struct Linked {
    pre: InstancePre<Host>,
    exports: Arc<Exports>,
}

/// How one plugin of the config is run.
#[derive(Clone, Debug)]
pub struct Settings {
    pub breaker: Breaker,
    /// A fresh instance for every call.
    pub fresh: bool,
}

/// All that a new instance of a configured plugin needs. Shared by all workers.
pub struct Template {
    pub context: Arc<PluginContext>,
    pub settings: Settings,
    /// Exported by the component and needed under this config.
    phases: Phases,
    linked: Linked,
    config: String,
}

/// Links a component; the error says why it is not a native plugin.
pub fn link(engine: &Engine, component: &Component) -> wasmtime::Result<Linked> {
    let pre = host::linker(engine)?.instantiate_pre(component)?;
    let exports = Arc::new(Exports::find(&pre)?);
    Ok(Linked { pre, exports })
}

impl Linked {
    pub fn phases(&self) -> Phases {
        self.exports.phases()
    }

    /// JSON Schema of the plugin's config, as the guest gives it.
    pub async fn schema(&self, context: Arc<PluginContext>) -> Result<String, Failure> {
        let mut instance = self.instantiate(context, Arc::default()).await?;
        let Instance { store, guest, .. } = &mut *instance;
        Host::start_clock(store);
        let schema = guest.lifecycle.call_config_schema(&mut *store).await;
        schema.map_err(|error| instance.failure(&error))
    }

    async fn instantiate(
        &self,
        context: Arc<PluginContext>,
        numbers: Arc<PluginNumbers>,
    ) -> Result<Box<Instance>, Failure> {
        let mut store = Host::store(self.pre.engine(), context, numbers);
        Host::start_clock(&mut store);
        let started = self.pre.instantiate_async(&mut store).await;
        let guest = started.and_then(|instance| self.exports.load(&mut store, &instance));
        match guest {
            Ok(guest) => Ok(Box::new(Instance { store, guest, permit: None })),
            Err(_) if store.data().clock.is_out() => Err(Failure::Deadline),
            Err(_) if store.data().limiter.refused => Err(Failure::Memory),
            Err(error) => Err(Failure::Trap(format!("{error:#}"))),
        }
    }
}

impl PluginContext {
    pub fn new(
        name: Arc<str>,
        scope: Arc<str>,
        limits: PluginLimits,
        upstreams: Vec<Arc<str>>,
        callable: Vec<Arc<str>>,
        reads_consumers: bool,
        capabilities: Arc<Capabilities>,
    ) -> Arc<Self> {
        let log_budget = LogBudget::new(limits.log_rate);
        let allowance = limits.total_instances.map(Allowance::new);
        Arc::new(PluginContext {
            name,
            scope,
            limits,
            allowance,
            upstreams,
            callable,
            reads_consumers,
            capabilities,
            log_budget,
        })
    }
}

impl Template {
    /// `config` is the JSON text that every instance's `init` gets. A first instance is started
    /// with it, to see whether it is accepted and which phases it needs.
    pub async fn start(
        linked: Linked,
        context: Arc<PluginContext>,
        settings: Settings,
        config: String,
    ) -> Result<Arc<Self>, Failure> {
        let mut template = Template { context, settings, phases: linked.phases(), linked, config };
        let (_, needed) = template.init(Arc::default()).await?;
        template.phases = template.phases.intersection(host::phases(needed));
        Ok(Arc::new(template))
    }

    pub fn limits(&self) -> &PluginLimits {
        &self.context.limits
    }

    /// A place for a new instance among those of all workers, where these are bounded.
    pub async fn permit(&self) -> Result<Option<Permit>, Failure> {
        let Some(allowance) = &self.context.allowance else { return Ok(None) };
        timeout(self.limits().wait, allowance.take()).await.map_err(|_| Failure::Saturated)
    }

    /// A new instance with its `init` run.
    pub async fn instantiate(&self, numbers: Arc<PluginNumbers>) -> Result<Box<Instance>, Failure> {
        let (instance, _) = self.init(numbers).await?;
        Ok(instance)
    }

    async fn init(&self, numbers: Arc<PluginNumbers>) -> Result<(Box<Instance>, host::GuestPhases), Failure> {
        let mut instance = self.linked.instantiate(self.context.clone(), numbers).await?;
        let Instance { store, guest, .. } = &mut *instance;
        Host::start_clock(store);
        match guest.lifecycle.call_init(&mut *store, &self.config).await {
            Ok(Ok(phases)) => Ok((instance, phases)),
            Ok(Err(text)) => Err(Failure::Error(text)),
            Err(error) => Err(instance.failure(&error)),
        }
    }
}

/// A template under the identity of its bytes, settings and config.
pub struct NativeFactory {
    pub template: Arc<Template>,
    pub identity: u64,
}

impl Factory for NativeFactory {
    fn name(&self) -> &Arc<str> {
        &self.template.context.name
    }

    fn identity(&self) -> u64 {
        self.identity
    }

    fn filter(&self, stock: &mut dyn Stock) -> Rc<dyn Filter> {
        let numbers = stock.numbers(self.name());
        let may_call = !self.template.context.callable.is_empty();
        let caller = may_call.then(|| calls::start(&stock.services()));
        Rc::new(NativeFilter { pool: Pool::new(self.template.clone(), numbers, caller) })
    }
}

/// One configured native plugin on one worker.
struct NativeFilter {
    pool: Pool,
}

impl NativeFilter {
    /// Leases an instance, lends it the exchange, runs the phase and settles what came of it. `read`
    /// makes the verdict of what the guest returned and what it said besides.
    async fn call<T, V>(
        &self,
        stage: Stage,
        exchange: &mut Exchange,
        phase: impl AsyncFnOnce(&mut Instance) -> wasmtime::Result<T>,
        read: impl FnOnce(&mut Outcome, T) -> Result<V, Failure>,
    ) -> Result<V, Failure> {
        let mut lease = match self.pool.warm(stage) {
            Some(lease) => lease,
            None => self.pool.lease(stage).await?,
        };
        let numbers = self.pool.numbers();
        let phase_numbers = &numbers.phases[stage as usize];
        let timer = phase_numbers.begin();
        let call = async |instance: &mut Instance| phase(&mut instance.enter(exchange)).await;
        let result = self.pool.run(&mut lease, call).await;
        if let Some(started) = timer {
            phase_numbers.duration.observe(started.elapsed());
        }
        numbers.host_calls.add(lease.instance.take_host_calls());
        match result {
            Ok(returned) => {
                let verdict = read(lease.instance.outcome(), returned);
                self.pool.give_back(lease);
                verdict
            }
            Err(error) => {
                let failure = lease.instance.failure(&error);
                self.pool.failed(stage, &failure);
                Err(failure)
            }
        }
    }
}

impl Filter for NativeFilter {
    fn phases(&self) -> Phases {
        self.pool.template().phases
    }

    fn request<'a>(&'a self, exchange: &'a mut Exchange) -> Call<'a, Verdict> {
        let phase = async |Instance { store, guest, .. }: &mut Instance| {
            implemented(&guest.request)?.call_on_request(store).await
        };
        Box::pin(self.call(Stage::Request, exchange, phase, Outcome::verdict))
    }

    fn request_body<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        chunk: Bytes,
        end: bool,
    ) -> Call<'a, BodyVerdict> {
        let phase = async move |Instance { store, guest, .. }: &mut Instance| {
            implemented(&guest.request_body)?.call_on_request_body(store, &chunk, end).await
        };
        Box::pin(self.call(Stage::RequestBody, exchange, phase, Outcome::body_verdict))
    }

    fn response<'a>(&'a self, exchange: &'a mut Exchange) -> Call<'a, Verdict> {
        let phase = async |Instance { store, guest, .. }: &mut Instance| {
            implemented(&guest.response)?.call_on_response(store).await
        };
        Box::pin(self.call(Stage::Response, exchange, phase, Outcome::verdict))
    }

    fn response_body<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        chunk: Bytes,
        end: bool,
    ) -> Call<'a, BodyVerdict> {
        let phase = async move |Instance { store, guest, .. }: &mut Instance| {
            implemented(&guest.response_body)?.call_on_response_body(store, &chunk, end).await
        };
        Box::pin(self.call(Stage::ResponseBody, exchange, phase, Outcome::body_verdict))
    }

    fn log<'a>(&'a self, exchange: &'a mut Exchange, summary: &'a Summary) -> Call<'a, ()> {
        let phase = async move |Instance { store, guest, .. }: &mut Instance| {
            implemented(&guest.log)?.call_on_log(store, &host::summary(summary)).await
        };
        Box::pin(self.call(Stage::Log, exchange, phase, |_, ()| Ok(())))
    }

    fn retire(&self) {
        self.pool.retire();
    }

    fn relieve(&self) {
        self.pool.relieve();
    }
}

/// The chain calls only the phases that a filter names.
fn implemented<T>(phase: &Option<T>) -> wasmtime::Result<&T> {
    phase.as_ref().ok_or_else(|| wasmtime::Error::msg("the plugin does not export this phase"))
}
