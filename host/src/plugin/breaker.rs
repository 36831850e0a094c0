//! Takes a plugin that keeps failing out of service for a growing time. Pure: time is an argument.

use std::time::{Duration, Instant};

use super::Stage;
use crate::config::Breaker as Settings;

#[derive(Debug)]
pub struct Breaker {
    settings: Settings,
    /// Failures in a row, by stage: one that always fails is not excused by another that works.
    failures: [u32; Stage::COUNT],
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open(Outage),
    /// One call of the stage that failed tries whether it works again. A trial that is never
    /// reported (its request went away) ends by itself.
    Trying(Outage),
}

#[derive(Clone, Copy, Debug)]
struct Outage {
    stage: Stage,
    until: Instant,
    backoff: Duration,
}

impl Breaker {
    pub fn new(settings: Settings) -> Self {
        Breaker { settings, failures: [0; Stage::COUNT], state: State::Closed }
    }

    /// Whether it lets all calls pass.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether a call may be made. `now` is only asked for where the breaker is not closed. Once
    /// the back-off is over the other stages pass, so that a request can reach the one on trial.
    pub fn allow(&mut self, stage: Stage, now: impl FnOnce() -> Instant) -> bool {
        let (outage, trying) = match self.state {
            State::Closed => return true,
            State::Open(outage) => (outage, false),
            State::Trying(outage) => (outage, true),
        };
        let now = now();
        if stage != outage.stage {
            return trying || now >= outage.until;
        }
        if now >= outage.until {
            self.state = State::Trying(Outage { until: now + outage.backoff, ..outage });
            return true;
        }
        false
    }

    /// A call that began before the breaker opened does not close it.
    pub fn success(&mut self, stage: Stage) {
        self.failures[stage as usize] = 0;
        if matches!(self.state, State::Trying(outage) if outage.stage == stage) {
            self.state = State::Closed;
        }
    }

    /// Counts a failure; true where it opened the breaker.
    pub fn failure(&mut self, stage: Stage, now: Instant) -> bool {
        let failures = &mut self.failures[stage as usize];
        *failures = failures.saturating_add(1);
        let backoff = match self.state {
            State::Closed if *failures < self.settings.failures => return false,
            State::Closed => self.settings.backoff,
            State::Trying(outage) => (outage.backoff * 2).min(self.settings.max_backoff),
            // A call that began before the breaker opened.
            State::Open(_) => return false,
        };
        self.state = State::Open(Outage { stage, until: now + backoff, backoff });
        true
    }
}

#[cfg(test)]
mod tests {
    use Stage::{Request, Response};

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn broken(start: Instant) -> Breaker {
        let mut breaker = Breaker::new(Settings { failures: 3, backoff: S, max_backoff: 3 * S });
        assert!(!breaker.failure(Request, start));
        assert!(!breaker.failure(Request, start));
        assert!(breaker.failure(Request, start));
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row_and_tries_one_call() {
        let t = Instant::now();
        let mut breaker = broken(t);
        breaker.success(Request);
        assert!(!breaker.allow(Request, || t), "a success from before");
        assert!(!breaker.allow(Response, || t), "no stage runs");
        assert!(breaker.allow(Request, || t + S));
        assert!(!breaker.allow(Request, || t + S), "one trial at a time");
        assert!(breaker.allow(Response, || t + S));
        breaker.success(Request);
        assert!(breaker.allow(Request, || t + S));
    }

    #[test]
    fn back_off_doubles_up_to_the_maximum() {
        let t = Instant::now();
        let mut breaker = broken(t);
        let mut now = t;
        for wait in [1, 2, 3, 3] {
            assert!(!breaker.allow(Request, || now + wait * S - S / 2));
            now += wait * S;
            assert!(breaker.allow(Request, || now));
            assert!(breaker.failure(Request, now));
        }
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed_only_in_the_same_stage() {
        let t = Instant::now();
        let mut breaker = Breaker::new(Settings { failures: 3, backoff: S, max_backoff: S });
        for _ in 0..10 {
            assert!(!breaker.failure(Request, t));
            assert!(!breaker.failure(Request, t));
            breaker.success(Request);
        }
        for opened in [false, false, true] {
            breaker.success(Request);
            assert_eq!(breaker.failure(Response, t), opened);
        }
        assert!(breaker.allow(Request, || t + S), "on the way to the trial");
        breaker.success(Request);
        assert!(breaker.allow(Response, || t + S));
        assert!(breaker.failure(Response, t + S));
    }

    #[test]
    fn a_lost_trial_does_not_keep_it_open_for_ever() {
        let t = Instant::now();
        let mut breaker = broken(t);
        assert!(breaker.allow(Request, || t + S));
        assert!(breaker.allow(Request, || t + 2 * S));
    }
}
