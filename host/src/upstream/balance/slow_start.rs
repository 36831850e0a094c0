//! A place that has just come up gets less than its weight, so that it can warm up.

use std::time::Duration;

/// Weights are multiplied by this, those of settled places too, so that a tenth of a weight is a weight.
pub const SCALE: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// For how long after it came up.
    pub window: Duration,
    /// 1: the weight grows evenly; more: faster in the beginning; less: slower. Above 0.
    pub aggression: f64,
    /// What it begins with, in percent of its weight.
    pub min_share: u8,
}

impl SlowStart {
    pub fn new(window: Duration) -> Self {
        SlowStart { window, aggression: 1.0, min_share: 10 }
    }

    /// Whether a place of this age has its whole weight.
    pub fn settled(&self, age: Duration) -> bool {
        age >= self.window
    }

    /// The scaled weight of a place. Only a weight of 0 becomes 0.
    pub fn weight(&self, weight: u32, age: Duration) -> u32 {
        let full = weight.saturating_mul(SCALE);
        if self.settled(age) {
            return full;
        }
        // The formula of Envoy's slow start mode. Its minimum of one second is left out: there is a minimum
        // share, and windows may be short.
        let time = age.as_secs_f64() / self.window.as_secs_f64();
        let share = time.powf(1.0 / self.aggression).max(f64::from(self.min_share) / 100.0).min(1.0);
        ((f64::from(full) * share).round() as u32).max(full.min(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn grows_from_the_minimum_to_the_whole() {
        let start = SlowStart::new(60 * S);
        let weights = [0, 3, 6, 15, 30, 45, 59, 60, 3600].map(|age| start.weight(2, age * S));
        assert_eq!(weights, [20, 20, 20, 50, 100, 150, 197, 200, 200]);
        assert!(!start.settled(59 * S) && start.settled(60 * S));
    }

    #[test]
    fn aggression_bends_the_curve() {
        let halfway = |aggression| SlowStart { aggression, ..SlowStart::new(60 * S) }.weight(1, 30 * S);
        assert_eq!([0.5, 1.0, 2.0].map(halfway), [25, 50, 71]);
    }

    #[test]
    fn only_a_weight_of_zero_gets_nothing() {
        let start = SlowStart { min_share: 0, ..SlowStart::new(60 * S) };
        assert_eq!([0, 1].map(|weight| start.weight(weight, Duration::ZERO)), [0, 1]);
    }

    #[test]
    fn without_a_window_all_are_settled() {
        let none = SlowStart::new(Duration::ZERO);
        assert!(none.settled(Duration::ZERO));
        assert_eq!(none.weight(3, Duration::ZERO), 300);
    }

    proptest! {
        #[test]
        fn never_falls_and_stays_in_its_limits(
            weight: u16, seconds in 0..1000u32, aggression in 0.1..10.0f64, min_share in 0..=100u8,
        ) {
            let start = SlowStart { window: 500 * S, aggression, min_share };
            let (weight, full) = (u32::from(weight), u32::from(weight) * SCALE);
            let now = start.weight(weight, seconds * S);
            prop_assert!(now <= start.weight(weight, (seconds + 1) * S));
            prop_assert!(now <= full && now >= full * u32::from(min_share) / 100);
            prop_assert_eq!(now == 0, weight == 0);
            prop_assert_eq!(start.settled(seconds * S), seconds >= 500);
        }
    }
}
