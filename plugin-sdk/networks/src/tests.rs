use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use proptest::prelude::*;

use super::*;

fn network(text: &str) -> Network {
    Entry::read(text).unwrap().network
}

fn set(entries: &[&str]) -> NetworkSet {
    entries.iter().map(|text| network(text)).collect()
}

fn found(set: &NetworkSet, address: &str) -> Option<String> {
    set.find(address.parse().unwrap()).map(|network| network.to_string())
}

#[test]
fn entries_read_as_what_they_mean() {
    for (text, means, has_host_bits) in [
        ("192.0.2.1", "192.0.2.1", false),
        ("192.0.2.1/32", "192.0.2.1", false),
        ("0.0.0.0/0", "0.0.0.0/0", false),
        ("10.0.0.1/8", "10.0.0.0/8", true),
        ("1.2.3.4/0", "0.0.0.0/0", true),
        ("2001:DB8::/32", "2001:db8::/32", false),
        ("2001:db8::1/64", "2001:db8::/64", true),
        ("::1/128", "::1", false),
        ("::/0", "::/0", false),
        // IPv4-mapped.
        ("::ffff:192.0.2.1", "192.0.2.1", false),
        ("::ffff:c000:201", "192.0.2.1", false),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8", false),
        ("::ffff:10.0.0.1/104", "10.0.0.0/8", true),
        ("::ffff:0:0/96", "0.0.0.0/0", false),
        ("::ffff:0:0/95", "::fffe:0:0/95", true),
        ("::ffff:10.0.0.1/0", "::/0", true),
    ] {
        let entry = Entry::read(text).expect(text);
        assert_eq!((&*entry.network.to_string(), entry.has_host_bits), (means, has_host_bits), "{text}");
    }
    for text in [
        "",
        " ",
        "a",
        "10",
        "10.0.0",
        "10.0.0.0.0",
        "010.0.0.1",
        "0x0a.0.0.1",
        "256.0.0.1",
        " 10.0.0.1",
        "10.0.0.1 ",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "10.0.0.0/08",
        "10.0.0.0/8/8",
        "10.0.0.0/256",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0-10.0.0.9",
        "10.0.0.1:80",
        "[::1]",
        "::1%1",
        "fe80::1%eth0",
        "::/129",
        "::ffff:10.0.0.0/129",
        "1::2::3",
        "/8",
    ] {
        assert_eq!(Entry::read(text), None, "{text:?}");
    }
}

#[test]
fn the_smallest_network_is_found() {
    let set = set(&["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3", "10.3.0.0/16", "10.1.2.3/32"]);
    assert_eq!(set.len(), 5);
    for (address, expected) in [
        ("10.1.2.3", Some("10.1.2.3")),
        ("10.1.2.4", Some("10.1.2.0/24")),
        ("10.1.3.0", Some("10.1.0.0/16")),
        ("10.2.0.0", Some("10.0.0.0/8")),
        ("10.255.255.255", Some("10.0.0.0/8")),
        ("11.0.0.0", None),
        ("9.255.255.255", None),
        ("::ffff:10.1.2.3", Some("10.1.2.3")),
        ("::10.1.2.3", None),
        ("::", None),
    ] {
        assert_eq!(found(&set, address).as_deref(), expected, "{address}");
    }
}

#[test]
fn families_do_not_mix() {
    let v6 = set(&["::/0"]);
    assert_eq!(found(&v6, "192.0.2.1"), None);
    assert_eq!(found(&v6, "::ffff:192.0.2.1"), None, "it is IPv4");
    assert_eq!(found(&v6, "::1").as_deref(), Some("::/0"));
    let v4 = set(&["0.0.0.0/0"]);
    assert_eq!(found(&v4, "::1"), None);
    assert_eq!(found(&v4, "::ffff:192.0.2.1").as_deref(), Some("0.0.0.0/0"));
    assert_eq!(found(&v4, "255.255.255.255").as_deref(), Some("0.0.0.0/0"));
    assert_eq!(found(&set(&[]), "::1"), None);
}

/// Of few bits, so that they hold each other.
fn some_network() -> impl Strategy<Value = Network> {
    let v4 = (any::<u8>(), 0..=32_u8, any::<u8>())
        .prop_map(|(high, length, low)| (IpAddr::V4(Ipv4Addr::new(high & 3, 0, 0, low & 3)), length));
    let v6 = (any::<u8>(), 0..=128_u8, any::<u8>()).prop_map(|(high, length, low)| {
        let segments =
            [u16::from(high & 3) << 8, 0, 0, 0, 0, u16::from(low >> 7) * 0xffff, 0, u16::from(low & 3)];
        (IpAddr::V6(Ipv6Addr::from(segments)), length)
    });
    prop_oneof![v4, v6].prop_filter_map("a length", |(address, length)| Network::new(address, length))
}

