//! What a route asks of a request beside a signature.

use crate::gate::admission::token_bucket::Rate;
use crate::gate::replay::WhenUnavailable;
use crate::outcome::Rejection;
use crate::wire::headers::{Headers, Known};

/// What a route asks of a request before and after it is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteAdmission {
    /// How many genuine deliveries may come.
    pub rate: Option<Rate>,
    /// Where that is for all processes together: what becomes of a delivery while the engine cannot be asked.
    pub rate_shared: Option<WhenUnavailable>,
    /// The media types that a body may have, in lower case and without parameters; empty for any.
    pub content_types: Vec<String>,
    /// Position of the route in its table, which sets it: where its bucket is in the list that
    /// [`crate::gate::admission::route_buckets::RouteBuckets::of`] gives.
    pub position: usize,
}

impl RouteAdmission {
    /// Judges the media type of a body. A request without a body needs none.
    ///
    /// # Errors
    /// [`Rejection::ContentTypeRefused`]: another one, none, or more than one.
    pub fn check_content_type(&self, headers: Headers<'_>, has_body: bool) -> Result<(), Rejection> {
        if self.content_types.is_empty() {
            return Ok(());
        }
        let mut values = headers.of_kind(Known::ContentType);
        match (values.next(), values.next()) {
            (None, _) if !has_body => Ok(()),
            (Some(value), None) if self.takes(value) => Ok(()),
            _ => Err(Rejection::ContentTypeRefused),
        }
    }

    /// RFC 9110, section 8.3.1: type and subtype have no case, parameters stand behind a semicolon.
    fn takes(&self, value: &[u8]) -> bool {
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        let media_type = value.get(..end).unwrap_or_default().trim_ascii_end();
        self.content_types.iter().any(|taken| media_type.eq_ignore_ascii_case(taken.as_bytes()))
    }
}
