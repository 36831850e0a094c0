//! Numbers that one worker writes and any thread reads: a request never writes to what another worker
//! writes to. The page adds the workers' up.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A number. Only one thread may change it: an addition is a load and a store, not one step.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    pub fn add(&self, amount: u64) {
        self.0.store(self.get().wrapping_add(amount), Relaxed);
    }

    pub fn subtract(&self, amount: u64) {
        self.0.store(self.get().wrapping_sub(amount), Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How often durations up to each bound occurred.
#[derive(Debug)]
pub struct Spread {
    bounds: Arc<[Duration]>,
    /// One more than bounds, for what is above the last.
    counts: Box<[Tally]>,
    nanoseconds: Tally,
}

/// [`Spread`]s of several workers together.
#[derive(Clone, Debug)]
pub struct Total {
    pub bounds: Arc<[Duration]>,
    pub counts: Vec<u64>,
    pub sum: Duration,
}

impl Spread {
    pub fn new(bounds: Arc<[Duration]>) -> Self {
        let counts = (0..=bounds.len()).map(|_| Tally::default()).collect();
        Spread { bounds, counts, nanoseconds: Tally::default() }
    }

    pub fn observe(&self, duration: Duration) {
        let place = self.bounds.iter().position(|bound| duration <= *bound).unwrap_or(self.bounds.len());
        self.counts[place].add(1);
        self.nanoseconds.add(duration.as_nanos() as u64);
    }

    pub fn add_to(&self, total: &mut Total) {
        for (sum, count) in total.counts.iter_mut().zip(&self.counts) {
            *sum += count.get();
        }
        total.sum += Duration::from_nanos(self.nanoseconds.get());
    }
}

impl Total {
    pub fn new(bounds: Arc<[Duration]>) -> Self {
        Total { counts: vec![0; bounds.len() + 1], bounds, sum: Duration::ZERO }
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Workers with their sheets.
type Owned<S> = Vec<(usize, Arc<S>)>;

/// A sheet of numbers for each label and worker.
#[derive(Debug)]
pub struct Sheets<L, S>(Mutex<HashMap<L, Owned<S>>>);

impl<L, S> Default for Sheets<L, S> {
    fn default() -> Self {
        Sheets(Mutex::default())
    }
}

impl<L: Clone + Eq + Hash + Ord, S> Sheets<L, S> {
    /// The worker's sheet, which goes on where it was used before.
    pub fn of(&self, label: &L, worker: usize, new: impl FnOnce() -> S) -> Arc<S> {
        let mut sheets = self.lock();
        let workers = sheets.entry(label.clone()).or_default();
        if let Some((_, sheet)) = workers.iter().find(|(owner, _)| *owner == worker) {
            return sheet.clone();
        }
        let sheet = Arc::new(new());
        workers.push((worker, sheet.clone()));
        sheet
    }

    /// The sheets of a label's workers.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, label: &Q) -> Vec<Arc<S>>
    where
        L: Borrow<Q>,
    {
        let sheets = self.lock();
        sheets.get(label).into_iter().flatten().map(|(_, sheet)| sheet.clone()).collect()
    }

    /// All labels with the sheets of their workers, in order.
    pub fn all(&self) -> Vec<(L, Vec<Arc<S>>)> {
        let sheets = self.lock();
        let sheet = |(_, sheet): &(usize, Arc<S>)| sheet.clone();
        let mut all: Vec<_> = sheets
            .iter()
            .map(|(label, workers)| (label.clone(), workers.iter().map(sheet).collect()))
            .collect();
        drop(sheets);
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// Forgets labels that no worker writes any more.
    pub fn prune(&self) {
        self.lock().retain(|_, workers| workers.iter().any(|(_, sheet)| Arc::strong_count(sheet) > 1));
    }

    /// Nothing panics while it holds the lock, so a poisoned one is still whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<L, Owned<S>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sum of one number over all workers.
pub fn sum<S>(sheets: &[impl Deref<Target = S>], number: impl Fn(&S) -> &Tally) -> u64 {
    sheets.iter().fold(0, |sum, sheet| sum.wrapping_add(number(sheet).get()))
}

/// What has begun and not ended.
pub fn under_way<S>(
    sheets: &[impl Deref<Target = S>],
    begun: impl Fn(&S) -> &Tally,
    ended: impl Fn(&S) -> &Tally,
) -> u64 {
    // First, because workers go on: nothing ends that has not begun.
    let ended = sum(sheets, ended);
    sum(sheets, begun).saturating_sub(ended)
}

/// The durations of all workers together; the bounds are those of their spreads.
pub fn total<S>(
    bounds: &Arc<[Duration]>,
    sheets: &[impl Deref<Target = S>],
    spread: impl Fn(&S) -> &Spread,
) -> Total {
    let mut total = Total::new(bounds.clone());
    sheets.iter().for_each(|sheet| spread(sheet).add_to(&mut total));
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up_and_what_nobody_writes_is_forgotten() {
        let sheets = Sheets::<&str, Tally>::default();
        let (first, second) = (sheets.of(&"a", 0, Tally::default), sheets.of(&"a", 1, Tally::default));
        first.add(2);
        second.subtract(1);
        sheets.of(&"a", 0, Tally::default).add(1);
        sheets.of(&"b", 0, Tally::default).add(5);
        let sums: Vec<_> =
            sheets.all().iter().map(|(label, all)| (*label, sum(all, |tally| tally))).collect();
        assert_eq!(sums, [("a", 2), ("b", 5)]);
        sheets.prune();
        assert_eq!(sheets.all().len(), 1);
        drop((first, second));
        sheets.prune();
        assert!(sheets.all().is_empty());
    }

    #[test]
    fn durations_fall_into_the_first_bound_that_holds_them() {
        let ms = Duration::from_millis;
        let bounds: Arc<[Duration]> = [ms(1), ms(10)].into();
        let spread = Spread::new(bounds.clone());
        for duration in [0, 1, 2, 10, 11] {
            spread.observe(ms(duration));
        }
        let mut total = Total::new(bounds);
        spread.add_to(&mut total);
        spread.add_to(&mut total);
        assert_eq!((total.counts.as_slice(), total.sum, total.count()), (&[4, 4, 2][..], ms(48), 10));
    }
}
