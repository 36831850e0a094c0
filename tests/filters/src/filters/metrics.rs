//! Metrics of all kinds. What their values are beside these calls is read from the gateway's own page.

use proxy_wasm::{
    traits::{Context, HttpContext, RootContext},
    types::{Action, ContextType},
};

use crate::host::{define_metric, get_metric, increment_metric, record_metric, say};

#[derive(Default)]
pub struct Root {
    defined: Vec<u32>,
}

struct Metrics {
    defined: Vec<u32>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let kinds = [(0, "test_counter"), (1, "test_gauge"), (2, "test_histogram")];
        self.defined = kinds.iter().filter_map(|(kind, name)| define_metric(*kind, name)).collect();
        define_metric(3, "test_nothing");
        define_metric(0, "");
        true
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Metrics { defined: self.defined.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Metrics {}

impl HttpContext for Metrics {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let &[counter, gauge, histogram] = self.defined.as_slice() else { return Action::Continue };
        say("counter");
        for delta in [1, 5, 0, -1] {
            increment_metric(counter, delta);
        }
        get_metric(counter);
        record_metric(counter, 10);
        get_metric(counter);
        say("gauge");
        record_metric(gauge, 100);
        increment_metric(gauge, 5);
        increment_metric(gauge, -25);
        increment_metric(gauge, 0);
        get_metric(gauge);
        increment_metric(gauge, -1000);
        get_metric(gauge);
        record_metric(gauge, 7);
        say("histogram");
        increment_metric(histogram, 1);
        record_metric(histogram, 10);
        record_metric(histogram, 20);
        get_metric(histogram);
        say("the same name again");
        if let Some(same) = define_metric(0, "test_counter") {
            increment_metric(same, 1);
            get_metric(counter);
        }
        define_metric(1, "test_counter");
        say("unknown");
        for id in [4_000, 4_001, 4_002, 4_003] {
            increment_metric(id, 1);
            record_metric(id, 1);
            get_metric(id);
        }
        Action::Continue
    }
}
