//! A request for the targets that verify.

use countersign::gate::verify::Delivery;
use countersign::wire::headers::{HeaderBuf, Headers};

/// A request by POST.
pub(crate) struct Request<'a> {
    pub(crate) target: &'a [u8],
    pub(crate) headers: HeaderBuf,
    pub(crate) body: &'a [u8],
}

impl Delivery for Request<'_> {
    fn method(&self) -> &[u8] {
        b"POST"
    }

    fn target(&self) -> &[u8] {
        self.target
    }

    fn headers(&self) -> Headers<'_> {
        self.headers.view()
    }

    fn body(&self) -> &[u8] {
        self.body
    }
}
