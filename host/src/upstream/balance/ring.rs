//! A ring of hashes, as in ketama: a key belongs to the next point on the ring. A change of the places
//! moves fewer keys than with Maglev's table; the shares are less exact, and a look takes longer.

use super::{Seat, hash::mix};

/// Points of the heaviest place; its share varies by one over their root, which is 4 %. Tied to the
/// heaviest, as most changes leave that one alone: another number of points moves keys between places that
/// stay. Weights below a 512th of it count as that.
const POINTS: u64 = 512;

/// The low bits of a point tell its place, the others where on the ring it is.
const PLACE: u64 = 0xffff;

pub struct Ring(Box<[u64]>);

impl Ring {
    /// `seats` are those with a weight.
    pub fn new(seats: &[(u16, Seat)]) -> Self {
        let heaviest = seats.iter().map(|(_, seat)| u64::from(seat.weight)).max().unwrap_or(1);
        let mut points: Vec<u64> = seats
            .iter()
            .flat_map(|&(place, seat)| {
                let count = (u64::from(seat.weight) * POINTS).div_ceil(heaviest);
                (0..count).map(move |number| mix(seat.hash ^ mix(number)) & !PLACE | u64::from(place))
            })
            .collect();
        points.sort_unstable();
        Ring(points.into())
    }

    pub fn position(&self, key: u64) -> usize {
        self.0.partition_point(|&point| point < key)
    }

    /// All places, from the position on and once around, most of them many times.
    pub fn walk(&self, position: usize) -> impl Iterator<Item = usize> {
        let (before, from) = self.0.split_at_checked(position).unwrap_or_default();
        from.iter().chain(before).map(|&point| (point & PLACE) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(weights: &[u32]) -> Ring {
        let seats: Vec<_> = (0..)
            .zip(weights)
            .map(|(place, &weight)| (place, Seat { weight, hash: mix(u64::from(place)) }))
            .collect();
        Ring::new(&seats)
    }

    #[test]
    fn points_are_in_proportion() {
        for (weights, expected) in [
            (&[1][..], &[512][..]),
            (&[1, 2, 3, 4], &[128, 256, 384, 512]),
            (&[100, 50, 37], &[512, 256, 190]),
            (&[u32::MAX, 1], &[512, 1]),
        ] {
            let ring = ring(weights);
            let points = |place| ring.walk(0).filter(|&other| other == place).count();
            assert_eq!((0..weights.len()).map(points).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_key_belongs_to_the_next_point_and_the_last_to_the_first() {
        let ring = ring(&[1, 1, 1]);
        let point = ring.0[7];
        let place = (point & PLACE) as usize;
        assert_eq!(ring.walk(ring.position(point)).next(), Some(place));
        assert_eq!(ring.walk(ring.position(ring.0[6] + 1)).next(), Some(place));
        assert_eq!(ring.walk(ring.position(u64::MAX)).next(), Some((ring.0[0] & PLACE) as usize));
    }
}
