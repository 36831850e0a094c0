//! The choice between the places that can serve a request. Pure: load and randomness are arguments.

mod hash;
mod least_request;
mod maglev;
mod random;
mod ring;
mod round_robin;
pub mod slow_start;
pub mod tiers;

use hash::Hash;
use least_request::LeastRequest;
use random::Random;
use round_robin::RoundRobin;

use crate::config::{Choice, HashTable};

/// What a balancer knows of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its share among the weights of all; 0 gets nothing.
    pub weight: u32,
    /// [`hash_of`] its address: the same after a reload and in every process.
    pub hash: u64,
}

/// A request that needs a place. Places are numbered as the seats were.
pub struct Ask<'a> {
    /// [`hash_of`] what the request is balanced by; without one a hash balancer chooses at random.
    pub key: Option<u64>,
    pub random: &'a mut dyn FnMut() -> u64,
    /// Requests under way at a place.
    pub load: &'a dyn Fn(usize) -> u32,
    /// Places that have failed this request: chosen only where there is no other.
    pub avoid: &'a dyn Fn(usize) -> bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    RoundRobin,
    /// The least loaded of some chosen at random, usually 2.
    LeastRequest {
        choices: u8,
    },
    Random,
    /// The same place for the same key. Of more than 65,535 seats the further ones get nothing.
    Hash {
        table: HashTable,
        /// No place gets more than this times its share of the requests under way; 1.25, say.
        bound: Option<f64>,
    },
}

impl From<&Choice> for Method {
    fn from(choice: &Choice) -> Self {
        match *choice {
            Choice::RoundRobin => Method::RoundRobin,
            Choice::LeastRequest { choices } => Method::LeastRequest { choices },
            Choice::Random => Method::Random,
            Choice::Hash { table, bound, .. } => Method::Hash { table, bound },
        }
    }
}

/// The choice of one worker. A clone shares the table of a hash balancer, which takes milliseconds to build.
#[derive(Clone)]
pub enum Balancer {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
    Random(Random),
    Hash(Hash),
}

impl Balancer {
    /// `start` tells where round robin begins: a random one lets not all workers begin with the same
    /// place, 0 begins with the first.
    pub fn new(method: &Method, seats: &[Seat], start: u64) -> Self {
        let weights = seats.iter().map(|seat| seat.weight);
        match *method {
            Method::RoundRobin => Balancer::RoundRobin(RoundRobin::new(weights, start)),
            Method::LeastRequest { choices } => Balancer::LeastRequest(LeastRequest::new(weights, choices)),
            Method::Random => Balancer::Random(Random::new(weights)),
            Method::Hash { table, bound } => Balancer::Hash(Hash::new(table, bound, seats)),
        }
    }

    /// None where all weights are 0.
    pub fn pick(&mut self, ask: Ask<'_>) -> Option<usize> {
        let Ask { key, random, load, avoid } = ask;
        match self {
            Balancer::RoundRobin(balancer) => balancer.pick(avoid),
            Balancer::LeastRequest(balancer) => balancer.pick(random, load, avoid),
            Balancer::Random(balancer) => balancer.pick(random, avoid),
            Balancer::Hash(balancer) => balancer.pick(key.unwrap_or_else(random), load, avoid),
        }
    }
}

