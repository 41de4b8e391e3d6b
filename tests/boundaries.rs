//! One signature is one delivery: whatever is cut differently out of the bytes that were signed is refused.
//!
//! A delivery is made, signed, and accepted. Then its signed bytes are cut into the parts of the content in every other
//! way that a request can carry, under the same signature. None of these may be accepted: for all presets, and for every
//! random scheme that the rules let through. Tolerances only observe, so that no clock helps. A form of Twilio's is not
//! cut: there is one way too many by design, and `Scheme::warnings` says so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use core::time::Duration;
use std::sync::Arc;

use countersign::config::scheme;
use countersign::gate::verify::{
    ByteSet, Delivery, DigestAlgorithm, Encoding, Guards, JsonPath, Key, KeyForm, Keyring, Kind, MacAlgorithm, Part,
    PublicUrl, Scheme, SignatureSource, Source, Syntax, Template, TimestampSource, Tolerance, Unit, Validity, Verifier,
    Without,
};
use countersign::now::Now;
use countersign::outcome::Rejection;
use countersign::wire::head::{HeadLimits, RequestHead};
use countersign::wire::headers::Headers;
use ring::{digest, hmac};

const SECRET: &str = "correct-horse-battery-staple";
const URLS: [&str; 2] = ["https://h.example", "https://h.example/in"];
const LIMITS: HeadLimits = HeadLimits { size: 65_536, fields: 64, target: 8192 };

/// The recipe of Knuth's MMIX: the same deliveries in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn of<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[self.below(items.len())]
    }
}

/// The values of the parts of a content, in its order, and how the values of named headers are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Values {
    parts: Vec<Vec<u8>>,
    named: Vec<Vec<u8>>,
}

struct Received {
    head: RequestHead,
    bytes: Vec<u8>,
    body: Vec<u8>,
}

impl Delivery for Received {
    fn method(&self) -> &[u8] {
        self.head.method.of(&self.bytes)
    }

    fn target(&self) -> &[u8] {
        self.head.path_and_query(&self.bytes)
    }

    fn headers(&self) -> Headers<'_> {
        self.head.headers(&self.bytes)
    }

    fn body(&self) -> &[u8] {
        &self.body
    }
}

/// A scheme under test, with the URL of its route.
struct Case {
    scheme: Arc<Scheme>,
    url: &'static str,
    verifier: Verifier,
}

impl Case {
    /// Nothing where the rules refuse the scheme.
    fn new(scheme: Scheme, url: &'static str) -> Option<Self> {
        let scheme = Arc::new(scheme);
        let key = Key::from_secret("k", &scheme, SECRET.as_bytes(), Validity::default()).unwrap();
        let public = scheme.signs_url().then(|| PublicUrl::parse(url).unwrap());
        let verifier = Verifier::new(Arc::clone(&scheme), Keyring::new(vec![key]), None, public).ok()?;
        Some(Self { scheme, url, verifier: verifier.observing_tolerance() })
    }

