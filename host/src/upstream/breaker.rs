//! Keeps requests from an upstream that fails: closed, open, and half-open while a few trials tell whether it
//! works again (M. Nygard, "Release It!"). Shared by all workers. Pure: time and randomness are arguments.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::config::CircuitBreaker;

/// Samples of the totals that are kept per window, so that each tick of a second has its own in one of 10 s.
const SAMPLES: u32 = 20;

/// The share that chance adds to the time that it is open, so that not all gateways try at once.
const JITTER: f64 = 0.1;

/// Requests that ended since the start, of all workers together: they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub requests: u64,
    /// Those of them that failed.
    pub failures: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Closed,
    Open,
    HalfOpen,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half-open",
        }
    }
}

/// What an operator wants, whatever becomes of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    Open,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// So many failures in a row.
    Consecutive(u32),
    /// The share that failed, 0 to 1, of so many requests in the window.
    FailureRate {
        share: f64,
        requests: u64,
    },
    Trial,
    Forced,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Consecutive(row) => write!(f, "{row} failures in a row"),
            Why::FailureRate { share, requests } => {
                write!(f, "{:.0} % of {requests} requests failed", share * 100.0)
            }
            Why::Trial => f.write_str("a trial failed"),
            Why::Forced => f.write_str("an operator wants it"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// None: until the operator says otherwise.
    Opened {
        why: Why,
        wait: Option<Duration>,
    },
    HalfOpened,
    Closed,
}

#[derive(Debug, PartialEq)]
pub enum Allowed {
    Pass,
    /// How this request ends is to be told with [`Breaker::trial_ended`], and only so. The change is that of
    /// the first trial.
    Trial(Trial, Option<Change>),
    Refused {
        retry_after: Duration,
    },
}

/// One request that tries whether the upstream works. One whose end is never told gives its place free after
/// the time that the breaker was open.
#[derive(Debug, PartialEq)]
pub struct Trial(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// It says nothing of the upstream: the client went away, or the gateway itself refused it.
    Unknown,
}

#[derive(Debug)]
pub struct Breaker {
    settings: CircuitBreaker,
    /// The core's state, for those who only want to pass.
    state: AtomicU8,
    /// Failures in a row.
    row: AtomicU32,
    core: Mutex<Core>,
}

#[derive(Debug, Default)]
struct Core {
    forced: Option<Forced>,
    stage: Stage,
    window: Window,
    /// Trials so far.
    trials: u64,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Closed,
    /// `wait` is without the jitter.
    Open { until: Instant, wait: Duration },
    Trying {
        wait: Duration,
        /// The number of its first trial.
        first: u64,
        successes: u32,
        /// Each with when it is given up.
        running: Vec<(u64, Instant)>,
    },
}

impl Breaker {
    pub fn new(settings: CircuitBreaker) -> Self {
        let state = AtomicU8::new(State::Closed as u8);
        Breaker { settings, state, row: AtomicU32::new(0), core: Mutex::default() }
    }

    /// As the last call left it: an open one turns half-open with the first request after its time.
    pub fn state(&self) -> State {
        match self.state.load(Relaxed) {
            code if code == State::Closed as u8 => State::Closed,
            code if code == State::Open as u8 => State::Open,
            _ => State::HalfOpen,
        }
    }

    pub fn forced(&self) -> Option<Forced> {
        self.core().forced
    }

    /// Whether a request may be made. Nothing is locked or written while it is closed.
    pub fn allow(&self, now: Instant) -> Allowed {
        if self.state() == State::Closed {
            return Allowed::Pass;
        }
        let mut core = self.core();
        let allowed = core.allow(&self.settings, now);
        self.publish(&core);
        allowed
    }

    /// A request that passed succeeded.
    pub fn success(&self) {
        // A store would take the cache line from the other workers even where it changes nothing.
        if self.row.load(Relaxed) != 0 {
            self.row.store(0, Relaxed);
        }
    }

