//! Which endpoints get requests now, on one worker, and in what order.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    Ask, Member, Out, Upstream,
    balance::{
        self, Balancer, Seat,
        slow_start::SlowStart,
        tiers::{self, Tiers},
    },
    pool::Pool,
};
use crate::config::Choice;

/// How often the weights of those that start slowly are looked at.
const STEP: Duration = Duration::from_millis(200);

pub struct LineUp {
    /// Of all members, in their order.
    pub pools: Vec<Rc<Pool>>,
    /// There is one member, and it is in service: nothing is left to choose.
    single: bool,
    tiers: Tiers,
    /// Of each tier, over its members.
    balancers: Vec<Balancer>,
    /// When weights are others although nothing has happened.
    pub until: Option<Instant>,
}

impl LineUp {
    /// `pools` are those of the members, `random` tells with whom turns begin.
    pub fn new(
        upstream: &Upstream,
        members: &[Member],
        pools: Vec<Rc<Pool>>,
        now: Instant,
        random: u64,
    ) -> Self {
        let balance = &upstream.settings.balance;
        let hashes = matches!(balance.choice, Choice::Hash { .. });
        // A table that changes with each step would move keys.
        let slow_start = balance.slow_start.filter(|_| !hashes).map(SlowStart::new);
        let mut settled = true;
        let mut weigh = |member: &Member| match &slow_start {
            _ if member.endpoint.out() == Some(Out::Drained) => 0,
            None => u32::from(member.weight),
            Some(slow_start) => {
                let age = now.saturating_duration_since(member.endpoint.record().since);
                settled &= slow_start.settled(age);
                slow_start.weight(member.weight.into(), age)
            }
        };
        let weights: Vec<u32> = members.iter().map(&mut weigh).collect();
        let standing = members.iter().zip(&weights).map(|(member, weight)| tiers::Member {
            priority: member.priority,
            local: member.local,
            weight: *weight,
            available: member.endpoint.out().is_none(),
        });
        let settings = tiers::Settings { panic: balance.panic, ..tiers::Settings::default() };
        let tiers = Tiers::new(&standing.collect::<Vec<_>>(), &settings);
        let method = balance::Method::from(&balance.choice);
        let balancers = tiers.tiers.iter().map(|tier| {
            let seat = |place: &usize| Seat { weight: weights[*place], hash: members[*place].endpoint.hash };
            let seats: Vec<Seat> = tier.members.iter().map(seat).collect();
            Balancer::new(&method, &seats, random)
        });
        let mut serving = vec![false; pools.len()];
        tiers.tiers.iter().flat_map(|tier| &tier.members).for_each(|place| serving[*place] = true);
        pools.iter().zip(serving).for_each(|(pool, serving)| pool.set_serving(serving));
        let single = pools.len() == 1 && tiers.choose(|| 0).is_some();
        let until = (!settled).then(|| now + STEP);
        LineUp { pools, single, balancers: balancers.collect(), tiers, until }
    }

    /// None where nobody is in service. One that has failed the request comes only where there is no other.
    pub fn pick(&mut self, ask: &Ask, mut random: impl FnMut() -> u64) -> Option<Rc<Pool>> {
        let LineUp { pools, single, tiers, balancers, .. } = self;
        if *single {
            return pools.first().cloned();
        }
        let failed = |place: usize| ask.failed.iter().any(|pool| Rc::ptr_eq(pool, &pools[place]));
        if let Some(hash) = ask.sticky {
            let mut serving = tiers.tiers.iter().flat_map(|tier| &tier.members);
            let own = serving.find(|place| pools[**place].endpoint.hash == hash && !failed(**place));
            if let Some(place) = own {
                return Some(pools[*place].clone());
            }
        }
        let mut tier = tiers.choose(|| ask.key.unwrap_or_else(&mut random))?;
        let is_left = |tier: &tiers::Tier| tier.members.iter().any(|place| !failed(*place));
        if !ask.failed.is_empty() && !is_left(&tiers.tiers[tier]) {
            tier = tiers.tiers.iter().position(is_left).unwrap_or(tier);
        }
        let members = &tiers.tiers[tier].members;
        let place = balancers[tier].pick(balance::Ask {
            key: ask.key,
            random: &mut random,
            load: &|place| pools[members[place]].under_way(),
            avoid: &|place| !ask.failed.is_empty() && failed(members[place]),
        })?;
        Some(pools[members[place]].clone())
    }
}