    fn signature(&self, content: &[u8]) -> String {
        let tag = match self.scheme.kind {
            Kind::Digest(_) => digest::digest(&digest::SHA256, content).as_ref().to_vec(),
            _ => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), content).as_ref().to_vec(),
        };
        tag.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The request that carries these values; nothing where none can.
    fn request(&self, values: &Values, signature: &str) -> Option<Received> {
        let mut draft = Draft::default();
        for (part, value) in self.scheme.content.parts().iter().zip(&values.parts) {
            draft.place(self, part, value)?;
        }
        for (name, value) in draft.names.clone().iter().zip(&values.named) {
            draft.header(name, value)?;
        }
        match (&self.scheme.syntax, &self.scheme.signature) {
            (Syntax::Pairs { separator, key }, SignatureSource::Headers(names)) => {
                let mut value = draft.fields.clone();
                value.extend_from_slice(format!("{key}={signature}").as_bytes());
                value.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = *separator);
                draft.header(names[0].as_bytes(), &value)?;
            }
            _ => draft.header(b"X-Test-Signature", signature.as_bytes())?,
        }
        for (name, value) in &self.scheme.require {
            draft.header(name.as_bytes(), value.as_bytes())?;
        }
        draft.parse()
    }

    fn accepts(&self, delivery: &Received) -> Result<(), Rejection> {
        let now = Now::at_unix(Duration::from_secs(1_760_000_000));
        let mut check = self.verifier.begin(delivery, now)?;
        check.update(delivery.body());
        self.verifier.finish(check, delivery, now).map(|_| ()).map_err(|(rejection, _)| rejection)
    }

    /// Values as a sender may have them and as it would not, made of pieces that look like the neighbours.
    fn values(&self, random: &mut Random) -> Values {
        let mut values = Values::default();
        let mut names = 0;
        let parts = self.scheme.content.parts();
        for part in parts {
            let value = match part {
                Part::Literal(bytes) => bytes.clone(),
                Part::Secret => SECRET.into(),
                Part::Method => random.of(&["POST", "PUT"]).as_bytes().to_vec(),
                Part::Timestamp => random.of(times(self.scheme.timestamp.as_ref().unwrap().unit)).as_bytes().to_vec(),
                Part::Path => pieces(random, "/", &["a", ".", ":", "/b"]),
                Part::Url | Part::UrlUnescaped => {
                    let path = if self.url.ends_with("/in") { "" } else { "/p" };
                    let query = *random.of(&["", "?", "?t=1", "?a={", "?x[]=1", "?u=1}", "?h.example/"]);
                    [self.url, path, query].concat().into_bytes()
                }
                Part::Field(key) if parts.contains(&Part::NamedHeaders(key.clone())) => {
                    names = 1 + random.below(3);
                    ["x-n1", "x-event-type", "x-n3"][..names].join(" ").into_bytes()
                }
                Part::NamedHeaders(_) => {
                    values.named = (0..names).map(|_| pieces(random, "v", &["a", "b", "1", ".b"])).collect();
                    values.named.join(&b'.')
                }
                Part::Body => {
                    let inner = pieces(random, "", PIECES);
                    let (open, close) = *random.of(&[("{", "}"), ("{", "}"), ("[", "]"), ("", "")]);
                    [open.as_bytes(), &inner, close.as_bytes()].concat()
                }
                Part::SortedFormParams => Vec::new(),
                Part::Sha256Body => random.of(&DIGESTED).1.into(),
                Part::Id | Part::Header(_) | Part::Field(_) | Part::Form(_) | Part::Query(_) => {
                    pieces(random, "x", PIECES)
                }
            };
            values.parts.push(value);
        }
        values
    }

    /// Every way to cut `content` into the parts that some request could carry, up to a number.
    fn cuts(&self, content: &[u8]) -> Vec<Values> {
        let mut found = Vec::new();
        self.cut(content, &mut Values::default(), &mut found);
        found
    }

    fn cut(&self, rest: &[u8], values: &mut Values, found: &mut Vec<Values>) {
        let parts = self.scheme.content.parts();
        let Some(part) = parts.get(values.parts.len()) else {
            if rest.is_empty() && found.len() < 3000 {
                found.extend(self.named_cuts(values));
            }
            return;
        };
        let last = values.parts.len() + 1 == parts.len();
        for end in 0..=rest.len() {
            let (value, after) = rest.split_at(end);
            let possible = match part {
                Part::Literal(bytes) => value == bytes,
                Part::Secret => value == SECRET.as_bytes(),
                Part::Method => !value.is_empty() && value.iter().all(u8::is_ascii_uppercase),
                Part::Timestamp => value.first().is_some_and(u8::is_ascii_digit) && (8..36).contains(&end),
                Part::Path => value.starts_with(b"/"),
                Part::Url | Part::UrlUnescaped => value.starts_with(self.url.as_bytes()),
                _ => true,
            };
            if possible && (!last || after.is_empty()) {
                values.parts.push(value.to_vec());
                self.cut(after, values, found);
                values.parts.pop();
            }
        }
    }

    /// The ways to tell apart the values of named headers, of which the field has the number.
    fn named_cuts(&self, values: &Values) -> Vec<Values> {
        let find = |test: &dyn Fn(&Part) -> bool| self.scheme.content.parts().iter().position(test);
        let Some(at) = find(&|part| matches!(part, Part::NamedHeaders(_))) else { return vec![values.clone()] };
        let Part::NamedHeaders(key) = &self.scheme.content.parts()[at] else { unreachable!() };
        let names = find(&|part| *part == Part::Field(key.clone())).unwrap();
        let count = values.parts[names].split(|byte| *byte == b' ').filter(|name| !name.is_empty()).count();
        let mut ways: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
        for piece in values.parts[at].split(|byte| *byte == b'.') {
            ways = ways
                .into_iter()
                .flat_map(|way| {
                    let mut joined = way.clone();
                    let mut apart = way;
                    apart.push(piece.to_vec());
                    let more = joined.last_mut().map(|last| last.extend_from_slice(&[b".", piece].concat()));
                    [Some(apart), more.map(|()| joined)].into_iter().flatten().collect::<Vec<_>>()
                })
                .collect();
        }
        ways.retain(|way| way.len() == count);
        ways.into_iter().map(|named| Values { named, ..values.clone() }).collect()
    }
}

