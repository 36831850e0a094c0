//! The algorithms of rate limits, each over the state of one limit and key. Time is an argument, in nanoseconds since
//! 1970. Where it goes back, what was counted stays counted, and nothing waits longer for it than a whole limit takes.

use std::{collections::VecDeque, time::Duration};

/// How requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    FixedWindow,
    SlidingLog,
    SlidingCounter,
    TokenBucket,
    LeakyBucket,
}

/// Most that a sliding log may hold: it keeps each request.
pub const MAX_LOG: u32 = 10_000;
/// Longest time of a limit.
const MAX_PER: Duration = Duration::from_secs(366 * 24 * 3600);
/// A bucket takes no longer than this to fill, or to run empty.
const MAX_FULL: u64 = 100 * 366 * 24 * 3600 * 1_000_000_000;

/// So much in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    pub algorithm: Algorithm,
    /// At most so much in that time. With 0 nothing is allowed.
    pub amount: u32,
    /// Nanoseconds.
    per: u64,
    /// What a token bucket holds, and how much may wait for a leaky one.
    pub burst: u32,
}

/// Where somebody stands with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub allowed: bool,
    /// What is left, after what was taken.
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset: Duration,
    /// Until the same is allowed, if nothing else is taken: zero where it was, `Duration::MAX` where it never is.
    pub retry_after: Duration,
    /// How long what was taken of a leaky bucket has to wait.
    pub delay: Duration,
}

/// What is remembered of one limit and key.
#[derive(Debug, Default)]
pub enum State {
    #[default]
    New,
    Window {
        /// Its number since 1970.
        number: u64,
        count: u64,
        /// Of the window before it.
        before: u64,
    },
    /// When how much was taken, the oldest first, and how much that is.
    Log(VecDeque<(u64, u32)>, u64),
    /// When a token bucket is full, or a leaky one empty (the theoretical arrival time of GCRA, ITU-T I.371).
    Arrival(u64),
}

impl Limit {
    /// None where the time, the burst or the amount is out of bounds.
    pub fn new(algorithm: Algorithm, amount: u32, per: Duration, burst: u32) -> Option<Limit> {
        let limit = Limit { algorithm, amount, per: u64::try_from(per.as_nanos()).ok()?, burst };
        let fits = match algorithm {
            Algorithm::SlidingLog => amount <= MAX_LOG,
            Algorithm::TokenBucket => burst > 0 && limit.full().is_some_and(|full| full <= MAX_FULL),
            Algorithm::LeakyBucket => limit.full().is_some_and(|full| full <= MAX_FULL),
            Algorithm::FixedWindow | Algorithm::SlidingCounter => true,
        };
        (fits && (Duration::from_millis(1)..=MAX_PER).contains(&per)).then_some(limit)
    }

    pub fn per(&self) -> Duration {
        Duration::from_nanos(self.per)
    }

    /// Nanoseconds that one of the amount takes.
    fn interval(&self) -> u64 {
        (self.per / u64::from(self.amount.max(1))).max(1)
    }

    /// Nanoseconds that the burst takes.
    fn full(&self) -> Option<u64> {
        self.interval().checked_mul(self.burst.into())
    }

    fn refused(&self, remaining: u64, reset: u64, retry_after: Option<u64>) -> Standing {
        let retry_after = retry_after.filter(|_| self.amount > 0).map_or(Duration::MAX, Duration::from_nanos);
        let reset = Duration::from_nanos(reset);
        Standing { allowed: false, remaining, reset, retry_after, delay: Duration::ZERO }
    }

    fn allowed(remaining: u64, reset: u64, delay: u64) -> Standing {
        let [reset, delay] = [reset, delay].map(Duration::from_nanos);
        Standing { allowed: true, remaining, reset, retry_after: Duration::ZERO, delay }
    }
}

impl State {
    /// Where `cost` stands; takes it where `take` says so and it is allowed. A cost of 0 only looks.
    pub fn ask(&mut self, limit: &Limit, cost: u32, now: u64, take: bool) -> Standing {
        match limit.algorithm {
            Algorithm::FixedWindow => self.fixed_window(limit, cost, now, take),
            Algorithm::SlidingCounter => self.sliding_counter(limit, cost, now, take),
            Algorithm::SlidingLog => self.sliding_log(limit, cost, now, take),
            Algorithm::TokenBucket => self.token_bucket(limit, cost, now, take),
            Algorithm::LeakyBucket => self.leaky_bucket(limit, cost, now, take),
        }
    }

