//! A route's traffic on several branches: by weight, the same for the same key, and slowly for a branch
//! that is new. Pure: time and randomness are arguments.

use std::time::SystemTime;

use http::HeaderValue;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    config::{self, Ramp},
    plugin::exchange::{self, State},
    upstream::balance::hash_of,
};

/// The traffic of one route.
#[derive(Debug)]
pub struct Traffic {
    settings: config::Split,
    shares: Split,
}

/// Where a request goes.
pub struct Choice {
    /// None where no branch has a weight.
    pub branch: Option<usize>,
    /// To be set, so that the client stays with it.
    pub cookie: Option<HeaderValue>,
}

impl Traffic {
    /// `route` is its name: the same clients do not get the new branch of every route.
    pub fn new(settings: &config::Split, route: &str) -> Self {
        let branches = settings.branches.iter();
        let branches = branches.map(|branch| Branch { weight: branch.weight, ramp: branch.ramp.clone() });
        let shares = Split::new(branches.collect(), hash_of(route.as_bytes()));
        Traffic { settings: settings.clone(), shares }
    }

    pub fn choose(&self, state: &State, now: SystemTime, random: impl Fn() -> u64) -> Choice {
        let holds = |branch: &&config::Branch| {
            let mut matches = branch.matches.iter();
            !branch.matches.is_empty() && matches.all(|(key, test)| test.holds(state.key(key).into_iter()))
        };
        if let Some(branch) = self.settings.branches.iter().position(|branch| holds(&branch)) {
            return Choice { branch: Some(branch), cookie: None };
        }
        let Some(cookie) = &self.settings.cookie else {
            let key = self.settings.sticky.as_ref().and_then(|key| state.key(key));
            return Choice { branch: self.shares.choose(key.as_deref(), now, random()), cookie: None };
        };
        if let Some(key) = exchange::cookie(&state.request.headers, &cookie.cookie) {
            return Choice { branch: self.shares.choose(Some(key), now, 0), cookie: None };
        }
        let key = format!("{:016x}", random());
        let branch = self.shares.choose(Some(key.as_bytes()), now, 0);
        Choice { branch, cookie: cookie.header(&key) }
    }

    /// The part of the traffic that each branch gets, beside what a match decides.
    pub fn current(&self, now: SystemTime) -> Vec<f64> {
        self.shares.current(now)
    }
}