const PIECES: &[&str] = &[
    "1760000000",
    "1760000000000",
    "2025-10-09T08:53:20Z",
    ".",
    ":",
    "|",
    "\n",
    "v0",
    "a",
    "x-y",
    "1",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "?",
    "&b=2",
    "https://h.example/in?",
    "https://h.example/p?",
    " ",
    ",",
    "POST",
    ";ts:",
    SECRET,
];

/// Bodies with their SHA-256 (`sha256sum`).
const DIGESTED: [(&str, &str); 2] = [
    ("{}", "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"),
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
];

const fn times(unit: Unit) -> &'static [&'static str] {
    match unit {
        Unit::Seconds => &["1760000000", "1760000001", "1000000000"],
        Unit::Milliseconds => &["1760000000000", "1760000000001"],
        Unit::Rfc3339 => &["2025-10-09T08:53:20Z", "2025-10-09T08:53:20.25+02:00", "2025-10-09T08:53:20.1Z"],
    }
}

fn pieces(random: &mut Random, first: &str, from: &[&str]) -> Vec<u8> {
    let mut value = first.as_bytes().to_vec();
    for _ in 0..random.below(5) {
        value.extend_from_slice(random.of(from).as_bytes());
    }
    value
}

/// A request that is being put together.
#[derive(Default)]
struct Draft {
    method: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    lines: Vec<u8>,
    /// Pairs of the signature header; a zero byte stands for the separator.
    fields: Vec<u8>,
    names: Vec<Vec<u8>>,
    json: serde_json::Map<String, serde_json::Value>,
    body: Option<Vec<u8>>,
}

impl Draft {
    fn place(&mut self, case: &Case, part: &Part, value: &[u8]) -> Option<()> {
        let scheme = &case.scheme;
        match part {
            Part::Literal(_) | Part::Secret | Part::NamedHeaders(_) => {}
            Part::Method => self.method = Some(value.to_vec()),
            Part::Path => self.target = Some(value.to_vec()),
            Part::Url | Part::UrlUnescaped => {
                let rest = value.strip_prefix(case.url.as_bytes())?;
                let path: &[u8] = if case.url.ends_with("/in") { b"/other" } else { b"" };
                let fits =
                    if path.is_empty() { rest.starts_with(b"/") } else { matches!(rest.first(), None | Some(b'?')) };
                self.target = Some([path, rest].concat()).filter(|_| fits);
                self.target.as_ref()?;
            }
            Part::Timestamp => self.put(&scheme.timestamp.as_ref()?.source, value)?,
            Part::Id => self.put(scheme.id.as_ref()?, value)?,
            Part::Header(name) => self.header(name.as_bytes(), value)?,
            Part::Field(key) => {
                if scheme.content.contains(&Part::NamedHeaders(key.clone())) {
                    let names = value.split(|byte| *byte == b' ').filter(|name| !name.is_empty());
                    self.names = names.map(<[u8]>::to_vec).collect();
                }
                self.put(&Source::Field(key.clone()), value)?;
            }
            Part::Body => self.body = Some(value.to_vec()),
            Part::Sha256Body => {
                let (body, _) = DIGESTED.iter().find(|(_, digest)| digest.as_bytes() == value)?;
                self.body = Some(body.as_bytes().to_vec());
            }
            Part::Query(name) => {
                let encoded: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
                let target = self.target.take().unwrap_or_else(|| b"/in".to_vec());
                let joint: &[u8] = if target.contains(&b'?') { b"&" } else { b"?" };
                self.target = Some([&target, joint, name.as_bytes(), b"=", encoded.as_bytes()].concat());
            }
            Part::SortedFormParams => self.body = Some(Vec::new()).filter(|_| value.is_empty()),
            Part::Form(name) => {
                let encoded: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
                self.body = Some(format!("{name}={encoded}").into_bytes());
                self.lines.extend_from_slice(b"Content-Type: application/x-www-form-urlencoded\r\n");
            }
        }
        Some(())
    }

