//! Where a request goes: the upstream that a plugin chose, a branch of the route's split, or the route's own.

use std::{net::IpAddr, rc::Rc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use super::{error::ProxyError, journey::Journey};
use crate::{config::Maintenance, plugin::LocalResponse, upstream::Cluster};

pub struct Destination {
    pub cluster: Rc<Cluster>,
    /// Takes what the other does not.
    pub fallback: Option<Rc<Cluster>>,
    /// Keeps the client with its branch.
    pub cookie: Option<HeaderValue>,
}

impl Destination {
    pub async fn of(journey: &Journey) -> Result<Destination, ProxyError> {
        let exchange = journey.exchange().await;
        let route = journey.onward();
        let spec = journey.route_spec();
        let mut cookie = None;
        let cluster = match (&exchange.upstream, spec.and_then(|spec| spec.split.as_ref())) {
            (Some(chosen), _) => journey.cluster(chosen).cloned(),
            (None, Some(traffic)) => {
                let choice = traffic.choose(&exchange, SystemTime::now(), rand::random);
                cookie = choice.cookie;
                choice.branch.and_then(|branch| route.branches.get(branch)).cloned()
            }
            (None, None) => route.upstream.clone(),
        };
        let cluster = cluster.ok_or(ProxyError::NoUpstream)?;
        if let Some(maintenance) = &cluster.upstream.settings.maintenance {
            in_maintenance(maintenance, exchange.client_ip)?;
        }
        let fallback = route.fallback.clone().filter(|fallback| !Rc::ptr_eq(fallback, &cluster));
        Ok(Destination { cluster, fallback, cookie })
    }
}

fn in_maintenance(settings: &Maintenance, client: IpAddr) -> Result<(), ProxyError> {
    if settings.allow.iter().any(|network| network.contains(&client)) {
        return Ok(());
    }
    // The config has checked the status and the media type.
    let status = StatusCode::from_u16(settings.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut answer = LocalResponse::error(status, "maintenance", "The service is being worked on.");
    if let Some(time) = settings.retry_after {
        answer.headers.insert(header::RETRY_AFTER, time.as_secs().into());
    }
    if let Some(body) = &settings.body {
        answer.body = Some(Bytes::from(body.clone()));
        if let Ok(media_type) = HeaderValue::from_str(&settings.content_type) {
            answer.headers.insert(header::CONTENT_TYPE, media_type);
        }
    }
    Err(ProxyError::Local(Box::new(answer)))
}
