//! A choice at random, by weight.

/// Draws before the places that may be chosen are counted.
const DRAWS: usize = 4;

/// The alias method (Vose, "A linear algorithm for generating random numbers with a given
/// distribution", 1991): one draw takes one random number and no search.
#[derive(Clone)]
pub struct Random {
    weights: Vec<u32>,
    /// As many as places, all of the same chance; none where all weights are 0.
    slots: Vec<Slot>,
}

#[derive(Clone, Copy)]
struct Slot {
    /// The part of the slot, in 2^-32, that belongs to the place of the same number.
    own: u32,
    /// Whom the rest belongs to.
    other: u32,
}

impl Random {
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Vec<u32> = weights.into_iter().collect();
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        if total == 0 {
            return Random { weights, slots: Vec::new() };
        }
        // What each place has yet to get, where a slot holds `total`.
        let mut rests: Vec<u128> =
            weights.iter().map(|&weight| u128::from(weight) * weights.len() as u128).collect();
        let full = u128::from(total);
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|&place| rests[place] < full);
        let mut slots: Vec<Slot> =
            (0..weights.len()).map(|place| Slot { own: 0, other: place as u32 }).collect();
        // Those that are left over at the end fill their own slot.
        while let (Some(&giver), Some(place)) = (large.last(), small.pop()) {
            let own = (rests[place] << 32) / full;
            slots[place] = Slot { own: own as u32, other: giver as u32 };
            rests[giver] -= full - rests[place];
            if rests[giver] < full {
                large.pop();
                small.push(giver);
            }
        }
        Random { weights, slots }
    }

    /// None where all weights are 0.
    pub fn pick(&self, random: &mut dyn FnMut() -> u64, avoid: &dyn Fn(usize) -> bool) -> Option<usize> {
        self.pick_where(random, |place| !avoid(place)).or_else(|| self.draw(random()))
    }

    /// One of those that may be chosen, by weight.
    pub fn pick_where(&self, random: &mut dyn FnMut() -> u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        for _ in 0..DRAWS {
            let place = self.draw(random())?;
            if may(place) {
                return Some(place);
            }
        }
        let left = || self.weights.iter().enumerate().filter(|&(place, _)| may(place));
        let total: u64 = left().map(|(_, &weight)| u64::from(weight)).sum();
        let mut at = below(random(), total);
        for (place, &weight) in left() {
            match at.checked_sub(weight.into()) {
                Some(rest) => at = rest,
                None => return Some(place),
            }
        }
        None
    }

    fn draw(&self, random: u64) -> Option<usize> {
        let number = below(random, self.slots.len() as u64) as usize;
        let slot = self.slots.get(number)?;
        // The low half: the high one has chosen the slot.
        Some(if (random as u32) < slot.own { number } else { slot.other as usize })
    }
}

/// A random number below the limit (Lemire, "Fast random integer generation in an interval", 2019).
pub fn below(random: u64, limit: u64) -> u64 {
    ((u128::from(random) * u128::from(limit)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slots_hold_exactly_the_weights(
            weights in prop::collection::vec(prop_oneof![0..5u32, any::<u32>()], 1..50),
        ) {
            let random = Random::new(weights.iter().copied());
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            let mut parts = vec![0.0; weights.len()];
            for (number, slot) in random.slots.iter().enumerate() {
                let own = f64::from(slot.own) / 2f64.powi(32);
                parts[number] += own;
                parts[slot.other as usize] += 1.0 - own;
            }
            for (part, &weight) in parts.iter().zip(&weights).filter(|_| total > 0.0) {
                let share = f64::from(weight) / total * weights.len() as f64;
                prop_assert!((part - share).abs() < 1e-7, "{} {}", part, share);
                prop_assert!(weight > 0 || *part == 0.0);
            }
        }

        #[test]
        fn the_few_that_may_be_chosen_are_chosen_by_weight(at in 0..3u64) {
            // All draws hit the heavy one.
            let random = Random::new([1, 2, u32::MAX]);
            let mut numbers = [u64::MAX; DRAWS].into_iter().chain([u64::MAX / 3 * at + 1]);
            let place = random.pick_where(&mut || numbers.next().unwrap(), |place| place < 2);
            prop_assert_eq!(place, Some(usize::from(at > 0)));
        }
    }
}
