//! Upstreams: where they run, which endpoint gets a request, the connections to it. They know neither routes nor
//! plugins. [`Upstream`] is what all workers share, [`Cluster`] is one worker's side of it.

pub mod adaptive;
pub mod answer;
pub mod balance;
pub mod breaker;
mod check;
mod cluster;
mod endpoint;
pub mod gauge;
pub mod health;
pub mod hints;
pub mod keeper;
mod line_up;
pub mod pool;
pub mod resolve;
pub mod retry;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::{
    config::{self, Initial, Target},
    telemetry::{
        metrics::Metrics,
        numbers::{EndpointNumbers, UpstreamNumbers},
        tally::{Tally, sum},
    },
};
use breaker::{Breaker, Change, Totals};
use gauge::Gauge;
use health::outliers::{Failure, Outliers, Why};
use resolve::Found;

pub use cluster::{Ask, Attempt, Cluster, Refused, Ticket, Uncalled};
pub use endpoint::{Address, Endpoint, Out};

/// An upstream of the config, and who belongs to it now.
pub struct Upstream {
    pub settings: config::Upstream,
    members: ArcSwap<Vec<Member>>,
    /// Goes up with every change of the members or of what is known of them.
    version: AtomicU64,
    /// What names stand for, by their place in the settings; none before the first answer.
    found: Mutex<Vec<Option<Vec<Found>>>>,
    /// Kept over reloads: who ejects an endpoint may be the one before, to which requests are still on their way.
    outliers: Arc<Mutex<Outliers>>,
    /// Kept over reloads that leave its settings as they are.
    pub breaker: Option<Arc<Breaker>>,
    /// Kept over reloads.
    pub gauges: Arc<Gauges>,
    /// When there first was an upstream of this name.
    since: Instant,
    metrics: Arc<Metrics>,
    published: AtomicBool,
}

/// How many there are of what has limits, on all workers.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Requests; counted only where they are limited.
    pub under_way: Gauge,
    pub connections: Gauge,
    /// Requests that wait for a connection.
    pub pending: Gauge,
    /// Requests that are being tried again.
    pub retries: Gauge,
    /// A connection was closed that others may wait for.
    freed: Notify,
}

/// An endpoint's place in an upstream.
#[derive(Clone)]
pub struct Member {
    pub endpoint: Arc<Endpoint>,
    pub weight: u16,
    pub priority: u8,
    /// In the zone of this gateway.
    pub local: bool,
}

impl Upstream {
    /// Takes over from the one before the endpoints that it had, with all that is known of them.
    pub fn new(settings: config::Upstream, metrics: Arc<Metrics>, before: Option<&Upstream>) -> Upstream {
        let outliers = match before {
            Some(before) => before.outliers.clone(),
            None => Arc::new(Mutex::new(Outliers::new(settings.outliers.clone()))),
        };
        let breaker = settings.breaker.as_ref().map(|wanted| {
            let same = before.filter(|before| before.settings.breaker.as_ref() == Some(wanted));
            let kept = same.and_then(|before| before.breaker.clone());
            kept.unwrap_or_else(|| Arc::new(Breaker::new(wanted.clone())))
        });
        let found = settings.endpoints.iter().map(|endpoint| {
            let before = before?;
            let known = before.settings.endpoints.iter().position(|known| known.target == endpoint.target)?;
            before.found().get(known)?.clone()
        });
        let upstream = Upstream {
            members: ArcSwap::from_pointee(
                before.map(|before| before.members().to_vec()).unwrap_or_default(),
            ),
            version: AtomicU64::new(0),
            found: Mutex::new(found.collect()),
            outliers,
            breaker,
            gauges: before.map(|before| before.gauges.clone()).unwrap_or_default(),
            since: before.map_or_else(Instant::now, |before| before.since),
            settings,
            metrics,
            published: AtomicBool::new(false),
        };
        upstream.gather();
        upstream
    }

    pub fn members(&self) -> Arc<Vec<Member>> {
        self.members.load_full()
    }