    /// A request that passed failed; `totals` count it already. `random` is in 0..1.
    pub fn failure(&self, now: Instant, totals: impl FnOnce() -> Totals, random: f64) -> Option<Change> {
        let row = self.row.fetch_add(1, Relaxed).saturating_add(1);
        let long = self.settings.failures > 0 && row >= self.settings.failures;
        if !long && self.settings.failure_rate == 0.0 {
            return None;
        }
        let mut core = self.core();
        // It may have passed before the breaker opened.
        if !core.counts() {
            return None;
        }
        let why = match long {
            true => Why::Consecutive(row),
            false => core.window.judge(&self.settings, now, totals())?,
        };
        Some(self.open(&mut core, self.settings.open, why, now, random))
    }

    /// To be called every second. The rate is only known as well as the totals were looked at.
    pub fn tick(&self, now: Instant, totals: impl FnOnce() -> Totals, random: f64) -> Option<Change> {
        if self.settings.failure_rate == 0.0 {
            return None;
        }
        let mut core = self.core();
        if !core.counts() {
            return None;
        }
        let why = core.window.judge(&self.settings, now, totals())?;
        Some(self.open(&mut core, self.settings.open, why, now, random))
    }

    /// `random` is in 0..1.
    pub fn trial_ended(&self, trial: Trial, outcome: Outcome, now: Instant, random: f64) -> Option<Change> {
        let mut core = self.core();
        let Stage::Trying { wait, first, successes, running } = &mut core.stage else { return None };
        // One of an earlier outage has nothing to say any more; one that was given up has.
        if trial.0 < *first {
            return None;
        }
        running.retain(|(number, _)| *number != trial.0);
        match outcome {
            Outcome::Unknown => None,
            Outcome::Failure => {
                let wait = wait.saturating_mul(2).min(self.settings.max_open);
                Some(self.open(&mut core, wait, Why::Trial, now, random))
            }
            Outcome::Success => {
                *successes += 1;
                if *successes < self.settings.successes {
                    return None;
                }
                self.reset(&mut core);
                Some(Change::Closed)
            }
        }
    }

    /// Holds it open or closed. With none it is left to itself again, and begins closed.
    pub fn force(&self, forced: Option<Forced>) -> Option<Change> {
        let mut core = self.core();
        if core.forced == forced {
            return None;
        }
        let before = core.state();
        core.forced = forced;
        self.reset(&mut core);
        match core.state() {
            after if after == before => None,
            State::Open => Some(Change::Opened { why: Why::Forced, wait: None }),
            _ => Some(Change::Closed),
        }
    }

    fn open(&self, core: &mut Core, wait: Duration, why: Why, now: Instant, random: f64) -> Change {
        let jittered = wait + wait.mul_f64(JITTER * random);
        core.stage = Stage::Open { until: now + jittered, wait };
        self.publish(core);
        Change::Opened { why, wait: Some(jittered) }
    }

    /// Closes it. What failed before is not held against the upstream again.
    fn reset(&self, core: &mut Core) {
        core.stage = Stage::Closed;
        core.window = Window::default();
        self.row.store(0, Relaxed);
        self.publish(core);
    }

