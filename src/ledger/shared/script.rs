//! What the engine is asked: three scripts over all names of a delivery at once, and one for the tokens of a route.
//!
//! A name holds `D` when its delivery has been accepted, and `C` with the token of a claim before that. Both end by the
//! engine's own clock. A claim that is made again with the same token is the same claim, so that it can be repeated when
//! its answer was lost.

use core::fmt::Write as _;
use core::time::Duration;
use std::sync::OnceLock;

use ring::digest;

use super::key::{EngineKey, EngineNames, KEY_TEXT, RATE_TEXT, RateName};
use crate::gate::token_bucket::Rate;
use crate::wire::resp;

/// What the engine is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineOperation {
    /// To claim a delivery for the time of a lease.
    Claim,
    /// To remember that it has been accepted.
    Commit,
    /// To forget the claim.
    Release,
    /// For tokens of the rate of a route.
    Take,
    /// Whether it is there.
    Ping,
    /// To do what comes next although the slot is still on its way to this node of a cluster.
    Asking,
}

/// `{0}` it is the claimant's; `{1, ms}` it has been accepted; `{2, ms}` another has it.
const CLAIM: &str = "\
local taken
for i=1,#KEYS do
 local v=redis.call('GET',KEYS[i])
 if v=='D' then return {1,redis.call('PTTL',KEYS[i])} end
 if v and v~='C'..ARGV[1] then taken=i end
end
if taken then return {2,redis.call('PTTL',KEYS[taken])} end
for i=1,#KEYS do redis.call('SET',KEYS[i],'C'..ARGV[1],'PX',ARGV[2]) end
return {0}";

/// 1: remembered. 2: it had been accepted before. 0: another has it, and nothing has changed.
const COMMIT: &str = "\
local known=1
for i=1,#KEYS do
 local v=redis.call('GET',KEYS[i])
 if v=='D' then known=2 elseif v and v~='C'..ARGV[1] then return 0 end
end
for i=1,#KEYS do redis.call('SET',KEYS[i],'D','PX',ARGV[2]) end
return known";

/// The number of names that were given back.
const RELEASE: &str = "\
local count=0
for i=1,#KEYS do
 if redis.call('GET',KEYS[i])=='C'..ARGV[1] then count=count+redis.call('DEL',KEYS[i]) end
end
return count";

/// The bucket of a route, by the clock of the engine and in whole numbers, as in `gate/admission/token_bucket`: what is missing
/// until it is full, in units of which a token has as many as its period has microseconds. So no call rounds anything away,
/// and no product of two limits is more than a double holds exactly. A process may still have another period than the
/// one that wrote last: what is missing is converted.
///
/// Wanted tokens, burst, tokens in a period, microseconds of a period → how many are granted; microseconds until there is
/// another, if that is fewer.
const TAKE: &str = "\
local t=redis.call('TIME')
local now=t[1]*1000000+t[2]
local want,burst,gain,token=tonumber(ARGV[1]),tonumber(ARGV[2]),tonumber(ARGV[3]),tonumber(ARGV[4])
local missing=0
local v=redis.call('GET',KEYS[1])
if v then
 local m,at,unit=string.match(v,'^(%d+) (%d+) (%d+)$')
 missing=tonumber(m)
 if tonumber(unit)~=token then missing=math.ceil(missing/tonumber(unit)*token) end
 missing=math.max(0,missing-math.max(0,now-tonumber(at))*gain)
end
local full=burst*token
local got=math.max(0,math.min(want,math.floor((full-missing)/token)))
missing=missing+got*token
redis.call('SET',KEYS[1],string.format('%.0f %.0f %.0f',missing,now,token),'PX',math.ceil(missing/gain/1000)+1000)
if got<want then return {got,math.ceil((missing+token-full)/gain)} end
return {got,0}";

impl EngineOperation {
    /// Those that are scripts.
    pub const SCRIPTS: [Self; 4] = [Self::Claim, Self::Commit, Self::Release, Self::Take];

    /// The script; nothing for what is none.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Claim => CLAIM,
            Self::Commit => COMMIT,
            Self::Release => RELEASE,
            Self::Take => TAKE,
            Self::Ping | Self::Asking => "",
        }
    }

    /// By what the engine knows the script once it has it.
    fn digest(self) -> &'static str {
        static DIGESTS: OnceLock<[String; 4]> = OnceLock::new();
        let [claim, commit, release, take] =
            DIGESTS.get_or_init(|| Self::SCRIPTS.map(|script| sha1_hex(script.text())));
        match self {
            Self::Claim => claim,
            Self::Commit => commit,
            Self::Release => release,
            Self::Take => take,
            Self::Ping | Self::Asking => "",
        }
    }
}

fn sha1_hex(text: &str) -> String {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// What an operation is about.
#[derive(Clone, Copy, Debug)]
pub struct EngineRequest<'a> {
    /// What is asked.
    pub operation: EngineOperation,
    /// The names of the delivery.
    pub names: &'a EngineNames,
    /// The process, the worker and the number of the claim.
    pub token: (u64, usize, u64),
    /// For how long it is claimed or remembered.
    pub time: Duration,
    /// Whether the engine lacks the script.
    pub with_text: bool,
}

