//! The worker's side of plugins' calls: it has the upstreams. What a guest waits for holds neither the worker nor a place
//! among the guests that run.

use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    body::{Body, BodyError},
    capability::http_call::{Answer, Asker, Caller, Failure, Job, Outcome, Outgoing},
    plugin::services::{CallError, Protocol, Services, Upstreams},
};

/// A way to the worker whose services these are.
pub fn start(services: &Services) -> Caller {
    let (caller, mut jobs) = Caller::new();
    let Services { upstreams, tasks } = services.clone();
    services.tasks.spawn(async move {
        while let Some(Job { call, to }) = jobs.recv().await {
            let upstreams = upstreams.clone();
            tasks.spawn(async move { answer(&*upstreams, call, to).await });
        }
    });
    caller
}

async fn answer(upstreams: &dyn Upstreams, call: Outgoing, to: Asker) {
    let made = make(upstreams, call);
    match to {
        Asker::All(tell) => tell(made.await),
        Asker::One(mut tell) => tokio::select! {
            outcome = made => drop(tell.send(outcome)),
            () = tell.closed() => {}
        },
    }
}

async fn make(upstreams: &dyn Upstreams, call: Outgoing) -> Outcome {
    let Outgoing { upstream, request, timeout: limit, max_body } = call;
    let upstream = upstreams.get(&upstream).ok_or(Failure::Unknown)?;
    let made = async {
        let sent = upstream.send(request.map(body), Protocol::Configured).await;
        let (head, body) = sent.map_err(|error| failure(&error))?.into_parts();
        let body = body.collect(max_body).await.map_err(|error| match error {
            BodyError::TooLarge => Failure::TooLarge,
            BodyError::TimedOut => Failure::TimedOut,
            BodyError::Transport(_) | BodyError::Cut => Failure::Broken,
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    timeout(limit, made).await.unwrap_or(Err(Failure::TimedOut))
}

fn body(bytes: Bytes) -> Body {
    if bytes.is_empty() { Body::Empty } else { Body::Full(bytes) }
}

fn failure(error: &CallError) -> Failure {
    match error {
        CallError::Connect(_) => Failure::Unreachable,
        CallError::Reset(_) | CallError::Protocol(_) => Failure::Broken,
    }
}