    /// Whether it is as good as a new one.
    pub fn is_over(&self, limit: &Limit, now: u64) -> bool {
        match self {
            State::New => true,
            State::Window { number, .. } => now / limit.per > number + 1,
            State::Log(taken, _) => taken.back().is_none_or(|(at, _)| at + limit.per <= now),
            State::Arrival(at) => *at <= now,
        }
    }

    /// The window of now: its count, that of the one before, and how much of it has passed.
    fn window(&self, limit: &Limit, now: u64) -> (u64, u64, u64) {
        let (this, passed) = (now / limit.per, now % limit.per);
        match *self {
            State::Window { number, count, before } if number >= this => (count, before, passed),
            State::Window { number, count, .. } if number + 1 == this => (0, count, passed),
            _ => (0, 0, passed),
        }
    }

    fn fixed_window(&mut self, limit: &Limit, cost: u32, now: u64, take: bool) -> Standing {
        let (count, before, passed) = self.window(limit, now);
        let (amount, cost, end) = (u64::from(limit.amount), u64::from(cost), limit.per - passed);
        let allowed = count + cost <= amount;
        let count = if allowed && take { count + cost } else { count };
        *self = State::Window { number: now / limit.per, count, before };
        match allowed {
            true => Limit::allowed(amount - count, end, 0),
            false => limit.refused(amount.saturating_sub(count), end, (cost <= amount).then_some(end)),
        }
    }

    /// Of the window before, the part counts that is not longer ago than the limit's time, as if it had come evenly.
    fn sliding_counter(&mut self, limit: &Limit, cost: u32, now: u64, take: bool) -> Standing {
        let (count, before, passed) = self.window(limit, now);
        let (amount, cost, per) = (u64::from(limit.amount), u64::from(cost), limit.per);
        let part = (u128::from(before) * u128::from(per - passed)).div_ceil(u128::from(per)) as u64;
        let allowed = count + part + cost <= amount;
        let taken = if allowed && take { cost } else { 0 };
        let (used, count) = (count + part + taken, count + taken);
        *self = State::Window { number: now / per, count, before };
        let reset = match (count, before) {
            (0, 0) => 0,
            (0, _) => per - passed,
            _ => 2 * per - passed,
        };
        if allowed {
            return Limit::allowed(amount - used, reset, 0);
        }
        // How much of a window has passed when so little of what it counted still counts.
        let passed_when = |of: u64, left: u64| {
            let counts = u128::from(left) * u128::from(per) / u128::from(of.max(1));
            per - u64::try_from(counts).unwrap_or(per).min(per)
        };
        let retry_after = amount.checked_sub(cost).map(|left| match left.checked_sub(count) {
            Some(left) => passed_when(before, left).saturating_sub(passed),
            None => per - passed + passed_when(count, left),
        });
        limit.refused(amount.saturating_sub(used), reset, retry_after)
    }

    fn sliding_log(&mut self, limit: &Limit, cost: u32, now: u64, take: bool) -> Standing {
        let (mut taken, mut used) = match std::mem::take(self) {
            State::Log(taken, used) => (taken, used),
            _ => (VecDeque::new(), 0),
        };
        // What was taken later than now was taken before the time went back.
        taken.iter_mut().rev().take_while(|(at, _)| *at > now).for_each(|(at, _)| *at = now);
        while let Some((_, cost)) = taken.front().filter(|(at, _)| at + limit.per <= now) {
            used -= u64::from(*cost);
            taken.pop_front();
        }
        let (amount, wanted) = (u64::from(limit.amount), u64::from(cost));
        let until = |&(at, _): &(u64, u32)| at + limit.per - now;
        let standing = if used + wanted <= amount {
            if take && cost > 0 {
                taken.push_back((now, cost));
                used += wanted;
            }
            Limit::allowed(amount - used, taken.back().map_or(0, until), 0)
        } else {
            let mut over = used + wanted - amount;
            let enough = taken.iter().find(|(_, cost)| {
                over = over.saturating_sub((*cost).into());
                over == 0
            });
            let reset = taken.back().map_or(0, until);
            limit.refused(amount.saturating_sub(used), reset, enough.map(until))
        };
        *self = State::Log(taken, used);
        standing
    }

    /// Nanoseconds until the bucket is full again, or empty: no more than it can be.
    fn owed(&mut self, now: u64, most: u64) -> u64 {
        let owed = match self {
            State::Arrival(at) => at.saturating_sub(now).min(most),
            _ => 0,
        };
        *self = State::Arrival(now + owed);
        owed
    }

