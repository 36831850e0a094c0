//! Two versions of a plugin as one filter. A request stays with the version that it got in its
//! first phase; a shadow sees copies of what the old version saw, and what it does is only compared.

use std::{rc::Rc, sync::Arc, time::Instant};

use bytes::Bytes;

use super::{
    BodyVerdict, Call, Factory, Failure, Filter, LocalResponse, Phases, Stock, Summary, Verdict, difference,
    exchange::Exchange,
    rollout::{Rollout, Version},
};
use crate::telemetry::{metrics::Rollouts, numbers::VersionNumbers};

/// Both versions under one identity.
pub struct SplitFactory {
    pub old: Arc<dyn Factory>,
    pub new: Arc<dyn Factory>,
    pub rollout: Arc<Rollout>,
    pub events: Rollouts,
    pub identity: u64,
}

impl Factory for SplitFactory {
    fn name(&self) -> &Arc<str> {
        self.old.name()
    }

    fn identity(&self) -> u64 {
        self.identity
    }

    /// The old version's filter is the one that the worker has without a roll-out, warm instances and all.
    fn filter(&self, stock: &mut dyn Stock) -> Rc<dyn Filter> {
        let numbers = |version, worker| self.rollout.numbers.of(&version, worker, VersionNumbers::default);
        let worker = stock.worker();
        Rc::new(Split {
            name: self.name().clone(),
            identity: self.identity,
            rollout: self.rollout.clone(),
            events: self.events.clone(),
            old: Side { filter: stock.filter(&*self.old), numbers: numbers(Version::Old, worker) },
            new: Side { filter: stock.filter(&*self.new), numbers: numbers(Version::New, worker) },
        })
    }
}

struct Split {
    name: Arc<str>,
    identity: u64,
    rollout: Arc<Rollout>,
    events: Rollouts,
    old: Side,
    new: Side,
}

/// One version on one worker.
struct Side {
    filter: Rc<dyn Filter>,
    numbers: Arc<VersionNumbers>,
}

impl Side {
    /// Runs a phase, if this version has it, and counts the call.
    async fn run<'a, V: Default>(
        &'a self,
        has: impl FnOnce(Phases) -> bool,
        call: impl FnOnce(&'a dyn Filter) -> Call<'a, V>,
        answer: impl FnOnce(&V) -> Option<&LocalResponse>,
    ) -> Result<V, Failure> {
        if !has(self.filter.phases()) {
            return Ok(V::default());
        }
        let started = Instant::now();
        let result = call(&*self.filter).await;
        self.numbers.calls.add(1);
        self.numbers.duration.observe(started.elapsed());
        match &result {
            Err(Failure::Error(_)) => self.numbers.errors.add(1),
            Err(_) => self.numbers.failures.add(1),
            Ok(verdict) if answer(verdict).is_some_and(|answer| answer.status.as_u16() >= 400) => {
                self.numbers.errors.add(1);
            }
            Ok(_) => {}
        }
        result
    }

    async fn request(&self, exchange: &mut Exchange) -> Result<Verdict, Failure> {
        self.run(|phases| phases.request, |filter| filter.request(exchange), Verdict::answer).await
    }

    async fn response(&self, exchange: &mut Exchange) -> Result<Verdict, Failure> {
        self.run(|phases| phases.response, |filter| filter.response(exchange), Verdict::answer).await
    }
}

impl Split {
    /// The version of this request: chosen once.
    fn version(&self, exchange: &mut Exchange) -> Version {
        if let Some((_, version)) = exchange.versions.iter().find(|(split, _)| *split == self.identity) {
            return *version;
        }
        let key = self.rollout.plan.sticky.as_ref().and_then(|key| exchange.key(key));
        let version = self.rollout.choose(key.as_deref(), rand::random);
        exchange.versions.push((self.identity, version));
        version
    }

    fn shadows(&self) -> bool {
        self.rollout.plan.shadow
    }

    /// Whose verdict counts for this request.
    fn side(&self, exchange: &mut Exchange) -> &Side {
        match self.version(exchange) {
            Version::New if !self.shadows() => &self.new,
            _ => &self.old,
        }
    }

    /// Whether the new version is to see a copy of this request.
    fn is_shadowed(&self, exchange: &mut Exchange) -> bool {
        self.shadows() && !self.rollout.is_stopped() && self.version(exchange) == Version::New
    }

    /// Says how the shadow differed from what counts.
    fn compare(
        &self,
        phase: &str,
        (exchange, verdict): (&Exchange, &Result<Verdict, Failure>),
        (shadow, shadow_verdict): (&Exchange, &Result<Verdict, Failure>),
    ) {
        self.events.compared(&self.name);
        let mut found = difference::of_verdicts(verdict, shadow_verdict);
        // What a failed call or an answer leaves of the message is of no consequence.
        if matches!((verdict, shadow_verdict), (Ok(Verdict::Next), Ok(Verdict::Next))) {
            found.extend(difference::of_exchanges(exchange, shadow));
        }
        for difference in &found {
            self.events.differs(&self.name, difference.what);
            if self.rollout.may_log(difference.what, Instant::now()) {
                let (plugin, target) = (&*self.name, exchange.request.target.path());
                tracing::warn!(plugin, phase, target, "the shadow differs: {difference}");
            }
        }
    }
}

impl Filter for Split {
    fn phases(&self) -> Phases {
        self.old.filter.phases().union(self.new.filter.phases())
    }

    fn request<'a>(&'a self, exchange: &'a mut Exchange) -> Call<'a, Verdict> {
        Box::pin(async move {
            if !self.is_shadowed(exchange) {
                return self.side(exchange).request(exchange).await;
            }
            let mut shadow = exchange.copy();
            let verdict = self.old.request(exchange).await;
            let shadow_verdict = self.new.request(&mut shadow).await;
            self.compare("request", (exchange, &verdict), (&shadow, &shadow_verdict));
            exchange.keep_on(shadow);
            verdict
        })
    }

    fn request_body<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        chunk: Bytes,
        end: bool,
    ) -> Call<'a, BodyVerdict> {
        Box::pin(async move {
            let side = self.side(exchange);
            let call = |filter: &'a dyn Filter| filter.request_body(exchange, chunk, end);
            side.run(|phases| phases.request_body, call, BodyVerdict::answer).await
        })
    }

    fn response<'a>(&'a self, exchange: &'a mut Exchange) -> Call<'a, Verdict> {
        Box::pin(async move {
            if !self.is_shadowed(exchange) {
                return self.side(exchange).response(exchange).await;
            }
            let mut shadow = exchange.copy();
            let verdict = self.old.response(exchange).await;
            let shadow_verdict = self.new.response(&mut shadow).await;
            self.compare("response", (exchange, &verdict), (&shadow, &shadow_verdict));
            exchange.keep_on(shadow);
            verdict
        })
    }

    fn response_body<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        chunk: Bytes,
        end: bool,
    ) -> Call<'a, BodyVerdict> {
        Box::pin(async move {
            let side = self.side(exchange);
            let call = |filter: &'a dyn Filter| filter.response_body(exchange, chunk, end);
            side.run(|phases| phases.response_body, call, BodyVerdict::answer).await
        })
    }

    fn log<'a>(&'a self, exchange: &'a mut Exchange, summary: &'a Summary) -> Call<'a, ()> {
        Box::pin(async move {
            let side = self.side(exchange);
            side.run(|phases| phases.log, |filter| filter.log(exchange, summary), |()| None).await
        })
    }

    /// Both versions' filters are the worker's, which asks each by itself.
    fn retire(&self) {}

    fn relieve(&self) {}
}
