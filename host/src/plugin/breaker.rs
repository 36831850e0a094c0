//! Takes a plugin that keeps failing out of service for a growing time. Pure: time is an argument.

use std::time::{Duration, Instant};

use crate::config::Breaker as Settings;

#[derive(Debug)]
pub struct Breaker {
    settings: Settings,
    failures: u32,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open {
        until: Instant,
        backoff: Duration,
    },
    /// One call tries whether the plugin works again. A trial that is never reported (its
    /// request went away) ends by itself at `until`.
    Trying {
        until: Instant,
        backoff: Duration,
    },
}

impl Breaker {
    pub fn new(settings: Settings) -> Self {
        Breaker { settings, failures: 0, state: State::Closed }
    }

    /// Whether a call may be made. `now` is only asked for where the breaker is not closed.
    pub fn allow(&mut self, now: impl FnOnce() -> Instant) -> bool {
        let (State::Open { until, backoff } | State::Trying { until, backoff }) = self.state else {
            return true;
        };
        let now = now();
        let due = now >= until;
        if due {
            self.state = State::Trying { until: now + backoff, backoff };
        }
        due
    }

    /// A call that began before the breaker opened does not close it.
    pub fn success(&mut self) {
        if !matches!(self.state, State::Open { .. }) {
            self.failures = 0;
            self.state = State::Closed;
        }
    }

    /// Counts a failure; true where it opened the breaker.
    pub fn failure(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let backoff = match self.state {
            State::Closed if self.failures < self.settings.failures => return false,
            State::Closed => self.settings.backoff,
            State::Trying { backoff, .. } => (backoff * 2).min(self.settings.max_backoff),
            // A call that began before the breaker opened.
            State::Open { .. } => return false,
        };
        self.state = State::Open { until: now + backoff, backoff };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn broken(start: Instant) -> Breaker {
        let mut breaker = Breaker::new(Settings { failures: 3, backoff: S, max_backoff: 3 * S });
        assert!(!breaker.failure(start));
        assert!(!breaker.failure(start));
        assert!(breaker.failure(start));
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row_and_tries_one_call() {
        let t = Instant::now();
        let mut breaker = broken(t);
        assert!(!breaker.allow(|| t));
        assert!(breaker.allow(|| t + S));
        assert!(!breaker.allow(|| t + S), "one trial at a time");
        breaker.success();
        assert!(breaker.allow(|| t + S));
    }

    #[test]
    fn back_off_doubles_up_to_the_maximum() {
        let t = Instant::now();
        let mut breaker = broken(t);
        let mut now = t;
        for wait in [1, 2, 3, 3] {
            assert!(!breaker.allow(|| now + wait * S - S / 2));
            now += wait * S;
            assert!(breaker.allow(|| now));
            assert!(breaker.failure(now));
        }
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let t = Instant::now();
        let mut breaker = broken(t);
        breaker.success();
        for _ in 0..10 {
            assert!(!breaker.failure(t));
            assert!(!breaker.failure(t));
            breaker.success();
        }
    }

    #[test]
    fn a_lost_trial_does_not_keep_it_open_for_ever() {
        let t = Instant::now();
        let mut breaker = broken(t);
        assert!(breaker.allow(|| t + S));
        assert!(breaker.allow(|| t + 2 * S));
    }
}