    fn publish(&self, core: &Core) {
        self.state.store(core.state() as u8, Relaxed);
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    fn state(&self) -> State {
        match (self.forced, &self.stage) {
            (Some(Forced::Open), _) => State::Open,
            (Some(Forced::Closed), _) | (None, Stage::Closed) => State::Closed,
            (None, Stage::Open { .. }) => State::Open,
            (None, Stage::Trying { .. }) => State::HalfOpen,
        }
    }

    /// Whether failures count.
    fn counts(&self) -> bool {
        self.forced.is_none() && matches!(self.stage, Stage::Closed)
    }

    fn allow(&mut self, settings: &CircuitBreaker, now: Instant) -> Allowed {
        if self.forced == Some(Forced::Open) {
            return Allowed::Refused { retry_after: settings.open };
        }
        let mut change = None;
        if let Stage::Open { until, wait } = self.stage {
            if now < until {
                return Allowed::Refused { retry_after: until - now };
            }
            self.stage = Stage::Trying { wait, first: self.trials, successes: 0, running: vec![] };
            change = Some(Change::HalfOpened);
        }
        // Another worker closed it meanwhile.
        let Stage::Trying { wait, running, .. } = &mut self.stage else { return Allowed::Pass };
        running.retain(|(_, until)| *until > now);
        if running.len() >= settings.trials as usize {
            let next = running.iter().map(|(_, until)| *until).min();
            return Allowed::Refused { retry_after: next.map_or(*wait, |next| next - now) };
        }
        let number = self.trials;
        self.trials += 1;
        running.push((number, now + *wait));
        Allowed::Trial(Trial(number), change)
    }
}

/// Samples of the totals, the oldest of which is where the window begins.
#[derive(Debug, Default)]
struct Window(VecDeque<(Instant, Totals)>);

impl Window {
    /// Says whether too many failed within the window.
    fn judge(&mut self, rule: &CircuitBreaker, now: Instant, totals: Totals) -> Option<Why> {
        let Totals { requests, failures } = self.since(rule.window, now, totals);
        let share = failures as f64 / requests as f64;
        (requests > 0 && requests >= rule.requests && share >= rule.failure_rate)
            .then_some(Why::FailureRate { share, requests })
    }

