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

const KINDS: [Kind; 3] = [Kind::Counter, Kind::Gauge, Kind::Histogram];
/// Most series that one VM defines.
const MAX: usize = 10_000;

/// A new id for each call, also for a name that is known. Its low bits tell the kind.
fn define_metric(call: &mut Call<'_>, number: u32, name: u32, size: u32, id_out: u32) -> Answer {
    let kind = *KINDS.get(number as usize).ok_or(Status::BadArgument)?;
    let name = call.text(name, size)?;
    let first = name.bytes().next().filter(|first| !first.is_ascii_digit());
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let name = if first.is_some() { name } else { format!("_{name}") };
    let data = call.data();
    let plugin = data.plugin();
    let series = plugin.capabilities.metrics.define(&plugin.scope, kind, &name, Vec::new());
    let series = series.filter(|_| data.metrics.len() < MAX).ok_or(Status::InternalFailure)?;
    data.metrics.push(series);
    let id = (data.metrics.len() as u32) << 2 | number;
    call.write_u32(id_out, id)
}

fn series(call: &mut Call<'_>, id: u32) -> Answer<(Kind, Series)> {
    let kind = *KINDS.get(id as usize & 3).ok_or(Status::BadArgument)?;
    let place = (id as usize >> 2).checked_sub(1).ok_or(Status::NotFound)?;
    let series = call.data().metrics.get(place).ok_or(Status::NotFound)?;
    Ok((kind, series.clone()))
}

/// A counter only grows; a histogram has nothing to add to.
fn increment(call: &mut Call<'_>, id: u32, delta: i64) -> Answer {
    match series(call, id)? {
        (Kind::Counter, series) if delta > 0 => series.add(delta as f64),
        (Kind::Gauge, series) => series.add(delta as f64),
        _ => return Err(Status::BadArgument.into()),
    }
    Ok(())
}

/// Adds to a counter, sets a gauge, observes into a histogram.
fn record(call: &mut Call<'_>, id: u32, value: u64) -> Answer {
    let (_, series) = series(call, id)?;
    series.record(value as f64);
    Ok(())
}

fn get(call: &mut Call<'_>, id: u32, out: u32) -> Answer {
    let (_, series) = series(call, id)?;
    let value = series.value().ok_or(Status::BadArgument)?;
    call.write_u64(out, value as i64 as u64)
}
