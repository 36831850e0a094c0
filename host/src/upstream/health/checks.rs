//! Active checks of one endpoint: when the next one is due, and what their results make of it. Pure:
//! randomness is an argument. The rules are Envoy's (docs, "Health checking"), with two differences: every
//! failure counts towards the threshold, where Envoy takes an endpoint out at its first bad status; and the
//! first check comes at a random moment and not at once.

use std::time::Duration;

use crate::config::{Health, Initial};

/// No endpoint waits longer for its first check: one that starts unhealthy serves nobody until then.
const FIRST: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Healthy,
    Unhealthy,
}

#[derive(Debug)]
pub struct Checks {
    settings: Health,
    healthy: bool,
    /// Whether there was a result.
    checked: bool,
    /// Results in a row that speak against the state.
    against: u32,
}

impl Checks {
    /// `known` is what the endpoint is where it was checked before.
    pub fn new(settings: Health, known: Option<bool>) -> Self {
        let healthy = known.unwrap_or(settings.initial == Initial::Healthy);
        Checks { healthy, settings, checked: known.is_some(), against: 0 }
    }

    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// The time until the next check; `random` is in 0..1. The first checks of many endpoints are spread over
    /// the interval, a second at most.
    pub fn next(&self, random: f64) -> Duration {
        let Health { interval, unhealthy_interval, jitter, .. } = self.settings;
        if !self.checked {
            return interval.min(FIRST).mul_f64(random);
        }
        let interval = if self.healthy { interval } else { unhealthy_interval };
        interval + interval.mul_f64(jitter * random)
    }

    /// Takes the result of a check that succeeded. The very first one is enough, so that starting up is fast.
    pub fn success(&mut self) -> Option<Change> {
        let needed = if self.checked { self.settings.successes } else { 1 };
        self.result(true, needed).then_some(Change::Healthy)
    }

    /// Takes the result of a check that failed. The very first one counts like any other.
    pub fn failure(&mut self) -> Option<Change> {
        self.result(false, self.settings.failures).then_some(Change::Unhealthy)
    }

    /// Whether the result changed the state.
    fn result(&mut self, healthy: bool, needed: u32) -> bool {
        self.checked = true;
        if healthy == self.healthy {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let changed = self.against >= needed;
        if changed {
            self.healthy = healthy;
            self.against = 0;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Probe;

    const S: Duration = Duration::from_secs(1);

    fn settings() -> Health {
        Health {
            probe: Probe::Tcp,
            port: None,
            interval: 10 * S,
            unhealthy_interval: 10 * S,
            jitter: 0.1,
            timeout: S,
            successes: 2,
            failures: 3,
            initial: Initial::Healthy,
        }
    }

    fn initial(healthy: bool) -> Initial {
        if healthy { Initial::Healthy } else { Initial::Unhealthy }
    }

    fn checks(healthy: bool) -> Checks {
        Checks::new(Health { initial: initial(healthy), unhealthy_interval: 2 * S, ..settings() }, None)
    }

    #[test]
    fn thresholds_count_results_in_a_row() {
        let mut checks = checks(true);
        assert_eq!([checks.failure(), checks.failure(), checks.success()], [None; 3]);
        assert_eq!([checks.failure(), checks.failure()], [None; 2]);
        assert_eq!(checks.failure(), Some(Change::Unhealthy));
        assert!(!checks.is_healthy());
        assert_eq!([checks.failure(), checks.success(), checks.failure(), checks.success()], [None; 4]);
        assert_eq!(checks.success(), Some(Change::Healthy));
        assert!(checks.is_healthy());
    }

    #[test]
    fn the_first_success_is_enough_and_the_first_failure_is_not() {
        assert_eq!(checks(false).success(), Some(Change::Healthy));
        assert_eq!(checks(true).success(), None, "no change");
        assert_eq!(checks(true).failure(), None);
        let mut failed = checks(false);
        assert_eq!([failed.failure(), failed.success()], [None; 2], "the second result, not the first");
        assert_eq!(failed.success(), Some(Change::Healthy));
    }

    #[test]
    fn first_checks_are_spread_and_later_ones_jittered() {
        let mut checks = checks(false);
        assert_eq!((checks.next(0.0), checks.next(0.5)), (Duration::ZERO, S / 2));
        checks.failure();
        assert_eq!((checks.next(0.0), checks.next(0.5)), (2 * S, Duration::from_millis(2100)));
        checks.success();
        assert_eq!(checks.next(0.0), 2 * S, "until it is healthy");
        checks.success();
        assert_eq!((checks.next(0.0), checks.next(1.0)), (10 * S, 11 * S));
        let often = Health { interval: S / 10, ..settings() };
        assert_eq!(Checks::new(often, None).next(0.5), S / 20, "no later than the interval");
    }

    proptest! {
        #[test]
        fn the_state_changes_exactly_at_the_thresholds(
            results in prop::collection::vec(any::<bool>(), 1..60),
            healthy in 1u32..5,
            unhealthy in 1u32..5,
            first: bool,
        ) {
            let (successes, failures, initial) = (healthy, unhealthy, initial(first));
            let mut checks = Checks::new(Health { successes, failures, initial, ..settings() }, None);
            let mut state = first;
            for end in 1..=results.len() {
                let last = results[end - 1];
                let row = results[..end].iter().rev().take_while(|result| **result == last).count();
                let needed = if last { healthy } else { unhealthy };
                let enough = row >= needed as usize || last && end == 1;
                let change = if last { checks.success() } else { checks.failure() };
                let expected = if last { Change::Healthy } else { Change::Unhealthy };
                prop_assert_eq!(change, (enough && last != state).then_some(expected));
                state = if enough { last } else { state };
                prop_assert_eq!(checks.is_healthy(), state);
            }
        }

        #[test]
        fn alternating_results_change_nothing(
            healthy in 2u32..5,
            unhealthy in 2u32..5,
            before: bool,
            first: bool,
        ) {
            let (successes, failures, initial) = (healthy, unhealthy, initial(before));
            let mut checks = Checks::new(Health { successes, failures, initial, ..settings() }, None);
            let _ = if first { checks.success() } else { checks.failure() };
            for number in 0..20 {
                let success = (number % 2 == 0) != first;
                let change = if success { checks.success() } else { checks.failure() };
                prop_assert_eq!(change, None);
            }
        }
    }
}