impl config::Route {
    /// The branches of its traffic, by upstream, with the percentage that each gets.
    pub fn shares(&self, now: SystemTime) -> impl Iterator<Item = (usize, f64)> {
        self.split.iter().flat_map(move |split| {
            let shares = Traffic::new(split, &self.name).current(now);
            let upstreams = split.branches.iter().map(|branch| branch.upstream);
            upstreams.zip(shares.into_iter().map(|share| (share * 10_000.0).round() / 100.0))
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Branch {
    /// Its part of the traffic, relative to the other branches; 0 is none.
    weight: u32,
    ramp: Option<Ramp>,
}

#[derive(Debug)]
struct Split {
    branches: Vec<Branch>,
    /// Mixed into sticky choices, so that two splits do not give the same clients the new branch.
    salt: u64,
    /// The sum of all weights.
    total: f64,
    /// The sum of the weights without a ramp. They take what a ramp still holds back.
    steady: f64,
}

/// Tells the two draws of a branch for one key apart.
#[derive(Clone, Copy)]
enum Draw {
    Preference,
    Ramp,
}

impl Split {
    fn new(branches: Vec<Branch>, salt: u64) -> Self {
        let sum =
            |with: fn(&&Branch) -> bool| branches.iter().filter(with).map(|b| f64::from(b.weight)).sum();
        let (total, steady) = (sum(|_| true), sum(|branch| branch.ramp.is_none()));
        Split { branches, salt, total, steady }
    }

    /// The branch of a request, by what it is to stick to or else by chance; none where all weights are 0.
    fn choose(&self, key: Option<&[u8]>, now: SystemTime, random: u64) -> Option<usize> {
        match key {
            Some(key) => self.sticky(xxh3_64_with_seed(key, self.salt), now),
            None => self.point(fraction(random), now),
        }
    }

    /// The part of the traffic that each branch gets. They add up to 1, unless all weights are 0.
    fn current(&self, now: SystemTime) -> Vec<f64> {
        self.shares(now).collect()
    }

    /// Weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005):
    /// every branch draws a number, its weight improves it, the best has the key. So a branch that gets
    /// more weight takes keys from all others and they exchange none among themselves, whatever the order
    /// of the branches; cumulative intervals can promise this to two branches only. A key that a ramp holds
    /// back goes to the best without a ramp, and by the same draws, so that it comes to its branch as the
    /// ramp goes up and does not leave it again.
    fn sticky(&self, key: u64, now: SystemTime) -> Option<usize> {
        let best = |steady: bool| {
            let branches = self.branches.iter().enumerate();
            let able = branches.filter(|(_, b)| b.weight > 0 && (!steady || b.ramp.is_none()));
            let scores = able
                .map(|(place, b)| (place, -draw(key, place, Draw::Preference).ln() / f64::from(b.weight)));
            scores.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(place, _)| place)
        };
        let place = best(false)?;
        if draw(key, place, Draw::Ramp) < self.taken(self.branches.get(place)?, now) {
            return Some(place);
        }
        best(true)
    }

    /// The branch at a point of the traffic from 0 to 1.
    fn point(&self, point: f64, now: SystemTime) -> Option<usize> {
        let mut end = 0.0;
        let mut last = None;
        for (place, share) in self.shares(now).enumerate().filter(|(_, share)| *share > 0.0) {
            end += share;
            last = Some(place);
            if point < end {
                break;
            }
        }
        // The shares may add up to a little less than 1.
        last
    }

    fn shares(&self, now: SystemTime) -> impl Iterator<Item = f64> {
        let own =
            move |branch: &Branch| f64::from(branch.weight) * self.taken(branch, now) / self.total.max(1.0);
        let ramping: f64 = self.branches.iter().filter(|branch| branch.ramp.is_some()).map(own).sum();
        self.branches.iter().map(move |branch| match branch.ramp {
            None if self.steady > 0.0 => f64::from(branch.weight) / self.steady * (1.0 - ramping),
            _ => own(branch),
        })
    }

    /// The part of its weight that a branch takes. Where nobody else could take the rest, it is the whole.
    fn taken(&self, branch: &Branch, now: SystemTime) -> f64 {
        match &branch.ramp {
            Some(ramp) if self.steady > 0.0 => ramp.at(now),
            _ => 1.0,
        }
    }
}

impl Ramp {
    fn at(&self, now: SystemTime) -> f64 {
        let from = self.from.clamp(0.0, 1.0);
        let Ok(elapsed) = now.duration_since(self.start) else { return from };
        if elapsed >= self.over {
            return 1.0;
        }
        let steps = self.steps.max(1);
        let done = elapsed.as_nanos() * u128::from(steps) / self.over.as_nanos();
        from + (1.0 - from) * done as f64 / f64::from(steps)
    }
}

/// What a branch draws for a key, above 0 and below 1. The places are told apart by the steps and the mix of
/// splitmix64, all of it fixed: a key stays where it is over processes and versions.
fn draw(key: u64, place: usize, draw: Draw) -> f64 {
    let step = 2 * place as u64 + draw as u64 + 1;
    let state = key.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    fraction(mixed ^ (mixed >> 31))
}

/// The middle of one of 2^52 equal parts of the range from 0 to 1.
fn fraction(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    const REQUESTS: u32 = 100_000;
    const HOUR: Duration = Duration::from_secs(3600);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn ramp(from: f64, steps: u32) -> Option<Ramp> {
        Some(Ramp { start: start(), over: HOUR, from, steps })
    }

    fn steady(weights: &[u32]) -> Vec<Branch> {
        weights.iter().map(|&weight| Branch { weight, ramp: None }).collect()
    }

    /// The shares in percent of many requests by chance, and of as many by distinct keys.
    fn measured(split: &Split, now: SystemTime) -> [Vec<f64>; 2] {
        let mut rng = StdRng::seed_from_u64(1);
        let mut chance = vec![0.0; split.branches.len()];
        let mut sticky = chance.clone();
        for number in 0..REQUESTS {
            chance[split.choose(None, now, rng.random()).unwrap()] += 100.0 / f64::from(REQUESTS);
            let key = format!("user-{number}");
            sticky[split.choose(Some(key.as_bytes()), now, 0).unwrap()] += 100.0 / f64::from(REQUESTS);
        }
        [chance, sticky]
    }

    #[track_caller]
    fn assert_shares(split: &Split, now: SystemTime, expected: &[f64]) {
        for shares in measured(split, now) {
            for (share, expected) in shares.iter().zip(expected) {
                assert!((share - expected).abs() < 0.5, "{shares:?}, not {expected:?}");
            }
        }
        for (share, expected) in split.current(now).iter().zip(expected) {
            assert!((share * 100.0 - expected).abs() < 1e-9, "{share}, not {expected}");
        }
    }

    #[test]
    fn follows_the_weights() {
        assert_shares(&Split::new(steady(&[90, 10]), 7), start(), &[90.0, 10.0]);
        assert_shares(&Split::new(steady(&[3, 0, 1, 4]), 7), start(), &[37.5, 0.0, 12.5, 50.0]);
    }

    #[test]
    fn what_a_ramp_holds_back_goes_to_the_others_in_proportion() {
        let mut branches = steady(&[60, 20, 20]);
        branches[2].ramp = ramp(0.0, 4);
        let split = Split::new(branches, 7);
        assert_shares(&split, start(), &[75.0, 25.0, 0.0]);
        assert_shares(&split, start() + HOUR / 2, &[67.5, 22.5, 10.0]);
        assert_shares(&split, start() + HOUR, &[60.0, 20.0, 20.0]);
    }

    #[test]
    fn two_ramps_do_not_disturb_each_other() {
        let mut branches = steady(&[50, 30, 20]);
        branches[1].ramp = ramp(0.5, 1);
        branches[2].ramp = ramp(0.0, 10);
        assert_shares(&Split::new(branches, 7), start() + HOUR / 2, &[75.0, 15.0, 10.0]);
    }

    #[test]
    fn steps_are_equal_and_the_last_one_ends_it() {
        let mut branches = steady(&[50, 50]);
        branches[1].ramp = ramp(0.2, 4);
        let split = Split::new(branches, 7);
        let nanosecond = Duration::from_nanos(1);
        let at = |now| (split.current(now)[1] * 1000.0).round() / 10.0;
        assert_eq!(at(start() - HOUR), 10.0);
        for (step, share) in [(0, 10.0), (1, 20.0), (2, 30.0), (3, 40.0)] {
            let begin = start() + HOUR / 4 * step;
            assert_eq!([at(begin), at(begin + HOUR / 4 - nanosecond)], [share; 2]);
        }
        assert_eq!([at(start() + HOUR), at(start() + 10 * HOUR)], [50.0; 2]);
    }

    #[test]
    fn a_ramp_with_nobody_beside_it_takes_all() {
        let mut branches = steady(&[1, 0]);
        branches[0].ramp = ramp(0.0, 10);
        let split = Split::new(branches, 7);
        assert_eq!(split.current(start()), [1.0, 0.0]);
        assert_eq!(split.choose(Some(b"a"), start(), 0), Some(0));
        assert_eq!(split.choose(None, start(), u64::MAX), Some(0));
    }

    #[test]
    fn without_weight_there_is_no_branch() {
        for branches in [vec![], steady(&[0, 0])] {
            let split = Split::new(branches, 7);
            assert_eq!(split.choose(None, start(), 5), None);
            assert_eq!(split.choose(Some(b"a"), start(), 5), None);
            assert!(split.current(start()).iter().all(|share| *share == 0.0));
        }
    }

    #[test]
    fn the_ends_of_the_range_belong_to_branches_with_weight() {
        let split = Split::new(steady(&[0, 1, 1, 0]), 7);
        assert_eq!(split.choose(None, start(), 0), Some(1));
        assert_eq!(split.choose(None, start(), u64::MAX / 2), Some(1));
        assert_eq!(split.choose(None, start(), u64::MAX / 2 + 1), Some(2));
        assert_eq!(split.choose(None, start(), u64::MAX), Some(2));
    }

    #[test]
    fn a_key_keeps_its_branch_over_versions_and_a_salt_moves_it() {
        let choices = |salt| -> Vec<_> {
            let split = Split::new(steady(&[1, 1]), salt);
            (0..16_u8).map(|key| split.choose(Some(&[key]), start(), 0).unwrap()).collect()
        };
        assert_eq!(choices(7), [0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0]);
        assert_ne!(choices(7), choices(8));
    }

    fn branches() -> impl Strategy<Value = Vec<Branch>> {
        let ramp = (0.0..=1.0, 1..20_u32, 0..7200_u64).prop_map(|(from, steps, over)| Ramp {
            start: start(),
            over: Duration::from_secs(over),
            from,
            steps,
        });
        let branch = (0..100_u32, prop::option::of(ramp)).prop_map(|(weight, ramp)| Branch { weight, ramp });
        prop::collection::vec(branch, 1..6)
    }

    proptest! {
        #[test]
        fn more_weight_takes_keys_and_moves_no_other(
            branches in branches(),
            grown in any::<prop::sample::Index>(),
            more in 1..100_u32,
            salt: u64,
            at in 0..8000_u64,
        ) {
            let now = start() + Duration::from_secs(at);
            let grown = grown.index(branches.len());
            // Without a branch that takes what ramps hold back there are no ramps, and the first one begins
            // them.
            prop_assume!(branches.iter().any(|branch| branch.ramp.is_none() && branch.weight > 0));
            let ramps = branches.iter().filter(|branch| branch.ramp.is_some()).count();
            prop_assume!(branches[grown].ramp.is_none() || ramps == 1);
            let mut raised = branches.clone();
            raised[grown].weight += more;
            let (before, after) = (Split::new(branches, salt), Split::new(raised, salt));
            for key in 0..200_u32 {
                let key = key.to_le_bytes();
                let (old, new) = (before.choose(Some(&key), now, 0), after.choose(Some(&key), now, 0));
                prop_assert!(new == old || new == Some(grown), "from {old:?} to {new:?}, grown is {grown}");
            }
        }

        #[test]
        fn who_came_by_a_ramp_stays(
            branches in branches(),
            salt: u64,
            mut times in prop::collection::vec(0..8000_u64, 2..8),
        ) {
            let split = Split::new(branches, salt);
            times.sort();
            for key in 0..200_u32 {
                let mut came = None;
                for at in &times {
                    let place = split.choose(Some(&key.to_le_bytes()), start() + Duration::from_secs(*at), 0);
                    prop_assert!(came.is_none() || place == came);
                    came = place.filter(|place| split.branches[*place].ramp.is_some());
                }
            }
        }

        #[test]
        fn shares_add_up(branches in branches(), at in 0..8000_u64, random: u64, key: u64) {
            let now = start() + Duration::from_secs(at);
            let split = Split::new(branches, 7);
            let shares = split.current(now);
            let sum: f64 = shares.iter().sum();
            let expected = if split.total > 0.0 { 1.0 } else { 0.0 };
            prop_assert!((sum - expected).abs() < 1e-9, "{shares:?}");
            prop_assert!(shares.iter().all(|share| *share >= 0.0));
            for place in [split.choose(None, now, random), split.choose(Some(&key.to_le_bytes()), now, 0)] {
                prop_assert_eq!(place.is_some(), split.total > 0.0);
                prop_assert!(place.is_none_or(|place| shares[place] > 0.0));
            }
        }
    }
}