    /// To be asked before [`Self::members`]: what changes in between is seen the next time.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Names that were never looked up, by their place in the settings.
    pub fn unknown(&self) -> Vec<usize> {
        let found = self.found();
        let is_name = |place: &usize| {
            let target = &self.settings.endpoints[*place].target;
            matches!(target, Target::Name(..) | Target::Service(_))
        };
        (0..found.len()).filter(|place| found[*place].is_none()).filter(is_name).collect()
    }

    /// What a name stands for from now on.
    pub fn resolved(&self, place: usize, members: Vec<Found>) {
        let changed = {
            let mut found = self.found();
            let Some(known) = found.get_mut(place) else { return };
            let changed = known.as_ref() != Some(&members);
            *known = Some(members);
            changed
        };
        if changed {
            let (upstream, name) = (&*self.settings.name, &self.settings.endpoints[place].target);
            tracing::debug!(upstream, %name, "has other addresses");
            self.gather();
        }
    }

    /// The same, where not all of it could be looked up: nothing that was known is taken back.
    fn resolved_in_part(&self, place: usize, members: &[Found]) {
        let mut all = self.found().get(place).cloned().flatten().unwrap_or_default();
        let new = members.iter().filter(|new| !all.iter().any(|known| known.address == new.address));
        let new: Vec<_> = new.copied().collect();
        all.extend(new);
        self.resolved(place, all);
    }

    /// What workers count of an endpoint.
    pub fn endpoint_numbers(&self, endpoint: &Endpoint) -> Vec<Arc<EndpointNumbers>> {
        let label = (self.settings.name.clone(), endpoint.label.clone());
        self.metrics.sheaf().endpoints.get(&label)
    }

    /// Makes the members of what the settings and the names say. Endpoints that there were stay the same ones.
    fn gather(&self) {
        let before = self.members();
        let mut members = Vec::new();
        // Nobody gets a request from the moment of being known to the first check.
        let suspect =
            self.settings.health.as_ref().is_some_and(|health| health.initial == Initial::Unhealthy);
        for (configured, found) in self.settings.endpoints.iter().zip(&*self.found()) {
            let config::Endpoint { weight, priority, local, .. } = *configured;
            for place in places(&configured.target, found.as_deref().unwrap_or_default()) {
                let is_same = |member: &&Member| member.endpoint.is(&place.address, &place.authority);
                let known = before.iter().find(is_same).map(|member| member.endpoint.clone());
                let endpoint = known.unwrap_or_else(|| {
                    let endpoint = Endpoint::new(place.address, place.authority.into());
                    endpoint.set_ill(suspect);
                    Arc::new(endpoint)
                });
                let weight = weight.unwrap_or(place.weight);
                members.push(Member {
                    endpoint,
                    weight,
                    priority: priority.saturating_add(place.priority),
                    local,
                });
            }
        }
        let gone = before
            .iter()
            .filter(|member| !members.iter().any(|new| Arc::ptr_eq(&new.endpoint, &member.endpoint)));
        for member in gone {
            self.outliers().forget(member.endpoint.id);
            if self.published.load(Ordering::Relaxed) {
                self.unpublish(&member.endpoint);
            }
        }
        self.members.store(Arc::new(members));
        self.touch();
    }

    /// Something is known of an endpoint that was not before.
    fn touch(&self) {
        self.version.fetch_add(1, Ordering::Release);
        self.publish();
    }

    /// From now on this is the upstream of its name, which its metrics tell of.
    pub fn take_over(&self) {
        self.published.store(true, Ordering::Relaxed);
        if let Some(breaker) = &self.breaker {
            self.metrics.breaker_changed(&self.settings.name, breaker.state() as u8, false);
        }
        self.outliers().set(self.settings.outliers.clone());
        if self.settings.health.is_none() {
            // Nobody would ever find out that they are healthy again.
            self.members().iter().for_each(|member| _ = member.endpoint.set_ill(false));
        }
        self.touch();
    }

    /// It is no more. What `successor` has too stays in the metrics.
    pub fn retire(&self, successor: Option<&Upstream>) {
        self.published.store(false, Ordering::Relaxed);
        let left = successor.map(|successor| successor.members()).unwrap_or_default();
        let stays = |member: &&Member| left.iter().any(|other| other.endpoint.label == member.endpoint.label);
        let members = self.members();
        members.iter().filter(|member| !stays(member)).for_each(|member| self.unpublish(&member.endpoint));
        if successor.is_none_or(|successor| successor.breaker.is_none()) {
            self.metrics.upstream_gone(&self.settings.name);
        }
    }