    fn put(&mut self, source: &Source, value: &[u8]) -> Option<()> {
        match source {
            Source::Headers(names) => self.header(names[0].as_bytes(), value),
            Source::Field(key) => {
                let text = [key.as_bytes(), b"=", value, b"\0"].concat();
                self.fields.extend_from_slice(&text);
                (!value.contains(&0) && *value == *value.trim_ascii()).then_some(())
            }
            Source::Json(path) => {
                let mut at = &mut self.json;
                let (inner, last) = path.text().rsplit_once('.')?;
                for segment in inner.split('.') {
                    let object = at.entry(segment).or_insert_with(|| serde_json::Map::new().into());
                    at = object.as_object_mut()?;
                }
                at.insert(last.to_owned(), core::str::from_utf8(value).ok()?.into());
                Some(())
            }
        }
    }

    /// A value arrives without the white space around it: it would be another one.
    fn header(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        if value.contains(&b'\n') || *value != *value.trim_ascii() {
            return None;
        }
        self.lines.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
        Some(())
    }

    fn parse(self) -> Option<Received> {
        let json = if self.json.is_empty() { Vec::new() } else { serde_json::to_vec(&self.json).unwrap() };
        let method = self.method.unwrap_or_else(|| b"POST".to_vec());
        let target = self.target.unwrap_or_else(|| b"/in".to_vec());
        let start = [&method, b" ".as_slice(), &target, b" HTTP/1.1\r\nHost: h\r\n"].concat();
        let bytes = [start, self.lines, b"\r\n".to_vec()].concat();
        let mut head = RequestHead::new();
        head.parse(&bytes, LIMITS).ok()?;
        Some(Received { head, bytes, body: self.body.unwrap_or(json) })
    }
}

#[derive(Debug, Default)]
struct Count {
    schemes: usize,
    deliveries: usize,
    cuts: usize,
}

/// Signs `rounds` deliveries, and counts those that were accepted and what else was cut out of them.
fn hold(case: &Case, rounds: usize, random: &mut Random, count: &mut Count) {
    count.schemes += 1;
    for _ in 0..rounds {
        let genuine = case.values(random);
        let content = genuine.parts.concat();
        let signature = case.signature(&content);
        let Some(delivery) = case.request(&genuine, &signature) else { continue };
        if case.accepts(&delivery).is_err() {
            continue;
        }
        count.deliveries += 1;
        let cuts = case.cuts(&content);
        let step = cuts.len() / 64 + 1;
        for other in cuts.iter().skip(random.below(step)).step_by(step).filter(|other| **other != genuine) {
            let Some(delivery) = case.request(other, &signature) else { continue };
            count.cuts += 1;
            let verdict = case.accepts(&delivery);
            assert!(verdict.is_err(), "{}: {} {genuine:#?} {other:#?}", case.scheme.name, case.scheme.content);
        }
    }
}

/// The preset with signatures that this test can make; which bytes they are made of stays as it is.
fn testable(preset: &Scheme) -> Scheme {
    let pairs = matches!(preset.syntax, Syntax::Pairs { .. });
    let single = Syntax::Single { prefix: String::new() };
    Scheme {
        kind: match preset.kind {
            Kind::Digest(_) => Kind::Digest(DigestAlgorithm::Sha256),
            _ => Kind::Hmac(MacAlgorithm::HmacSha256),
        },
        signature: match &preset.signature {
            source if pairs => source.clone(),
            _ => SignatureSource::Headers(vec!["X-Test-Signature".to_owned()]),
        },
        syntax: if pairs { preset.syntax.clone() } else { single },
        encoding: Encoding::Hex,
        secret: KeyForm::default(),
        body_digest: None,
        ..preset.clone()
    }
}

#[test]
fn no_preset_lets_one_signature_vouch_for_two_deliveries() {
    let (mut random, mut count) = (Random(1), Count::default());
    for name in scheme::preset_names() {
        let preset = scheme::preset(name).unwrap();
        // A token has one boundary: its dots, which no part of it can have.
        if !preset.signs() || matches!(preset.kind, Kind::Jws(_)) {
            continue;
        }
        let varying = preset.content.parts().iter().filter(|part| !matches!(part, Part::Literal(_) | Part::Secret));
        let several = varying.count() > 1;
        let before = (count.deliveries, count.cuts);
        for url in URLS {
            let case = Case::new(testable(&preset), url).unwrap_or_else(|| panic!("{name} is refused"));
            hold(&case, if several { 400 } else { 10 }, &mut random, &mut count);
        }
        // A time in the body of one part only, or a form: there is nothing to cut.
        let timed = preset.timestamp.as_ref().is_some_and(|timestamp| matches!(timestamp.source, Source::Json(_)));
        if several {
            assert!(count.deliveries - before.0 >= 40, "{name}: {} deliveries", count.deliveries - before.0);
            // No request carries a line end in a header: where one separates the parts, there is no other cut.
            let lines = preset.content.to_string().contains('\n');
            let cuttable = !lines && preset.content.parts().iter().all(|part| *part != Part::SortedFormParams);
            assert!(count.cuts > before.1 || !cuttable, "{name} was never cut");
        } else {
            assert!(count.deliveries > before.0 || timed, "{name}");
        }
    }
    println!("presets: {count:?}");
    assert!(count.schemes > 120 && count.cuts > 50_000, "{count:?}");
}

