//! What was changed here, or was not, and who asked for it, for the audit.

use std::{net::IpAddr, time::SystemTime};

use http::StatusCode;

use super::{
    answer::{Answer, Problem},
    endpoints::{Action, Endpoint},
};
use crate::telemetry::audit::{About, Audit, Decision, Entry, MAX_TEXT, cut};

/// Tells of a change or an attempt at one, and of whoever was not let in.
pub fn record(
    audit: &Audit,
    client: IpAddr,
    endpoint: &Endpoint,
    object: Vec<String>,
    outcome: &Result<Answer, Problem>,
) {
    let (status, detail) = match outcome {
        Ok(answer) => (answer.code(), answer.changed.clone()),
        // What was wrong may repeat what was sent.
        Err(problem) => (problem.code(), None),
    };
    let is_refused = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if !is_refused && !endpoint.changes() {
        return;
    }
    audit.write(Entry {
        time: SystemTime::now(),
        decision: if is_refused { Decision::Refused } else { Decision::Admin },
        request_id: None,
        client,
        about: About::Change {
            action: name(endpoint.action),
            object: object.into_iter().map(|name| cut(name, MAX_TEXT)).collect(),
            why: is_refused.then_some("admin_token"),
            detail,
        },
        status: Some(status.as_u16()),
    });
}

fn name(action: Action) -> &'static str {
    match action {
        Action::DrainEndpoint => "drain_endpoint",
        Action::RestoreEndpoint => "restore_endpoint",
        Action::ForceBreaker => "force_breaker",
        Action::SetLog => "set_log",
        Action::Reload => "reload",
        Action::RollOut => "roll_out",
        Action::Promote => "promote",
        Action::RollBack => "roll_back",
        Action::Drain => "drain",
        Action::SetConsumer => "set_consumer",
        Action::RemoveConsumer => "remove_consumer",
        Action::IssueKey => "issue_key",
        Action::RotateKey => "rotate_key",
        Action::SetKeyEnd => "set_key_end",
        Action::RevokeKey => "revoke_key",
        Action::SetCredential => "set_credential",
        Action::RevokeCredential => "revoke_credential",
        _ => "read",
    }
}