    fn unpublish(&self, endpoint: &Endpoint) {
        self.metrics.endpoint_gone(&self.settings.name, &endpoint.label);
    }

    fn publish(&self) {
        if !self.published.load(Ordering::Relaxed) {
            return;
        }
        for Member { endpoint, .. } in &*self.members() {
            let available = endpoint.out().is_none();
            self.metrics.endpoint_available(&self.settings.name, &endpoint.label, available);
        }
    }

    /// An endpoint began to answer a request as it should.
    fn succeeded(&self, endpoint: &Endpoint) {
        if endpoint.row.is_doubtful() {
            return;
        }
        endpoint.row.success();
        if let Some(breaker) = &self.breaker {
            breaker.success();
        }
    }

    /// An endpoint failed a request.
    fn failed(&self, endpoint: &Endpoint, kind: Failure) {
        self.count_in_row(endpoint, kind);
        if let Some(breaker) = &self.breaker {
            self.breaker_changed(breaker.failure(Instant::now(), || self.totals(), rand::random()));
        }
    }

    /// The answer of an endpoint ended before its end.
    fn broke_off(&self, endpoint: &Endpoint) {
        endpoint.row.doubt();
        self.failed(endpoint, Failure::Gateway);
    }

    /// Counts a failure of an endpoint in a row, which may take it out.
    fn count_in_row(&self, endpoint: &Endpoint, kind: Failure) {
        let Some(why) = endpoint.row.failure(kind, &self.settings.outliers) else { return };
        let count = self.members.load().len();
        let ejection = self.outliers().eject(endpoint.id, Instant::now(), count);
        if let Some(ejection) = ejection {
            self.eject(endpoint, why, ejection.until);
        }
    }

    fn eject(&self, endpoint: &Endpoint, why: Why, until: Instant) {
        let (upstream, address) = (&*self.settings.name, &*endpoint.label);
        let seconds = until.saturating_duration_since(Instant::now()).as_secs_f64();
        tracing::warn!(upstream, endpoint = address, "taken out for {seconds:.1} s: {why}");
        endpoint.note(|record| record.trouble = Some(why.to_string()));
        endpoint.set_ejected(Some(until));
        self.metrics.endpoint_ejected(&self.settings.name, &endpoint.label);
        self.touch();
    }

    /// The end of an interval: rates are looked at, and who was out long enough comes back. `samples` are of that interval.
    fn look(&self, now: Instant, samples: &[(u64, health::outliers::Sample)]) {
        use health::outliers::Event;
        let events = self.outliers().interval(now, samples);
        let members = self.members();
        let endpoint = |id: u64| members.iter().map(|member| &member.endpoint).find(|known| known.id == id);
        for event in events {
            match event {
                Event::Ejected { id, why, ejection } => {
                    if let Some(endpoint) = endpoint(id) {
                        self.eject(endpoint, why, ejection.until);
                    }
                }
                Event::Returned { id } => {
                    if let Some(endpoint) = endpoint(id) {
                        self.let_back(endpoint);
                    }
                }
            }
        }
    }

    fn let_back(&self, endpoint: &Endpoint) {
        endpoint.row.trust();
        endpoint.row.success();
        endpoint.set_ejected(None);
        let (upstream, endpoint) = (&*self.settings.name, &*endpoint.label);
        tracing::info!(upstream, endpoint, "gets requests again");
        self.touch();
    }

    /// A check succeeded where the one before had failed: whatever requests had to suffer from is over.
    fn recovered(&self, endpoint: &Endpoint) {
        if self.outliers().pardon(endpoint.id) {
            self.let_back(endpoint);
        }
    }

