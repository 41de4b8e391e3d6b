//! Scheme tables: `[scheme.NAME]` of a configuration file. Presets are the same text, read by the same code, so that
//! whatever a preset can say a user can say too.

use core::time::Duration;
use std::sync::LazyLock;

use crate::config::guard::read_guards;
use crate::config::named_key::{read_named_key, read_value_names};
use crate::config::reader::Reader;
use crate::config::section::limits::BODY_SIZE;
use crate::config::token::{TOKEN_ALGORITHMS, read_keys_url, read_token};
use crate::gate::verify::{
    BodyDigest, DigestAlgorithm, Encoding, EqualBytes, JsonPath, KeyEncoding, KeyForm, Kind, MacAlgorithm,
    PublicAlgorithm, Scheme, SignatureSource, SignedBody, Source, Syntax, TOKENS, TOLERANCE_LIMIT, Template,
    TimestampSource, ToldApart, Tolerance, Unit, UrlPort,
};

/// The tolerance of a scheme that does not say its own.
const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

const SIGNATURE_ALGORITHMS: [(&str, Kind); 22] = [
    ("hmac-sha1", Kind::Hmac(MacAlgorithm::HmacSha1)),
    ("hmac-sha256", Kind::Hmac(MacAlgorithm::HmacSha256)),
    ("hmac-sha384", Kind::Hmac(MacAlgorithm::HmacSha384)),
    ("hmac-sha512", Kind::Hmac(MacAlgorithm::HmacSha512)),
    ("sha1", Kind::Digest(DigestAlgorithm::Sha1)),
    ("sha256", Kind::Digest(DigestAlgorithm::Sha256)),
    ("sha384", Kind::Digest(DigestAlgorithm::Sha384)),
    ("sha512", Kind::Digest(DigestAlgorithm::Sha512)),
    ("ed25519", Kind::Public(PublicAlgorithm::Ed25519)),
    ("ecdsa-p256-sha256", Kind::Public(PublicAlgorithm::EcdsaP256Sha256)),
    ("ecdsa-p384-sha384", Kind::Public(PublicAlgorithm::EcdsaP384Sha384)),
    ("rsa-pkcs1-sha1", Kind::Public(PublicAlgorithm::RsaPkcs1Sha1)),
    ("rsa-pkcs1-sha256", Kind::Public(PublicAlgorithm::RsaPkcs1Sha256)),
    ("rsa-pkcs1-sha384", Kind::Public(PublicAlgorithm::RsaPkcs1Sha384)),
    ("rsa-pkcs1-sha512", Kind::Public(PublicAlgorithm::RsaPkcs1Sha512)),
    ("rsa-pss-sha256", Kind::Public(PublicAlgorithm::RsaPssSha256)),
    ("rsa-pss-sha384", Kind::Public(PublicAlgorithm::RsaPssSha384)),
    ("rsa-pss-sha512", Kind::Public(PublicAlgorithm::RsaPssSha512)),
    ("ecdsa-p256-sha256-fixed", Kind::Public(PublicAlgorithm::EcdsaP256Sha256Fixed)),
    ("ecdsa-p384-sha384-fixed", Kind::Public(PublicAlgorithm::EcdsaP384Sha384Fixed)),
    ("token", Kind::Token),
    ("basic", Kind::Basic),
];

static ALGORITHMS: LazyLock<Vec<(&str, Kind)>> =
    LazyLock::new(|| SIGNATURE_ALGORITHMS.into_iter().chain(TOKEN_ALGORITHMS).collect());

const ENCODINGS: &[(&str, Encoding)] = &[
    ("hex", Encoding::Hex),
    ("base64", Encoding::Base64),
    ("base64url", Encoding::Base64Url),
    ("base64-of-hex", Encoding::Base64OfHex),
];

/// What `content_encoding` of a scheme or a route says about compressed bodies.
pub(super) const SIGNED_BODIES: &[(&str, SignedBody)] =
    &[("as-received", SignedBody::AsReceived), ("decoded", SignedBody::Decoded)];

const HASHES: &[(&str, DigestAlgorithm)] = &[
    ("sha1", DigestAlgorithm::Sha1),
    ("sha256", DigestAlgorithm::Sha256),
    ("sha384", DigestAlgorithm::Sha384),
    ("sha512", DigestAlgorithm::Sha512),
];

