//! Weighted round robin: in every cycle each place comes as often as its weight, spread evenly.

/// Steps that the start may lie into the cycle. Any stretch of a cycle is about as balanced as the
/// whole, and the cycle of large weights is too long to walk.
const MAX_START: u64 = 256;

/// Smooth weighted round robin as in nginx, between groups of places of the same weight; within a
/// group the places take turns. So the time of a choice grows with the number of different weights
/// only, not with that of places.
#[derive(Clone)]
pub struct RoundRobin {
    groups: Vec<Group>,
}

#[derive(Clone)]
struct Group {
    /// Of all its places together.
    weight: i64,
    credit: i64,
    places: Vec<usize>,
    /// Whose turn it is.
    next: usize,
}

impl RoundRobin {
    /// Begins somewhere in the cycle; with `start` 0 at its begin, in the order of the weights.
    pub fn new(weights: impl IntoIterator<Item = u32>, start: u64) -> Self {
        let mut groups: Vec<(u32, Vec<usize>)> = Vec::new();
        for (place, weight) in weights.into_iter().enumerate().filter(|&(_, weight)| weight > 0) {
            match groups.iter_mut().find(|group| group.0 == weight) {
                Some((_, places)) => places.push(place),
                None => groups.push((weight, vec![place])),
            }
        }
        let groups = groups.into_iter().map(|(weight, places)| {
            let next = (start % places.len() as u64) as usize;
            Group { weight: i64::from(weight) * places.len() as i64, credit: 0, places, next }
        });
        let mut balance = RoundRobin { groups: groups.collect() };
        let cycle: i64 = balance.groups.iter().map(|group| group.weight).sum();
        // Other bits of the start than those that the groups begin by.
        for _ in 0..start.rotate_left(32) % MAX_START.min(cycle as u64).max(1) {
            balance.pick(&|_| false);
        }
        balance
    }

    /// None where all weights are 0.
    pub fn pick(&mut self, avoid: &dyn Fn(usize) -> bool) -> Option<usize> {
        self.turn(avoid).or_else(|| self.turn(&|_| false))
    }

    /// A turn as if groups of which all are to be avoided were not there: they do not save it up. A place to
    /// avoid leaves its turn to the others of its group.
    fn turn(&mut self, avoid: &dyn Fn(usize) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut best: Option<&mut Group> = None;
        for group in &mut self.groups {
            if group.places.iter().all(|&place| avoid(place)) {
                continue;
            }
            group.credit += group.weight;
            total += group.weight;
            // The first of equals, so that the order of the config is the order of the cycle.
            if best.as_ref().is_none_or(|best| group.credit > best.credit) {
                best = Some(group);
            }
        }
        let best = best?;
        best.credit -= total;
        best.turn(avoid)
    }
}

impl Group {
    fn turn(&mut self, avoid: &dyn Fn(usize) -> bool) -> Option<usize> {
        let count = self.places.len();
        let number = (self.next..count).chain(0..self.next).find(|&number| !avoid(self.places[number]))?;
        self.next = if number + 1 == count { 0 } else { number + 1 };
        Some(self.places[number])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn cycle(weights: &[u32], start: u64, length: usize) -> Vec<Option<usize>> {
        let mut balance = RoundRobin::new(weights.iter().copied(), start);
        (0..length).map(|_| balance.pick(&|_| false)).collect()
    }

    #[test]
    fn follows_the_weights_smoothly() {
        assert_eq!(cycle(&[5, 1, 1], 0, 7), [0, 1, 0, 0, 0, 2, 0].map(Some));
        assert_eq!(cycle(&[5, 2, 1], 0, 8), [0, 1, 0, 0, 2, 0, 1, 0].map(Some));
        assert_eq!(cycle(&[1, 1, 1], 0, 6), [0, 1, 2, 0, 1, 2].map(Some));
    }

    #[test]
    fn a_weight_of_zero_gets_nothing() {
        assert_eq!(cycle(&[0, 1], 0, 3), [Some(1); 3]);
        assert_eq!(cycle(&[0], 1, 1), [None]);
        assert_eq!(cycle(&[0, 0], 1, 1), [None]);
        assert_eq!(cycle(&[], 1, 1), [None]);
    }

    #[test]
    fn workers_begin_at_different_places() {
        for weights in [&[1; 5][..], &[1, 2, 3, 4, 5], &[200, 201, 202, 203, 204]] {
            let firsts: HashSet<_> = (0..100)
                .map(|start: u64| cycle(weights, start.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1))
                .collect();
            assert_eq!(firsts.len(), 5, "{weights:?}");
        }
    }

    #[test]
    fn the_start_may_be_any_of_many() {
        let firsts: HashSet<_> = (0..1000).map(|start| cycle(&[1; 1000], start, 1)).collect();
        assert_eq!(firsts.len(), 1000);
    }

    #[test]
    fn a_turn_that_is_avoided_is_not_given_to_one_neighbour() {
        for weights in [&[1; 4][..], &[2, 3, 3, 4]] {
            let mut balance = RoundRobin::new(weights.iter().copied(), 0);
            let mut seen = [0; 4];
            for _ in 0..weights[1..].iter().sum::<u32>() * 10 {
                seen[balance.pick(&|place| place == 0).unwrap()] += 10;
            }
            let even: Vec<_> =
                weights.iter().enumerate().map(|(n, w)| if n == 0 { 0 } else { w * 100 }).collect();
            assert_eq!(seen.to_vec(), even);
            let after: Vec<_> = (0..4).map(|_| balance.pick(&|_| false)).collect();
            let own = after.iter().filter(|&&place| place == Some(0)).count();
            assert!(own <= 1, "it has saved up turns: {after:?}");
        }
    }

    #[test]
    fn where_all_are_to_be_avoided_any_will_do() {
        let mut balance = RoundRobin::new([1, 2], 0);
        let picked: HashSet<_> = (0..3).map(|_| balance.pick(&|_| true)).collect();
        assert_eq!(picked, [0, 1].map(Some).into());
    }

    proptest! {
        #[test]
        fn every_cycle_is_exact(weights in prop::collection::vec(0u32..20, 1..8), start: u64) {
            let total: u32 = weights.iter().sum();
            let places = cycle(&weights, start, 2 * total as usize);
            for places in places.chunks(total.max(1) as usize) {
                let mut seen = vec![0; weights.len()];
                places.iter().flatten().for_each(|&place| seen[place] += 1);
                prop_assert_eq!(&seen, &weights);
            }
        }

        #[test]
        fn at_no_moment_is_a_place_far_from_its_share(
            weights in prop::collection::vec(1u32..20, 1..8), start: u64,
        ) {
            let total: u32 = weights.iter().sum();
            let mut seen = vec![0; weights.len()];
            for (turns, place) in (1..).zip(cycle(&weights, start, total as usize)) {
                seen[place.unwrap()] += 1;
                for (seen, weight) in seen.iter().zip(&weights) {
                    let due = f64::from(turns) * f64::from(*weight) / f64::from(total);
                    prop_assert!((f64::from(*seen) - due).abs() < 3.0);
                }
            }
        }
    }
}