    /// What the checks of an endpoint came to.
    fn checked(&self, endpoint: &Endpoint, change: Option<health::checks::Change>, trouble: Option<String>) {
        use health::checks::Change;
        let (upstream, address) = (&*self.settings.name, &*endpoint.label);
        let changed = match change {
            Some(Change::Healthy) => {
                tracing::info!(upstream, endpoint = address, "is healthy");
                endpoint.set_ill(false)
            }
            Some(Change::Unhealthy) => {
                let why = trouble.as_deref().unwrap_or_default();
                tracing::warn!(upstream, endpoint = address, "is not healthy: {why}");
                endpoint.set_ill(true)
            }
            None => false,
        };
        endpoint.note(|record| {
            record.checked = true;
            if trouble.is_some() {
                record.trouble = trouble;
            }
        });
        if changed {
            self.touch();
        }
    }

    /// Takes an endpoint out of service, or lets it back in; false where there is no such one.
    pub fn drain(&self, address: &str, drained: bool) -> bool {
        let members = self.members();
        let mut found = members.iter().filter(|member| *member.endpoint.label == *address).peekable();
        let known = found.peek().is_some();
        found.for_each(|member| _ = member.endpoint.set_drained(drained));
        if known {
            self.touch();
        }
        known
    }

    /// Holds the breaker where an operator wants it, or leaves it to itself; false where there is none.
    pub fn force_breaker(&self, forced: Option<breaker::Forced>) -> bool {
        let Some(breaker) = &self.breaker else { return false };
        self.breaker_changed(breaker.force(forced));
        true
    }

    /// What became of the attempts of all workers, for the breaker.
    fn totals(&self) -> Totals {
        let sheets = self.metrics.sheaf().upstreams.get(&*self.settings.name);
        let count = |number: fn(&UpstreamNumbers) -> &Tally| sum(&sheets, number);
        let (ended, cancelled) = (count(|sheet| &sheet.ended), count(|sheet| &sheet.cancelled));
        let unanswered = count(|sheet| &sheet.failures) + count(|sheet| &sheet.broken_off);
        Totals {
            requests: ended.saturating_sub(cancelled),
            failures: unanswered + count(|sheet| &sheet.responses[4]),
        }
    }

    fn breaker_changed(&self, change: Option<Change>) {
        let (Some(change), Some(breaker)) = (change, &self.breaker) else { return };
        let upstream = &*self.settings.name;
        match change {
            Change::Opened { why, wait } => {
                let wait = wait.map(|wait| format!(" for {:.1} s", wait.as_secs_f64())).unwrap_or_default();
                tracing::warn!(upstream, "the breaker is open{wait}: {why}");
            }
            Change::HalfOpened => tracing::info!(upstream, "the breaker lets requests try"),
            Change::Closed => tracing::info!(upstream, "the breaker is closed"),
        }
        self.metrics.breaker_changed(
            upstream,
            breaker.state() as u8,
            matches!(change, Change::Opened { .. }),
        );
    }

    fn outliers(&self) -> MutexGuard<'_, Outliers> {
        self.outliers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self) -> MutexGuard<'_, Vec<Option<Vec<Found>>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a target stands for.
struct Place {
    address: Address,
    authority: String,
    /// Where the config has none.
    weight: u16,
    /// Beside that of the config.
    priority: u8,
}

/// `found` is what was looked up, where the target is a name.
fn places(target: &Target, found: &[Found]) -> Vec<Place> {
    let single = |address, authority| vec![Place { address, authority, weight: 1, priority: 0 }];
    match target {
        Target::Address(address) => single(Address::Ip(*address), address.to_string()),
        Target::Unix(path) => single(Address::Unix(path.clone()), "localhost".to_owned()),
        Target::Name(name, port) => {
            let place = |found: &Found| Place {
                address: Address::Ip(found.address),
                authority: format!("{name}:{port}"),
                weight: 1,
                priority: 0,
            };
            found.iter().map(place).collect()
        }
        Target::Service(name) => {
            let place = |found: &Found| Place {
                address: Address::Ip(found.address),
                authority: format!("{}:{}", service_host(name), found.address.port()),
                weight: found.weight,
                priority: u8::try_from(found.priority).unwrap_or(u8::MAX),
            };
            found.iter().map(place).collect()
        }
    }
}

/// `users.example` of `_http._tcp.users.example`.
fn service_host(name: &str) -> &str {
    name.split_inclusive('.').find(|label| !label.starts_with('_')).map_or(name, |label| {
        let at = label.as_ptr().addr() - name.as_ptr().addr();
        &name[at..]
    })
}