const KEY_ENCODINGS: &[(&str, KeyEncoding)] = &[
    ("raw", KeyEncoding::Raw),
    ("base64", KeyEncoding::Encoded(Encoding::Base64)),
    ("base64url", KeyEncoding::Encoded(Encoding::Base64Url)),
    ("hex", KeyEncoding::Encoded(Encoding::Hex)),
];

const UNITS: &[(&str, Unit)] = &[
    ("s", Unit::Seconds),
    ("ms", Unit::Milliseconds),
    ("rfc3339", Unit::Rfc3339),
    ("http-date", Unit::HttpDate),
    ("iso8601", Unit::Iso8601),
];

const URL_PORTS: &[(&str, UrlPort)] = &[("as-configured", UrlPort::AsConfigured), ("either", UrlPort::Either)];

/// The name in a scheme table of what makes a delivery genuine.
#[must_use]
pub fn algorithm_name(kind: Kind) -> &'static str {
    ALGORITHMS.iter().find(|(_, known)| *known == kind).map_or("", |(name, _)| name)
}

/// Reads a scheme table and reports everything that is wrong with it; nothing when anything is.
pub fn read_scheme(name: &str, reader: &Reader<'_>) -> Option<Scheme> {
    let description = reader.string("description").unwrap_or_default().to_owned();
    let status = reader.string("status").unwrap_or_default().to_owned();
    let handshake = reader.string("handshake").unwrap_or_default().to_owned();
    let retries = reader.string("retries").unwrap_or_default().to_owned();
    reader.require("algorithm", "say how the sender signs, for instance algorithm = \"hmac-sha256\"");
    let kind = reader.choice("algorithm", &ALGORITHMS);
    let content = read_content(reader);
    let signature = read_signature(reader, kind);
    let timestamp = reader.has("timestamp").then(|| read_timestamp(reader));
    let id = reader.has("id").then(|| read_id(reader));
    let secret = read_secret(reader);
    let require = read_require(reader);
    let body_digest = read_body_digest(reader);
    let equal_bytes = reader.choice("equal_bytes", &EqualBytes::NAMES);
    let url_port = reader.choice("url_port", URL_PORTS).unwrap_or_default();
    let body_size = reader.size("body_size", BODY_SIZE);
    let allow_length_extension = reader.bool("allow_length_extension").unwrap_or_default();
    let guards = read_guards(reader);
    let keys_url = read_keys_url(reader, "keys_url");
    let token = read_token(reader);
    let named_key = read_named_key(reader);
    let values = read_value_names(reader);
    let json_form = reader.string("json_form").map(str::to_owned);
    let signed_body = reader.choice("content_encoding", SIGNED_BODIES).unwrap_or_default();
    let (signature, syntax, encoding) = signature?;
    let scheme = Scheme {
        name: name.to_owned(),
        description,
        status,
        handshake,
        retries,
        kind: kind?,
        content: content?,
        signature,
        syntax,
        encoding,
        timestamp: present(timestamp)?,
        id: present(id)?,
        secret: secret?,
        require: require?,
        body_digest: body_digest?,
        equal_bytes: equal_bytes.unwrap_or_default(),
        url_port,
        body_size,
        allow_length_extension,
        guards: guards?,
        keys_url,
        named_key: named_key?,
        values,
        token: token?,
        json_form,
        signed_body,
    };
    if equal_bytes.is_some() && !matches!(scheme.told_apart(), ToldApart::Bytes(_)) {
        let message = "has no effect: only where a signature covers neither an id nor a time, equal bytes matter";
        reader.warning("equal_bytes", message, "remove it");
    }
    if allow_length_extension && !scheme.is_open_to_length_extension() {
        let message = "has no effect: the signature is not open to length extension";
        reader.warning("allow_length_extension", message, "remove it");
    }
    let problems = scheme.validate();
    for problem in &problems {
        reader.error(problem.field, problem.message.clone(), problem.fix.clone());
    }
    (problems.is_empty() && !reader.failed()).then_some(scheme)
}

/// Turns "absent", "present and wrong", "present and right" into an option around the value for the first and last.
fn present<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    read.map_or(Some(None), |value| value.map(Some))
}

fn read_content(reader: &Reader<'_>) -> Option<Template> {
    let Some(text) = reader.string("content") else {
        return (!reader.has("content")).then(Template::default);
    };
    match Template::parse(text) {
        Ok(template) => Some(template),
        Err(error) => {
            reader.error("content", error.to_string(), format!("the tokens are {TOKENS}"));
            None
        }
    }
}

