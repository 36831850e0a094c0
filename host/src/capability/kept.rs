//! Values that are fetched once for all who want them, and kept: while they are fresh; while they are stale, being fetched
//! anew; and failures for a while. Readers of what is fresh take no lock. Time is an argument.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use moka::sync::Cache;
use tokio::sync::watch;

use super::scoped;

/// Bytes of all values together.
const CAPACITY: u64 = 64 << 20;

pub struct Kept<T, E> {
    slots: Cache<Box<str>, Arc<Slot<T, E>>>,
}

/// How long a value serves.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// As it is.
    pub fresh: Duration,
    /// After that, while it is fetched anew, and where that fails.
    pub stale: Duration,
    /// How long a fetch that failed is not repeated.
    pub negative: Duration,
}

/// A value with its number, which no other one of the process has, and its age.
#[derive(Debug)]
pub struct Found<T> {
    pub value: Arc<T>,
    pub version: u64,
    pub age: Duration,
}

/// What there is of a value, and whether whoever asked is to fetch it.
pub enum Step<T: Send + Sync + 'static, E: Copy + Send + 'static> {
    Have(Found<T>, Option<Lead<T, E>>),
    Failed(E),
    /// It is being fetched.
    Wait(Waiting<T, E>, Option<Lead<T, E>>),
}

pub struct Waiting<T, E> {
    slot: Arc<Slot<T, E>>,
    /// Closes when the fetch is over.
    end: watch::Receiver<()>,
    usable: Duration,
    asked: Instant,
}

struct Slot<T, E> {
    last: ArcSwapOption<Stored<T>>,
    fetch: Mutex<Fetch<E>>,
}

struct Stored<T> {
    value: Arc<T>,
    version: u64,
    since: Instant,
}

struct Fetch<E> {
    under_way: Option<watch::Receiver<()>>,
    /// Of the last one, if it failed.
    failed: Option<(E, Instant)>,
}

/// The task of fetching a value. Where it is dropped, the next who asks gets it.
pub struct Lead<T: Send + Sync + 'static, E: Copy + Send + 'static> {
    key: Box<str>,
    slot: Arc<Slot<T, E>>,
    slots: Cache<Box<str>, Arc<Slot<T, E>>>,
    /// Its end wakes those who wait.
    _wake: watch::Sender<()>,
}

impl<T: Send + Sync + 'static, E: Copy + Send + 'static> Kept<T, E> {
    /// `weight` is how many bytes a value takes.
    pub fn new(weight: fn(&T) -> usize) -> Self {
        let slots = Cache::<Box<str>, Arc<Slot<T, E>>>::builder()
            .max_capacity(CAPACITY)
            .weigher(move |key, slot| {
                let value = slot.last.load().as_ref().map_or(0, |stored| weight(&stored.value));
                // The book-keeping is about as large as a small entry.
                u32::try_from(key.len() + value + 300).unwrap_or(u32::MAX)
            })
            .build();
        Kept { slots }
    }

    /// None where the key is too long.
    pub fn ask(&self, plugin: &str, key: &str, terms: Terms, now: Instant) -> Option<Step<T, E>> {
        let key = scoped(plugin, key)?;
        let slot = match self.slots.get(&key) {
            Some(slot) => slot,
            None => self.slots.get_with(key.clone(), Arc::default),
        };
        let fresh = || slot.found(now, terms.fresh);
        if let Some(found) = fresh() {
            return Some(Step::Have(found, None));
        }
        let mut fetch = slot.fetch();
        // Meanwhile it may have come.
        if let Some(found) = fresh() {
            return Some(Step::Have(found, None));
        }
        let usable = terms.fresh + terms.stale;
        let found = slot.found(now, usable);
        let (end, lead) = match (&fetch.under_way, fetch.failed) {
            (Some(end), _) => (end.clone(), None),
            (None, Some((error, at))) if now.saturating_duration_since(at) < terms.negative => {
                return Some(found.map_or(Step::Failed(error), |found| Step::Have(found, None)));
            }
            (None, _) => {
                let (wake, end) = watch::channel(());
                fetch.under_way = Some(end.clone());
                let (slot, slots) = (slot.clone(), self.slots.clone());
                (end, Some(Lead { key, slot, slots, _wake: wake }))
            }
        };
        drop(fetch);
        Some(match found {
            Some(found) => Step::Have(found, lead),
            None => Step::Wait(Waiting { slot, end, usable, asked: now }, lead),
        })
    }
}

