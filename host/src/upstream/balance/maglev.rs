//! Maglev's table: nearly the exact share for each place, and one look for a key.
//! Eisenbud et al., "Maglev: a fast and reliable software network load balancer", NSDI 2016, 3.4.

use super::{Seat, hash::mix};

/// A prime, and far above the number of places: the small one of the paper's two.
const SIZE: usize = 65_537;

const FREE: u16 = u16::MAX;

/// Whose turn it is to take an entry, and where it wants the next one.
struct Taker {
    place: u16,
    weight: u64,
    credit: u64,
    at: usize,
    skip: usize,
}

pub struct Maglev(Box<[u16]>);

impl Maglev {
    /// `seats` are those with a weight, in an order that does not depend on the config.
    pub fn new(seats: &[(u16, Seat)]) -> Self {
        if seats.is_empty() {
            return Maglev(Box::default());
        }
        let total: u64 = seats.iter().map(|(_, seat)| u64::from(seat.weight)).sum();
        let count = seats.len() as u64;
        let mut takers: Vec<Taker> = seats
            .iter()
            .map(|&(place, seat)| {
                let weight = u64::from(seat.weight) * count;
                Taker {
                    place,
                    weight,
                    // All take one in the first round, so that none goes without.
                    credit: total.saturating_sub(weight),
                    at: (mix(seat.hash) % SIZE as u64) as usize,
                    skip: (mix(!seat.hash) % (SIZE as u64 - 1)) as usize + 1,
                }
            })
            .collect();
        let mut table = vec![FREE; SIZE];
        let mut free = SIZE;
        // A round gives as many entries as there are places, by weight. The paper's rounds, in which only the
        // heaviest takes one each time, are many where the weights are far apart.
        loop {
            for taker in &mut takers {
                taker.credit += taker.weight;
                while taker.credit >= total {
                    taker.credit -= total;
                    taker.take(&mut table);
                    free -= 1;
                    if free == 0 {
                        return Maglev(table.into());
                    }
                }
            }
        }
    }

    pub fn position(&self, key: u64) -> usize {
        (key % SIZE as u64) as usize
    }

    /// All places, from the position on and once around, most of them many times.
    pub fn walk(&self, position: usize) -> impl Iterator<Item = usize> {
        let (before, from) = self.0.split_at_checked(position).unwrap_or_default();
        from.iter().chain(before).map(|&place| place.into())
    }
}

impl Taker {
    /// There is a free entry, and the steps reach all: the size is a prime.
    fn take(&mut self, table: &mut [u16]) {
        loop {
            let entry = &mut table[self.at];
            self.at += self.skip;
            if self.at >= SIZE {
                self.at -= SIZE;
            }
            if *entry == FREE {
                *entry = self.place;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(weights: &[u32]) -> Vec<usize> {
        let seats: Vec<_> = (0..)
            .zip(weights)
            .map(|(place, &weight)| (place, Seat { weight, hash: mix(u64::from(place)) }))
            .collect();
        let mut entries = vec![0; weights.len()];
        Maglev::new(&seats).walk(0).for_each(|place| entries[place] += 1);
        entries
    }

    #[test]
    fn entries_are_as_many_as_the_weight_says() {
        let thousand: Vec<u32> = (0..1000).map(|number| 1 + number % 5).collect();
        let cases: [(&[u32], f64); 5] = [
            (&[1; 10], 0.001),
            (&[1, 2, 3, 4], 0.001),
            (&[99, 1], 0.005),
            (&[100, 37, 99], 0.001),
            (&thousand, 0.07),
        ];
        for (weights, most) in cases {
            let entries = entries(weights);
            assert_eq!(entries.iter().sum::<usize>(), SIZE);
            let total: u32 = weights.iter().sum();
            for (&entries, &weight) in entries.iter().zip(weights) {
                let due = SIZE as f64 * f64::from(weight) / f64::from(total);
                assert!((entries as f64 / due - 1.0).abs() < most, "{entries} of {due}, weight {weight}");
            }
        }
    }

    #[test]
    fn nobody_goes_without() {
        let mut weights = vec![1; 1000];
        weights[500] = u32::MAX;
        assert!(entries(&weights).iter().all(|&entries| entries > 0));
    }
}