type Read = (SignatureSource, Syntax, Encoding);

fn read_signature(reader: &Reader<'_>, kind: Option<Kind>) -> Option<Read> {
    if kind == Some(Kind::Basic) && !reader.has("signature") {
        let source = SignatureSource::Headers(vec!["Authorization".to_owned()]);
        return Some((source, Syntax::Single { prefix: String::new() }, Encoding::Base64));
    }
    reader.require("signature", "say where it stands, for instance signature = { header = \"X-Signature\" }");
    let table = reader.table("signature")?;
    let source = read_signature_source(&table);
    let prefix = table.string("prefix").unwrap_or_default().to_owned();
    let separator = read_mark(&table, "separator");
    let keys = table.one_or_more("key");
    let groups = read_mark(&table, "groups");
    let first = table.count("first", 0..=8);
    let behind = read_mark(&table, "behind");
    let encoding = table.choice("encoding", ENCODINGS);
    if kind.is_some_and(|kind| !matches!(kind, Kind::Token | Kind::Basic | Kind::Jws(_))) {
        table.require(
            "encoding",
            "say how the bytes of the signature are written: \"hex\", \"base64\" or \"base64url\"",
        );
    }
    for (name, wanted) in [("groups", "key"), ("behind", "first"), ("first", "separator")] {
        if table.has(name) && !table.has(wanted) {
            table.error(name, format!("has no meaning without `{wanted}`"), format!("add `{wanted}`, or remove it"));
        }
    }
    for other in ["key", "first"].into_iter().filter(|other| table.has(other) && !prefix.is_empty()) {
        table.error("prefix", format!("has no meaning beside `{other}`"), "remove one of them");
    }
    if table.has("key") && table.has("first") {
        table.error("first", "has no meaning beside `key`", "remove one of them");
    }
    let syntax = match (keys, first, separator) {
        (Some(keys), _, separator) => {
            let keys = keys.into_iter().map(str::to_owned).collect();
            Syntax::Pairs { separator: separator.unwrap_or(b','), keys, groups }
        }
        (None, Some(first), Some(separator)) => Syntax::Items { separator, first, behind },
        (None, _, Some(separator)) => Syntax::List { separator, prefix },
        (None, _, None) => Syntax::Single { prefix },
    };
    let sound = !table.failed();
    table.finish();
    if sound { Some((source?, syntax, encoding.unwrap_or(Encoding::Hex))) } else { None }
}

/// One ASCII character.
fn read_mark(table: &Reader<'_>, key: &str) -> Option<u8> {
    let text = table.string(key)?;
    if text.len() != 1 {
        table.error(key, "is not one ASCII character", format!("write for instance {key} = \",\""));
    }
    text.bytes().next()
}

fn read_signature_source(table: &Reader<'_>) -> Option<SignatureSource> {
    let headers = read_headers(table);
    let json = read_path(table);
    let form = table.string("form").map(str::to_owned);
    let query = table.string("query").map(str::to_owned);
    let body = table.bool("body").unwrap_or_default().then_some(SignatureSource::Body);
    only_one(table, &["header", "json", "form", "query", "body"])?;
    (headers.map(SignatureSource::Headers))
        .or(json.map(SignatureSource::Json))
        .or(form.map(SignatureSource::Form))
        .or(query.map(SignatureSource::Query))
        .or(body)
}

fn read_timestamp(reader: &Reader<'_>) -> Option<TimestampSource> {
    let table = reader.table("timestamp")?;
    let source = read_source(&table);
    table.require("unit", "say how it is written: \"s\", \"ms\", \"rfc3339\", \"iso8601\" or \"http-date\"");
    let unit = table.choice("unit", UNITS);
    let limit = Duration::from_secs(1)..=TOLERANCE_LIMIT;
    let tolerance = Tolerance::new(table.duration("tolerance", limit).unwrap_or(DEFAULT_TOLERANCE));
    let sound = !table.failed();
    table.finish();
    if sound { Some(TimestampSource { source: source?, unit: unit?, tolerance }) } else { None }
}

fn read_id(reader: &Reader<'_>) -> Option<Source> {
    let table = reader.table("id")?;
    let source = read_source(&table);
    table.finish();
    source
}