/// Appends a command that is no script.
pub(super) fn command(out: &mut Vec<u8>, operation: EngineOperation) {
    let word: &[u8] = if operation == EngineOperation::Asking { b"ASKING" } else { b"PING" };
    resp::command(out, &[word]);
}

/// Appends the command that asks.
pub fn encode(out: &mut Vec<u8>, key: &EngineKey, request: &EngineRequest<'_>) {
    let EngineRequest { operation, names, token: (process, worker, number), time, with_text } = *request;
    let timed = usize::from(operation != EngineOperation::Release);
    begin(out, operation, with_text, names.list().len(), 1 + timed);
    for name in names.list() {
        // The length is known before the key is written: nothing is allocated for it.
        resp::begin_part(out, key.prefix().len() + KEY_TEXT);
        key.write(out, names, name);
        resp::end_part(out);
    }
    let mut token = [0; TOKEN];
    resp::add_part(out, write_token(&mut token, (process, worker as u64, number)));
    if timed == 1 {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, LONGEST);
        resp::add_number(out, millis);
    }
}

/// Begins the command of a script with so many keys and arguments, which the caller appends.
fn begin(out: &mut Vec<u8>, operation: EngineOperation, with_text: bool, keys: usize, arguments: usize) {
    resp::begin_command(out, 3 + keys + arguments);
    let (command, script) = if with_text { ("EVAL", operation.text()) } else { ("EVALSHA", operation.digest()) };
    resp::add_part(out, command.as_bytes());
    resp::add_part(out, script.as_bytes());
    resp::add_number(out, keys as u64);
}

/// A request for tokens.
#[derive(Clone, Copy, Debug)]
pub struct TokenRequest {
    /// Where the bucket is.
    pub name: RateName,
    /// The rate of the route.
    pub rate: Rate,
    /// How many are wanted.
    pub count: u32,
    /// Whether the engine lacks the script.
    pub with_text: bool,
}

/// Appends the command that asks for tokens.
pub fn encode_take(out: &mut Vec<u8>, key: &EngineKey, request: TokenRequest) {
    let TokenRequest { name, rate, count, with_text } = request;
    begin(out, EngineOperation::Take, with_text, 1, 4);
    resp::begin_part(out, key.prefix().len() + RATE_TEXT);
    key.write_rate(out, &name);
    resp::end_part(out);
    let micros = u64::try_from(rate.per.as_micros()).unwrap_or(u64::MAX);
    for number in [u64::from(count), u64::from(rate.burst), u64::from(rate.tokens), micros] {
        resp::add_number(out, number);
    }
}

/// The engine takes no time that is longer, in milliseconds: a hundred years.
const LONGEST: u64 = 100 * 366 * 24 * 3_600 * 1_000;

/// Bytes of a token: three numbers in sixteen hexadecimal digits each.
const TOKEN: usize = 3 * 16;

fn write_token(out: &mut [u8; TOKEN], (process, worker, number): (u64, u64, u64)) -> &[u8] {
    let (digits, _) = out.as_chunks_mut::<16>();
    for (place, number) in digits.iter_mut().zip([process, worker, number]) {
        for (at, digit) in place.iter_mut().enumerate() {
            let nibble = number >> (60 - 4 * at) & 15;
            *digit = char::from_digit(nibble as u32, 16).map_or(b'0', |it| it as u8);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_one_command_over_all_names() {
        let key = EngineKey::new(&[7; 32], "cs1:");
        let names = key.probe(1, 2);
        let mut out = Vec::new();
        let request = EngineRequest {
            operation: EngineOperation::Claim,
            names: &names,
            token: (0x12ab, 3, 255),
            time: Duration::from_secs(41),
            with_text: false,
        };
        encode(&mut out, &key, &request);
        assert_eq!(resp::reply_length(&out), Ok(Some(out.len())));
        let parts: Vec<String> = resp::values(&out)
            .filter_map(|value| match value {
                resp::RespValue::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(parts.len(), 6);
        assert_eq!((parts[0].as_str(), parts[1].len(), parts[2].as_str()), ("EVALSHA", 40, "1"));
        assert!(parts[3].starts_with("cs1:{"), "{}", parts[3]);
        assert_eq!(parts[4], "00000000000012ab000000000000000300000000000000ff");
        assert_eq!(parts[5], "41000");
        out.clear();
        encode(&mut out, &key, &EngineRequest { operation: EngineOperation::Release, with_text: true, ..request });
        assert!(out.starts_with(b"*5\r\n$4\r\nEVAL\r\n"), "{}", out.escape_ascii());
        out.clear();
        command(&mut out, EngineOperation::Ping);
        assert_eq!(out, b"*1\r\n$4\r\nPING\r\n");
    }

    #[test]
    fn the_digest_of_a_script_is_that_of_the_engine() {
        // printf '' | sha1sum
        assert_eq!(sha1_hex(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    }
}