/// A scheme of a few tokens, literals between some of them, and perhaps guards.
fn random_scheme(random: &mut Random) -> Scheme {
    const TOKENS: &[&str] = &[
        "{id}",
        "{timestamp}",
        "{header:X-A}",
        "{header:X-B}",
        "{method}",
        "{path}",
        "{url}",
        "{body}",
        "{body}",
        "{form:f}",
        "{query:q}",
        "{query:r}",
        "{sha256:body}",
        "{field:k}",
        "{field:h}{sep}{named_headers:h}",
    ];
    const LITERALS: &[&str] = &["", "", ".", ".", ":", "|", "\n", "v0", " ", ",", "{{"];
    let mut text = random.of(LITERALS).to_string();
    for _ in 0..=1 + random.below(3) {
        let separator = random.of(LITERALS);
        let token = random.of(TOKENS).replace("{sep}", separator);
        text = format!("{text}{token}{}", random.of(LITERALS));
    }
    let content = Template::parse(&text).unwrap();
    let unit = *random.of(&[Unit::Seconds, Unit::Milliseconds, Unit::Rfc3339]);
    let source = |name: &str| {
        let field = Source::Field(name.to_ascii_lowercase());
        let json = Source::Json(JsonPath::parse(&format!("j.{name}")).unwrap());
        let in_head = [Source::Headers(vec![name.to_owned()]), field];
        if content.any(|part| matches!(part, Part::Body | Part::Sha256Body | Part::Form(_))) {
            in_head[0].clone()
        } else {
            json
        }
    };
    let timestamp = TimestampSource { source: source("T"), unit, tolerance: Tolerance::new(Duration::from_secs(300)) };
    let mut guards = Guards::default();
    for part in content.parts() {
        let bytes = ByteSet::of(random.of(&[".", ":", "{", "}", "|", "{["]).as_bytes());
        let guarded =
            !matches!(part, Part::Literal(_) | Part::Body | Part::Sha256Body | Part::Timestamp | Part::Method);
        if guarded && random.below(2) == 0 {
            guards.without.push(Without { part: part.clone(), bytes });
        }
    }
    if content.contains(&Part::Body) {
        guards.begins = random.of(&[None, Some(ByteSet::of(b"{")), Some(ByteSet::of(b"{["))]).to_owned();
        guards.ends = random.of(&[None, None, Some(ByteSet::of(b"}"))]).to_owned();
    }
    if random.below(3) == 0 {
        guards.dotted = Some("x-event-type".to_owned());
    }
    let mut scheme = Scheme::new("random", Kind::Hmac(MacAlgorithm::HmacSha256), "X-Sig", content.clone());
    scheme.id = content.contains(&Part::Id).then(|| source("I"));
    scheme.timestamp = content.contains(&Part::Timestamp).then_some(timestamp);
    scheme.syntax = Syntax::Pairs { separator: b',', key: "v1".to_owned() };
    scheme.guards = guards;
    scheme
}

#[test]
fn no_scheme_that_is_let_through_does_either() {
    let (mut random, mut count) = (Random(2), Count::default());
    let mut refused = 0;
    for _ in 0..30_000 {
        let scheme = random_scheme(&mut random);
        // A request has one target: what stands in two parts cannot be cut independently.
        let has = |part: &Part| scheme.content.contains(part);
        let query = scheme.content.any(|part| matches!(part, Part::Query(_)));
        if has(&Part::Url) && (query || has(&Part::Path)) || query && has(&Part::Path) {
            continue;
        }
        // And one body.
        let form = scheme.content.any(|part| matches!(part, Part::Form(_)));
        if has(&Part::Sha256Body) && (form || has(&Part::Body)) {
            continue;
        }
        let url = URLS[random.below(URLS.len())];
        match Case::new(scheme, url) {
            Some(case) => hold(&case, 8, &mut random, &mut count),
            None => refused += 1,
        }
    }
    println!("random schemes: {count:?}, {refused} refused");
    assert!(count.schemes > 5000 && count.cuts > 20_000 && refused > 10_000, "{count:?}, {refused} refused");
}