fn some_address() -> impl Strategy<Value = IpAddr> {
    let near = some_network().prop_map(|network| network.address());
    let v4 = any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits & 0x0300_0003)));
    let v6 = any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)));
    prop_oneof![near, v4, v6]
}

/// Bit by bit, over all of them.
fn naive(networks: &[Network], address: IpAddr) -> Option<Network> {
    let bits = |address: IpAddr| -> Vec<bool> {
        let octets = match address.to_canonical() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        octets.iter().flat_map(|octet| (0..8).map(move |bit| octet & (0x80 >> bit) != 0)).collect()
    };
    let sought = bits(address);
    let holds = |network: &&Network| {
        let own = bits(network.address());
        own.len() == sought.len()
            && own.iter().zip(&sought).take(network.length().into()).all(|(a, b)| a == b)
    };
    networks.iter().filter(holds).max_by_key(|network| network.length()).copied()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_set_finds_what_a_list_does(
        networks in prop::collection::vec(some_network(), 0..40),
        addresses in prop::collection::vec(some_address(), 1..40),
    ) {
        let set: NetworkSet = networks.iter().copied().collect();
        for address in addresses {
            prop_assert_eq!(set.find(address), naive(&networks, address), "{}", address);
        }
    }

    #[test]
    fn what_is_shown_reads_as_itself(network in some_network()) {
        let entry = Entry::read(&network.to_string()).unwrap();
        prop_assert_eq!((entry.network, entry.has_host_bits), (network, false));
    }

    #[test]
    fn any_text_is_an_entry_or_none(text in "[0-9a-f:./ ]{0,24}") {
        if let Some(entry) = Entry::read(&text) {
            prop_assert_eq!(Entry::read(&entry.network.to_string()).map(|entry| entry.network), Some(entry.network));
        }
    }
}

/// SplitMix64.
fn numbers(mut state: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Addresses of the whole of IPv4, and of the part of IPv6 that is given out, as block lists have them.
fn address(random: u64, more: u64) -> IpAddr {
    match random & 1 {
        0 => IpAddr::V4(Ipv4Addr::from_bits((random >> 32) as u32)),
        _ => {
            let bits = (u128::from(random) << 64 | u128::from(more)) >> 4;
            IpAddr::V6(Ipv6Addr::from_bits(0x2 << 124 | bits))
        }
    }
}

#[test]
fn sets_of_any_size_find_what_a_list_does() {
    let mut random = numbers(3);
    let mut next = || random.next().unwrap_or_default();
    for count in [31, 32, 33, 64, 1024, 1025, 2500] {
        let networks: Vec<_> = (0..count)
            .filter_map(|_| Network::new(address(next(), next()), 4 + (next() % 28) as u8))
            .collect();
        let set: NetworkSet = networks.iter().copied().collect();
        for _ in 0..100 {
            let near = networks[next() as usize % networks.len()].address();
            for sought in [near, address(next(), next())] {
                assert_eq!(set.find(sought), naive(&networks, sought), "{count} {sought}");
            }
        }
    }
}

/// The bounds are loose, because tests share their machine; what it took is shown with `--nocapture`.
#[test]
fn a_million_entries_are_small_and_quick() {
    const COUNT: usize = 1_000_000;
    let mut random = numbers(7);
    let mut next = || random.next().unwrap_or_default();
    let text: String = (0..COUNT)
        .map(|_| {
            let (address, length) = (address(next(), next()), (next() % 17) as u8);
            let length = if address.is_ipv4() { 16 + length } else { 48 + 5 * length };
            format!("{}\n", Network::new(address, length).unwrap())
        })
        .collect();
    let started = Instant::now();
    let set: NetworkSet = text.lines().map(network).collect();
    let load = started.elapsed();
    let sought: Vec<_> = (0..COUNT).map(|_| address(next(), next())).collect();
    let started = Instant::now();
    let hits = sought.iter().filter(|address| set.contains(**address)).count();
    let lookup = started.elapsed() / COUNT as u32;
    println!("{} entries, {} hits: {load:?}, {} bytes, {lookup:?} a lookup", set.len(), hits, set.bytes());
    assert!(set.len() > COUNT * 9 / 10 && hits > 0);
    assert!(set.bytes() < 16 << 20);
    assert!(load.as_secs() < 10 && lookup.as_micros() < 2, "{load:?}, {lookup:?}");
}
