//! `/reasons`: what each reason code means and what helps, for the status page. The same for every process of a version.

use serde_json::{Map, Value, json};

use crate::outcome::{ConnectionEnd, Fault, Rejection};
use crate::telemetry::advice;

/// Writes the document: an object for each code, with `means`, `helps` and, where there is an answer, its `status`.
#[must_use]
pub(super) fn render() -> String {
    let mut all = Map::new();
    for rejection in Rejection::ALL {
        let (code, status) = (rejection.code(), Some(rejection.answer().status));
        all.insert(code.to_owned(), described(rejection.meaning(), advice::of(code), status));
    }
    for fault in Fault::ALL {
        let (code, status) = (fault.code(), Some(fault.answer().status).filter(|status| *status > 0));
        all.insert(code.to_owned(), described(fault.meaning(), advice::of(code), status));
    }
    for end in ConnectionEnd::ALL {
        all.insert(end.code().to_owned(), described(end.meaning(), advice::of_connection(end.code()), None));
    }
    Value::from(all).to_string()
}

fn described(means: &str, helps: &str, status: Option<u16>) -> Value {
    json!({ "means": means, "helps": helps, "status": status })
}
