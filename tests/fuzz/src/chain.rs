//! Chains of certificates: whatever a client sends, at most one path is left of it, and what a log gets is printable.

use countersign::gate::chain::{INTERMEDIATES, KeyKind, path, reason, subject};
use countersign::gate::identity::Identity;

/// The input is a list of certificates, each behind its length in two bytes.
pub fn run(bytes: &[u8]) {
    let mut certificates = Vec::new();
    let mut rest = bytes;
    while let [high, low, after @ ..] = rest {
        let (certificate, after) = after.split_at(after.len().min(usize::from(u16::from_be_bytes([*high, *low]))));
        certificates.push(certificate);
        rest = after;
    }
    let Some((end_entity, intermediates)) = certificates.split_first() else { return };
    // Every third name is that of an authority.
    let is_authority = |name: &[u8]| name.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).is_multiple_of(3);
    match path(end_entity, intermediates, is_authority) {
        Err(unfit) => assert!(!reason(&unfit.to_string()).is_empty()),
        Ok(path) => {
            assert!(intermediates.len() <= INTERMEDIATES && path.len() <= intermediates.len());
            let mut positions = path.clone();
            positions.sort_unstable();
            positions.dedup();
            assert_eq!(positions.len(), path.len());
            let _ = Identity::of_certificate(end_entity);
        }
    }
    for certificate in certificates {
        assert!(subject(certificate).bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        assert!(KeyKind::of(certificate).handshake_cost() > 0);
    }
}