fn read_source(table: &Reader<'_>) -> Option<Source> {
    let headers = read_headers(table);
    let field = table.string("field").map(str::to_owned);
    let json = read_path(table);
    let form = table.string("form").map(str::to_owned);
    let query = table.string("query").map(str::to_owned);
    let claim = table.string("claim").map(str::to_owned);
    only_one(table, &["header", "field", "json", "form", "query", "claim"])?;
    (headers.map(Source::Headers))
        .or(field.map(Source::Field))
        .or(json.map(Source::Json))
        .or(form.map(Source::Form))
        .or(query.map(Source::Query))
        .or(claim.map(Source::Claim))
}

fn read_headers(table: &Reader<'_>) -> Option<Vec<String>> {
    let names = table.one_or_more("header")?;
    Some(names.into_iter().map(str::to_owned).collect())
}

fn read_path(table: &Reader<'_>) -> Option<JsonPath> {
    let path = JsonPath::parse(table.string("json")?);
    if path.is_none() {
        table.error(
            "json",
            "is not a path of one to eight names",
            "write it with dots, for instance json = \"event.id\"",
        );
    }
    path
}

fn only_one(table: &Reader<'_>, places: &[&str]) -> Option<()> {
    let given = places.iter().filter(|place| table.has(place)).count();
    if given != 1 {
        let message = if given == 0 { "does not say where it stands" } else { "stands in more than one place" };
        table.error_at(table.here(), message, format!("give exactly one of {}", places.join(", ")));
        return None;
    }
    Some(())
}

fn read_secret(reader: &Reader<'_>) -> Option<KeyForm> {
    if !reader.has("secret") {
        return Some(KeyForm::default());
    }
    let table = reader.table("secret")?;
    let encoding = table.choice("encoding", KEY_ENCODINGS).unwrap_or(KeyEncoding::Raw);
    let prefixes = table.one_or_more("strip_prefix").unwrap_or_default();
    let strip_prefix = prefixes.into_iter().filter(|prefix| !prefix.is_empty()).map(str::to_owned).collect();
    let append = table.string("append").unwrap_or_default().to_owned();
    let hashed = table.choice("hashed", HASHES);
    let sound = !table.failed();
    table.finish();
    sound.then_some(KeyForm { encoding, strip_prefix, append, hashed })
}

fn read_require(reader: &Reader<'_>) -> Option<Vec<(String, String)>> {
    let Some(lines) = reader.one_or_more("require") else {
        return (!reader.has("require")).then(Vec::new);
    };
    let mut require = Vec::with_capacity(lines.len());
    for line in lines {
        match line.split_once(": ") {
            Some((name, value)) if !name.is_empty() => require.push((name.to_owned(), value.trim().to_owned())),
            _ => {
                reader.error("require", "is not a header with its value", "write require = [\"Name: value\"]");
                return None;
            }
        }
    }
    Some(require)
}