    fn token_bucket(&mut self, limit: &Limit, cost: u32, now: u64, take: bool) -> Standing {
        let (interval, full) = (limit.interval(), limit.full().unwrap_or(MAX_FULL));
        let owed = self.owed(now, full);
        let price = interval.saturating_mul(cost.into());
        let after = owed.saturating_add(price);
        if after > full || limit.amount == 0 {
            let retry_after = (price <= full).then(|| after - full);
            return limit.refused((full - owed) / interval, owed, retry_after);
        }
        let owed = if take { after } else { owed };
        *self = State::Arrival(now + owed);
        Limit::allowed((full - owed) / interval, owed, 0)
    }

    /// What is taken runs out one after the other, and waits for what was taken before it; `burst` of them may wait.
    fn leaky_bucket(&mut self, limit: &Limit, cost: u32, now: u64, take: bool) -> Standing {
        let (interval, full) = (limit.interval(), limit.full().unwrap_or(MAX_FULL));
        let price = interval.saturating_mul(cost.max(1).into());
        // What waits, and the one that has just gone out.
        let most = full.saturating_add(interval);
        let owed = self.owed(now, most);
        let last = owed.saturating_add(price) - interval;
        if last > full || limit.amount == 0 {
            let retry_after = (price - interval <= full).then(|| last - full);
            return limit.refused((most - owed) / interval, owed, retry_after);
        }
        let after = if take && cost > 0 { owed + price } else { owed };
        *self = State::Arrival(now + after);
        Limit::allowed((most - after) / interval, after, if take { owed } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: u64 = 1_000_000_000;
    const ALL: [Algorithm; 5] = [
        Algorithm::FixedWindow,
        Algorithm::SlidingLog,
        Algorithm::SlidingCounter,
        Algorithm::TokenBucket,
        Algorithm::LeakyBucket,
    ];

    fn limit(algorithm: Algorithm, amount: u32, seconds: u64, burst: u32) -> Limit {
        Limit::new(algorithm, amount, Duration::from_secs(seconds), burst).expect("within bounds")
    }

    /// When how much was let through.
    fn run(limit: &Limit, steps: &[(u64, u32)]) -> Vec<(u64, u64)> {
        let (mut state, mut now, mut taken) = (State::default(), 1000 * S, Vec::new());
        for &(step, cost) in steps {
            now += step;
            let standing = state.ask(limit, cost, now, true);
            assert_eq!(standing.allowed, standing.retry_after.is_zero());
            assert!(standing.delay <= Duration::from_nanos(limit.full().unwrap_or(0)), "{standing:?}");
            if standing.allowed {
                taken.push((now + standing.delay.as_nanos() as u64, cost.into()));
            }
        }
        taken
    }

    fn within(taken: &[(u64, u64)], from: u64, to: u64) -> u64 {
        taken.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, cost)| cost).sum()
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, u32)>> {
        prop::collection::vec((prop_oneof![Just(0), 0..S / 10, 0..3 * S], 1u32..4), 1..80)
    }

