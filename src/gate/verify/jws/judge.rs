//! What the claims of a token must say. All of it is judged in one walk over them.

use super::super::Delivery;
use super::super::mac::FixedDigest;
use super::super::scheme::{Scheme, Source};
use super::super::signature::Encoding;
use super::super::tolerance::Tolerance;
use super::super::url::PublicUrl;
use super::claims::ClaimValue;
use super::compact::CompactToken;
use super::query_hash;
use super::rules::ClaimRule;
use crate::now::Now;
use crate::outcome::Rejection;

/// The longest delivery id, in bytes.
const ID_LIMIT: usize = 256;

/// The last second of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

/// What the claims are judged by.
#[derive(Clone, Copy)]
pub(super) struct Judge<'r> {
    pub(super) scheme: &'r Scheme,
    pub(super) tolerance: Option<Tolerance>,
    /// Whether a timestamp outside of the tolerance is only noted.
    pub(super) observes_tolerance: bool,
    /// Whether times do not count: for explanations.
    pub(super) anytime: bool,
    pub(super) public_url: Option<&'r PublicUrl>,
}

/// What the claims of a token say that passed.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// The digest of the body.
    pub(super) digest: Option<FixedDigest>,
    /// The timestamp in unix milliseconds.
    pub(super) timestamp: Option<i64>,
    /// What an observed tolerance would have refused.
    pub(super) untimely: Option<Rejection>,
    /// The delivery id.
    pub(super) id: Option<Box<[u8]>>,
    /// The name of the key, where a claim says it.
    pub(super) key: Option<String>,
}

/// The claims that are read for themselves, each as a bit among those that have been seen; rules come behind them.
const EXP: u32 = 1;
const NBF: u32 = 1 << 1;
const IAT: u32 = 1 << 2;
const DIGEST: u32 = 1 << 3;
const QUERY: u32 = 1 << 4;
const ID: u32 = 1 << 5;
const TIME: u32 = 1 << 6;
const KEY: u32 = 1 << 7;
const RULES: u32 = 8;

/// The walk.
struct ClaimWalk<'j> {
    judge: &'j Judge<'j>,
    seen: u32,
    satisfied: u32,
    exp: Option<i64>,
    nbf: Option<i64>,
    iat: Option<i64>,
    query_hash: Option<FixedDigest>,
    judged: Judged,
}

impl Judge<'_> {
    /// Judges the claims of a token that came with `delivery`, of which only the head is looked at.
    pub(super) fn judge<D: Delivery>(
        &self,
        token: &CompactToken<'_>,
        delivery: &D,
        now: Now,
    ) -> Result<Judged, Rejection> {
        let mut walk = ClaimWalk {
            judge: self,
            seen: 0,
            satisfied: 0,
            exp: None,
            nbf: None,
            iat: None,
            query_hash: None,
            judged: Judged::default(),
        };
        token.claims(&mut |name, value| walk.take(name, value))?;
        walk.check_values(delivery)?;
        walk.check_times(now)?;
        Ok(walk.judged)
    }

    fn rules(&self) -> &[ClaimRule] {
        &self.scheme.token.claims
    }

    /// Everything that a claim of this name is.
    fn meaning(&self, name: &str) -> u32 {
        let rules = &self.scheme.token;
        let is = |named: Option<&String>, bit: u32| if named.is_some_and(|named| named == name) { bit } else { 0 };
        let claim = |source: Option<&Source>, bit: u32| match source {
            Some(Source::Claim(claim)) if claim == name => bit,
            _ => 0,
        };
        let own = match name {
            "exp" => EXP,
            "nbf" => NBF,
            "iat" => IAT,
            _ => 0,
        };
        let timestamp = self.scheme.timestamp.as_ref().map(|timestamp| &timestamp.source);
        let ruled = self.rules().iter().zip(RULES..32).filter(|(rule, _)| rule.name == name);
        own | is(rules.body_digest.as_ref().map(|digest| &digest.claim), DIGEST)
            | is(rules.query_hash.as_ref(), QUERY)
            | is(rules.key_claim.as_ref(), KEY)
            | claim(self.scheme.id.as_ref(), ID)
            | claim(timestamp, TIME)
            | ruled.fold(0, |bits, (_, bit)| bits | 1 << bit)
    }
}

