//! Native plugins: components for package wasmgate:plugin.

use std::{future::Future, rc::Rc, sync::Arc};

use bytes::Bytes;
use wasmtime::{
    Engine,
    component::{Component, InstancePre, Resource},
};

use super::{
    host::{self, REQUEST, RESPONSE},
    instance::{Exports, Instance},
    pool::Pool,
    store::{Host, LogBudget, PluginContext},
};
use crate::{
    capability::Capabilities,
    config::{Breaker, PluginLimits},
    plugin::{
        BodyVerdict, Call, Factory, Failure, Filter, Phases, Stage, Summary, Verdict, exchange::Exchange,
    },
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
        let mut instance = self.instantiate(context).await?;
        let Instance { store, guest } = &mut *instance;
        Host::start_clock(store);
        let schema = guest.lifecycle.call_config_schema(&mut *store).await;
        schema.map_err(|error| instance.failure(&error))
    }

    async fn instantiate(&self, context: Arc<PluginContext>) -> Result<Box<Instance>, Failure> {
        let mut store = Host::store(self.pre.engine(), context);
        Host::start_clock(&mut store);
        let started = self.pre.instantiate_async(&mut store).await;
        let guest = started.and_then(|instance| self.exports.load(&mut store, &instance));
        match guest {
            Ok(guest) => Ok(Box::new(Instance { store, guest })),
            Err(_) if store.data().timed_out => Err(Failure::Deadline),
            Err(_) if store.data().limiter.refused => Err(Failure::Memory),
            Err(error) => Err(Failure::Trap(format!("{error:#}"))),
        }
    }
}

impl PluginContext {
    pub fn new(
        name: Arc<str>,
        limits: PluginLimits,
        upstreams: Vec<Arc<str>>,
        capabilities: Arc<Capabilities>,
    ) -> Arc<Self> {
        let log_budget = LogBudget::new(limits.log_rate);
        Arc::new(PluginContext { name, limits, upstreams, capabilities, log_budget })
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
        let (_, needed) = template.init().await?;
        template.phases = template.phases.intersection(host::phases(needed));
        Ok(Arc::new(template))
    }

    pub fn limits(&self) -> &PluginLimits {
        &self.context.limits
    }

    /// A new instance with its `init` run.
    pub async fn instantiate(&self) -> Result<Box<Instance>, Failure> {
        let (instance, _) = self.init().await?;
        Ok(instance)
    }

    async fn init(&self) -> Result<(Box<Instance>, host::GuestPhases), Failure> {
        let mut instance = self.linked.instantiate(self.context.clone()).await?;
        let Instance { store, guest } = &mut *instance;
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

    fn filter(&self) -> Rc<dyn Filter> {
        Rc::new(NativeFilter { pool: Pool::new(self.template.clone()) })
    }
}

/// One configured native plugin on one worker.
struct NativeFilter {
    pool: Pool,
}

impl NativeFilter {
    /// Leases an instance, lends it the exchange, runs the phase and settles what came of it.
    async fn call<T, F>(&self, stage: Stage, exchange: &mut Exchange, phase: F) -> Result<T, Failure>
    where
        F: AsyncFnOnce(&mut Instance) -> wasmtime::Result<Result<T, String>>,
    {
        let mut lease = self.pool.lease(stage).await?;
        let result = phase(&mut lease.instance.enter(exchange)).await;
        match result {
            Ok(verdict) => {
                self.pool.give_back(lease);
                verdict.map_err(Failure::Error)
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
        boxed(self.call(Stage::Request, exchange, async |Instance { store, guest }| {
            let phase = implemented(&guest.request)?;
            let verdict = phase.call_on_request(store, Resource::new_borrow(REQUEST)).await?;
            Ok(verdict.and_then(host::verdict))
        }))
    }

    fn request_body<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        chunk: Bytes,
        end: bool,
    ) -> Call<'a, BodyVerdict> {
        boxed(self.call(Stage::RequestBody, exchange, async move |Instance { store, guest }| {
            let phase = implemented(&guest.request_body)?;
            let request = Resource::new_borrow(REQUEST);
            let verdict = phase.call_on_request_body(store, request, &chunk, end).await?;
            Ok(verdict.and_then(host::body_verdict))
        }))
    }

    fn response<'a>(&'a self, exchange: &'a mut Exchange) -> Call<'a, Verdict> {
        boxed(self.call(Stage::Response, exchange, async |Instance { store, guest }| {
            let phase = implemented(&guest.response)?;
            let (request, response) = (Resource::new_borrow(REQUEST), Resource::new_borrow(RESPONSE));
            let verdict = phase.call_on_response(store, request, response).await?;
            Ok(verdict.and_then(host::verdict))
        }))
    }

    fn response_body<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        chunk: Bytes,
        end: bool,
    ) -> Call<'a, BodyVerdict> {
        boxed(self.call(Stage::ResponseBody, exchange, async move |Instance { store, guest }| {
            let phase = implemented(&guest.response_body)?;
            let (request, response) = (Resource::new_borrow(REQUEST), Resource::new_borrow(RESPONSE));
            let verdict = phase.call_on_response_body(store, request, response, &chunk, end).await?;
            Ok(verdict.and_then(host::body_verdict))
        }))
    }

    fn log<'a>(&'a self, exchange: &'a mut Exchange, summary: &'a Summary) -> Call<'a, ()> {
        boxed(self.call(Stage::Log, exchange, async move |Instance { store, guest }| {
            let phase = implemented(&guest.log)?;
            let (request, response) = (Resource::new_borrow(REQUEST), Resource::new_borrow(RESPONSE));
            phase.call_on_log(store, request, response, &host::summary(summary)).await?;
            Ok(Ok(()))
        }))
    }
}

fn boxed<'a, T>(call: impl Future<Output = Result<T, Failure>> + 'a) -> Call<'a, T> {
    Box::pin(call)
}

/// The chain calls only the phases that a filter names.
fn implemented<T>(phase: &Option<T>) -> wasmtime::Result<&T> {
    phase.as_ref().ok_or_else(|| wasmtime::Error::msg("the plugin does not export this phase"))
}