    proptest! {
        #[test]
        fn a_window_has_no_more_than_its_amount(amount in 1u32..20, seconds in 1u64..4, steps in steps()) {
            let limit = limit(Algorithm::FixedWindow, amount, seconds, 0);
            let taken = run(&limit, &steps);
            for (at, _) in &taken {
                let start = at / limit.per * limit.per;
                prop_assert!(within(&taken, start, start + limit.per) <= amount.into());
                // Around the end of one.
                prop_assert!(within(&taken, *at, at + limit.per) <= 2 * u64::from(amount));
            }
        }

        #[test]
        fn a_log_is_exact_over_any_span(amount in 1u32..20, seconds in 1u64..4, steps in steps()) {
            let limit = limit(Algorithm::SlidingLog, amount, seconds, 0);
            let taken = run(&limit, &steps);
            for (at, _) in &taken {
                prop_assert!(within(&taken, *at, at + limit.per) <= amount.into());
            }
        }

        /// In a span that ends when a share e of its window has passed, at most the amount and the share e of what the
        /// window before it let through: less than twice the amount.
        #[test]
        fn a_counter_is_as_wrong_as_it_says(amount in 1u32..20, seconds in 1u64..4, steps in steps()) {
            let limit = limit(Algorithm::SlidingCounter, amount, seconds, 0);
            let taken = run(&limit, &steps);
            for (at, _) in &taken {
                let (start, passed) = (at / limit.per * limit.per, at % limit.per);
                prop_assert!(within(&taken, start, start + limit.per) <= amount.into());
                let before = within(&taken, start.saturating_sub(limit.per), start);
                let most = u128::from(amount) + (u128::from(before) * u128::from(passed)).div_ceil(limit.per.into());
                let span = within(&taken, (at + 1).saturating_sub(limit.per), at + 1);
                prop_assert!(u128::from(span) <= most, "{span} > {most}");
                prop_assert!(span < 2 * u64::from(amount), "{span}");
            }
        }

        #[test]
        fn a_token_bucket_lets_its_burst_through_and_what_flows_in(
            amount in 1u32..20, seconds in 1u64..4, burst in 3u32..20, steps in steps(),
        ) {
            let limit = limit(Algorithm::TokenBucket, amount, seconds, burst);
            let taken = run(&limit, &steps);
            for (place, (since, _)) in taken.iter().enumerate() {
                for (to, _) in &taken[place..] {
                    let most = u64::from(burst) + (to - since) / limit.interval();
                    prop_assert!(within(&taken, *since, to + 1) <= most);
                }
            }
        }

        /// What comes out of a leaky bucket comes out evenly, and nothing waits longer than the burst takes.
        #[test]
        fn a_leaky_bucket_runs_evenly(
            amount in 1u32..20, seconds in 1u64..4, burst in 3u32..20, steps in steps(),
        ) {
            let limit = limit(Algorithm::LeakyBucket, amount, seconds, burst);
            let taken = run(&limit, &steps);
            for pair in taken.windows(2) {
                prop_assert!(pair[1].0 - pair[0].0 >= pair[0].1 * limit.interval());
            }
        }

        /// Whatever came before: after retry_after, and not a moment earlier, the same is allowed; after reset all is.
        #[test]
        fn what_is_said_of_the_future_comes_true(
            algorithm in prop::sample::select(&ALL[..]),
            amount in 3u32..20, seconds in 1u64..4, steps in steps(),
        ) {
            let limit = limit(algorithm, amount, seconds, 3);
            let (mut state, mut now) = (State::default(), 1000 * S);
            for (step, cost) in steps {
                now += step;
                let standing = state.ask(&limit, cost, now, true);
                if standing.retry_after == Duration::MAX {
                    continue;
                }
                let (retry, reset) = (standing.retry_after.as_nanos() as u64, standing.reset.as_nanos() as u64);
                let mut later = |at| state.ask(&limit, cost, at, false);
                if retry > 0 {
                    prop_assert!(!later(now + retry - 1).allowed, "{standing:?}");
                    prop_assert!(later(now + retry).allowed, "{standing:?}");
                }
                let whole = State::default().ask(&limit, 0, now + reset, false).remaining;
                prop_assert_eq!(later(now + reset).remaining, whole, "{:?}", standing);
                // What has looked ahead stands there.
                now += retry.max(reset);
            }
        }

        /// A clock that jumps lets nobody wait longer than all of the limit takes, and nobody through more than once.
        #[test]
        fn jumps_of_the_clock_are_survived(
            algorithm in prop::sample::select(&ALL[..]),
            amount in 3u32..20, seconds in 1u64..4, steps in steps(), back in 0u64..1000, used in 1u32..4,
        ) {
            let limit = limit(algorithm, amount, seconds, 3);
            let (mut state, mut now) = (State::default(), 2000 * S);
            for (step, cost) in steps {
                now += step;
                state.ask(&limit, cost, now, true);
            }
            let before = state.ask(&limit, 0, now, false).remaining;
            now -= back * S;
            let after = state.ask(&limit, used, now, true);
            // What still counts of the window before depends on where in a window the time is.
            prop_assert!(after.remaining <= before || algorithm == Algorithm::SlidingCounter, "{after:?}");
            let whole = 2 * limit.per + limit.full().unwrap_or(0);
            prop_assert!(state.ask(&limit, used, now + whole, true).allowed);
        }

        /// Far in the future all is new; back again nobody owes more than the limit holds.
        #[test]
        fn far_jumps_of_the_clock_are_survived(
            algorithm in prop::sample::select(&ALL[..]),
            amount in 3u32..20, seconds in 1u64..4, steps in steps(), years in 1u64..500,
        ) {
            let limit = limit(algorithm, amount, seconds, 3);
            let (mut state, mut now) = (State::default(), 1000 * S);
            for (step, cost) in steps {
                now += step;
                state.ask(&limit, cost, now, true);
            }
            let later = now + years * 366 * 86400 * S;
            prop_assert!(state.is_over(&limit, later));
            prop_assert_eq!(state.ask(&limit, 3, later, true), State::default().ask(&limit, 3, later, true));
            let whole = 2 * limit.per + limit.full().unwrap_or(0);
            let back = state.ask(&limit, 1, now, true);
            prop_assert!(back.reset <= Duration::from_nanos(whole), "{back:?}");
            prop_assert!(state.ask(&limit, 3, now + whole, true).allowed);
        }

        /// A clock that goes to and fro lets through what the limit holds once for each time that it went forward; going
        /// back gives nothing.
        #[test]
        fn a_clock_that_goes_to_and_fro_gives_nothing_away(
            algorithm in prop::sample::select(&ALL[..]),
            amount in 3u32..20, seconds in 1u64..4,
            jumps in prop::collection::vec((any::<bool>(), 0..5000 * S, 1usize..40), 1..30),
        ) {
            let limit = limit(algorithm, amount, seconds, 3);
            let holds = match algorithm {
                Algorithm::TokenBucket => 3,
                // And the one that goes out at once.
                Algorithm::LeakyBucket => 4,
                _ => u64::from(amount),
            };
            let (mut state, mut now, mut let_through, mut times) = (State::default(), 1_000_000 * S, 0, 1);
            for (forward, by, asked) in jumps {
                now = if forward { now + by } else { now - by };
                times += u64::from(forward);
                let_through += (0..asked).filter(|_| state.ask(&limit, 1, now, true).allowed).count() as u64;
                prop_assert!(let_through <= holds * times, "{let_through} > {holds} * {times}");
            }
        }
    }

