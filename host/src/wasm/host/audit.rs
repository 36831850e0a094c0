//! `audit`: why a plugin decides as it does. Who and what is the host's to say.

use super::bindings::wasmgate::plugin::audit;
use crate::{
    telemetry::audit::{MAX_TEXT, Reason, cut},
    wasm::store::Host,
};

/// Longest word for a reason; what is beyond is cut.
const MAX_WORD: usize = 64;

impl audit::Host for Host {
    fn explain(&mut self, reason: audit::Reason) {
        let audit::Reason { why, detail, consumer, credential } = reason;
        let text = |text: Option<String>| text.map(|text| cut(text, MAX_TEXT));
        if let Some(state) = &mut self.exchange {
            state.account.explain(Reason {
                consumer: text(consumer),
                credential: text(credential),
                why: Some(cut(why, MAX_WORD).into()),
                detail: text(detail),
            });
        }
    }
}
