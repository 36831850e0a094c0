//! One worker's side of an upstream: who gets a request, and whether it may be sent at all.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{self, Entry},
};

use super::{
    Member, Upstream,
    adaptive::{self, Limiter},
    answer,
    breaker::{Allowed, Outcome, Trial},
    health::outliers::Failure,
    line_up::LineUp,
    pool::{self, Pool},
    retry::Budget,
};
use crate::{
    body::Body,
    clock,
    config::Protocol,
    telemetry::{metrics::Metrics, numbers::UpstreamNumbers},
};

pub struct Cluster {
    pub upstream: Arc<Upstream>,
    pub numbers: Arc<UpstreamNumbers>,
    metrics: Arc<Metrics>,
    worker: usize,
    /// The upstream's, when the line-up was made.
    version: Cell<u64>,
    line_up: RefCell<LineUp>,
    budget: RefCell<Budget>,
    limiter: Option<RefCell<Limiter>>,
}

/// What a request is balanced by.
#[derive(Clone, Default)]
pub struct Ask {
    /// Hash of its key.
    pub key: Option<u64>,
    /// The endpoint that its cookie names.
    pub sticky: Option<u64>,
    /// Where it has failed.
    pub failed: Vec<Rc<Pool>>,
}

/// Why a request may not be sent.
#[derive(Debug)]
pub enum Refused {
    /// The breaker is open.
    Open { retry_after: Duration },
    /// There are too many.
    Overloaded,
}

/// Why a call has no answer.
pub enum Uncalled {
    /// The upstream is spared.
    Refused(Refused),
    NoEndpoint,
    Failed(pool::Error),
}

/// A request that may be sent, until the end of its answer.
pub struct Ticket {
    cluster: Rc<Cluster>,
    counted: bool,
    trial: Option<Trial>,
    /// When it was let in by the limit that adapts.
    entered: Option<Instant>,
    retrying: Cell<bool>,
}

impl Cluster {
    /// Takes over connections from the one before.
    pub fn new(
        upstream: Arc<Upstream>,
        metrics: &Arc<Metrics>,
        worker: usize,
        before: Option<&Cluster>,
    ) -> Self {
        let numbers = metrics.upstream(&upstream.settings.name, worker);
        let kept = before.map(|before| before.line_up.borrow().pools.clone()).unwrap_or_default();
        let version = Cell::new(upstream.version());
        let line_up = line_up(&upstream, &numbers, metrics, worker, &kept);
        let limiter = upstream.settings.limits.adaptive.as_ref().map(|bounds| {
            let (min, max) = (bounds.min, bounds.max);
            let settings = adaptive::Settings { min, max, ..adaptive::Settings::default() };
            RefCell::new(Limiter::new(settings, upstream.since, Instant::now()))
        });
        Cluster {
            budget: RefCell::new(Budget::new(&upstream.settings.retry.budget, clock::now())),
            line_up: RefCell::new(line_up),
            metrics: metrics.clone(),
            numbers,
            worker,
            version,
            limiter,
            upstream,
        }
    }

    /// The endpoint whose turn it is; none where nobody is in service.
    pub fn pick(&self, ask: &Ask) -> Option<Rc<Pool>> {
        let version = self.upstream.version();
        let mut current = self.line_up.borrow_mut();
        let changed = self.version.replace(version) != version;
        if changed || current.until.is_some_and(|until| clock::now() >= until) {
            *current = line_up(&self.upstream, &self.numbers, &self.metrics, self.worker, &current.pools);
        }
        current.pick(ask, rand::random)
    }

    /// Counts a request, or says why it may not be sent.
    pub fn enter(self: &Rc<Self>) -> Result<Ticket, Refused> {
        self.budget.borrow_mut().request(clock::now());
        let upstream = &self.upstream;
        let mut ticket = Ticket {
            cluster: self.clone(),
            counted: false,
            trial: None,
            entered: None,
            retrying: Cell::new(false),
        };
        if let Some(breaker) = &upstream.breaker {
            match breaker.allow(Instant::now()) {
                Allowed::Pass => {}
                Allowed::Trial(trial, change) => {
                    ticket.trial = Some(trial);
                    upstream.breaker_changed(change);
                }
                Allowed::Refused { retry_after } => {
                    self.numbers.broken.add(1);
                    return Err(Refused::Open { retry_after });
                }
            }
        }
        if let Some(limit) = upstream.settings.limits.requests {
            ticket.counted = upstream.gauges.under_way.enter(limit);
            if !ticket.counted {
                self.numbers.overloaded.add(1);
                return Err(Refused::Overloaded);
            }
        }
        if let Some(limiter) = &self.limiter {
            let now = Instant::now();
            if !limiter.borrow_mut().enter(now) {
                self.numbers.overloaded.add(1);
                return Err(Refused::Overloaded);
            }
            ticket.entered = Some(now);
        }
        Ok(ticket)
    }

    /// A request goes to an endpoint: what becomes of it is to be told.
    pub fn attempt<'a>(&'a self, pool: &'a Pool, now: Instant) -> Attempt<'a> {
        self.numbers.begun.add(1);
        Attempt { cluster: self, pool, begun: now, told: false }
    }

