//! Consistent hashing: the same key goes to the same place, in every process, and a change of the places
//! moves few keys. With a bound, a place that has too much under way leaves keys to others.

use std::sync::Arc;

use super::{Seat, maglev::Maglev, ring::Ring};
use crate::config::HashTable;

/// Seats that a table holds.
pub const MAX_SEATS: usize = u16::MAX as usize;

/// Entries that are looked at per place before the least loaded place is taken: with equal weights nearly
/// always enough to come by all.
const WALK: usize = 8;

#[derive(Clone)]
pub struct Hash {
    table: Arc<Table>,
    /// Each place's part of all weights; 0 for those without.
    shares: Arc<[f64]>,
    bound: Option<f64>,
}

enum Table {
    Maglev(Maglev),
    Ring(Ring),
}

impl Hash {
    pub fn new(table: HashTable, bound: Option<f64>, seats: &[Seat]) -> Self {
        let seats = seats.get(..MAX_SEATS).unwrap_or(seats);
        let total: f64 = seats.iter().map(|seat| f64::from(seat.weight)).sum();
        let shares = seats.iter().map(|seat| f64::from(seat.weight) / total.max(1.0)).collect();
        let mut seated: Vec<(u16, Seat)> =
            (0..).zip(seats.iter().copied()).filter(|(_, seat)| seat.weight > 0).collect();
        // The order of the config tells nothing.
        seated.sort_by_key(|(_, seat)| (seat.hash, seat.weight));
        let table = match table {
            HashTable::Maglev => Table::Maglev(Maglev::new(&seated)),
            HashTable::Ring => Table::Ring(Ring::new(&seated)),
        };
        // Below 1 there would not be room for all.
        Hash { table: table.into(), shares, bound: bound.map(|bound| bound.max(1.0)) }
    }

    /// None where all weights are 0. Where all places but those to avoid are at the bound, the least loaded
    /// of them goes above it.
    pub fn pick(
        &self,
        key: u64,
        load: &dyn Fn(usize) -> u32,
        avoid: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        self.pick_but(key, load, avoid).or_else(|| self.pick_but(key, load, &|_| false))
    }

    fn pick_but(
        &self,
        key: u64,
        load: &dyn Fn(usize) -> u32,
        avoid: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let allowed = self.bound.map(|bound| bound * self.under_way(load));
        let room = |place| allowed.is_none_or(|allowed| self.has_room(place, allowed, load));
        // The least loaded of all is never at the bound: it has at most the average.
        self.walk(key, |place| !avoid(place) && room(place)).or_else(|| self.least_loaded(load, avoid))
    }

    /// Requests under way, with the one that needs a place.
    fn under_way(&self, load: &dyn Fn(usize) -> u32) -> f64 {
        let loads = self.seated().map(|place| u64::from(load(place)));
        (1 + loads.sum::<u64>()) as f64
    }

    /// Mirrokni et al., "Consistent hashing with bounded loads", 2016: at most the bound times the average,
    /// rounded up.
    fn has_room(&self, place: usize, allowed: f64, load: &dyn Fn(usize) -> u32) -> bool {
        f64::from(load(place)) < (allowed * self.shares[place]).ceil()
    }

    /// The key's place, or else the next that may be chosen: the same for all who ask by this key.
    fn walk(&self, key: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        let most = WALK * self.shares.len();
        match self.table.as_ref() {
            Table::Maglev(table) => table.walk(table.position(key)).take(most).find(|&place| may(place)),
            Table::Ring(table) => table.walk(table.position(key)).take(most).find(|&place| may(place)),
        }
    }

    fn least_loaded(&self, load: &dyn Fn(usize) -> u32, avoid: &dyn Fn(usize) -> bool) -> Option<usize> {
        let left = self.seated().filter(|&place| !avoid(place));
        let loads = left.map(|place| (place, f64::from(load(place)) / self.shares[place]));
        loads.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(place, _)| place)
    }

    fn seated(&self) -> impl Iterator<Item = usize> {
        self.shares.iter().enumerate().filter(|&(_, &share)| share > 0.0).map(|(place, _)| place)
    }
}

