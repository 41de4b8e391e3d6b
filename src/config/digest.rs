//! Digests of settings, for the comparison of two configurations.

use core::fmt::{self, Debug, Write};

use ring::digest::{Context, SHA256};

/// SHA-256.
pub(crate) type Digest = [u8; 32];

/// Of everything that a value shows for debugging.
pub(super) fn digest(part: &impl Debug) -> Digest {
    let mut hash = Hash(Context::new(&SHA256));
    // Hashing cannot fail.
    let _ = write!(hash, "{part:?}");
    hash.finish()
}

/// Of bytes.
pub(super) fn digest_of_bytes(bytes: &[u8]) -> Digest {
    let mut hash = Hash(Context::new(&SHA256));
    hash.0.update(bytes);
    hash.finish()
}

struct Hash(Context);

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl Hash {
    fn finish(self) -> Digest {
        let mut out = Digest::default();
        out.iter_mut().zip(self.0.finish().as_ref()).for_each(|(to, from)| *to = *from);
        out
    }
}