    /// What happened within the window. It begins where the totals were looked at last before that: with a
    /// tick every second it is hardly more than a second too long. The first look is a beginning, too.
    fn since(&mut self, window: Duration, now: Instant, totals: Totals) -> Totals {
        let age = |at: &Instant| now.saturating_duration_since(*at);
        while self.0.get(1).is_some_and(|(at, _)| age(at) >= window) {
            self.0.pop_front();
        }
        // Nobody looked for long: who knows how much of what happened since happened within the window.
        if self.0.front().is_some_and(|(at, _)| age(at) >= window * 2) {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|(at, _)| age(at) >= window / SAMPLES) {
            self.0.push_back((now, totals));
        }
        let begin = self.0.front().map_or(totals, |(_, begin)| *begin);
        Totals {
            requests: totals.requests.saturating_sub(begin.requests),
            failures: totals.failures.saturating_sub(begin.failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    fn settings() -> CircuitBreaker {
        CircuitBreaker {
            failures: 3,
            failure_rate: 0.0,
            requests: 20,
            window: 10 * S,
            open: 10 * S,
            max_open: 60 * S,
            trials: 5,
            successes: 3,
        }
    }

    fn by_rate(share: f64) -> CircuitBreaker {
        CircuitBreaker { failures: 0, failure_rate: share, ..settings() }
    }

    fn fail(breaker: &Breaker, now: Instant) -> Option<Change> {
        fail_with(breaker, now, 0.5)
    }

    fn fail_with(breaker: &Breaker, now: Instant, random: f64) -> Option<Change> {
        breaker.failure(now, || panic!("no rate, no totals"), random)
    }

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::new(settings());
        assert_eq!([fail(&breaker, now), fail(&breaker, now)], [None; 2]);
        let wait = Some(10_500 * MS);
        assert_eq!(fail(&breaker, now), Some(Change::Opened { why: Why::Consecutive(3), wait }));
        breaker
    }

    fn trial(breaker: &Breaker, now: Instant) -> Trial {
        match breaker.allow(now) {
            Allowed::Trial(trial, _) => trial,
            other => panic!("{other:?}"),
        }
    }

    fn refused(breaker: &Breaker, now: Instant) -> Duration {
        match breaker.allow(now) {
            Allowed::Refused { retry_after } => retry_after,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn successes_between_failures_keep_it_closed() {
        let (breaker, t) = (Breaker::new(settings()), Instant::now());
        for _ in 0..9 {
            assert_eq!([fail(&breaker, t), fail(&breaker, t)], [None; 2]);
            breaker.success();
            assert_eq!(breaker.allow(t), Allowed::Pass);
        }
    }

    #[test]
    fn opens_tries_and_closes() {
        let t = Instant::now();
        let breaker = opened(t);
        assert_eq!(refused(&breaker, t), 10_500 * MS);
        assert_eq!(fail(&breaker, t), None, "it passed before");
        assert_eq!(refused(&breaker, t + 10_499 * MS), MS);
        assert_eq!(breaker.state(), State::Open);
        let t = t + 10_500 * MS;
        let Allowed::Trial(first, Some(Change::HalfOpened)) = breaker.allow(t) else { panic!() };
        let others: Vec<_> = (0..4).map(|_| trial(&breaker, t + S)).collect();
        assert_eq!(refused(&breaker, t + 2 * S), 8 * S, "until the first is given up");
        assert_eq!(fail(&breaker, t), None, "only trials count");
        assert_eq!(breaker.state(), State::HalfOpen);
        assert_eq!(breaker.trial_ended(first, Outcome::Unknown, t, 0.5), None);
        let changes = others.into_iter().map(|trial| breaker.trial_ended(trial, Outcome::Success, t, 0.5));
        assert_eq!(changes.collect::<Vec<_>>(), [None, None, Some(Change::Closed), None]);
        assert_eq!(breaker.allow(t), Allowed::Pass);
        assert_eq!([fail(&breaker, t), fail(&breaker, t)], [None; 2], "all is forgiven");
    }

    #[test]
    fn failed_trials_double_the_time_once_per_outage() {
        let mut t = Instant::now();
        let breaker = opened(t);
        t += 10_500 * MS;
        for wait in [20, 40, 60, 60] {
            let (trial, other) = (trial(&breaker, t), trial(&breaker, t));
            let change = breaker.trial_ended(trial, Outcome::Failure, t, 0.0);
            assert_eq!(change, Some(Change::Opened { why: Why::Trial, wait: Some(wait * S) }));
            assert_eq!(breaker.trial_ended(other, Outcome::Failure, t, 0.0), None);
            assert_eq!(refused(&breaker, t), wait * S);
            t += wait * S;
        }
        for _ in 0..3 {
            let trial = trial(&breaker, t);
            breaker.trial_ended(trial, Outcome::Success, t, 0.0);
        }
        fail(&breaker, t);
        fail(&breaker, t);
        let change = fail(&breaker, t);
        assert!(matches!(change, Some(Change::Opened { wait: Some(wait), .. }) if wait == 10_500 * MS));
    }

    #[test]
    fn trials_that_are_lost_or_late() {
        let t = Instant::now();
        let breaker = opened(t);
        let t = t + 11 * S;
        let lost: Vec<_> = (0..5).map(|_| trial(&breaker, t)).collect();
        refused(&breaker, t + 10 * S - MS);
        let t = t + 10 * S;
        let again = trial(&breaker, t);
        let mut lost = lost.into_iter();
        let mut late = |outcome, now| breaker.trial_ended(lost.next().unwrap(), outcome, now, 0.0);
        assert_eq!(late(Outcome::Success, t), None);
        assert!(late(Outcome::Failure, t).is_some(), "late, but of this outage");
        let last = trial(&breaker, t + 20 * S);
        assert_eq!(late(Outcome::Failure, t + 20 * S), None, "of the one before");
        assert_eq!(breaker.trial_ended(again, Outcome::Failure, t + 20 * S, 0.0), None);
        assert!(breaker.trial_ended(last, Outcome::Failure, t + 20 * S, 0.0).is_some());
    }

    #[test]
    fn an_operator_has_the_last_word() {
        let t = Instant::now();
        let breaker = opened(t);
        assert_eq!(breaker.force(Some(Forced::Closed)), Some(Change::Closed));
        assert_eq!(breaker.force(Some(Forced::Closed)), None);
        assert!((0..9).all(|_| fail(&breaker, t).is_none()));
        assert_eq!((breaker.allow(t), breaker.forced()), (Allowed::Pass, Some(Forced::Closed)));
        let change = breaker.force(Some(Forced::Open));
        assert_eq!(change, Some(Change::Opened { why: Why::Forced, wait: None }));
        assert_eq!(refused(&breaker, t + 999 * S), 10 * S);
        assert_eq!(breaker.force(None), Some(Change::Closed));
        assert_eq!([fail(&breaker, t), fail(&breaker, t)], [None; 2], "what failed meanwhile is forgiven");
        assert!(fail(&breaker, t).is_some());
        assert_eq!(breaker.force(Some(Forced::Open)), None, "it is open");
        assert_eq!(breaker.force(None), Some(Change::Closed));
        assert_eq!(breaker.force(None), None);
        let trying = opened(t);
        let trial = trial(&trying, t + 11 * S);
        trying.force(None);
        assert_eq!(trying.state(), State::HalfOpen, "nothing was forced");
        trying.force(Some(Forced::Open));
        assert_eq!(trying.trial_ended(trial, Outcome::Success, t + 11 * S, 0.0), None);
        assert_eq!(trying.state(), State::Open);
    }

    /// Counts requests and lets the keeper look once a second.
    struct Keeper {
        breaker: Breaker,
        now: Instant,
        totals: Totals,
    }

    impl Keeper {
        fn new(share: f64) -> Self {
            let (breaker, now) = (Breaker::new(by_rate(share)), Instant::now());
            // As after a reload: much happened before.
            let totals = Totals { requests: 1_000_000, failures: 900_000 };
            assert_eq!(breaker.tick(now, || totals, 0.0), None);
            Keeper { breaker, now, totals }
        }

        fn wait(&mut self, seconds: u32) -> Option<Change> {
            let ticks = (0..seconds).map(|_| {
                self.now += S;
                self.breaker.tick(self.now, || self.totals, 0.0)
            });
            ticks.fold(None, Option::or)
        }

        fn succeed(&mut self, requests: u64) {
            self.totals.requests += requests;
        }

        /// The share at which it opened, and the number of the failure.
        fn fail(&mut self, failures: u64) -> Option<(u64, f64)> {
            (1..=failures).find_map(|number| {
                self.totals.requests += 1;
                self.totals.failures += 1;
                match self.breaker.failure(self.now, || self.totals, 0.0) {
                    Some(Change::Opened { why: Why::FailureRate { share, .. }, .. }) => Some((number, share)),
                    _ => None,
                }
            })
        }
    }

    #[test]
    fn the_rate_within_the_window_opens_it() {
        let mut keeper = Keeper::new(0.5);
        assert_eq!(keeper.fail(19), None, "too few");
        assert_eq!(keeper.fail(1), Some((1, 1.0)));
        let mut keeper = Keeper::new(0.5);
        keeper.succeed(30);
        assert_eq!(keeper.fail(30), Some((30, 0.5)), "at the threshold");
        let mut keeper = Keeper::new(0.5);
        assert_eq!(keeper.fail(15), None);
        keeper.succeed(10);
        assert!(keeper.wait(1).is_some(), "successes made it enough");
    }

    #[test]
    fn old_requests_do_not_count() {
        let mut keeper = Keeper::new(0.5);
        assert_eq!(keeper.fail(19), None);
        assert_eq!(keeper.wait(12), None);
        assert_eq!(keeper.fail(19), None);
        let mut keeper = Keeper::new(0.5);
        keeper.succeed(10_000);
        assert_eq!(keeper.wait(12), None);
        assert_eq!(keeper.fail(20), Some((20, 1.0)));
    }

    #[test]
    fn neither_quiet_nor_a_keeper_that_sleeps_falsifies_the_rate() {
        for quiet in [0, 60, 3600] {
            let mut keeper = Keeper::new(0.5);
            keeper.succeed(10_000);
            keeper.wait(11);
            assert_eq!(keeper.wait(quiet), None);
            assert_eq!(keeper.fail(20), Some((20, 1.0)), "after {quiet} s of quiet");
        }
        let mut keeper = Keeper::new(0.5);
        // None of this is seen until the first failure, which is thereby the beginning.
        keeper.now += 60 * S;
        keeper.succeed(10_000);
        assert_eq!(keeper.fail(21), Some((21, 1.0)));
    }

    #[test]
    fn many_failures_make_few_samples() {
        let (mut window, mut now) = (Window::default(), Instant::now());
        for requests in 0..30_000 {
            now += MS;
            let seen = window.since(10 * S, now, Totals { requests, failures: requests });
            assert!(requests < 11_000 || (10_000..=10_500).contains(&seen.requests));
        }
        assert!(window.0.len() <= SAMPLES as usize + 2);
    }

    #[test]
    fn it_closes_with_a_new_window() {
        let mut keeper = Keeper::new(0.5);
        assert!(keeper.fail(20).is_some());
        keeper.fail(100);
        keeper.now += 10 * S;
        for _ in 0..3 {
            let trial = trial(&keeper.breaker, keeper.now);
            keeper.breaker.trial_ended(trial, Outcome::Success, keeper.now, 0.0);
        }
        assert_eq!(keeper.breaker.state(), State::Closed);
        assert_eq!(keeper.wait(1), None);
        assert_eq!(keeper.fail(19), None);
        assert!(keeper.fail(1).is_some());
    }

    #[test]
    fn threads_together_open_it_once_and_try_no_more_than_permitted() {
        let (breaker, t) = (Breaker::new(settings()), Instant::now());
        let open = || (0..1000).filter(|_| fail(&breaker, t).is_some()).count();
        let try_it = || (0..1000).filter(|_| matches!(breaker.allow(t + 11 * S), Allowed::Trial(..))).count();
        let together = |what: &(dyn Fn() -> usize + Sync)| -> usize {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(what)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            })
        };
        assert_eq!(together(&open), 1);
        assert_eq!(together(&try_it), 5);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Wait(u32),
        Ask,
        Fail,
        Succeed,
        /// The oldest or the newest trial.
        End(bool, Outcome),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let outcome = prop_oneof![
            6 => Just(Outcome::Success),
            1 => Just(Outcome::Failure),
            1 => Just(Outcome::Unknown),
        ];
        let step = prop_oneof![
            2 => (0u32..8000).prop_map(Step::Wait),
            4 => Just(Step::Ask),
            3 => Just(Step::Fail),
            1 => Just(Step::Succeed),
            4 => (any::<bool>(), outcome).prop_map(|(oldest, outcome)| Step::End(oldest, outcome)),
        ];
        prop::collection::vec(step, 1..300)
    }

    proptest! {
        #[test]
        fn its_promises_are_kept(
            steps in steps(),
            permitted in 1u32..4,
            needed in 1u32..4,
            random in 0.0..1.0,
        ) {
            let breaker = Breaker::new(CircuitBreaker { trials: permitted, successes: needed, ..settings() });
            let mut now = Instant::now();
            let mut state = State::Closed;
            // Failures in a row; when it opened last and for how long; successes since it is half-open.
            let (mut row, mut since, mut wait, mut successes) = (0, now, Duration::ZERO, 0);
            // With the outage and the time of their beginnings.
            let mut trials: VecDeque<(Trial, u32, Instant)> = VecDeque::new();
            let mut outage = 0;
            for step in steps {
                match step {
                    Step::Wait(millis) => now += millis * MS,
                    Step::Succeed => {
                        breaker.success();
                        row = if state == State::Closed { 0 } else { row };
                    }
                    Step::Fail => {
                        let change = fail_with(&breaker, now, random);
                        row += u32::from(state == State::Closed);
                        prop_assert_eq!(change.is_some(), state == State::Closed && row == 3);
                        if change.is_some() {
                            (state, since, wait, outage) = (State::Open, now, 10 * S, outage + 1);
                        }
                    }
                    Step::Ask => {
                        let over = now >= since + wait + wait.mul_f64(0.1 * random);
                        let live = |(_, of, at): &&(_, u32, Instant)| *of == outage && *at + wait > now;
                        let free = trials.iter().filter(live).count() < permitted as usize;
                        match breaker.allow(now) {
                            Allowed::Pass => prop_assert_eq!(state, State::Closed),
                            Allowed::Trial(trial, change) => {
                                prop_assert!(state != State::Closed && over && free);
                                prop_assert_eq!(change, (state == State::Open).then_some(Change::HalfOpened));
                                if state == State::Open {
                                    (state, successes) = (State::HalfOpen, 0);
                                }
                                trials.push_back((trial, outage, now));
                            }
                            Allowed::Refused { retry_after } => {
                                let right = match state {
                                    State::Closed => false,
                                    State::Open => !over,
                                    State::HalfOpen => !free,
                                };
                                prop_assert!(right);
                                prop_assert!(!retry_after.is_zero());
                            }
                        }
                    }
                    Step::End(oldest, outcome) => {
                        let ended = if oldest { trials.pop_front() } else { trials.pop_back() };
                        let Some((trial, of, _)) = ended else { continue };
                        let change = breaker.trial_ended(trial, outcome, now, random);
                        let counts = of == outage && state == State::HalfOpen;
                        successes += u32::from(counts && outcome == Outcome::Success);
                        let expected = match outcome {
                            _ if !counts => None,
                            Outcome::Failure => {
                                wait = (wait * 2).min(60 * S);
                                let jittered = wait + wait.mul_f64(0.1 * random);
                                (state, since, outage) = (State::Open, now, outage + 1);
                                Some(Change::Opened { why: Why::Trial, wait: Some(jittered) })
                            }
                            Outcome::Success if successes == needed => {
                                (state, row) = (State::Closed, 0);
                                Some(Change::Closed)
                            }
                            _ => None,
                        };
                        prop_assert_eq!(change, expected);
                    }
                }
                prop_assert_eq!(breaker.state(), state);
            }
        }

        #[test]
        fn the_window_holds_what_happened_within_it(
            // Milliseconds until a request, and whether it fails.
            requests in prop::collection::vec((0u32..3000, any::<bool>()), 1..200),
        ) {
            let start = Instant::now();
            let (mut window, mut totals) = (Window::default(), Totals::default());
            let (mut now, mut ticked) = (start, start);
            let mut all: Vec<(Instant, bool)> = vec![];
            window.since(10 * S, now, totals);
            for (millis, failed) in requests {
                now += millis * MS;
                while now - ticked >= S {
                    ticked += S;
                    window.since(10 * S, ticked, totals);
                }
                all.push((now, failed));
                totals.requests += 1;
                // Only failures are looked at when they come.
                if !failed {
                    continue;
                }
                totals.failures += 1;
                let seen = window.since(10 * S, now, totals);
                let count = |age: Duration, failures: bool| {
                    let within = all.iter().filter(|(at, failed)| now - *at <= age && (*failed || !failures));
                    within.count() as u64
                };
                // One tick and the step between samples more than asked for, at most.
                let (least, most) = (10 * S - MS, 11_500 * MS);
                prop_assert!((count(least, false)..=count(most, false)).contains(&seen.requests));
                prop_assert!((count(least, true)..=count(most, true)).contains(&seen.failures));
            }
        }
    }
}
