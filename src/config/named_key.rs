//! `named_key` and `values` of a scheme table, and `values` of a route: what a delivery says about its key, and what only a
//! route knows about what is signed.

use crate::config::reader::Reader;
use crate::gate::verify::{Brings, CertificateRule, JsonPath, KeyLocator, KeyPlace, RouteValue, UrlPin};

/// The most values of a scheme, and of one of them.
const VALUES: usize = 16;

/// Reads `named_key` of a scheme table: `Some(None)` where there is none, and nothing where anything in it is wrong.
pub(super) fn read_named_key(reader: &Reader<'_>) -> Option<Option<KeyLocator>> {
    if !reader.has("named_key") {
        return Some(None);
    }
    let table = reader.table("named_key")?;
    let place = read_place(&table);
    let (brings, pins) = read_pins(&table);
    let names = table.one_or_more("certificate");
    let chain = table.bool("chain").unwrap_or_default();
    let certificate =
        names.map(|names| CertificateRule { names: names.into_iter().map(str::to_owned).collect(), chain });
    if certificate.is_none() && table.has("chain") {
        table.error("chain", "has no meaning without `certificate`", "name the certificate, or remove it");
    }
    let answer = table.string("answer").map(JsonPath::parse);
    if answer == Some(None) {
        table.error("answer", "is not a path of one to eight names", "write it with dots: answer = \"data.publicKey\"");
    }
    let credential = table.choice("credential", &[("bearer", ())]).is_some();
    let sound = !table.failed();
    table.finish();
    if sound {
        Some(Some(KeyLocator { place: place?, brings, pins, certificate, answer: answer.flatten(), credential }))
    } else {
        None
    }
}

fn read_place(table: &Reader<'_>) -> Option<KeyPlace> {
    let header = table.string("header").map(|name| KeyPlace::Header(name.to_owned()));
    let json = table.string("json").and_then(JsonPath::parse).filter(|path| !path.has_each()).map(KeyPlace::Json);
    if header.is_some() == json.is_some() {
        table.error_at(table.here(), "does not say where a delivery names its key", "give one of header, json");
        return None;
    }
    header.or(json)
}

fn read_pins(table: &Reader<'_>) -> (Brings, Vec<UrlPin>) {
    let (brings, key) = if table.has("insert") { (Brings::Name, "insert") } else { (Brings::Url, "url") };
    if table.has("insert") && table.has("url") {
        table.error("url", "has no meaning beside `insert`", "remove one of them");
    }
    table.require(key, "say what the URL may be: url = \"https://keys.sender.example/*.pem\"");
    let texts = table.one_or_more(key).unwrap_or_default();
    let mut pins = Vec::with_capacity(texts.len());
    for text in texts {
        match UrlPin::parse(text) {
            Some(pin) => pins.push(pin),
            None => {
                let fix =
                    "write https://, the host, and a path, with `*` for what differs: letters, digits, `-` and `_`";
                table.error(key, "pins nothing", fix);
            }
        }
    }
    (brings, pins)
}

/// Reads `values` of a scheme table: names alone.
pub(super) fn read_value_names(reader: &Reader<'_>) -> Vec<RouteValue> {
    let names = reader.one_or_more("values").unwrap_or_default();
    names.into_iter().map(|name| RouteValue { name: name.to_owned(), values: Vec::new() }).collect()
}

/// Reads `values = { NAME = "…", NAME = ["…", "…"] }` of a route.
pub(super) fn read_values(reader: &Reader<'_>) -> Option<Vec<RouteValue>> {
    if !reader.has("values") {
        return None;
    }
    let table = reader.table("values")?;
    let mut values = Vec::new();
    for name in table.names() {
        let given: Vec<String> = table.one_or_more(name).unwrap_or_default().into_iter().map(str::to_owned).collect();
        let fit = |text: &String| !text.is_empty() && text.len() <= 1024 && !text.contains(char::is_control);
        if given.is_empty() || given.len() > VALUES || !given.iter().all(fit) {
            table.error(name, "is no value", "write what the sender shows, in one line");
        }
        values.push(RouteValue { name: name.to_owned(), values: given });
    }
    if table.failed() {
        reader.mark_failed();
    }
    table.finish();
    Some(values)
}
