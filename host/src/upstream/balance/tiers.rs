//! Which members of an upstream serve it: by priority, those of the gateway's own zone before others, and how
//! much goes on to the next where some are not available. As Envoy's priority levels and panic threshold.

use std::collections::BTreeMap;

/// What is known of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// 0 comes first.
    pub priority: u8,
    /// In the gateway's own zone.
    pub local: bool,
    /// 0 is drained: as if it were not there.
    pub weight: u32,
    pub available: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The percentage of available weight below which a tier serves from all its members, where all tiers
    /// together are not enough. 0: never.
    pub panic: u8,
    /// How much more load than its own a tier's members can take, as a factor.
    pub overprovision: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { panic: 50, overprovision: 1.4 }
    }
}

/// Members of the same priority, of the own zone or of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Who serves: the numbers of the available members; in panic of all.
    pub members: Vec<usize>,
    /// Of all requests, in percent.
    pub share: u8,
    /// Serves from members that are not available too.
    pub panic: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiers {
    /// The first to serve comes first. A tier without a share may have members: a request that failed in all
    /// others can go there.
    pub tiers: Vec<Tier>,
}

/// The weights of a tier.
#[derive(Default)]
struct Level {
    members: Vec<usize>,
    available: u64,
    total: u64,
}

impl Tiers {
    pub fn new(members: &[Member], settings: &Settings) -> Self {
        let mut levels: BTreeMap<(u8, bool), Level> = BTreeMap::new();
        for (number, member) in members.iter().enumerate().filter(|(_, member)| member.weight > 0) {
            let level = levels.entry((member.priority, !member.local)).or_default();
            level.members.push(number);
            level.total += u64::from(member.weight);
            if member.available {
                level.available += u64::from(member.weight);
            }
        }
        let levels: Vec<Level> = levels.into_values().collect();
        // A float to an integer saturates.
        let factor = (settings.overprovision * 100.0).round() as u64;
        let healths: Vec<u64> = levels.iter().map(|level| level.health(factor)).collect();
        let enough = healths.iter().sum::<u64>() >= 100;
        let panics: Vec<bool> =
            levels.iter().map(|level| !enough && level.is_below(settings.panic)).collect();
        let shares = match panics.iter().all(|&panic| panic) {
            // Availability tells nothing any more.
            true => spill(&levels.iter().map(|level| level.total).collect::<Vec<_>>(), u64::MAX),
            false => spill(&healths, 100),
        };
        let tiers = levels.into_iter().zip(shares).zip(panics).map(|((level, share), panic)| Tier {
            members: level.members.into_iter().filter(|&m| panic || members[m].available).collect(),
            share,
            panic,
        });
        Tiers { tiers: tiers.collect() }
    }

    /// The number of a tier, by share. `random` may be the key of a hash balancer: the same key then goes to
    /// the same tier. It is asked for only where more than one tier serves. None where nobody does.
    pub fn choose(&self, random: impl FnOnce() -> u64) -> Option<usize> {
        if let Some(all) = self.tiers.iter().position(|tier| tier.share == 100) {
            return Some(all);
        }
        let mut serving = self.tiers.iter().enumerate().filter(|(_, tier)| tier.share > 0).peekable();
        serving.peek()?;
        let mut at = random() % 100;
        for (number, tier) in serving {
            match at.checked_sub(tier.share.into()) {
                Some(rest) => at = rest,
                None => return Some(number),
            }
        }
        None
    }
}

impl Level {
    /// The percentage of its load that it can bear: some, where anybody is available.
    fn health(&self, factor: u64) -> u64 {
        (self.available.saturating_mul(factor) / self.total.max(1)).clamp(self.available.min(1), 100)
    }

    fn is_below(&self, percent: u8) -> bool {
        self.available * 100 < self.total * u64::from(percent)
    }
}

