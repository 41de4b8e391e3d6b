//! Handshake tables: those that are built in, and `[handshake.NAME]` of a configuration file. Both are the same text, read
//! by the same code.

use std::sync::{Arc, LazyLock};

use crate::config::document::Document;
use crate::config::reader::Reader;
use crate::gate::verify::challenge::{
    Alphabet, AnswerForm, AnswerText, CHALLENGE_LIMIT, CallProof, Computed, Condition, ConfirmRule, HandshakeCall,
    HandshakeScheme, Slot, Spot, ValueSource,
};
use crate::gate::verify::{Encoding, JsonPath, QueryPin};

/// The text of all handshakes that are built in.
const HANDSHAKES: &str = include_str!("handshakes.toml");

/// No handshake has more calls.
const CALL_LIMIT: usize = 8;

const PROOFS: &[(&str, CallProof)] = &[
    ("signature", CallProof::Signature),
    ("nothing", CallProof::Nothing),
    ("first-call", CallProof::FirstCall),
    ("pairing", CallProof::Pairing),
];

const ENCODINGS: &[(&str, Encoding)] =
    &[("hex", Encoding::Hex), ("base64", Encoding::Base64), ("base64url", Encoding::Base64Url)];

const METHODS: &[(&str, &str)] = &[("GET", "GET"), ("HEAD", "HEAD"), ("OPTIONS", "OPTIONS"), ("POST", "POST")];

static KNOWN: LazyLock<Vec<Arc<HandshakeScheme>>> = LazyLock::new(|| {
    let Ok(document) = Document::parse("handshakes.toml", HANDSHAKES) else { return Vec::new() };
    let root = Reader::root(&document);
    let Some(tables) = root.table("handshake") else { return Vec::new() };
    let named = tables.named_tables().into_iter();
    named.filter_map(|(name, table)| read_handshake(name, &table)).map(Arc::new).collect()
});

/// The handshakes that are built in, in the order of their names.
pub fn handshakes() -> impl Iterator<Item = &'static Arc<HandshakeScheme>> {
    KNOWN.iter()
}

/// A handshake that is built in, by its name.
#[must_use]
pub fn handshake(name: &str) -> Option<Arc<HandshakeScheme>> {
    handshakes().find(|known| known.name == name).cloned()
}

/// The handshake of the sender whose deliveries a preset describes.
#[must_use]
pub fn handshake_of(preset: &str) -> Option<Arc<HandshakeScheme>> {
    handshakes().find(|known| known.senders.iter().any(|sender| sender == preset)).cloned()
}

/// The text of a handshake with the comment above it.
#[must_use]
pub fn handshake_text(name: &str) -> Option<&'static str> {
    let header = format!("[handshake.{name}]");
    HANDSHAKES.split("\n\n").map(str::trim).find(|paragraph| paragraph.lines().any(|line| line == header))
}

/// Reads a handshake table and reports everything that is wrong with it; nothing when anything is.
pub fn read_handshake(name: &str, reader: &Reader<'_>) -> Option<HandshakeScheme> {
    let text = |key: &str| reader.string(key).unwrap_or_default().to_owned();
    let senders = reader.strings("senders").unwrap_or_default().into_iter().map(str::to_owned).collect();
    let (default, bare_refusals) = (reader.bool("default"), reader.bool("bare_refusals"));
    let example = "call = [{ method = \"GET\", value = { query = \"challenge\" }, answer = { text = \"{value}\" } }]";
    reader.require("call", &format!("say which request is answered: {example}"));
    let tables = reader.tables_like("call", example)?;
    if tables.is_empty() || tables.len() > CALL_LIMIT {
        reader.error("call", format!("has {} calls", tables.len()), format!("give from 1 to {CALL_LIMIT}"));
    }
    let mut calls = Vec::new();
    let mut failed = false;
    for table in tables.into_iter().take(CALL_LIMIT) {
        let call = read_call(&table);
        failed |= table.failed() || call.is_none();
        calls.extend(call);
        table.finish();
    }
    if failed {
        reader.mark_failed();
    }
    let handshake = HandshakeScheme {
        name: name.to_owned(),
        description: text("description"),
        status: text("status"),
        senders,
        default: default.unwrap_or_default(),
        bare_refusals: bare_refusals.unwrap_or_default(),
        calls,
    };
    (!reader.failed()).then_some(handshake)
}

