//! A delivery for the tests of schemes.
#![allow(unreachable_pub, missing_docs, dead_code)]

use countersign::gate::verify::Delivery;
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
