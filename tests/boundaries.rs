//! One signature is one delivery: whatever is cut differently out of the bytes that were signed is refused.
//!
//! A delivery is made, signed, and accepted. Then its signed bytes are cut into the parts of the content in every other
//! way that a request can carry, under the same signature. None of these may be accepted: for all presets, and for every
//! random scheme that the rules let through. Tolerances only observe, so that no clock helps. A form of Twilio's is not
//! cut: there is one way too many by design, and `Scheme::warnings` says so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use core::time::Duration;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::config::presets;
use countersign::gate::verify::{
    ByteSet, Delivery, DigestAlgorithm, Encoding, Exactly, Guards, JsonPath, Key, KeyForm, Keyring, Kind, MacAlgorithm,
    Part, PublicUrl, Scheme, SignatureSource, SignedBody, Source, Syntax, Template, TimestampSource, Tolerance, Unit,
    Validity, Verifier, Without,
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

    /// Whether the secret stands between other parts.
    fn secret_is_inside(&self) -> bool {
        let at = self.scheme.content.parts().iter().position(|part| *part == Part::Secret);
        at.is_some_and(|at| at > 0 && at + 1 < self.scheme.content.parts().len())
    }

    fn length_of(&self, part: &Part) -> Option<usize> {
        self.scheme.guards.exactly.iter().find(|guard| guard.part == *part).map(|guard| guard.length)
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
            (Syntax::Pairs { separator, .. } | Syntax::Items { separator, .. }, SignatureSource::Headers(names)) => {
                let mut value = draft.fields.clone();
                let key = match &self.scheme.syntax {
                    Syntax::Pairs { keys, .. } => format!("{}=", keys[0]),
                    _ => String::new(),
                };
                value.extend_from_slice(format!("{key}{signature}").as_bytes());
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
                Part::Target => pieces(random, "/", &["a", ".", ":", "/b", "?", "?t=1", "&u={"]),
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
                Part::HashedBody(algorithm, encoding) => {
                    encoded(*encoding, &hash(*algorithm, random.of(&DIGESTED).as_bytes()))
                }
                Part::Checksum => random.of(&CHECKSUMS).as_bytes().to_vec(),
                Part::JsonLines(_) | Part::Route(_) => Vec::new(),
                Part::SortedForm(_) => pieces(random, "a=1", &["&b=2", "&c=a=1", "&d=.", "&e=1760000000"]),
                Part::Id | Part::Header(_) | Part::Field(_) | Part::Form(_) | Part::Query(_) | Part::Json { .. } => {
                    match self.length_of(part) {
                        Some(length) => pieces(random, "x", PIECES).into_iter().cycle().take(length).collect(),
                        None => pieces(random, "x", PIECES),
                    }
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
        if found.len() >= 3000 {
            return;
        }
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
                Part::Timestamp => value.first().is_some_and(u8::is_ascii_alphanumeric) && (8..36).contains(&end),
                Part::Path | Part::Target => value.starts_with(b"/"),
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

/// Bodies of which a digest is signed.
const DIGESTED: [&str; 2] = ["{}", ""];
/// Their checksums.
const CHECKSUMS: [&str; 2] = ["2745614147", "0"];

fn hash(algorithm: DigestAlgorithm, bytes: &[u8]) -> Vec<u8> {
    let algorithm = match algorithm {
        DigestAlgorithm::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        DigestAlgorithm::Sha256 => &digest::SHA256,
        DigestAlgorithm::Sha384 => &digest::SHA384,
        DigestAlgorithm::Sha512 => &digest::SHA512,
    };
    digest::digest(algorithm, bytes).as_ref().to_vec()
}

fn encoded(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Hex => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes(),
        _ => STANDARD.encode(bytes).into_bytes(),
    }
}

const fn times(unit: Unit) -> &'static [&'static str] {
    match unit {
        Unit::Seconds => &["1760000000", "1760000001", "1000000000"],
        Unit::Milliseconds => &["1760000000000", "1760000000001"],
        Unit::Iso8601 => &["2025-10-09T08:53:20", "2025-10-09T08:53:20.551", "2025-10-09T08:53:20.5"],
        Unit::HttpDate => &["Thu, 09 Oct 2025 08:53:20 GMT", "Thu, 09 Oct 2025 08:53:21 GMT"],
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
            Part::Path | Part::Target => self.target = Some(value.to_vec()),
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
            Part::HashedBody(algorithm, encoding) => {
                let is = |body: &&&str| encoded(*encoding, &hash(*algorithm, body.as_bytes())) == value;
                self.body = Some(DIGESTED.iter().find(is)?.as_bytes().to_vec());
            }
            Part::Checksum => {
                let at = CHECKSUMS.iter().position(|checksum| checksum.as_bytes() == value)?;
                self.body = Some(DIGESTED[at].as_bytes().to_vec());
            }
            Part::JsonLines(_) | Part::Route(_) => return None,
            Part::SortedForm(_) => {
                let mut pairs = Vec::new();
                for pair in value.split(|byte| *byte == b'&') {
                    let at = pair.iter().position(|byte| *byte == b'=')?;
                    let percent = |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
                    pairs.push(format!("{}={}", percent(&pair[..at]), percent(&pair[at + 1..])));
                }
                self.body = Some(pairs.join("&").into_bytes());
                self.lines.extend_from_slice(b"Content-Type: application/x-www-form-urlencoded\r\n");
            }
            Part::Json { path, .. } => self.put(&Source::Json(path.clone()), value)?,
            Part::Query(name) => self.query(name, value),
            Part::SortedFormParams => self.body = Some(Vec::new()).filter(|_| value.is_empty()),
            Part::Form(name) => self.put(&Source::Form(name.clone()), value)?,
        }
        Some(())
    }

    fn query(&mut self, name: &str, value: &[u8]) {
        let encoded: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
        let target = self.target.take().unwrap_or_else(|| b"/in".to_vec());
        let joint: &[u8] = if target.contains(&b'?') { b"&" } else { b"?" };
        self.target = Some([&target, joint, name.as_bytes(), b"=", encoded.as_bytes()].concat());
    }

    fn put(&mut self, source: &Source, value: &[u8]) -> Option<()> {
        match source {
            Source::Headers(names) => self.header(names[0].as_bytes(), value),
            Source::Field(key) => {
                let items = key.parse::<usize>().is_ok();
                let (name, equals): (&[u8], &[u8]) = if items { (b"", b"") } else { (key.as_bytes(), b"=") };
                let text = [name, equals, value, b"\0"].concat();
                self.fields.extend_from_slice(&text);
                (!value.contains(&0) && *value == *value.trim_ascii()).then_some(())
            }
            Source::Json(path) => {
                let mut at = &mut self.json;
                // Of a path into an array this makes an object whose keys are numbers: the reader takes both.
                let text = path.text().trim_start_matches('/').replace('/', ".");
                let (inner, last) = text.rsplit_once('.').map_or(("", text.as_str()), |(inner, last)| (inner, last));
                for segment in inner.split('.').filter(|segment| !segment.is_empty()) {
                    let object = at.entry(segment).or_insert_with(|| serde_json::Map::new().into());
                    at = object.as_object_mut()?;
                }
                at.insert(last.to_owned(), core::str::from_utf8(value).ok()?.into());
                Some(())
            }
            Source::Form(name) => {
                let encoded: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
                let mut body = self.body.take().unwrap_or_default();
                if body.is_empty() {
                    self.lines.extend_from_slice(b"Content-Type: application/x-www-form-urlencoded\r\n");
                } else {
                    body.push(b'&');
                }
                body.extend_from_slice(format!("{name}={encoded}").as_bytes());
                self.body = Some(body);
                Some(())
            }
            Source::Query(name) => {
                self.query(name, value);
                Some(())
            }
            // Of tokens, which are not made here.
            Source::Claim(_) => None,
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

/// Accepted deliveries of one scheme after which it has been tried enough.
const ENOUGH: usize = 75;

/// Signs up to `rounds` deliveries, until [`ENOUGH`] were accepted, and counts those and what else was cut out of them.
fn hold(case: &Case, rounds: usize, random: &mut Random, count: &mut Count) {
    count.schemes += 1;
    let before = count.deliveries;
    for _ in 0..rounds {
        if count.deliveries - before == ENOUGH {
            break;
        }
        let genuine = case.values(random);
        let content = genuine.parts.concat();
        // To move the secret one has to have it.
        if case.secret_is_inside() && content.windows(SECRET.len()).filter(|at| *at == SECRET.as_bytes()).count() > 1 {
            continue;
        }
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
    let headers = matches!(preset.signature, SignatureSource::Headers(_));
    let pairs = headers && matches!(preset.syntax, Syntax::Pairs { .. } | Syntax::Items { behind: None, .. });
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
        named_key: None,
        json_form: None,
        signed_body: SignedBody::AsReceived,
        ..preset.clone()
    }
}

#[test]
fn no_preset_lets_one_signature_vouch_for_two_deliveries() {
    let (mut random, mut count) = (Random(1), Count::default());
    for name in presets::preset_names() {
        let preset = support::with_values(&presets::preset(name).unwrap());
        // A token has one boundary: its dots, which no part of it can have. Lines of fields have a test of their own.
        let lines = preset.content.any(|part| matches!(part, Part::JsonLines(_)));
        if !preset.signs() || lines || matches!(preset.kind, Kind::Jws(_)) {
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
            assert!(count.deliveries - before.0 >= 10, "{name}: {} deliveries", count.deliveries - before.0);
            // No request carries a line end in a header: where one separates the parts, there is no other cut.
            let lines = preset.content.to_string().contains('\n');
            // So few bodies have a checksum of their own here that no cut has one.
            let whole = |part: &Part| {
                matches!(part, Part::SortedFormParams | Part::SortedForm(_) | Part::Secret | Part::Checksum)
            };
            let cuttable = !lines && !preset.content.any(whole);
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
        "{target}",
        "{url}",
        "{body}",
        "{body}",
        "{form:f}",
        "{query:q}",
        "{query:r}",
        "{sha256:body}",
        "{sha1-base64:body}",
        "{json:j.a}",
        "{json:/j/b}",
        "{json?:j.c}",
        "{sorted_form:=&}",
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
    let unit = *random.of(&Unit::ALL);
    let source = |name: &str| {
        let field = Source::Field(name.to_ascii_lowercase());
        let json = Source::Json(JsonPath::parse(&format!("j.{name}")).unwrap());
        let in_head = [Source::Headers(vec![name.to_owned()]), field];
        if content.any(|part| matches!(part, Part::Body | Part::HashedBody(..) | Part::Form(_) | Part::SortedForm(_))) {
            in_head[0].clone()
        } else {
            json
        }
    };
    let timestamp = TimestampSource { source: source("T"), unit, tolerance: Tolerance::new(Duration::from_secs(300)) };
    let mut guards = Guards::default();
    for part in content.parts() {
        let bytes = ByteSet::of(random.of(&[".", ":", "{", "}", "|", "{["]).as_bytes());
        let guarded = !matches!(
            part,
            Part::Literal(_) | Part::Body | Part::HashedBody(..) | Part::SortedForm(_) | Part::Timestamp | Part::Method
        );
        let measured = matches!(part, Part::Id | Part::Header(_) | Part::Query(_) | Part::Field(_) | Part::Json { .. });
        if measured && random.below(4) == 0 {
            guards.exactly.push(Exactly { part: part.clone(), length: 3 + random.below(4) });
            continue;
        }
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
    scheme.syntax = Syntax::pairs(b',', "v1");
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
        let targets = [Part::Url, Part::Path, Part::Target].iter().filter(|part| has(part)).count();
        if targets + usize::from(query) > 1 {
            continue;
        }
        // And one body.
        let kind = |test: fn(&Part) -> bool| usize::from(scheme.content.any(test));
        let bodies = kind(|part| matches!(part, Part::Form(_)))
            + kind(|part| matches!(part, Part::SortedForm(_)))
            + kind(|part| matches!(part, Part::Json { .. }))
            + kind(|part| matches!(part, Part::HashedBody(..)))
            + kind(|part| *part == Part::Body);
        let hashed = scheme.content.parts().iter().filter(|part| matches!(part, Part::HashedBody(..))).count();
        if bodies > 1 || hashed > 1 {
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