/// A hash that never changes: neither from process to process nor from version to version.
pub fn hash_of(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    const PICKS: usize = 100_000;

    const TABLES: [HashTable; 2] = [HashTable::Maglev, HashTable::Ring];

    fn methods() -> Vec<Method> {
        let hash = TABLES
            .into_iter()
            .flat_map(|table| [None, Some(1.25)].map(|bound| Method::Hash { table, bound }));
        let others = [Method::RoundRobin, Method::LeastRequest { choices: 2 }, Method::Random];
        others.into_iter().chain(hash).collect()
    }

    fn seats(weights: &[u32]) -> Vec<Seat> {
        let address = |number: usize| hash_of(format!("10.0.0.{number}:8080").as_bytes());
        weights.iter().enumerate().map(|(number, &weight)| Seat { weight, hash: address(number) }).collect()
    }

    fn ask(balancer: &mut Balancer, random: &mut StdRng, avoid: &dyn Fn(usize) -> bool) -> Option<usize> {
        let key = Some(random.next_u64());
        balancer.pick(Ask { key, random: &mut || random.next_u64(), load: &|_| 0, avoid })
    }

    /// How often each place comes where nothing is under way.
    fn counts(method: &Method, weights: &[u32]) -> Vec<usize> {
        let mut balancer = Balancer::new(method, &seats(weights), 0);
        let mut random = StdRng::seed_from_u64(1);
        let mut counts = vec![0; weights.len()];
        for _ in 0..PICKS {
            counts[ask(&mut balancer, &mut random, &|_| false).unwrap()] += 1;
        }
        counts
    }

    /// The largest deviation from a weight's share, as a part of it.
    fn deviation(counts: &[usize], weights: &[u32]) -> f64 {
        let all: u32 = weights.iter().sum();
        let parts = weights.iter().zip(counts).filter(|&(&weight, _)| weight > 0).map(|(&weight, &count)| {
            let share = f64::from(weight) / f64::from(all);
            (count as f64 / PICKS as f64 / share - 1.0).abs()
        });
        parts.fold(0.0, f64::max)
    }

    #[test]
    fn each_place_gets_its_weight() {
        for weights in [&[1; 10][..], &[1, 2, 3, 4, 0], &[90, 10], &[100, 100, 37, 100]] {
            // With nothing under way a bound changes nothing.
            for method in
                methods().into_iter().filter(|method| !matches!(method, Method::Hash { bound: Some(_), .. }))
            {
                let most = match method {
                    Method::RoundRobin => 0.001,
                    // 4 sigma of the rarest place, also for the keys that a table is asked for.
                    Method::Random | Method::LeastRequest { .. } => 0.04,
                    Method::Hash { table: HashTable::Maglev, .. } => 0.04,
                    Method::Hash { table: HashTable::Ring, .. } => 0.15,
                };
                let counts = counts(&method, weights);
                let deviation = deviation(&counts, weights);
                println!("{method:?} {weights:?}: {deviation:.4}");
                assert!(deviation < most, "{method:?} {weights:?} {counts:?}");
            }
        }
    }

    #[test]
    fn random_choices_pass_a_chi_square_test() {
        let weights = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        for method in
            [Method::Random, Method::LeastRequest { choices: 1 }, Method::LeastRequest { choices: 3 }]
        {
            let expected = weights.map(|weight| f64::from(weight) / 55.0 * PICKS as f64);
            let counts = counts(&method, &weights);
            let parts = counts.iter().zip(expected).map(|(&count, e)| (count as f64 - e).powi(2) / e);
            // 9 degrees of freedom, p = 0.001.
            assert!(parts.sum::<f64>() < 27.88, "{method:?} {counts:?}");
        }
    }

    #[test]
    fn nobody_to_choose_from() {
        for method in methods() {
            for weights in [&[][..], &[0], &[0, 0]] {
                let mut balancer = Balancer::new(&method, &seats(weights), 7);
                assert_eq!(ask(&mut balancer, &mut StdRng::seed_from_u64(1), &|_| false), None, "{method:?}");
            }
        }
    }

    #[test]
    fn hashes_never_change() {
        assert_eq!(hash_of(b"10.0.0.1:8080"), 0xb655_a4a4_783c_5011);
        for (table, places) in TABLES.into_iter().zip([[0, 0, 3, 1, 6, 6, 6, 4], [4, 2, 6, 5, 4, 0, 3, 6]]) {
            let method = Method::Hash { table, bound: None };
            let balancer = &mut Balancer::new(&method, &seats(&[1, 2, 3, 4, 5, 6, 7]), 0);
            let place = |key: u64| {
                let key = Some(hash_of(&key.to_be_bytes()));
                balancer.pick(Ask { key, random: &mut || 0, load: &|_| 0, avoid: &|_| false })
            };
            assert_eq!((0..8).map(place).collect::<Vec<_>>(), places.map(Some), "{table:?}");
        }
    }

    #[test]
    fn without_a_key_hashing_is_random() {
        for table in TABLES {
            let mut balancer = Balancer::new(&Method::Hash { table, bound: None }, &seats(&[1, 1]), 0);
            let mut random = StdRng::seed_from_u64(1);
            let mut counts = [0; 2];
            for _ in 0..1000 {
                let random = &mut || random.next_u64();
                let ask = Ask { key: None, random, load: &|_| 0, avoid: &|_| false };
                counts[balancer.pick(ask).unwrap()] += 1;
            }
            assert!(counts.iter().all(|count| (400..600).contains(count)), "{table:?} {counts:?}");
        }
    }

    fn weights() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(
            prop_oneof![2 => Just(0), 3 => Just(1u32), 4 => 0..200u32, 1 => any::<u32>()],
            1..12,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_to_be_avoided_or_has_no_weight_is_not_chosen(
            weights in weights(), avoided in any::<u16>(), start in any::<u64>(), seed in any::<u64>(),
        ) {
            let mut random = StdRng::seed_from_u64(seed);
            let avoid = |place: usize| avoided & 1 << place != 0;
            let left = weights.iter().enumerate().any(|(place, &weight)| weight > 0 && !avoid(place));
            for method in methods() {
                let mut balancer = Balancer::new(&method, &seats(&weights), start);
                for turn in 0..50 {
                    let key = Some(random.next_u64());
                    let loads: Vec<u32> = weights.iter().map(|_| random.random_range(0..10)).collect();
                    let avoid: &dyn Fn(usize) -> bool = if turn % 3 == 0 { &|_| false } else { &avoid };
                    let random = &mut || random.next_u64();
                    let ask = Ask { key, random, load: &|place| loads[place], avoid };
                    match balancer.pick(ask) {
                        None => prop_assert!(weights.iter().all(|&weight| weight == 0)),
                        Some(place) => {
                            prop_assert!(weights[place] > 0, "{:?}", method);
                            prop_assert!(!left || !avoid(place), "{:?}", method);
                        }
                    }
                }
            }
        }
    }
}