/// Each takes what it can bear until nothing is left of the load; where all are not enough, in that
/// proportion.
fn spill(healths: &[u64], load: u64) -> Vec<u8> {
    let enough = healths.iter().sum::<u64>().clamp(1, load);
    let mut left = 100;
    let mut shares: Vec<u8> = healths
        .iter()
        .map(|health| {
            let share = (health * 100 / enough).min(left);
            left -= share;
            share as u8
        })
        .collect();
    // What rounding has left over.
    if let Some(first) = healths.iter().position(|&health| health > 0) {
        shares[first] += left as u8;
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tiers of 100 members each, of which so many are available.
    fn members(available: &[usize]) -> Vec<Member> {
        let tier = |(priority, &available): (u8, &usize)| {
            (0..100).map(move |n| Member { priority, local: false, weight: 1, available: n < available })
        };
        (0..).zip(available).flat_map(tier).collect()
    }

    fn shares(tiers: &Tiers) -> Vec<u8> {
        tiers.tiers.iter().map(|tier| tier.share).collect()
    }

    fn panics(tiers: &Tiers) -> Vec<bool> {
        tiers.tiers.iter().map(|tier| tier.panic).collect()
    }

    /// The tables of Envoy's pages "Priority levels" and "Panic threshold", rounded as Envoy does it; where
    /// all tiers are in panic it goes by their size.
    #[test]
    fn as_in_the_tables_of_envoy() {
        let cases: &[(&[usize], &[u8], &[bool])] = &[
            (&[72, 100], &[100, 0], &[false, false]),
            (&[71, 100], &[99, 1], &[false, false]),
            (&[50, 100], &[70, 30], &[false, false]),
            (&[25, 100], &[35, 65], &[false, false]),
            (&[0, 100], &[0, 100], &[false, false]),
            (&[72, 72], &[100, 0], &[false, false]),
            (&[71, 71], &[99, 1], &[false, false]),
            (&[50, 50], &[70, 30], &[false, false]),
            (&[25, 25], &[50, 50], &[true, true]),
            (&[5, 65], &[8, 92], &[true, false]),
            (&[25, 25, 100], &[35, 35, 30], &[false; 3]),
            (&[25, 25, 20], &[34, 33, 33], &[true; 3]),
            (&[0, 0], &[50, 50], &[true, true]),
        ];
        for (available, expected, panic) in cases {
            let tiers = Tiers::new(&members(available), &Settings::default());
            assert_eq!((&shares(&tiers)[..], &panics(&tiers)[..]), (*expected, *panic), "{available:?}");
            for (number, (tier, &available)) in tiers.tiers.iter().zip(*available).enumerate() {
                let serving = if tier.panic { 100 } else { available };
                assert_eq!(tier.members, (number * 100..number * 100 + serving).collect::<Vec<_>>());
            }
        }
        let calm = Settings { panic: 0, ..Settings::default() };
        assert_eq!(shares(&Tiers::new(&members(&[25, 25, 20]), &calm)), [37, 35, 28], "by health");
    }

    #[test]
    fn the_own_zone_comes_first_within_a_priority() {
        let member = |priority, local, weight, available| Member { priority, local, weight, available };
        let members = [
            member(1, true, 1, true),
            member(0, false, 1, true),
            member(0, true, 1, true),
            member(0, true, 1, false),
            member(0, true, 0, true),
        ];
        let tiers = Tiers::new(&members, &Settings::default());
        let places: Vec<_> = tiers.tiers.iter().map(|tier| (&tier.members[..], tier.share)).collect();
        assert_eq!(places, [(&[2][..], 70), (&[1][..], 30), (&[0][..], 0)]);
    }

    #[test]
    fn without_panic_nobody_serves_where_nobody_is_available() {
        let calm = Settings { panic: 0, ..Settings::default() };
        assert_eq!(Tiers::new(&members(&[0, 0]), &calm).choose(|| 0), None);
        assert_eq!(Tiers::new(&[], &Settings::default()).choose(|| 0), None);
        let drained = Member { priority: 0, local: true, weight: 0, available: true };
        assert_eq!(Tiers::new(&[drained], &Settings::default()).choose(|| 0), None);
    }

    #[test]
    fn the_least_weight_serves_where_nobody_else_is_available() {
        let member = |weight, available| Member { priority: 0, local: true, weight, available };
        let calm = Settings { panic: 0, ..Settings::default() };
        let tiers = Tiers::new(&[member(1, true), member(u32::MAX, false)], &calm);
        assert_eq!((&tiers.tiers[0].members[..], shares(&tiers)), (&[0][..], vec![100]));
    }

    #[test]
    fn randomness_is_only_used_where_it_decides() {
        let tiers = Tiers::new(&members(&[80, 100]), &Settings::default());
        assert_eq!(tiers.choose(|| panic!("asked")), Some(0));
        let tiers = Tiers::new(&members(&[0, 100]), &Settings::default());
        assert_eq!(tiers.choose(|| panic!("asked")), Some(1));
        let tiers = Tiers::new(&members(&[50, 100]), &Settings::default());
        let chosen = (0..100).filter(|&random| tiers.choose(|| random) == Some(0)).count();
        assert_eq!(chosen, 70);
    }

    fn any_member() -> impl Strategy<Value = Member> {
        (0..3u8, any::<bool>(), prop_oneof![0..4u32, Just(u32::MAX)], any::<bool>())
            .prop_map(|(priority, local, weight, available)| Member { priority, local, weight, available })
    }

    proptest! {
        #[test]
        fn shares_are_whole_and_members_serve(
            members in prop::collection::vec(any_member(), 0..20),
            panic in 0..=100u8, overprovision in 0.5..3.0f64,
        ) {
            let tiers = Tiers::new(&members, &Settings { panic, overprovision });
            let some = members.iter().any(|member| member.weight > 0 && (member.available || panic > 0));
            let sum: u32 = tiers.tiers.iter().map(|tier| u32::from(tier.share)).sum();
            prop_assert_eq!(sum, if some { 100 } else { 0 });
            for random in 0..100 {
                let tier = tiers.choose(|| random);
                prop_assert_eq!(tier.is_some(), some);
                if let Some(tier) = tier {
                    prop_assert!(!tiers.tiers[tier].members.is_empty());
                }
            }
            for tier in &tiers.tiers {
                for &number in &tier.members {
                    prop_assert!(members[number].weight > 0 && (members[number].available || tier.panic));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn load_goes_down_only_as_availability_falls(second in 0..=100usize) {
            let mut before = 100;
            for available in (0..=100).rev() {
                let tiers = Tiers::new(&members(&[available, second, 100]), &Settings::default());
                let shares = shares(&tiers);
                prop_assert!(shares[0] <= before);
                prop_assert!(available < 72 || shares[0] == 100, "healthy enough");
                prop_assert_eq!(panics(&tiers), [false; 3], "the third can bear it all");
                before = shares[0];
            }
        }
    }
}
