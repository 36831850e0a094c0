//! The choice between endpoints. Pure.

/// Smooth weighted round robin (as in nginx): in every cycle each place comes as often as its
/// weight, spread evenly.
pub struct RoundRobin {
    places: Vec<Place>,
    total: i64,
}

struct Place {
    weight: i64,
    credit: i64,
}

impl RoundRobin {
    pub fn new(weights: impl IntoIterator<Item = u16>) -> Self {
        let places: Vec<_> =
            weights.into_iter().map(|weight| Place { weight: weight.into(), credit: 0 }).collect();
        let total = places.iter().map(|place| place.weight).sum();
        RoundRobin { places, total }
    }

    /// None where all weights are 0.
    #[expect(clippy::should_implement_trait, reason = "it is not an iterator: it never ends")]
    pub fn next(&mut self) -> Option<usize> {
        if let [only] = &self.places[..] {
            return (only.weight > 0).then_some(0);
        }
        for place in &mut self.places {
            place.credit += place.weight;
        }
        let weighted = self.places.iter_mut().enumerate().filter(|(_, place)| place.weight > 0);
        // The first of equals, so that the order of the config is the order of the cycle.
        let (number, best) = weighted.rev().max_by_key(|(_, place)| place.credit)?;
        best.credit -= self.total;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycle(weights: &[u16], length: usize) -> Vec<Option<usize>> {
        let mut balance = RoundRobin::new(weights.iter().copied());
        (0..length).map(|_| balance.next()).collect()
    }

    #[test]
    fn follows_the_weights_smoothly() {
        let places = [0, 0, 1, 0, 2, 0, 0].map(Some);
        assert_eq!(cycle(&[5, 1, 1], 7), places);
        assert_eq!(cycle(&[1, 1], 4), [0, 1, 0, 1].map(Some));
    }

    #[test]
    fn a_weight_of_zero_gets_nothing() {
        assert_eq!(cycle(&[0, 1], 3), [Some(1); 3]);
        assert_eq!(cycle(&[0], 1), [None]);
        assert_eq!(cycle(&[0, 0], 1), [None]);
        assert_eq!(cycle(&[], 1), [None]);
    }

    proptest::proptest! {
        #[test]
        fn every_cycle_is_exact(weights in proptest::collection::vec(0u16..20, 1..6)) {
            let total: usize = weights.iter().map(|&w| usize::from(w)).sum();
            let mut seen = vec![0; weights.len()];
            for place in cycle(&weights, total).into_iter().flatten() {
                seen[place] += 1;
            }
            proptest::prop_assert_eq!(seen, weights);
        }
    }
}
