//! Sets of addresses and networks that plugins may ask. Each name has one place for the whole process: a reload puts
//! another set there, and plugins that may ask it stay what they are. Asking takes no lock.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use wasmgate_networks::{Network, NetworkSet};

/// All sets, by name.
#[derive(Default)]
pub struct Networks(Mutex<BTreeMap<Arc<str>, Place>>);

/// Where the set of a name is found. Clones are the same place.
#[derive(Clone)]
pub struct Place {
    name: Arc<str>,
    set: Arc<ArcSwap<NetworkSet>>,
}

impl Networks {
    /// The place of this name; where there is none yet, one with this set.
    pub fn place(&self, name: &Arc<str>, set: &Arc<NetworkSet>) -> Place {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Place { name: name.clone(), set: Arc::new(ArcSwap::new(set.clone())) };
        places.entry(name.clone()).or_insert_with(new).clone()
    }

    /// Puts these sets in force, and forgets the names of others.
    pub fn replace<'a>(&self, sets: impl Iterator<Item = (&'a Arc<str>, &'a Arc<NetworkSet>)>) {
        let places: Vec<_> = sets.map(|(name, set)| (self.place(name, set), set)).collect();
        for (place, set) in &places {
            place.set.store(Arc::clone(set));
        }
        let places = places.into_iter().map(|(place, _)| (place.name.clone(), place));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = places.collect();
    }
}

impl Place {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The smallest network of the set that has the address.
    pub fn find(&self, address: IpAddr) -> Option<Network> {
        self.set.load().find(address)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(address: &str) -> Arc<NetworkSet> {
        let network = Network::from(address.parse::<IpAddr>().unwrap());
        Arc::new(std::iter::once(network).collect())
    }

    fn has(place: &Place, address: &str) -> bool {
        place.find(address.parse().unwrap()).is_some()
    }

    #[test]
    fn a_place_gets_another_set_while_it_is_held() {
        let (networks, name) = (Networks::default(), Arc::from("a"));
        let (one, two) = (set("10.0.0.1"), set("10.0.0.2"));
        let held = networks.place(&name, &one);
        assert!(has(&networks.place(&name, &two), "10.0.0.1"), "not before it is in force");
        networks.replace([(&name, &two)].into_iter());
        assert!(has(&held, "10.0.0.2") && !has(&held, "10.0.0.1"));
        networks.replace([].into_iter());
        assert!(has(&held, "10.0.0.2"), "for those who still hold it");
        assert!(has(&networks.place(&name, &one), "10.0.0.1"));
    }
}
