//! Metrics of filters: series of the plugin, like those of native plugins. What stands in a name and cannot stand
//! in one of Prometheus becomes `_`.

use super::functions;
use crate::{
    telemetry::series::{Kind, Series},
    wasm::proxy_wasm::{
        abi::{Answer, Status},
        call::Call,
    },
};

functions! {
    proxy_define_metric(kind: u32, name: u32, size: u32, id_out: u32) => define_metric;
    proxy_increment_metric(id: u32, delta: i64) => increment;
    proxy_record_metric(id: u32, value: u64) => record;
    proxy_get_metric(id: u32, out: u32) => get;
}

const KINDS: [(Kind, &str); 3] =
    [(Kind::Counter, "counter"), (Kind::Gauge, "gauge"), (Kind::Histogram, "histogram")];
/// Most series that one VM defines.
const MAX: usize = 10_000;

/// A new id for each call, also for a name that is known. Its low bits tell the kind, which goes into the name where
/// there is one of another kind by this name.
fn define_metric(call: &mut Call<'_>, number: u32, name: u32, size: u32, id_out: u32) -> Answer {
    let (kind, word) = *KINDS.get(number as usize).ok_or(Status::BadArgument)?;
    let name = call.text(name, size)?;
    let first = name.bytes().next().filter(|first| !first.is_ascii_digit());
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let name = if first.is_some() { name } else { format!("_{name}") };
    let data = call.data();
    let plugin = data.plugin();
    let define = |name: &str| plugin.capabilities.metrics.define(&plugin.scope, kind, name, Vec::new());
    let series = define(&name).or_else(|| define(&format!("{name}_{word}")));
    let series = series.filter(|_| data.metrics.len() < MAX).ok_or(Status::InternalFailure)?;
    data.metrics.push(series);
    let id = (data.metrics.len() as u32) << 2 | number;
    call.write_u32(id_out, id)
}

fn series(call: &mut Call<'_>, id: u32) -> Option<Series> {
    let place = (id as usize >> 2).checked_sub(1)?;
    call.data().metrics.get(place).cloned()
}

/// A counter only grows; a histogram has nothing to add to.
fn increment(call: &mut Call<'_>, id: u32, delta: i64) -> Answer {
    match (kind(id), series(call, id)) {
        (Some(Kind::Counter), Some(series)) if delta > 0 => series.add(delta as f64),
        (Some(Kind::Gauge), Some(series)) => series.add(delta as f64),
        (Some(Kind::Counter | Kind::Gauge), None) => return Err(Status::NotFound.into()),
        _ => return Err(Status::BadArgument.into()),
    }
    Ok(())
}

/// Adds to a counter, sets a gauge, observes into a histogram.
fn record(call: &mut Call<'_>, id: u32, value: u64) -> Answer {
    kind(id).and_then(|_| series(call, id)).ok_or(Status::NotFound)?.record(value as f64);
    Ok(())
}

fn get(call: &mut Call<'_>, id: u32, out: u32) -> Answer {
    if !matches!(kind(id), Some(Kind::Counter | Kind::Gauge)) {
        return Err(Status::BadArgument.into());
    }
    let value = series(call, id).ok_or(Status::NotFound)?.value().ok_or(Status::BadArgument)?;
    call.write_u64(out, value as i64 as u64)
}

fn kind(id: u32) -> Option<Kind> {
    KINDS.get(id as usize & 3).map(|(kind, _)| *kind)
}
