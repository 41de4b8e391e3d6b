//! The checksum of a body (CRC-32 of IEEE 802.3), which PayPal signs in place of the body. It is no digest: bodies with a
//! given checksum can be made at will.

/// For each byte, what four divisions of it leave.
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 { (rest >> 1) ^ 0xedb8_8320 } else { rest >> 1 };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
}

/// The checksum of these bytes.
pub(super) fn of(bytes: &[u8]) -> u32 {
    let step = |rest: u32, byte: &u8| {
        let place = usize::from(rest.to_le_bytes()[0] ^ byte);
        (rest >> 8) ^ TABLE.get(place).copied().unwrap_or_default()
    };
    !bytes.iter().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_checksum_of_the_catalogue() {
        assert_eq!(of(b"123456789"), 0xcbf4_3926);
        assert_eq!(of(b""), 0);
    }
}