fn read_body_digest(reader: &Reader<'_>) -> Option<Option<BodyDigest>> {
    if !reader.has("body_digest") {
        return Some(None);
    }
    let table = reader.table("body_digest")?;
    table.require("query", "name the query parameter with the hexadecimal SHA-256 of the body");
    let query = table.string("query").map(str::to_owned);
    table.finish();
    query.map(|query| Some(BodyDigest { query }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::config::document::Document;

    fn problems(text: &str) -> Vec<String> {
        let document = Document::parse("test.toml", text).unwrap();
        let root = Reader::root(&document);
        for (name, table) in root.table("scheme").unwrap().named_tables() {
            assert_eq!(read_scheme(name, &table), None);
            table.finish();
        }
        root.finish();
        document
            .into_problems()
            .iter()
            .map(|p| format!("{} {}: {}", p.place.line, p.place.key_path, p.message))
            .collect()
    }

    #[test]
    fn every_mistake_of_a_table_is_reported() {
        let found = problems(
            "[scheme.mine]\nalgorithm = \"hmac-sha257\"\ncontent = \"{bdy}\"\n\
             signature = { header = \"X\", json = \"y\" }\ntimestamp = { header = \"T\" }\nrequire = [\"x\"]\nsecrets = 1\n",
        );
        for expected in [
            "2 scheme.mine.algorithm",
            "3 scheme.mine.content",
            "4 scheme.mine.signature",
            "5 scheme.mine.timestamp.unit",
            "6 scheme.mine.require",
            "7 scheme.mine.secrets",
        ] {
            assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected} in {found:#?}");
        }
    }

    #[test]
    fn a_digest_that_can_be_extended_is_accepted_in_so_many_words_only() {
        let read = |lines: &str| {
            let text = format!(
                "[scheme.mine]\nsignature = {{ header = \"S\", encoding = \"hex\" }}\n\
                 timestamp = {{ header = \"T\", unit = \"s\" }}\n{lines}\n"
            );
            let document = Document::parse("test.toml", &text).unwrap();
            let root = Reader::root(&document);
            let (name, table) = root.table("scheme").unwrap().named_tables().pop().unwrap();
            let scheme = read_scheme(name, &table);
            table.finish();
            let warnings = scheme.as_ref().map(Scheme::warnings).unwrap_or_default();
            let warnings: String = warnings.iter().map(|it| it.message).collect();
            (scheme.is_some(), warnings, document.into_problems().to_string())
        };
        const ALLOWED: &str = "\nallow_length_extension = true";
        for content in ["{secret}{timestamp}{body}", "v1{secret}{timestamp}{body}", "{timestamp}.{secret}{body}"] {
            let lines = format!("algorithm = 'sha256'\ncontent = '{content}'");
            let (read_it, _, problems) = read(&lines);
            assert!(!read_it && problems.contains("scheme.mine.content: the content does not end with"), "{problems}");
            assert!(problems.contains("accept it with allow_length_extension = true"), "{problems}");
            let (read_it, warnings, problems) = read(&(lines + ALLOWED));
            assert!(read_it && warnings.contains("open to length extension") && problems.is_empty(), "{problems}");
        }
        for lines in [
            "algorithm = 'sha1'\ncontent = '{body}{timestamp}{secret}'",
            "algorithm = 'sha256'\ncontent = '{timestamp}.{body}{secret}.end'",
            "algorithm = 'hmac-sha256'\ncontent = '{timestamp}.{body}'",
        ] {
            let (read_it, warnings, problems) = read(lines);
            assert!(read_it && problems.is_empty() && !warnings.contains("length extension"), "{problems}");
            let (_, _, problems) = read(&format!("{lines}{ALLOWED}"));
            assert!(problems.contains("mine.allow_length_extension: has no effect"), "{problems}");
        }
    }

    #[test]
    fn a_form_that_is_signed_alone_is_warned_about() {
        let scheme = |content: &str| {
            let content = Template::parse(content).unwrap();
            Scheme::new("mine", Kind::Hmac(MacAlgorithm::HmacSha1), "S", content)
                .warnings()
                .iter()
                .map(|it| it.message)
                .collect::<String>()
        };
        assert!(scheme("{sorted_form_params}").contains("passes on every other route"));
        assert!(!scheme("{url}{sorted_form_params}").contains("passes on every other route"));
    }

    #[test]
    fn what_is_readable_and_unsafe_is_refused() {
        let cases = [
            ("content = \"{body}\"\ntimestamp = { header = \"T\", unit = \"s\" }", "timestamp", "proves nothing"),
            ("content = \"{id}.{body}\"", "id", "nothing says where"),
            ("content = \"{timestamp}.{body}\"", "timestamp", "nothing says where"),
            ("content = \"{header:A}{header:B}.{body}\"", "content", "cannot be told apart"),
            ("content = \"{header:A}{body}\"", "content", "cannot be told apart"),
            (
                "content = \"{timestamp}{timestamp}{body}\"\ntimestamp = { header = \"T\", unit = \"s\" }",
                "content",
                "more than once",
            ),
            ("content = \"{body}{secret}\"", "content", "plain digests only"),
            ("content = \"fixed\"", "content", "nothing of the request"),
            (
                "content = \"{timestamp}.{body}\"\ntimestamp = { field = \"t\", unit = \"s\" }",
                "timestamp",
                "made of pairs",
            ),
            ("content = \"{body}\"\nbody_digest = { query = \"d\" }", "body_digest", "not signed"),
        ];
        for (lines, field, message) in cases {
            let text = format!(
                "[scheme.mine]\nalgorithm = \"hmac-sha256\"\nsignature = {{ header = \"S\", encoding = \"hex\" }}\n{lines}\n"
            );
            let found = problems(&text);
            let start = format!("scheme.mine.{field}");
            assert!(found.iter().any(|p| p.contains(&start) && p.contains(message)), "{lines}: {found:#?}");
        }
    }
}