fn read_call(table: &Reader<'_>) -> Option<HandshakeCall> {
    table.require("method", "say with which method it comes: \"GET\", \"HEAD\", \"OPTIONS\" or \"POST\"");
    let method = table.choice("method", METHODS);
    let proof = table.choice("proof", PROOFS).unwrap_or(CallProof::Nothing);
    let conditions = table.tables_like("when", "when = [{ query = \"hub.mode\", is = \"subscribe\" }]");
    let when: Vec<Option<Condition>> = conditions.into_iter().flatten().map(read_condition).collect();
    let members = table.strings("members").unwrap_or_default().into_iter().map(str::to_owned).collect();
    let value = table.has("value").then(|| read_value(table));
    let token = table.has("token").then(|| {
        let place = table.table("token")?;
        let spot = read_spot(&place);
        place.finish();
        spot
    });
    let confirm = table.has("confirm").then(|| read_confirm(table));
    table.require("answer", "say what is answered: answer = { text = \"{value}\" }");
    let answer = read_answer(table.table("answer")?);
    let call = HandshakeCall {
        proof,
        method: method?.to_owned(),
        when: when.into_iter().collect::<Option<_>>()?,
        members,
        value: present(value)?,
        token: present(token)?,
        confirm: present(confirm)?,
        answer: answer?,
    };
    check(table, &call);
    Some(call)
}

/// Turns "absent", "present and wrong", "present and right" into an option around the value for the first and last.
fn present<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    read.map_or(Some(None), |value| value.map(Some))
}

/// Refuses what would answer any request, or be made of what there is not.
fn check(table: &Reader<'_>, call: &HandshakeCall) {
    let uses_value = call.answer.uses(&Slot::Value) || call.needs_mac();
    if uses_value && call.value.is_none() {
        table.error("answer", "is made of a value, and the call has none", "add value = { query = \"…\" }");
    }
    if call.confirm.is_some() && call.proof != CallProof::Signature {
        let message = "would let any client choose what is fetched";
        table.error("confirm", message, "add proof = \"signature\"");
    }
    if call.proof == CallProof::Pairing && call.value.is_none() {
        table.error("proof", "a pairing brings a secret, and the call has no value", "add value = { header = \"…\" }");
    }
    if call.method == "POST" && call.when.is_empty() && call.value.is_none() && call.members.is_empty() {
        let message = "every POST would be taken for this call";
        table.error_at(
            table.here(),
            message,
            "say what tells it from a delivery: when = [{ json = \"type\", is = \"…\" }]",
        );
    }
}

/// A URL that is fetched before the call is answered.
fn read_confirm(call: &Reader<'_>) -> Option<ConfirmRule> {
    let table = call.table("confirm")?;
    let spot = read_spot(&table);
    table.require("url", "say what the URL may be: url = \"https://sender.example/?Action=Confirm&\"");
    let texts = table.one_or_more("url").unwrap_or_default();
    let mut pins = Vec::with_capacity(texts.len());
    for text in texts {
        match QueryPin::parse(text) {
            Some(pin) => pins.push(pin),
            None => table.error("url", "pins nothing", "write https://, host, path, and what the query begins with"),
        }
    }
    let sound = !table.failed();
    table.finish();
    if sound { Some(ConfirmRule { spot: spot?, pins }) } else { None }
}

fn read_condition(table: Reader<'_>) -> Option<Condition> {
    let condition = if let Some(body) = table.string("body") {
        Some(Condition::Body(body.to_owned()))
    } else {
        let (is, absent) = (table.string("is"), table.bool("absent"));
        read_spot(&table).map(|spot| match (is, absent) {
            (Some(text), _) => Condition::Is(spot, text.to_owned()),
            (None, Some(true)) => Condition::Absent(spot),
            (None, _) => Condition::Present(spot),
        })
    };
    let sound = !table.failed();
    table.finish();
    sound.then_some(condition).flatten()
}

fn read_spot(table: &Reader<'_>) -> Option<Spot> {
    let name = |key: &str| table.string(key).map(str::to_owned);
    let (query, header, form) = (name("query"), name("header"), name("form"));
    let json = table.string("json").and_then(|text| {
        let path = JsonPath::parse(text);
        if path.is_none() {
            table.error("json", "is not a path of one to eight names", "write it with dots: json = \"event.id\"");
        }
        path
    });
    let spots = [query.map(Spot::Query), header.map(Spot::Header), json.map(Spot::Json), form.map(Spot::Form)];
    let mut spots = spots.into_iter().flatten();
    match (spots.next(), spots.next()) {
        (Some(spot), None) => Some(spot),
        _ => {
            let message = "does not say where it stands, or says more than one place";
            table.error_at(table.here(), message, "give exactly one of query, header, json, form");
            None
        }
    }
}

