//! Many networks, and which of them has an address.
//!
//! Networks are disjoint or one holds the other. So those of a set, sorted by where they begin and then by length, are
//! a trie laid flat: the last one that begins at or before an address has it, or one of those around that one does. Each
//! knows the next one around it. An entry takes a little more than 8 bytes (IPv4) or 20 (IPv6); a lookup is a search
//! in a few levels and mostly one look more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::network::{Bits, Network};

/// A set of networks that does not change, fewer than 2^24 of either kind. IPv4-mapped IPv6 addresses are IPv4; what is
/// IPv4 is in no IPv6 network, not even in `::/0`.
///
/// ```
/// use wasmgate_networks::{Entry, NetworkSet};
///
/// let entries = ["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"];
/// let set: NetworkSet = entries.iter().filter_map(|text| Entry::read(text)).map(|entry| entry.network).collect();
/// let found = |address: &str| set.find(address.parse().unwrap()).map(|network| network.to_string());
/// assert_eq!(found("10.1.2.3").as_deref(), Some("10.1.0.0/16"));
/// assert_eq!(found("::ffff:10.2.3.4").as_deref(), Some("10.0.0.0/8"));
/// assert_eq!(found("192.0.2.1"), None);
/// ```
#[derive(Default)]
pub struct NetworkSet {
    v4: Table<u32>,
    v6: Table<u128>,
}

impl NetworkSet {
    /// The smallest network that has the address.
    pub fn find(&self, address: IpAddr) -> Option<Network> {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let (bits, length) = self.v4.find(address.to_bits())?;
                Network::new(Ipv4Addr::from_bits(bits).into(), length)
            }
            IpAddr::V6(address) => {
                let (bits, length) = self.v6.find(address.to_bits())?;
                Network::new(Ipv6Addr::from_bits(bits).into(), length)
            }
        }
    }

    /// Whether a network of it has the address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.find(address).is_some()
    }

    /// How many networks it has, without those that were given twice.
    pub fn len(&self) -> usize {
        self.v4.others.len() + self.v6.others.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }
}

impl FromIterator<Network> for NetworkSet {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network.address() {
                IpAddr::V4(address) => v4.push((address.to_bits(), network.length())),
                IpAddr::V6(address) => v6.push((address.to_bits(), network.length())),
            }
        }
        NetworkSet { v4: Table::new(v4), v6: Table::new(v6) }
    }
}

/// In columns, so that a search looks at nothing but starts.
struct Table<B> {
    /// All starts, the first of each step of these, and so on, to one step at most.
    levels: Vec<Vec<B>>,
    others: Vec<Other>,
}

/// Starts that are compared at once.
const STEP: usize = 32;

/// What else is known of an entry: its length, in the lowest 8 bits, and the place of the next one around it.
#[derive(Clone, Copy)]
struct Other(u32);

/// No place: there are fewer.
const NONE: u32 = u32::MAX >> 8;

impl Other {
    fn new(length: u8, around: u32) -> Self {
        Other(around << 8 | u32::from(length))
    }

    fn length(self) -> u8 {
        self.0 as u8
    }

    fn around(self) -> usize {
        (self.0 >> 8) as usize
    }
}

impl<B> Default for Table<B> {
    fn default() -> Self {
        Table { levels: Vec::new(), others: Vec::new() }
    }
}

impl<B: Bits> Table<B> {
    fn new(mut networks: Vec<(B, u8)>) -> Self {
        networks.sort_unstable();
        networks.dedup();
        let mut others = Vec::with_capacity(networks.len());
        // Those that the one at hand may be in, the smallest last.
        let mut open: Vec<u32> = Vec::new();
        for (place, (start, length)) in (0..NONE).zip(&networks) {
            let holds = |place: u32| {
                networks.get(place as usize).is_some_and(|(other, length)| start.mask(*length) == *other)
            };
            while open.last().is_some_and(|place| !holds(*place)) {
                open.pop();
            }
            others.push(Other::new(*length, open.last().copied().unwrap_or(NONE)));
            open.push(place);
        }
        let mut starts: Vec<B> = networks.iter().map(|(start, _)| *start).collect();
        let mut levels = Vec::new();
        while starts.len() > STEP {
            let heads = starts.iter().step_by(STEP).copied().collect();
            levels.push(std::mem::replace(&mut starts, heads));
        }
        levels.push(starts);
        Table { levels, others }
    }

    fn find(&self, address: B) -> Option<(B, u8)> {
        let starts = self.levels.first()?;
        let mut place = self.last_before(address)?;
        loop {
            let (start, other) = (*starts.get(place)?, *self.others.get(place)?);
            if address.mask(other.length()) == start {
                return Some((start, other.length()));
            }
            place = other.around();
        }
    }

    /// The place of the last entry that begins at the address or before. All of a step are compared: with a
    /// binary search each would wait for the one before to come from memory.
    fn last_before(&self, address: B) -> Option<usize> {
        let mut place = 0;
        for level in self.levels.iter().rev() {
            let first = place * STEP;
            let step = level.get(first..level.len().min(first + STEP))?;
            let count = step.iter().filter(|start| **start <= address).count();
            place = first + count.checked_sub(1)?;
        }
        Some(place)
    }
}

impl<B> Table<B> {
    fn bytes(&self) -> usize {
        let starts: usize = self.levels.iter().map(Vec::capacity).sum();
        starts * size_of::<B>() + self.others.capacity() * size_of::<Other>()
    }
}