    /// Sends a request of a plugin's own, once. One without Host is for the endpoint by its name.
    pub async fn call(
        self: &Rc<Self>,
        mut request: Request<Body>,
        protocol: Protocol,
    ) -> Result<Response<Body>, Uncalled> {
        let mut ticket = self.enter().map_err(Uncalled::Refused)?;
        let pool = self.pick(&Ask::default()).ok_or(Uncalled::NoEndpoint)?;
        if let Entry::Vacant(host) = request.headers_mut().entry(header::HOST)
            && let Ok(name) = HeaderValue::from_str(&pool.endpoint.authority)
        {
            host.insert(name);
        }
        let attempt = self.attempt(&pool, Instant::now());
        match pool.clone().send_by(protocol, Box::new(request)).await {
            Ok((response, connection)) => {
                ticket.settle(Some(!response.status().is_server_error()));
                attempt.answered(response.status());
                let started = tokio::time::Instant::now();
                Ok(response.map(|body| answer::body(body, connection, Some(ticket), started)))
            }
            Err(failed) => {
                ticket.settle(failed.error.blames_endpoint().then_some(false));
                attempt.failed(&failed.error);
                Err(Uncalled::Failed(failed.error))
            }
        }
    }
}

/// A request at an endpoint. Where it is dropped before its end is told, nobody waited for it any more.
pub struct Attempt<'a> {
    cluster: &'a Cluster,
    pool: &'a Pool,
    begun: Instant,
    told: bool,
}

impl Attempt<'_> {
    /// An answer came.
    pub fn answered(mut self, status: StatusCode) {
        self.told = true;
        let Cluster { upstream, numbers, .. } = self.cluster;
        numbers.answered(status, self.begun.elapsed());
        if !status.is_server_error() {
            return upstream.succeeded(&self.pool.endpoint);
        }
        self.pool.numbers.errors.add(1);
        let gateway = matches!(status.as_u16(), 502..=504);
        upstream.failed(&self.pool.endpoint, if gateway { Failure::Gateway } else { Failure::Server });
    }

    /// None came.
    pub fn failed(self, error: &pool::Error) {
        if error.blames_endpoint() {
            self.timed_out();
        }
    }

    /// None came in time.
    pub fn timed_out(mut self) {
        self.told = true;
        self.cluster.numbers.failures.add(1);
        self.pool.numbers.failures.add(1);
        self.cluster.upstream.failed(&self.pool.endpoint, Failure::Gateway);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.cluster.numbers.ended.add(1);
        if !self.told {
            self.cluster.numbers.cancelled.add(1);
            self.pool.numbers.cancelled.add(1);
        }
    }
}

/// Those who belong to the upstream now, each with the connections that there are to it.
fn line_up(
    upstream: &Arc<Upstream>,
    total: &Arc<UpstreamNumbers>,
    metrics: &Metrics,
    worker: usize,
    kept: &[Rc<Pool>],
) -> LineUp {
    let members = upstream.members();
    let mut known: HashMap<u64, Rc<Pool>> =
        kept.iter().map(|pool| (pool.endpoint.id, pool.clone())).collect();
    let pools = members.iter().map(|Member { endpoint, .. }| {
        let pool = known.entry(endpoint.id).or_insert_with(|| {
            let numbers = metrics.endpoint(&upstream.settings.name, &endpoint.label, worker);
            Rc::new(Pool::new(endpoint.clone(), numbers, total.clone(), upstream.clone()))
        });
        pool.adopt(upstream);
        pool.clone()
    });
    let pools = pools.collect();
    LineUp::new(upstream, &members, pools, Instant::now(), rand::random())
}

impl Ticket {
    /// Whether there may be a further attempt; it is counted then.
    pub fn may_retry(&self) -> bool {
        let Cluster { upstream, numbers, budget, .. } = &*self.cluster;
        let limit = upstream.settings.limits.retries.unwrap_or(u32::MAX);
        if !self.retrying.get() {
            self.retrying.set(upstream.gauges.retries.enter(limit));
        }
        let may = self.retrying.get() && budget.borrow_mut().take(clock::now());
        if may {
            numbers.retries.add(1)
        } else {
            numbers.retries_refused.add(1)
        }
        may
    }

    /// How the upstream did: whether it answered in time, and with no 5xx. Nothing where that is not known.
    pub fn settle(&mut self, ok: Option<bool>) {
        let Cluster { upstream, limiter, .. } = &*self.cluster;
        if let (Some(trial), Some(breaker)) = (self.trial.take(), &upstream.breaker) {
            let outcome = match ok {
                Some(true) => Outcome::Success,
                Some(false) => Outcome::Failure,
                None => Outcome::Unknown,
            };
            let change = breaker.trial_ended(trial, outcome, Instant::now(), rand::random());
            upstream.breaker_changed(change);
        }
        if let (Some(entered), Some(limiter)) = (self.entered.take(), limiter) {
            limiter.borrow_mut().leave(entered, Instant::now(), ok == Some(true));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.settle(None);
        let gauges = &self.cluster.upstream.gauges;
        if self.counted {
            gauges.under_way.leave();
        }
        if self.retrying.get() {
            gauges.retries.leave();
        }
    }
}