fn read_value(call: &Reader<'_>) -> Option<ValueSource> {
    let table = call.table("value")?;
    let spot = read_spot(&table);
    let alphabet = table.choice("alphabet", &Alphabet::NAMES).unwrap_or(Alphabet::Text);
    let limit = table.count("limit", 1..=CHALLENGE_LIMIT as u64).unwrap_or(CHALLENGE_LIMIT);
    let sound = !table.failed();
    table.finish();
    if sound { Some(ValueSource { spot: spot?, alphabet, limit }) } else { None }
}

fn read_answer(table: Reader<'_>) -> Option<AnswerForm> {
    let status = table.choice("status", &[("200", 200_u16), ("204", 204)]).unwrap_or(200);
    let text = table.string("text").map(|text| (false, AnswerText::parse(text)));
    let json = table.string("json").map(|text| (true, AnswerText::parse(text)));
    if text.is_some() && json.is_some() || status == 204 && (text.is_some() || json.is_some()) {
        table.error_at(table.here(), "has more than one body, or one with status 204", "keep text or json");
    }
    let mut fields = Vec::new();
    for line in table.strings("headers").unwrap_or_default() {
        match line.split_once(": ") {
            Some((name, value)) if is_token(name) => fields.push((name.to_owned(), AnswerText::parse(value))),
            _ => table.error("headers", "is not a header with its value", "write headers = [\"Name: {value}\"]"),
        }
    }
    let mac = table.choice("mac", ENCODINGS).map(Computed::Mac);
    let sha256 = table.string("sha256").map(|text| Computed::Sha256(AnswerText::parse(text), Encoding::Hex));
    let sound = !table.failed();
    table.finish();
    sound.then(|| AnswerForm { status, fields, body: text.or(json), computed: mac.or(sha256) })
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::config::presets::preset;

    #[test]
    fn every_handshake_reads_without_a_problem() {
        let document = Document::parse("handshakes.toml", HANDSHAKES).unwrap();
        let root = Reader::root(&document);
        let tables = root.table("handshake").unwrap();
        let mut count = 0;
        for (name, table) in tables.named_tables() {
            let read = read_handshake(name, &table);
            table.finish();
            count += usize::from(read.is_some());
            assert_eq!(read.as_ref(), handshake(name).as_deref(), "{name}");
            let read = read.unwrap_or_else(|| panic!("{name}"));
            assert!(!read.description.is_empty() && !read.status.is_empty(), "{name}");
            for sender in &read.senders {
                let scheme = preset(sender).unwrap_or_else(|| panic!("{name}: there is no preset {sender}"));
                assert_eq!(scheme.name, *sender, "{name}: an alias");
                assert!(read.fits(Some(&scheme)), "{name}: {sender}");
                assert!(!read.calls.iter().any(|call| call.may_sign_for_strangers(&scheme)), "{name}: {sender}");
                assert_eq!(handshake_of(sender).unwrap().name, name, "{sender} has two");
            }
            let text = handshake_text(name).unwrap();
            assert!(text.starts_with("# Source: "), "{name}: {text}");
        }
        root.finish();
        assert_eq!(document.into_problems().to_string(), "");
        assert!(count >= 30, "{count}");
        assert_eq!(handshakes().count(), count);
    }

    #[test]
    fn every_mistake_of_a_table_is_reported() {
        for (lines, expected) in [
            ("", "handshake.mine.call: is missing"),
            ("call = []", "handshake.mine.call: has 0 calls"),
            ("call = [{ method = \"PUT\", answer = { text = \"\" } }]", "method"),
            ("call = [{ method = \"POST\", answer = { text = \"a\" } }]", "every POST would be taken"),
            ("call = [{ method = \"GET\", answer = { text = \"{value}\" } }]", "is made of a value"),
            (
                "call = [{ method = \"GET\", value = { query = \"a\", header = \"b\" }, answer = { text = \"\" } }]",
                "exactly one",
            ),
            (
                "call = [{ method = \"GET\", value = { query = \"a\", limit = 8192 }, answer = { text = \"\" } }]",
                "limit",
            ),
            (
                "call = [{ method = \"GET\", value = { query = \"a\" }, answer = { text = \"\", json = \"\" } }]",
                "more than one body",
            ),
            (
                "call = [{ method = \"GET\", value = { query = \"a\" }, answer = { headers = [\"a b: c\"] } }]",
                "is not a header",
            ),
        ] {
            let text = format!("[handshake.mine]\n{lines}\n");
            let document = Document::parse("test.toml", &text).unwrap();
            let root = Reader::root(&document);
            let (name, table) = root.table("handshake").unwrap().named_tables().pop().unwrap();
            assert_eq!(read_handshake(name, &table), None, "{lines}");
            table.finish();
            let problems = document.into_problems().to_string();
            assert!(problems.contains(expected), "{lines}: {problems}");
        }
    }
}