    /// What a sliding counter is wrong by at worst: all at the end of a window, and again while that counts ever less.
    #[test]
    fn the_worst_of_a_counter_is_one_less_than_twice_the_amount() {
        let limit = limit(Algorithm::SlidingCounter, 10, 1, 0);
        let mut state = State::default();
        let mut passes = |at| (0..20).filter(|_| state.ask(&limit, 1, at, true).allowed).count();
        assert_eq!(passes(1000 * S + S - 1), 10);
        assert_eq!(passes(1001 * S + S / 2), 5);
        assert_eq!(passes(1001 * S + S - S / 10), 4);
        assert_eq!(passes(1001 * S + S - 2), 0);
        assert_eq!(passes(1001 * S + S - 1), 0);
    }

    #[test]
    fn looking_takes_nothing() {
        for algorithm in ALL {
            let limit = limit(algorithm, 10, 10, 10);
            let mut state = State::default();
            let first = state.ask(&limit, 3, 1000 * S, true);
            for _ in 0..20 {
                assert_eq!(state.ask(&limit, 0, 1000 * S, true).remaining, first.remaining, "{algorithm:?}");
                assert_eq!(state.ask(&limit, 2, 1000 * S, false).remaining, first.remaining, "{algorithm:?}");
            }
        }
    }

    #[test]
    fn with_nothing_allowed_nothing_ever_is() {
        for algorithm in ALL {
            let standing = State::default().ask(&limit(algorithm, 0, 1, 1), 1, 1000 * S, true);
            assert!(!standing.allowed && standing.retry_after == Duration::MAX, "{algorithm:?}");
            let standing = State::default().ask(&limit(algorithm, 2, 1, 2), 9, 1000 * S, true);
            assert!(!standing.allowed && standing.retry_after == Duration::MAX, "{algorithm:?}");
        }
    }

    #[test]
    fn what_is_as_good_as_new_is_over() {
        for algorithm in ALL {
            let limit = limit(algorithm, 2, 1, 2);
            let mut state = State::default();
            assert!(state.is_over(&limit, 0));
            state.ask(&limit, 2, 1000 * S, true);
            assert!(!state.is_over(&limit, 1000 * S + S / 3), "{algorithm:?}");
            assert!(state.is_over(&limit, 1002 * S), "{algorithm:?}");
        }
    }

    #[test]
    fn limits_out_of_bounds_are_none() {
        let of = |algorithm, amount, per, burst| Limit::new(algorithm, amount, per, burst).is_some();
        let second = Duration::from_secs(1);
        assert!(!of(Algorithm::FixedWindow, 1, Duration::ZERO, 0));
        assert!(!of(Algorithm::FixedWindow, 1, 367 * 86400 * second, 0));
        assert!(!of(Algorithm::SlidingLog, MAX_LOG + 1, second, 0));
        assert!(!of(Algorithm::TokenBucket, 1, second, 0));
        assert!(!of(Algorithm::TokenBucket, 1, 86400 * second, u32::MAX));
        assert!(of(Algorithm::LeakyBucket, 1, second, 0));
        assert!(of(Algorithm::SlidingCounter, u32::MAX, 366 * 86400 * second, 0));
    }
}
