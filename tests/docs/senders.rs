//! The pages of `docs/senders`: one for each built-in scheme, made of its data, and the list of all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use countersign::config::handshake::handshake_of;
use countersign::config::presets::{aliases, preset, preset_names, preset_text};
use countersign::config::ranges::built_in;
use countersign::config::scheme::algorithm_name;
use countersign::config::units::{show_duration, show_size};
use countersign::gate::verify::{
    CallProof, Encoding, EqualBytes, HandshakeCall, HandshakeScheme, KeyEncoding, Kind, Scheme, SignatureSource,
    Source, Syntax, ToldApart,
};
use toml::de::DeTable;

use super::{read, root};

const FOLDER: &str = "docs/senders";
const HOST: &str = "https://hooks.example.com";
const MADE: &str = "Made of the data of the built-in schemes; `BLESS=1 cargo test --test docs` writes it.";

/// Deliveries that need more than a JSON body: the scheme, and the arguments of `countersign sign`.
const FORM: &str = "--header 'Content-Type: application/x-www-form-urlencoded' --body 'payload=%7B%7D'";
const TRIED_WITH: [(&str, &str); 13] = [
    ("quicknode", "-H 'X-QN-Nonce: n1' --body '{\"hello\":\"world\"}'"),
    ("sinch", "-H 'x-sinch-webhook-signature-nonce: n1' --body '{\"hello\":\"world\"}'"),
    ("lark", "-H 'X-Lark-Request-Nonce: n1' --body '{\"hello\":\"world\"}'"),
    ("gitea-form", FORM),
    ("forgejo-form", FORM),
    ("gogs-form", FORM),
    ("twilio", FORM),
    ("mandrill", FORM),
    ("linear", r#"--body "{\"webhookTimestamp\":$(date +%s)000}""#),
    ("pusher", r#"--body "{\"time_ms\":$(date +%s)000}""#),
    (
        "plain",
        r#"--body "{\"id\":\"evt_1\",\"webhookMetadata\":{\"webhookDeliveryAttemptTimestamp\":\"$(date -u +%Y-%m-%dT%H:%M:%SZ)\"}}""#,
    ),
    (
        "twilio-json",
        "--url \"https://hooks.example.com/webhooks/twilio-json?bodySHA256=$(printf '{}' | sha256sum | cut -d ' ' -f 1)\" --body '{}'",
    ),
    ("mercado-pago", "--id msg_1 --url 'http://127.0.0.1:8080/webhooks/mercado-pago?data.id=1' --body '{}'"),
];

/// What is known of where the URL and the secret are entered.
fn setups() -> BTreeMap<String, String> {
    let text = read("docs/senders/setup.toml");
    let table = DeTable::parse(&text).unwrap();
    let sentence = |value: &toml::de::DeValue<'_>| value.as_str().expect("a sentence").to_owned();
    table.get_ref().iter().map(|(name, value)| (name.get_ref().to_string(), sentence(value.get_ref()))).collect()
}

/// The description without what stands in brackets of explanation.
fn title(scheme: &Scheme) -> &str {
    scheme.description.trim_start_matches("Generic: ")
}

fn encoding(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Hex => "hexadecimal",
        Encoding::Base64 => "base64",
        Encoding::Base64Url => "base64url",
        Encoding::Base64OfHex => "base64 of hexadecimal digits",
    }
}

fn ticked(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

/// Where the signature stands, and how it is written.
fn signature(scheme: &Scheme) -> String {
    if scheme.kind == Kind::Basic {
        return "header `Authorization`: `Basic` with user and password".to_owned();
    }
    let mut text = match &scheme.signature {
        SignatureSource::Headers(names) => format!("header {}", ticked(names)),
        SignatureSource::Json(path) => format!("field `{}` of the JSON body", path.text()),
        SignatureSource::Form(name) => format!("field `{name}` of the form"),
        SignatureSource::Query(name) => format!("parameter `{name}` of the URL"),
        SignatureSource::Body => "the whole body".to_owned(),
    };
    if let Kind::Jws(_) = scheme.kind {
        text += ", a JSON Web Token";
    } else if scheme.signs() {
        text += ", ";
        text += encoding(scheme.encoding);
    }
    match &scheme.syntax {
        Syntax::Single { prefix } if prefix.is_empty() => {}
        Syntax::Single { prefix } => text += &format!(" after `{}`", prefix.trim_end()),
        Syntax::List { prefix, .. } => text += &format!("; a list, of which the items with `{prefix}` count"),
        Syntax::Pairs { keys, .. } => {
            text += &format!("; pairs, of which `{}=` is the signature", keys.join("=` or `"))
        }
        Syntax::Items { first, .. } => {
            text += &format!("; a list, whose items from place {} on are signatures", first + 1)
        }
    }
    text
}

fn place(source: &Source) -> String {
    match source {
        Source::Headers(names) => format!("header {}", ticked(names)),
        Source::Field(key) => format!("`{key}=` in the signature header"),
        Source::Json(path) => format!("field `{}` of the JSON body", path.text()),
        Source::Form(name) => format!("field `{name}` of the form"),
        Source::Query(name) => format!("parameter `{name}` of the URL"),
        Source::Claim(name) => format!("claim `{name}` of the token"),
    }
}

fn time(scheme: &Scheme) -> String {
    match &scheme.timestamp {
        None => "none".to_owned(),
        Some(it) if scheme.signs_timestamp() => format!(
            "{}, signed; at most {} away from the clock",
            place(&it.source),
            show_duration(it.tolerance.distance())
        ),
        Some(it) => format!("{}, not signed: it does not count", place(&it.source)),
    }
}

fn id(scheme: &Scheme) -> String {
    match &scheme.id {
        None => "none".to_owned(),
        Some(source) if scheme.signs_id() => format!("{}, signed", place(source)),
        Some(source) => format!("{}, not signed: shown, and not used against replays", place(source)),
    }
}

/// Whether a copy is kept from the application by default, and why.
fn replays(scheme: &Scheme) -> &'static str {
    match scheme.told_apart() {
        ToldApart::Id => "on: deliveries with the same signed id are one delivery",
        ToldApart::Time => "on: deliveries with the same signed time and bytes are one delivery",
        ToldApart::Bytes(EqualBytes::OneEvent) => "on: each body names its event, so equal bytes are one delivery",
        ToldApart::Bytes(EqualBytes::TwoEvents) => {
            "off: neither an id nor a time is signed, and two events can have equal bytes"
        }
        ToldApart::Bytes(EqualBytes::Unknown) => {
            "off: neither an id nor a time is signed, and whether two events can have equal bytes is not known. \
             `replay.mode = \"enforce\"` turns it on"
        }
        ToldApart::Nothing => "off: nothing is signed that tells two deliveries apart",
    }
}

/// What the sender's secret is, and how it comes into the file.
fn secret(scheme: &Scheme) -> String {
    let name = &scheme.name;
    if let Some(url) = &scheme.keys_url {
        return format!(
            "There is none: the sender publishes its keys at <{url}>, and they are [fetched](../tokens.md)."
        );
    }
    if let Some(locator) = &scheme.named_key {
        let pins: Vec<String> = locator.pins.iter().map(|pin| format!("`{pin}`")).collect();
        return format!(
            "There is none: each delivery names the URL of its key. It is [fetched](../tokens.md#keys-that-a-delivery-names) only from {}{}.",
            pins.join(" and "),
            if locator.credential {
                ", with your API key, which you write to the file that the route names"
            } else {
                ""
            }
        );
    }
    if scheme.wants_public_key() {
        return format!(
            "The sender signs with a key of its own. Write the public key that it shows you to `secrets/{name}.pub`: PEM, JWK, base64 \
             or hexadecimal."
        );
    }
    let prefixes = scheme.secret.strip_prefix.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(" or ");
    let form = match scheme.secret.encoding {
        _ if scheme.kind == Kind::Basic => "The secret is `user:password`.".to_owned(),
        KeyEncoding::Encoded(Encoding::Hex) => "The secret is written in hexadecimal digits.".to_owned(),
        KeyEncoding::Encoded(it) if prefixes.is_empty() => format!("The secret is written in {}.", encoding(it)),
        KeyEncoding::Encoded(it) => format!("The secret is written in {}, after {prefixes}.", encoding(it)),
        KeyEncoding::Raw if !prefixes.is_empty() => format!("The secret may begin with {prefixes}."),
        KeyEncoding::Raw => String::new(),
    };
    format!(
        "{form}{}`countersign init {name}` makes one of 32 random bytes in `secrets/{name}` and shows it once. If the sender shows \
         you a secret of its own, write that one into the file, as it is shown.",
        if form.is_empty() { "" } else { " " }
    )
}

/// The route, as `countersign init` writes it.
fn route(scheme: &Scheme) -> String {
    let name = &scheme.name;
    let mut text = format!("[[route]]\nname = \"{name}\"\npath = \"/webhooks/{name}\"\nscheme = \"{name}\"\n");
    if scheme.signs_url() {
        let _ = writeln!(text, "public_url = \"{HOST}/webhooks/{name}\"");
    }
    if let Some(size) = scheme.body_size {
        let _ = writeln!(text, "body_size = \"{}\"", show_size(size));
    }
    if !scheme.token.route_claims.is_empty() {
        let claims: Vec<String> =
            scheme.token.route_claims.iter().map(|claim| format!("{claim} = \"replace-me\"")).collect();
        text += "# What the token of the sender must say (docs/tokens.md).\n";
        let _ = writeln!(text, "claims = {{ {} }}", claims.join(", "));
    }
    if !scheme.values.is_empty() {
        let values: Vec<String> =
            scheme.values.iter().map(|value| format!("{} = \"replace-me\"", value.name)).collect();
        text += "# What only you know of what is signed (docs/tokens.md).\n";
        let _ = writeln!(text, "values = {{ {} }}", values.join(", "));
    }
    if scheme.named_key.as_ref().is_some_and(|locator| locator.credential) {
        text += "# The API key by which the sender shows you its public keys (docs/tokens.md).\n";
        let _ = writeln!(text, "key_credential_file = \"secrets/{name}-api-key\"");
    }
    if scheme.keys_url.is_some() || scheme.named_key.is_some() {
        return text;
    }
    let (list, file) = if scheme.wants_public_key() { ("public_keys", ".pub") } else { ("secrets", "") };
    let _ = writeln!(text, "{list} = [{{ id = \"1\", file = \"secrets/{name}{file}\" }}]");
    text
}

/// Schemes with several fields in the body, or with forms, that one command does not make.
const NOT_TRIED: [&str; 4] = ["braintree", "mailgun-routes", "microsoft-graph", "plivo"];

/// The command that sends one genuine delivery to a process on this host; none where only the sender can make one.
fn trial(scheme: &Scheme) -> Option<String> {
    let name = &scheme.name;
    let address = format!("http://127.0.0.1:8080/webhooks/{name}");
    if scheme.wants_public_key() || scheme.signature == SignatureSource::Body || NOT_TRIED.contains(&name.as_str()) {
        return None;
    }
    if let SignatureSource::Json(path) = &scheme.signature {
        let is_token = scheme.kind == Kind::Token;
        return is_token.then(|| {
            format!(
                "curl -i -H 'Content-Type: application/json' --data \"{{\\\"{}\\\":\\\"$(cat secrets/{name})\\\"}}\" {address}",
                path.text()
            )
        });
    }
    let id = if scheme.signs_id() { "--id msg_1 " } else { "" };
    let special = TRIED_WITH.iter().find(|(it, _)| it == name).map(|(_, arguments)| (*arguments).to_owned());
    let arguments = special.unwrap_or_else(|| format!("{id}--body '{{\"hello\":\"world\"}}'"));
    let local = if scheme.signs_url() { format!(" | sed 's#{HOST}#http://127.0.0.1:8080#'") } else { String::new() };
    Some(format!("countersign sign --route {name} {arguments} --format curl{local} | sh"))
}

fn handshake(scheme: &Scheme) -> String {
    if let Some(known) = handshake_of(&scheme.name) {
        return answered(&scheme.name, &known);
    }
    let asked = &scheme.handshake;
    if asked.is_empty() {
        return "None is known.".to_owned();
    }
    let what = if asked.starts_with("signed POST") {
        "It is signed as a delivery is, so it is verified and forwarded, and your application answers it."
    } else {
        "What is not signed needs a route of its own, or is refused: [which one](../senders.md)."
    };
    format!("{}.\n{what}", asked.trim_end_matches('.'))
}

/// How a handshake is answered here.
fn answered(name: &str, known: &HandshakeScheme) -> String {
    let any = |needs: &dyn Fn(&HandshakeCall) -> bool| known.calls.iter().any(needs);
    let mut text = format!("{}.\n", known.description);
    if known.has(CallProof::Pairing) {
        text += &format!(
            "`countersign pair {name}` opens a window in which it is answered, and its secret written into `secrets/{name}`, which \
             need not be there before ([how](../handshakes.md#a-request-that-brings-the-secret))."
        );
        return text;
    }
    let only_first = known.calls.iter().all(|call| call.proof == CallProof::FirstCall);
    text += if only_first {
        "`first_calls = true` on the route answers it, until the webhook is registered"
    } else if any(&HandshakeCall::needs_token) {
        "countersign answers it where the route has `challenge_tokens`"
    } else if known.default {
        "countersign answers it; the application sees nothing of it"
    } else {
        "countersign answers it where the route says `challenge = true`"
    };
    text += " ([handshakes](../handshakes.md)).";
    if known.has(CallProof::FirstCall) && !only_first {
        text += " What is not signed of it needs `first_calls = true`.";
    }
    text
}

/// What a token covers.
fn signed_by_token(scheme: &Scheme) -> String {
    let mut covered = vec!["the token".to_owned()];
    covered.extend(
        scheme.token.body_digest.as_ref().map(|it| format!("the body, by its digest in the claim `{}`", it.claim)),
    );
    covered.extend(scheme.token.query_hash.as_ref().map(|it| format!("method, path and query, by the claim `{it}`")));
    let nothing = scheme.token.body_digest.is_none() && scheme.signature != SignatureSource::Body;
    covered.join("; ") + if nothing { "; not the body" } else { "" }
}

/// The page of one scheme.
fn page(scheme: &Scheme, setup: Option<&String>) -> String {
    let name = &scheme.name;
    let mut page = format!("# {}\n\n`scheme = \"{name}\"`", title(scheme));
    let others: Vec<String> =
        aliases().filter(|(_, preset)| preset == name).map(|(alias, _)| format!("`{alias}`")).collect();
    if !others.is_empty() {
        page += &format!(", also called {}", others.join(", "));
    }
    page += &format!(". Confirmed by: `{}` ([what that means](../schemes.md)). {MADE}\n", scheme.status);
    let url =
        if scheme.signs_url() { " The URL is signed: it must be the one of `public_url`, byte for byte." } else { "" };
    page += &format!(
        "\n## Set up\n\n1. **Secret.** {}\n2. **At the sender** enter `{HOST}/webhooks/{name}`, with the name of your host.{url} {}\n\
         3. **The route:**\n\n   ```toml\n{}   ```\n\n4. **Handshake of a new endpoint:** {}\n",
        secret(scheme),
        setup.map_or("Its own documentation says where.", String::as_str),
        route(scheme).lines().map(|line| format!("   {line}\n")).collect::<String>(),
        handshake(scheme).replace('\n', "\n   "),
    );
    let init = if scheme.signs_url() { format!(" --public-url {HOST}/webhooks/{name}") } else { String::new() };
    page += &format!(
        "\n## Try it\n\nThe application listens on port 9000; `init` writes a configuration with this route.\n\n```console\n\
         $ countersign init {name}{init} --to 127.0.0.1:9000\n$ countersign run\n```\n\n"
    );
    page += &match trial(scheme) {
        Some(command) => format!("In another terminal, in the same folder:\n\n```console\n$ {command}\n```\n"),
        None if scheme.wants_public_key() => {
            "Only the sender can make a genuine delivery: let it send a test event. The request id of one that is refused is in the \
             access log; `countersign explain REQUEST-ID` says why.\n"
                .to_owned()
        }
        None if scheme.signature == SignatureSource::Body => format!(
            "The token is the whole body: `countersign sign --route {name} --body '{{}}'` prints one, to be sent as it is.\n"
        ),
        None => format!(
            "The signature stands in the body: `countersign sign --route {name} --body-file FILE` prints it, to be put into the file.\n"
        ),
    };
    let retries = if scheme.retries.is_empty() {
        "Whether it sends a delivery again is not known.".to_owned()
    } else {
        format!("Retries, and how long an answer may take where that is known: {}.", scheme.retries)
    };
    page += &format!(
        "\n## When it sends again\n\n{retries}\n\nA delivery that the application has not answered with 2xx is forwarded \
         again when it comes again. Replay protection is {}.\n",
        replays(scheme)
    );
    page += &networks(name);
    page += &format!(
        "\n## What is verified\n\n| | |\n|---|---|\n| algorithm | `{}` |\n| signature | {} |\n",
        algorithm_name(scheme.kind),
        signature(scheme)
    );
    if let Kind::Jws(_) = scheme.kind {
        page += &format!("| signed | {} |\n", signed_by_token(scheme));
    } else if scheme.signs() {
        page += &format!("| signed | `{}` |\n", scheme.content.to_string().replace('|', "\\|").replace('\n', "\\n"));
    } else {
        page += "| signed | nothing: the body is not authenticated |\n";
    }
    page += &format!("| time | {} |\n| id | {} |\n", time(scheme), id(scheme));
    page += &format!(
        "\n`countersign schemes {name}`, to be copied into a scheme of your own:\n\n```toml\n{}\n```\n",
        preset_text(name).unwrap().trim_end()
    );
    page
}

/// From where the sender says that it calls.
fn networks(name: &str) -> String {
    let sandbox = format!("{name}-");
    let is_of = |known: &str| {
        known == name || known.strip_prefix(&sandbox).is_some_and(|rest| ["eu", "sandbox"].contains(&rest))
    };
    let known: Vec<String> = built_in().iter().map(|it| it.name.clone()).filter(|known| is_of(known)).collect();
    if known.is_empty() {
        return String::new();
    }
    let allow: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
    format!(
        "\n## Where it calls from\n\nThe sender publishes its networks. `allow = [{}]` on the route lets in no other client \
         ([networks of senders](../ranges.md)).\n",
        allow.join(", ")
    )
}

/// The list of all pages.
fn list() -> String {
    let mut list = format!(
        "# Senders: a page for each built-in scheme\n\n{MADE} Where a sender has its settings is in [setup.toml](setup.toml), from \
         memory and not tested: menus move.\n\
         How senders ask whether a URL is yours: [handshakes](../senders.md). What the columns mean: [schemes](../schemes.md).\n\n\
         | scheme | sender | kind | confirmed by | replay protection by default |\n|---|---|---|---|---|\n"
    );
    for scheme in preset_names().filter_map(preset) {
        let on = if scheme.told_apart().equal_is_the_same_event() { "on" } else { "off" };
        let _ = writeln!(
            list,
            "| [`{0}`]({0}.md) | {1} | {2} | {3} | {on} |",
            scheme.name,
            scheme.description,
            algorithm_name(scheme.kind),
            scheme.status
        );
    }
    list += "\n## Other names\n\nSenders that sign as another one does, and other names of one sender.\n\n| name | scheme |\n|---|---|\n";
    for (alias, name) in aliases() {
        let _ = writeln!(list, "| `{alias}` | [`{name}`]({name}.md) |");
    }
    list
}

#[test]
fn every_sender_has_its_page() {
    let mut setups = setups();
    let mut pages: BTreeMap<String, String> = BTreeMap::from([("README.md".to_owned(), list())]);
    for scheme in preset_names().filter_map(preset) {
        let setup = setups.remove(&scheme.name);
        pages.insert(format!("{}.md", scheme.name), page(&scheme, setup.as_ref()));
    }
    assert!(setups.is_empty(), "docs/senders/setup.toml names no scheme with {:?}", setups.keys());
    let folder = root().join(FOLDER);
    let there = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let there: Vec<String> = there.filter(|name| name.ends_with(".md")).collect();
    if std::env::var_os("BLESS").is_some() {
        there
            .iter()
            .filter(|name| !pages.contains_key(*name))
            .for_each(|name| fs::remove_file(folder.join(name)).unwrap());
        pages.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        return;
    }
    let differs = |name: &str, text: &str| fs::read_to_string(folder.join(name)).unwrap_or_default() != *text;
    let mut wrong: Vec<&str> =
        pages.iter().filter(|(name, text)| differs(name, text)).map(|(name, _)| name.as_str()).collect();
    wrong.extend(there.iter().filter(|name| !pages.contains_key(*name)).map(String::as_str));
    assert!(wrong.is_empty(), "{FOLDER} is not as the presets have it: BLESS=1 cargo test --test docs; {wrong:?}");
}