impl ClaimWalk<'_> {
    fn take(&mut self, name: &str, value: ClaimValue<'_>) -> Result<(), Rejection> {
        let meaning = self.judge.meaning(name);
        if meaning == 0 {
            return Ok(());
        }
        // RFC 7519, sections 4.1.1 and 4.1.2: one text. A list is for the audience, and for claims of the sender's own.
        if matches!(value, ClaimValue::List) && matches!(name, "iss" | "sub") {
            return Err(Rejection::TokenMalformed);
        }
        // A claim that stands twice is read in two ways by two readers.
        if !matches!(value, ClaimValue::Item(_)) {
            if self.seen & meaning != 0 {
                return Err(Rejection::TokenMalformed);
            }
            self.seen |= meaning;
        }
        for (rule, bit) in self.judge.rules().iter().zip(RULES..32) {
            if meaning & 1 << bit != 0 && rule.values.iter().any(|wanted| value.is(wanted)) {
                self.satisfied |= 1 << bit;
            }
        }
        self.take_own(meaning, value)
    }

    fn take_own(&mut self, meaning: u32, value: ClaimValue<'_>) -> Result<(), Rejection> {
        if meaning & (EXP | NBF | IAT) != 0 {
            let time = Some(seconds(value).ok_or(Rejection::TokenMalformed)?);
            match meaning & (EXP | NBF | IAT) {
                EXP => self.exp = time,
                NBF => self.nbf = time,
                _ => self.iat = time,
            }
        }
        if meaning & TIME != 0 {
            let time = seconds(value).and_then(|seconds| seconds.checked_mul(1000));
            self.judged.timestamp = Some(time.ok_or(Rejection::TimestampMalformed)?);
        }
        if meaning & DIGEST != 0 {
            let encoding = self.judge.scheme.token.body_digest.as_ref().map_or(Encoding::Hex, |digest| digest.encoding);
            self.judged.digest = Some(digest_of(value, encoding).ok_or(Rejection::DigestMismatch)?);
        }
        if meaning & QUERY != 0 {
            self.query_hash = Some(digest_of(value, Encoding::Hex).ok_or(Rejection::TokenClaimMismatch)?);
        }
        if meaning & ID != 0 {
            self.judged.id = Some(id_of(value).ok_or(Rejection::IdMalformed)?);
        }
        if meaning & KEY != 0
            && let ClaimValue::Text(text) = value
        {
            self.judged.key = Some(text.to_owned());
        }
        Ok(())
    }

    fn check_values<D: Delivery>(&self, delivery: &D) -> Result<(), Rejection> {
        let rules = &self.judge.scheme.token;
        let wanted = self.judge.rules().iter().zip(RULES..32).fold(0, |bits, (_, bit)| bits | 1_u32 << bit);
        // Rules behind the last bit have no place to be satisfied in; a scheme that is used has fewer.
        let whole = self.judge.rules().len() <= super::rules::CLAIM_LIMIT && rules.route_claims.is_empty();
        if self.satisfied != wanted || !whole {
            return Err(Rejection::TokenClaimMismatch);
        }
        let digest = rules.body_digest.as_ref();
        if digest.is_some_and(|digest| !digest.unless_empty) && self.judged.digest.is_none() {
            return Err(Rejection::TokenClaimMismatch);
        }
        if rules.query_hash.is_some() {
            let own = query_hash::of(delivery.method(), delivery.target(), self.judge.public_url);
            let given = self.query_hash.as_ref().ok_or(Rejection::TokenClaimMismatch)?;
            if !own?.is(given) {
                return Err(Rejection::TokenClaimMismatch);
            }
        }
        if self.judge.scheme.token.expires && self.exp.is_none() {
            return Err(Rejection::TokenClaimMismatch);
        }
        if self.judge.scheme.timestamp.is_some() && self.judged.timestamp.is_none() {
            return Err(Rejection::TimestampMissing);
        }
        Ok(())
    }

    /// RFC 7519, sections 4.1.4 to 4.1.6.
    fn check_times(&mut self, now: Now) -> Result<(), Rejection> {
        if self.judge.anytime {
            return Ok(());
        }
        let now_seconds = i64::try_from(now.unix.as_secs()).unwrap_or(i64::MAX);
        let leeway = i64::try_from(self.judge.scheme.token.leeway.as_secs()).unwrap_or(0);
        if self.exp.is_some_and(|exp| now_seconds >= exp.saturating_add(leeway)) {
            return Err(Rejection::TokenExpired);
        }
        if [self.nbf, self.iat].into_iter().flatten().any(|time| time > now_seconds.saturating_add(leeway)) {
            return Err(Rejection::TokenNotYetValid);
        }
        if let (Some(timestamp), Some(tolerance)) = (self.judged.timestamp, self.judge.tolerance) {
            match tolerance.judge(timestamp, now) {
                Err(rejection) if !self.judge.observes_tolerance => return Err(rejection),
                judged => self.judged.untimely = judged.err(),
            }
        }
        Ok(())
    }
}

/// NumericDate of RFC 7519, section 2, in whole seconds.
fn seconds(value: ClaimValue<'_>) -> Option<i64> {
    let seconds = match value {
        ClaimValue::Whole(seconds) => seconds,
        // A cast from a float saturates, and the range is judged below.
        ClaimValue::Fraction(seconds) => seconds as i64,
        _ => return None,
    };
    (0..=LAST_SECOND).contains(&seconds).then_some(seconds)
}

fn digest_of(value: ClaimValue<'_>, encoding: Encoding) -> Option<FixedDigest> {
    let ClaimValue::Text(text) = value else { return None };
    FixedDigest::decode(text.as_bytes(), encoding)
}

/// An id is shown to the application in a header.
fn id_of(value: ClaimValue<'_>) -> Option<Box<[u8]>> {
    match value {
        ClaimValue::Text(text) => {
            let fits = (1..=ID_LIMIT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
            fits.then(|| text.as_bytes().into())
        }
        ClaimValue::Whole(number) => Some(number.to_string().into_bytes().into()),
        _ => None,
    }
}
