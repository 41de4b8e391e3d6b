//! Is this delivery genuine?

use crate::wire::headers::Headers;

/// What a scheme can look at: one request as it was received. The proxy implements it over its connection buffer,
/// commands and tests over values of their own.
pub trait Delivery {
    /// The method as received.
    fn method(&self) -> &[u8];
    /// Path and query as received (origin-form).
    fn target(&self) -> &[u8];
    /// The header fields as received.
    fn headers(&self) -> Headers<'_>;
    /// The bytes of the body that have arrived. At `begin` nobody looks at it; at `finish` it is whole.
    fn body(&self) -> &[u8];
}
