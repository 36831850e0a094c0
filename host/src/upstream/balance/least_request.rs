//! The least loaded of a few places that are chosen at random.

use super::random::{Random, below};

/// Two choices are nearly as good as looking at all, and unlike that do not send a herd to whoever was
/// least loaded a moment ago (Mitzenmacher, "The power of two choices in randomized load balancing", 2001).
///
/// Chosen by weight, compared by load per weight, as nginx does in `random two least_conn`: idle places get
/// their weight's share, and where weights differ a place of the share p gets, with two choices, between
/// about p² and 2p. Comparing (load + 1) per weight would starve the light where little is under way.
#[derive(Clone)]
pub struct LeastRequest {
    places: Random,
    weights: Vec<u32>,
    smallest: u32,
    choices: u8,
}

impl LeastRequest {
    pub fn new(weights: impl IntoIterator<Item = u32>, choices: u8) -> Self {
        let weights: Vec<u32> = weights.into_iter().collect();
        let smallest = weights.iter().copied().filter(|&weight| weight > 0).min().unwrap_or(0);
        LeastRequest { places: Random::new(weights.iter().copied()), weights, smallest, choices }
    }

    /// None where all weights are 0.
    pub fn pick(
        &self,
        random: &mut dyn FnMut() -> u64,
        load: &dyn Fn(usize) -> u32,
        avoid: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut best = self.places.pick(random, avoid)?;
        let mut least = load(best);
        for _ in 1..self.choices {
            // As if each were as many places as its weight holds the smallest one, and none of them were
            // drawn twice: equal weights always compare two, a heavy one may stand against itself.
            let weight = u64::from(self.weights[best]);
            let again = weight > self.smallest.into() && below(random(), weight) >= self.smallest.into();
            let may = |place: usize| (again || place != best) && !avoid(place);
            let Some(rival) = self.places.pick_where(random, may) else { break };
            let rivals = load(rival);
            let [of_best, of_rival] = [best, rival].map(|place| u64::from(self.weights[place]));
            if u64::from(rivals) * of_best < u64::from(least) * of_rival {
                (best, least) = (rival, rivals);
            }
        }
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cmp::Reverse,
        collections::{BinaryHeap, HashSet},
    };

    use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    /// Requests come at random, one per tick on average. A place holds each for its own number of ticks.
    fn simulate(weights: &[u32], holds: &[f64], choices: u8) -> Vec<f64> {
        const REQUESTS: u32 = 20_000;
        let balancer = LeastRequest::new(weights.iter().copied(), choices);
        let mut random = StdRng::seed_from_u64(1);
        let (mut counts, mut loads) = (vec![0; holds.len()], vec![0; holds.len()]);
        let mut ends = BinaryHeap::new();
        let mut now = 0.0;
        for _ in 0..REQUESTS {
            now -= random.random::<f64>().ln();
            while let Some(&Reverse((end, place))) = ends.peek()
                && end < (now * 1000.0) as u64
            {
                ends.pop();
                loads[place] -= 1;
            }
            let place = balancer.pick(&mut || random.next_u64(), &|place| loads[place], &|_| false).unwrap();
            counts[place] += 1;
            loads[place] += 1;
            ends.push(Reverse((((now + holds[place]) * 1000.0) as u64, place)));
        }
        counts.iter().map(|&count| f64::from(count) / f64::from(REQUESTS)).collect()
    }

    #[test]
    fn a_slow_place_gets_little() {
        for hold in [1.0, 2.0, 8.0, 50.0] {
            for factor in [10.0, 20.0, 50.0] {
                let shares = simulate(&[1; 4], &[hold, hold * factor, hold, hold], 2);
                println!("held {hold}, the slow one {factor} times as long: {shares:.3?}");
                assert!(shares[1] < 0.12, "{hold} {factor} {shares:?}");
            }
        }
        let shares = simulate(&[1, 1], &[4.0, 200.0], 2);
        assert!(shares[1] < 0.05, "one of two: {shares:?}");
    }

    #[test]
    fn of_places_that_are_equally_fast_each_gets_its_weight() {
        for hold in [0.1, 1.0, 10.0, 100.0] {
            let shares = simulate(&[9, 1], &[hold; 2], 2);
            println!("held {hold}: {shares:.3?}");
            assert!((0.08..0.19).contains(&shares[1]), "{hold} {shares:?}");
            for share in simulate(&[1; 4], &[hold; 4], 2) {
                assert!((0.24..0.26).contains(&share));
            }
        }
        let shares = simulate(&[6, 3, 1], &[100.0; 3], 2);
        for (share, weight) in shares.iter().zip([0.6, 0.3, 0.1]) {
            assert!((share / weight - 1.0).abs() < 0.1, "{shares:?}");
        }
    }

    #[test]
    fn equal_weights_never_compare_a_place_with_itself() {
        let balancer = LeastRequest::new([3; 2], 2);
        let mut random = StdRng::seed_from_u64(1);
        let loads = [1, 0];
        for _ in 0..1000 {
            assert_eq!(balancer.pick(&mut || random.next_u64(), &|place| loads[place], &|_| false), Some(1));
        }
    }

    #[test]
    fn as_many_choices_as_places_find_the_least_loaded_in_most_cases() {
        let balancer = LeastRequest::new([1; 4], 8);
        let mut random = StdRng::seed_from_u64(1);
        let load = |place: usize| 3 - place as u32;
        let picked = (0..1000).map(|_| balancer.pick(&mut || random.next_u64(), &load, &|_| false));
        assert!(picked.filter(|&place| place == Some(3)).count() > 900);
    }

    #[test]
    fn one_choice_is_random() {
        let balancer = LeastRequest::new([1; 4], 1);
        let mut random = StdRng::seed_from_u64(1);
        let load = |place: usize| place as u32;
        let picked: HashSet<_> =
            (0..100).map(|_| balancer.pick(&mut || random.next_u64(), &load, &|_| false)).collect();
        assert_eq!(picked.len(), 4);
    }
}
