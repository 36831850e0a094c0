//! One live guest: its store and the phases that it exports.

use std::ops::DerefMut;

use wasmtime::{
    Store,
    component::{Instance as ComponentInstance, InstancePre},
};

use super::{
    allowance::Permit,
    host::{
        Outcome,
        bindings::exports::wasmgate::plugin::{
            lifecycle, log_phase, request_body_phase, request_phase, response_body_phase, response_phase,
        },
    },
    store::Host,
};
use crate::plugin::{Failure, Phases, exchange::Exchange};

pub struct Instance {
    pub store: Store<Host>,
    pub guest: Guest,
    /// Its place among those of all workers, where these are bounded.
    pub permit: Option<Permit>,
}

/// The guest's functions.
pub struct Guest {
    pub lifecycle: lifecycle::Guest,
    pub request: Option<request_phase::Guest>,
    pub request_body: Option<request_body_phase::Guest>,
    pub response: Option<response_phase::Guest>,
    pub response_body: Option<response_body_phase::Guest>,
    pub log: Option<log_phase::Guest>,
}

/// Where a component has these functions; found once per component.
pub struct Exports {
    lifecycle: lifecycle::GuestIndices,
    request: Option<request_phase::GuestIndices>,
    request_body: Option<request_body_phase::GuestIndices>,
    response: Option<response_phase::GuestIndices>,
    response_body: Option<response_body_phase::GuestIndices>,
    log: Option<log_phase::GuestIndices>,
}

impl Exports {
    /// Fails where the lifecycle is missing: then it is not a plugin of this package.
    pub fn find(pre: &InstancePre<Host>) -> wasmtime::Result<Exports> {
        Ok(Exports {
            lifecycle: lifecycle::GuestIndices::new(pre)?,
            request: request_phase::GuestIndices::new(pre).ok(),
            request_body: request_body_phase::GuestIndices::new(pre).ok(),
            response: response_phase::GuestIndices::new(pre).ok(),
            response_body: response_body_phase::GuestIndices::new(pre).ok(),
            log: log_phase::GuestIndices::new(pre).ok(),
        })
    }

    pub fn phases(&self) -> Phases {
        Phases {
            request: self.request.is_some(),
            request_body: self.request_body.is_some(),
            response: self.response.is_some(),
            response_body: self.response_body.is_some(),
            log: self.log.is_some(),
        }
    }

    pub fn load(&self, store: &mut Store<Host>, instance: &ComponentInstance) -> wasmtime::Result<Guest> {
        // One line per phase: the generated types share no trait.
        Ok(Guest {
            lifecycle: self.lifecycle.load(&mut *store, instance)?,
            request: self.request.as_ref().map(|i| i.load(&mut *store, instance)).transpose()?,
            request_body: self.request_body.as_ref().map(|i| i.load(&mut *store, instance)).transpose()?,
            response: self.response.as_ref().map(|i| i.load(&mut *store, instance)).transpose()?,
            response_body: self.response_body.as_ref().map(|i| i.load(&mut *store, instance)).transpose()?,
            log: self.log.as_ref().map(|i| i.load(&mut *store, instance)).transpose()?,
        })
    }
}

impl Instance {
    /// Lends the exchange to the guest until the returned value is dropped, which also happens
    /// when the request goes away in the middle of a call.
    pub fn enter<'a>(&'a mut self, exchange: &'a mut Exchange) -> Entered<'a> {
        Host::start_clock(&mut self.store);
        let host = self.store.data_mut();
        host.exchange = exchange.lend();
        host.outcome = Outcome::default();
        Entered { instance: self, exchange }
    }

    /// What the guest said in the phase that has just run.
    pub fn outcome(&mut self) -> &mut Outcome {
        &mut self.store.data_mut().outcome
    }

    /// Host functions that were called since this was asked last.
    pub fn take_host_calls(&mut self) -> u64 {
        std::mem::take(&mut self.store.data_mut().calls)
    }

    /// What an error that ended a call means.
    pub fn failure(&self, error: &wasmtime::Error) -> Failure {
        let host = self.store.data();
        if host.clock.is_out() {
            Failure::Deadline
        } else if host.limiter.refused {
            Failure::Memory
        } else {
            Failure::Trap(brief(error))
        }
    }
}

/// The root of the error without its backtrace, in one line.
pub fn brief(error: &wasmtime::Error) -> String {
    let text = error.root_cause().to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

pub struct Entered<'a> {
    instance: &'a mut Instance,
    exchange: &'a mut Exchange,
}

impl std::ops::Deref for Entered<'_> {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        self.instance
    }
}

impl DerefMut for Entered<'_> {
    fn deref_mut(&mut self) -> &mut Instance {
        self.instance
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.instance.store.data_mut().exchange.take() {
            self.exchange.restore(state);
        }
    }
}
