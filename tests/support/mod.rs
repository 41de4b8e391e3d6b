//! A delivery for the tests of schemes.
#![allow(unreachable_pub, missing_docs, dead_code)]

use std::sync::Arc;

use countersign::gate::verify::{Delivery, RouteValue, Scheme};
use countersign::wire::headers::{HeaderBuf, Headers};

/// A delivery as it was received.
#[derive(Clone, Debug)]
pub struct Received {
    pub target: String,
    pub list: Vec<(String, String)>,
    pub headers: HeaderBuf,
    pub body: Vec<u8>,
}

impl Received {
    /// A delivery that came with these fields, to a target that nothing signs.
    pub fn of(headers: HeaderBuf, body: Vec<u8>) -> Self {
        Self { target: "/".to_owned(), list: Vec::new(), headers, body }
    }
}

impl Delivery for Received {
    fn method(&self) -> &[u8] {
        b"POST"
    }

    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }

    fn headers(&self) -> Headers<'_> {
        self.headers.view()
    }

    fn body(&self) -> &[u8] {
        &self.body
    }
}

/// The topic that routes of tests take deliveries of, and everything else that only a route knows.
pub const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:invoices";

/// The scheme with a value for everything that only a route knows.
pub fn with_values(scheme: &Arc<Scheme>) -> Arc<Scheme> {
    let given = scheme.values.iter().map(|value| RouteValue { name: value.name.clone(), values: vec![TOPIC.into()] });
    Arc::new((**scheme).clone().with_values(&given.collect::<Vec<_>>()))
}