impl<T, E: Copy> Waiting<T, E> {
    pub async fn end(&mut self) {
        // It ends with an error: nothing is ever sent.
        let _ = self.end.changed().await;
    }

    /// What came of the fetch since it was asked: a value, or why there is none. None where it was given up.
    pub fn outcome(&self, now: Instant) -> Option<Result<Found<T>, E>> {
        let failed = self.slot.fetch().failed;
        // What has just come is good, whatever the terms.
        let found = self.slot.found(now, self.usable.max(now.saturating_duration_since(self.asked)));
        found.map(Ok).or(failed.map(|(error, _)| Err(error)))
    }
}

impl<T, E> Default for Slot<T, E> {
    fn default() -> Self {
        Slot { last: ArcSwapOption::empty(), fetch: Mutex::new(Fetch { under_way: None, failed: None }) }
    }
}

impl<T, E> Slot<T, E> {
    /// The value, where it is not older.
    fn found(&self, now: Instant, oldest: Duration) -> Option<Found<T>> {
        let last = self.last.load();
        let stored = last.as_ref()?;
        let age = now.saturating_duration_since(stored.since);
        (age <= oldest).then(|| Found { value: stored.value.clone(), version: stored.version, age })
    }

    fn fetch(&self) -> MutexGuard<'_, Fetch<E>> {
        self.fetch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + Sync + 'static, E: Copy + Send + 'static> Lead<T, E> {
    pub fn done(self, outcome: Result<T, E>, now: Instant) {
        static VERSION: AtomicU64 = AtomicU64::new(1);
        let mut fetch = self.slot.fetch();
        match outcome {
            Ok(value) => {
                let version = VERSION.fetch_add(1, Relaxed);
                self.slot.last.store(Some(Arc::new(Stored { value: Arc::new(value), version, since: now })));
                fetch.failed = None;
            }
            Err(error) => fetch.failed = Some((error, now)),
        }
        drop(fetch);
        // It weighs something else now.
        self.slots.insert(self.key.clone(), self.slot.clone());
    }
}

impl<T: Send + Sync + 'static, E: Copy + Send + 'static> Drop for Lead<T, E> {
    fn drop(&mut self) {
        self.slot.fetch().under_way = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const TERMS: Terms = Terms { fresh: S, stale: S, negative: S };

    type Texts = Kept<&'static str, u8>;

    fn texts() -> Texts {
        Kept::new(|text: &&'static str| text.len())
    }

    fn ask(kept: &Texts, now: Instant) -> Step<&'static str, u8> {
        kept.ask("p", "k", TERMS, now).expect("a short key")
    }

    fn lead(step: Step<&'static str, u8>) -> Lead<&'static str, u8> {
        match step {
            Step::Have(_, Some(lead)) | Step::Wait(_, Some(lead)) => lead,
            _ => panic!("nothing to fetch"),
        }
    }

    /// One who waits, and the fetch if it is theirs.
    fn wait(step: Step<&'static str, u8>) -> (Waiting<&'static str, u8>, Option<Lead<&'static str, u8>>) {
        match step {
            Step::Wait(waiting, lead) => (waiting, lead),
            _ => panic!("nothing to wait for"),
        }
    }

    fn over(waiting: &Waiting<&'static str, u8>) -> bool {
        waiting.end.has_changed().is_err()
    }

    #[test]
    fn one_fetches_for_all() {
        let (kept, t) = (texts(), Instant::now());
        let first = lead(ask(&kept, t));
        let (waiting, None) = wait(ask(&kept, t)) else { panic!("it is fetched already") };
        assert!(!over(&waiting));
        first.done(Ok("a"), t);
        assert!(over(&waiting), "its end is told");
        assert_eq!(*waiting.outcome(t).unwrap().unwrap().value, "a");
        assert!(matches!(ask(&kept, t), Step::Have(Found { value, .. }, None) if *value == "a"));
        assert!(matches!(kept.ask("q", "k", TERMS, t), Some(Step::Wait(_, Some(_)))), "another plugin's");
    }

    #[test]
    fn what_is_stale_serves_while_it_is_fetched_anew() {
        let (kept, t) = (texts(), Instant::now());
        lead(ask(&kept, t)).done(Ok("a"), t);
        let later = t + S + S / 2;
        let Step::Have(found, Some(again)) = ask(&kept, later) else { panic!("stale") };
        assert_eq!((*found.value, found.age), ("a", S + S / 2));
        assert!(matches!(ask(&kept, later), Step::Have(_, None)), "one fetches");
        again.done(Ok("b"), later);
        let Step::Have(anew, None) = ask(&kept, later) else { panic!("fresh") };
        assert!(*anew.value == "b" && anew.version > found.version);
        assert!(matches!(ask(&kept, later + 3 * S), Step::Wait(_, Some(_))), "too old");
    }

    #[test]
    fn failures_are_kept_and_what_is_stale_outlives_them() {
        let (kept, t) = (texts(), Instant::now());
        let (waiting, first) = wait(ask(&kept, t));
        first.expect("nobody fetches it").done(Err(7), t);
        assert!(matches!(waiting.outcome(t), Some(Err(7))));
        assert!(matches!(ask(&kept, t + S / 2), Step::Failed(7)));
        lead(ask(&kept, t + S)).done(Ok("a"), t + S);
        let stale = t + 2 * S + S / 2;
        lead(ask(&kept, stale)).done(Err(8), stale);
        assert!(matches!(ask(&kept, stale), Step::Have(Found { value, .. }, None) if *value == "a"));
        assert!(matches!(ask(&kept, stale + S - S / 4), Step::Failed(8)), "too old to outlive it");
        let (waiting, again) = wait(ask(&kept, stale + S));
        again.expect("it failed long ago").done(Err(9), stale + S);
        assert!(matches!(waiting.outcome(stale + S), Some(Err(9))));
    }

    #[test]
    fn a_lead_that_is_dropped_goes_to_the_next() {
        let (kept, t) = (texts(), Instant::now());
        let first = lead(ask(&kept, t));
        let (waiting, None) = wait(ask(&kept, t)) else { panic!("it is fetched already") };
        drop(first);
        assert!(over(&waiting));
        assert!(waiting.outcome(t).is_none());
        lead(ask(&kept, t)).done(Ok("a"), t);
        let late = t + 9 * S;
        let (waiting, again) = wait(ask(&kept, late));
        drop(again.expect("nobody fetches it"));
        assert!(waiting.outcome(late).is_none(), "what is too old does not come back");
    }

    #[test]
    fn what_was_waited_for_serves_once_without_terms() {
        let (kept, t) = (texts(), Instant::now());
        let none = Terms { fresh: Duration::ZERO, stale: Duration::ZERO, negative: Duration::ZERO };
        let (waiting, lead) = wait(kept.ask("p", "k", none, t).expect("a short key"));
        lead.expect("nobody fetches it").done(Ok("a"), t + S);
        assert_eq!(*waiting.outcome(t + 2 * S).unwrap().unwrap().value, "a");
        assert!(matches!(kept.ask("p", "k", none, t + 2 * S), Some(Step::Wait(..))));
    }
}
