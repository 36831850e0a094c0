//! The limits of consumers' plans, as the gateway's config has them.

use std::rc::Rc;

use wasmgate_sdk::{
    Duration, Error, Request, Result,
    consumers::{self, Failure, Quota},
    rate_limits::Algorithm,
};

use crate::{
    Counted,
    key::{Key, Words},
    limit::{Defaults, Limit},
};

/// Asked for each request, for a reload of the config may change them.
pub struct ConsumerPlans {
    or: Defaults,
    /// That of the consumer.
    key: Rc<Key>,
}

/// The limits of a consumer's plan.
pub enum OfPlan {
    Limits(Vec<Counted>),
    /// The request is nobody's with a plan.
    None,
    /// The config has none of this name any more.
    Unknown(String),
}

/// What the usual times are called.
const NAMES: [(u64, &str); 5] =
    [(1, "second"), (60, "minute"), (3600, "hour"), (24 * 3600, "day"), (30 * 24 * 3600, "month")];

impl ConsumerPlans {
    /// The error says that the plugin may not ask.
    pub fn new(algorithm: Algorithm, cost: u32) -> Result<Self> {
        consumers::granted().map_err(|error| Error::msg(format_args!("consumer_plans: {error}")))?;
        let key = Key::parse("key", &Words::One("consumer".to_string()), 64)?;
        Ok(ConsumerPlans { or: Defaults { algorithm, cost }, key: Rc::new(key) })
    }

    pub fn limits(&self, request: &Request) -> Result<OfPlan, Failure> {
        let Some(plan) = request.var_str("plan").filter(|plan| !plan.is_empty()) else {
            return Ok(OfPlan::None);
        };
        let Some(quotas) = consumers::plan(&plan)? else { return Ok(OfPlan::Unknown(plan)) };
        // What no limit can be, the gateway's config refuses.
        Ok(OfPlan::Limits(quotas.iter().filter_map(|quota| self.counted(quota).ok()).collect()))
    }

    fn counted(&self, quota: &Quota) -> Result<Counted> {
        let seconds = quota.per.as_secs();
        let name = NAMES.iter().find(|(known, _)| *known == seconds && quota.per.subsec_nanos() == 0);
        let name = name.map_or_else(|| format!("{}s", quota.per.as_secs_f64()), |(_, name)| name.to_string());
        let limit = Limit::of(quota.rate, Duration(quota.per)).check("plan", self.or)?;
        Ok(Counted::new(name, limit, self.key.clone()))
    }
}