/// Spreads a number over all bits (the finalizer of SplitMix64; Steele et al., 2014).
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

    use super::{
        super::hash_of,
        HashTable::{Maglev, Ring},
        *,
    };

    const KEYS: u64 = 20_000;

    fn seat(number: usize, weight: u32) -> Seat {
        Seat { weight, hash: hash_of(format!("10.1.2.{number}:80").as_bytes()) }
    }

    fn places(table: HashTable, seats: &[Seat]) -> Vec<u64> {
        let hash = Hash::new(table, None, seats);
        let place = |key: u64| hash.pick(mix(key), &|_| 0, &|_| false).unwrap();
        (0..KEYS).map(|key| seats[place(key)].hash).collect()
    }

    #[test]
    fn a_change_of_the_places_moves_few_keys() {
        for table in [Maglev, Ring] {
            for weights in [[1; 11], [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2]] {
                let seats: Vec<Seat> = (0..11).map(|number| seat(number, weights[number])).collect();
                let all = places(table, &seats);
                let total: u32 = weights.iter().sum();
                for gone in 0..3 {
                    let mut fewer = seats.clone();
                    let gone = fewer.remove(gone);
                    let fewer = places(table, &fewer);
                    let [mut moved, mut lost] = [0.0; 2];
                    for (before, _) in all.iter().zip(&fewer).filter(|(before, after)| before != after) {
                        moved += 1.0 / KEYS as f64;
                        lost += if *before == gone.hash { 1.0 / KEYS as f64 } else { 0.0 };
                    }
                    let share = f64::from(gone.weight) / f64::from(total);
                    println!(
                        "{table:?}, weight {} of {total}: moved {moved:.4}, its own {lost:.4}",
                        gone.weight
                    );
                    assert!(moved < share + 0.02 + if table == Ring { share * 0.15 } else { 0.0 });
                    assert!(table == Maglev || moved == lost, "keys of others moved");
                }
            }
        }
    }

    #[test]
    fn one_of_ten_holds_at_most_12_percent_of_the_keys() {
        for table in [Maglev, Ring] {
            let ten: Vec<Seat> = (0..10).map(|number| seat(number, 1)).collect();
            let all = places(table, &ten);
            let mut most: f64 = 0.0;
            let moved =
                |other: &[u64]| all.iter().zip(other).filter(|(a, b)| a != b).count() as f64 / KEYS as f64;
            for gone in 0..10 {
                let mut nine = ten.clone();
                nine.remove(gone);
                most = most.max(moved(&places(table, &nine)));
            }
            let mut eleven = ten.clone();
            eleven.push(seat(10, 1));
            let added = moved(&places(table, &eleven));
            println!("{table:?}: removing one of ten moves at most {most:.4}, adding one {added:.4}");
            assert!(most < 0.12 && added < 0.12);
        }
    }

    #[test]
    fn the_order_of_the_config_tells_nothing() {
        let seats: Vec<Seat> = (0..20).map(|number| seat(number, number as u32 % 4)).collect();
        let reversed: Vec<Seat> = seats.iter().copied().rev().collect();
        for table in [Maglev, Ring] {
            assert!(places(table, &seats) == places(table, &reversed), "{table:?}");
        }
    }

    #[test]
    fn the_second_choice_is_the_same_for_all_and_spread() {
        let seats: Vec<Seat> = (0..5).map(|number| seat(number, 1)).collect();
        for table in [Maglev, Ring] {
            let [one, other] = [(); 2].map(|()| Hash::new(table, None, &seats));
            let mut seconds = HashSet::new();
            for key in (0..1000).map(mix) {
                let first = one.pick(key, &|_| 0, &|_| false).unwrap();
                let second = one.pick(key, &|_| 0, &|place| place == first).unwrap();
                assert_eq!(other.pick(key, &|_| 0, &|place| place == first), Some(second));
                seconds.insert((first, second));
            }
            assert_eq!(seconds.len(), 20, "all neighbours of all");
        }
    }

    #[test]
    fn many_places_and_weights_that_are_far_apart() {
        for table in [Maglev, Ring] {
            let seats: Vec<Seat> = (0..1000).map(|number| seat(number, 1)).collect();
            let served: HashSet<u64> = places(table, &seats).into_iter().collect();
            assert_eq!(served.len(), 1000);
            let two = [seat(0, u32::MAX), seat(1, 1)];
            assert!(
                places(table, &two).iter().filter(|&&place| place == two[0].hash).count() as u64
                    > KEYS / 100 * 99
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn load_never_goes_above_the_bound(
            weights in prop::collection::vec(1..10u32, 1..12),
            bound in 1.0..2.0f64, keys in 1..20u64, seed: u64, ring: bool,
        ) {
            let numbered = (0..).zip(&weights);
            let seats: Vec<Seat> = numbered.map(|(number, &weight)| seat(number, weight)).collect();
            let hash = Hash::new(if ring { Ring } else { Maglev }, Some(bound), &seats);
            let total = f64::from(weights.iter().sum::<u32>());
            let mut random = StdRng::seed_from_u64(seed);
            let mut loads = vec![0; weights.len()];
            for _ in 0..500 {
                let leaving = random.random_range(0..loads.len());
                if loads[leaving] > 0 && random.random_bool(0.4) {
                    loads[leaving] -= 1;
                    continue;
                }
                let key = mix(random.next_u64() % keys);
                let place = hash.pick(key, &|place| loads[place], &|_| false).unwrap();
                loads[place] += 1;
                let all = f64::from(loads.iter().sum::<u32>());
                let most = (bound * all * f64::from(weights[place]) / total - 1e-9).ceil();
                prop_assert!(f64::from(loads[place]) <= most, "{:?} {} {}", loads, place, most);
            }
        }

        #[test]
        fn below_the_bound_a_key_stays(key: u64, ring: bool) {
            let seats: Vec<Seat> = (0..8).map(|number| seat(number, 1)).collect();
            let table = if ring { Ring } else { Maglev };
            let free = Hash::new(table, None, &seats).pick(key, &|_| 0, &|_| false);
            let bounded = Hash::new(table, Some(1.25), &seats);
            prop_assert_eq!(bounded.pick(key, &|_| 7, &|_| false), free);
            let full = bounded.pick(key, &|place| if Some(place) == free { 100 } else { 7 }, &|_| false);
            prop_assert!(full.is_some() && full != free);
        }
    }

    #[test]
    fn a_place_that_the_walk_does_not_come_by_is_found() {
        let seats = [seat(0, 1_000_000), seat(1, 1), seat(2, 1)];
        for table in [Maglev, Ring] {
            let hash = Hash::new(table, None, &seats);
            let pick = |key| hash.pick(mix(key), &|place| [0, 3, 2][place], &|place| place == 0).unwrap();
            let picked: Vec<usize> = (0..100).map(pick).collect();
            assert!(picked.iter().all(|&place| place > 0));
            assert!(picked.iter().filter(|&&place| place == 2).count() > 80, "{picked:?}");
        }
    }

    #[test]
    fn where_all_others_are_at_the_bound_what_failed_is_still_avoided() {
        let seats = [seat(0, 1), seat(1, 1), seat(2, 1)];
        let loads = [0, 50, 40];
        for table in [Maglev, Ring] {
            let hash = Hash::new(table, Some(1.25), &seats);
            for key in (0..100).map(mix) {
                assert_eq!(hash.pick(key, &|place| loads[place], &|place| place == 0), Some(2));
                assert_eq!(
                    hash.pick(key, &|place| loads[place], &|_| true),
                    Some(0),
                    "all are to be avoided"
                );
            }
        }
    }
}
