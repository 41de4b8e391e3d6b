//! Deliveries as GitHub sends them, genuine and forged.

use ring::hmac;

/// Digits of the number that makes a body distinct.
const DIGITS: usize = 20;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes deliveries of one size, each with another number in its body.
pub struct Deliveries {
    key: hmac::Key,
    /// A whole request; number and signature are written over.
    template: Vec<u8>,
    signature: usize,
    number: usize,
    body: usize,
}

impl Deliveries {
    /// Deliveries to `path` with bodies of `size` bytes (at least 64), signed with `secret`.
    pub fn new(host: &str, path: &str, size: usize, secret: &[u8]) -> Self {
        let mut template = head(host, path);
        template.extend_from_slice(b"X-Hub-Signature-256: sha256=");
        let signature = template.len();
        template.extend_from_slice(&[b'0'; 64]);
        template.extend_from_slice(format!("\r\nContent-Length: {size}\r\n\r\n").as_bytes());
        let body = template.len();
        template.extend_from_slice(b"{\"action\":\"opened\",\"number\":1");
        let number = template.len();
        template.extend_from_slice(&[b'0'; DIGITS]);
        template.extend_from_slice(b",\"padding\":\"");
        let letters = b"countersign load test ".iter().cycle();
        let padding = (body + size).saturating_sub(template.len() + 2);
        template.extend(letters.take(padding));
        template.extend_from_slice(b"\"}");
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret), template, signature, number, body }
    }

    /// Appends the genuine delivery with this number.
    pub fn genuine(&mut self, number: u64, out: &mut Vec<u8>) {
        self.write_number(number);
        let tag = hmac::sign(&self.key, &self.template[self.body..]);
        for (at, byte) in tag.as_ref().iter().enumerate() {
            self.template[self.signature + 2 * at] = HEX[usize::from(byte >> 4)];
            self.template[self.signature + 2 * at + 1] = HEX[usize::from(byte & 15)];
        }
        out.extend_from_slice(&self.template);
    }

    /// Appends a delivery whose signature has the right form and is wrong.
    pub fn forged(&mut self, number: u64, out: &mut Vec<u8>) {
        self.write_number(number);
        self.template[self.signature..self.signature + 64].fill(b'a');
        out.extend_from_slice(&self.template);
    }

    fn write_number(&mut self, number: u64) {
        let digits = format!("{number:020}");
        self.template[self.number..self.number + DIGITS].copy_from_slice(digits.as_bytes());
    }
}

/// The head of a delivery, without its signature and its end.
pub fn head(host: &str, path: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: GitHub-Hookshot/loadtest\r\n\
         Content-Type: application/json\r\nX-GitHub-Event: issues\r\n\
         X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_its_size_and_a_signature_of_its_own() {
        let mut deliveries = Deliveries::new("h", "/p", 256, b"secret");
        let mut requests = [Vec::new(), Vec::new(), Vec::new()];
        deliveries.genuine(1, &mut requests[0]);
        deliveries.genuine(2, &mut requests[1]);
        deliveries.forged(2, &mut requests[2]);
        let text = String::from_utf8(requests[1].clone()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("\r\nContent-Length: 256")
                && body.len() == 256
                && body.starts_with('{')
                && body.ends_with('}')
        );
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"secret"), body.as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(head.contains(&format!("sha256={hex}\r\n")));
        assert!(requests[0] != requests[1] && requests[1] != requests[2]);
        assert_eq!(requests[1][requests[1].len() - 256..], requests[2][requests[2].len() - 256..]);
    }
}
