//! The verify token of a route: a text that the operator has given to the sender, which shows it in its handshake.

use core::fmt;

use zeroize::Zeroizing;

use crate::gate::verify::keyring::Validity;
use crate::gate::verify::mac::Fingerprint;
use crate::now::Now;

/// A verify token, and when it counts.
#[derive(Clone)]
pub struct VerifyToken {
    validity: Validity,
    fingerprint: Fingerprint,
    bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for VerifyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyToken").field("validity", &self.validity).finish_non_exhaustive()
    }
}

impl VerifyToken {
    /// A token that counts for this time.
    #[must_use]
    pub fn new(bytes: &[u8], validity: Validity) -> Self {
        Self { validity, fingerprint: Fingerprint::of(bytes), bytes: Zeroizing::new(bytes.to_vec()) }
    }

    pub(super) fn counts(&self, now: Now) -> bool {
        self.validity.contains(now)
    }

    /// Whether this is the token, in constant time.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        self.fingerprint.matches(&Fingerprint::of(shown))
    }

    /// The token itself, for an answer that is made with it.
    pub(super) fn reveal(&self) -> &[u8] {
        &self.bytes
    }
}
