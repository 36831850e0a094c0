//! Looks after an upstream for all workers: looks names up, checks endpoints, lets those that were taken out come
//! back.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant as Timer, sleep, sleep_until},
};

use super::{
    Endpoint, Upstream,
    check::check,
    health::{checks::Checks, outliers::Sample},
    resolve::{self, Resolved, Resolver, Schedule},
};
use crate::{
    config::{Health, Target},
    telemetry::tally::sum,
};

/// How often it looks whether there is something to do besides.
const TICK: Duration = Duration::from_secs(1);

/// Works until it is dropped.
pub async fn keep(upstream: Arc<Upstream>, resolver: Rc<Resolver>) {
    let mut tasks = JoinSet::new();
    for (place, endpoint) in upstream.settings.endpoints.iter().enumerate() {
        if matches!(endpoint.target, Target::Name(..) | Target::Service(_)) {
            tasks.spawn_local(follow(upstream.clone(), place, resolver.clone()));
        }
    }
    let (mut probes, mut samples) = (Probes::default(), Samples::default());
    let mut next_look = Timer::now() + upstream.settings.outliers.interval;
    loop {
        if let Some(health) = &upstream.settings.health {
            probes.follow(&upstream, health);
        }
        if let Some(breaker) = &upstream.breaker {
            upstream.breaker_changed(breaker.tick(Instant::now(), || upstream.totals(), rand::random()));
        }
        let tick = Timer::now() + TICK;
        while next_look <= tick {
            sleep_until(next_look).await;
            upstream.look(Instant::now(), &samples.take(&upstream));
            next_look += upstream.settings.outliers.interval;
        }
        sleep_until(tick).await;
    }
}

/// Looks names up that were never looked up, all at once, for at most `limit`. What is not answered in time is left to
/// the keeper.
pub async fn look_up(upstreams: &[Arc<Upstream>], resolver: &Rc<Resolver>, limit: Duration) {
    let mut tasks = JoinSet::new();
    for upstream in upstreams {
        for place in upstream.unknown() {
            let (upstream, resolver) = (upstream.clone(), resolver.clone());
            tasks.spawn_local(async move {
                let outcome = resolve(&resolver, &upstream.settings.endpoints[place].target).await;
                tell(&upstream, place, &outcome);
            });
        }
    }
    let _ = tokio::time::timeout(limit, async { while tasks.join_next().await.is_some() {} }).await;
}

async fn resolve(resolver: &Resolver, target: &Target) -> Result<Resolved, resolve::Error> {
    match target {
        Target::Name(name, port) => resolver.addresses(name, *port).await,
        Target::Service(name) => resolver.service(name).await,
        // Nobody asks for these.
        Target::Address(_) | Target::Unix(_) => Err(resolve::Error::Failed("this is no name".to_owned())),
    }
}

/// Asks for a name again and again. What was known last stands while nobody can tell.
async fn follow(upstream: Arc<Upstream>, place: usize, resolver: Rc<Resolver>) {
    let mut schedule = Schedule::default();
    loop {
        let outcome = resolve(&resolver, &upstream.settings.endpoints[place].target).await;
        tell(&upstream, place, &outcome);
        sleep(schedule.next(&outcome, rand::random())).await;
    }
}

fn tell(upstream: &Upstream, place: usize, outcome: &Result<Resolved, resolve::Error>) {
    match outcome {
        Ok(found) if found.complete => upstream.resolved(place, found.members.clone()),
        Ok(found) => upstream.resolved_in_part(place, &found.members),
        Err(error) => {
            let (name, target) = (&*upstream.settings.name, &upstream.settings.endpoints[place].target);
            tracing::warn!(upstream = name, "{target} cannot be looked up: {error}");
        }
    }
}

/// The probes of those who belong to the upstream.
#[derive(Default)]
struct Probes {
    tasks: JoinSet<()>,
    running: HashMap<u64, AbortHandle>,
}

impl Probes {
    fn follow(&mut self, upstream: &Arc<Upstream>, health: &Health) {
        let members = upstream.members();
        let wanted: HashSet<u64> = members.iter().map(|member| member.endpoint.id).collect();
        self.running.retain(|id, probe| {
            let stays = wanted.contains(id);
            if !stays {
                probe.abort();
            }
            stays
        });
        for member in &*members {
            let endpoint = &member.endpoint;
            self.running.entry(endpoint.id).or_insert_with(|| {
                self.tasks.spawn_local(probe(upstream.clone(), endpoint.clone(), health.clone()))
            });
        }
        while self.tasks.try_join_next().is_some() {}
    }
}

async fn probe(upstream: Arc<Upstream>, endpoint: Arc<Endpoint>, health: Health) {
    let known = endpoint.record().checked.then(|| !endpoint.is_ill());
    let mut checks = Checks::new(health.clone(), known);
    if !checks.is_healthy() && endpoint.set_ill(true) {
        upstream.touch();
    }
    let mut failed = endpoint.is_ill();
    loop {
        sleep(checks.next(rand::random())).await;
        let result = check(&endpoint, &health, &upstream.settings).await;
        let change = if result.is_ok() { checks.success() } else { checks.failure() };
        if std::mem::replace(&mut failed, result.is_err()) && result.is_ok() {
            upstream.recovered(&endpoint);
        }
        upstream.checked(&endpoint, change, result.err());
    }
}

/// What was counted of each endpoint when it was looked at last.
#[derive(Default)]
struct Samples(HashMap<u64, (u64, u64)>);

impl Samples {
    /// What happened since.
    fn take(&mut self, upstream: &Upstream) -> Vec<(u64, Sample)> {
        let members = upstream.members();
        let mut now = HashMap::new();
        let mut samples = Vec::new();
        for member in &*members {
            let endpoint = &member.endpoint;
            let sheets = upstream.endpoint_numbers(endpoint);
            let ended =
                sum(&sheets, |sheet| &sheet.ended).saturating_sub(sum(&sheets, |sheet| &sheet.cancelled));
            let failed = sum(&sheets, |sheet| &sheet.failures) + sum(&sheets, |sheet| &sheet.errors);
            let (ended_before, failed_before) = self.0.get(&endpoint.id).copied().unwrap_or_default();
            let requests = ended.saturating_sub(ended_before);
            let failures = failed.saturating_sub(failed_before);
            now.insert(endpoint.id, (ended, failed));
            samples.push((endpoint.id, Sample { requests, successes: requests.saturating_sub(failures) }));
        }
        self.0 = now;
        samples
    }
}
