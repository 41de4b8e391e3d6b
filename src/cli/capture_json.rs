//! Captures that describe a request in JSON: the event of a function behind a gateway, an entry of a HAR file, a line of a
//! log. Only what has header fields and the text of the body is read.

use serde_json::{Map, Value};

use crate::explain::quoted;
use crate::gate::verify::Encoding;

use super::capture_described::{DescribedRequest, OtherForm, WANTED, target_of};

/// Longer documents are not read: a value takes several times its text.
const LONGEST: usize = 16 << 20;
/// Requests stand no deeper in what tools write.
const DEEPEST: usize = 6;

/// Reads the one request of a document, or of a line.
///
/// # Errors
/// A sentence for the user.
pub(super) fn read(text: &[u8]) -> Result<OtherForm, String> {
    if text.len() > LONGEST {
        return Err(format!("the capture is JSON of more than {} MiB, and no HTTP request: {WANTED}", LONGEST >> 20));
    }
    let mut found = Vec::new();
    let mut documents = 0;
    for document in serde_json::Deserializer::from_slice(text).into_iter::<Value>() {
        let document = document
            .map_err(|_| format!("the capture begins like JSON and is none, and no HTTP request either: {WANTED}"))?;
        documents += 1;
        requests(&document, DEEPEST, &mut found);
    }
    // A page has many requests, and a sender of webhooks sends POST.
    if found.len() > 1 {
        found.retain(|request| method(request).is_none_or(|method| !["GET", "HEAD", "OPTIONS"].contains(&method)));
    }
    match found.as_slice() {
        [] if documents == 1 => Err(format!(
            "the capture is JSON, and no HTTP request: is it the body alone? The header fields are needed as well: {WANTED}"
        )),
        [] => Err(format!("the capture is JSON without header fields, and no HTTP request: {WANTED}")),
        [request] => {
            let (form, described) = described(request)?;
            Ok(OtherForm::Read(form, described.written()?))
        }
        many => Err(format!("the capture is JSON with {} requests: keep the one of the delivery alone", many.len())),
    }
}

/// The objects that have header fields; none inside of another.
fn requests(value: &Value, depth: usize, found: &mut Vec<Map<String, Value>>) {
    if depth == 0 {
        return;
    }
    match value {
        Value::Object(members) => {
            let has = |name: &str| members.get(name).is_some_and(|it| it.is_object() || it.is_array());
            // The response of a HAR entry has header fields as well.
            let is_response = members.contains_key("statusText") && !members.contains_key("method");
            if (has("headers") || has("multiValueHeaders") || has("rawHeaders")) && !is_response {
                found.push(members.clone());
                return;
            }
            let others = members.iter().filter(|(name, _)| !["response", "res"].contains(&name.as_str()));
            others.for_each(|(_, member)| requests(member, depth - 1, found));
        }
        Value::Array(items) => items.iter().for_each(|item| requests(item, depth - 1, found)),
        _ => {}
    }
}

fn text<'v>(request: &'v Map<String, Value>, path: &[&str]) -> Option<&'v str> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(request.get(*first)?, |value, name| value.get(name))?.as_str()
}

fn first_text<'v>(request: &'v Map<String, Value>, paths: &[&[&str]]) -> Option<&'v str> {
    paths.iter().find_map(|path| text(request, path)).filter(|text| !text.is_empty())
}

const METHODS: [&[&str]; 5] =
    [&["httpMethod"], &["method"], &["requestContext", "http", "method"], &["requestContext", "httpMethod"], &["verb"]];
const TARGETS: [&[&str]; 7] = [
    &["rawPath"],
    &["requestContext", "http", "path"],
    &["originalUrl"],
    &["url"],
    &["uri"],
    &["path"],
    &["requestContext", "path"],
];
const BODIES: [&[&str]; 5] = [&["rawBody"], &["body"], &["postData", "text"], &["requestBody"], &["payload"]];

fn method(request: &Map<String, Value>) -> Option<&str> {
    first_text(request, &METHODS)
}

/// The request, and what the document is.
fn described(request: &Map<String, Value>) -> Result<(String, DescribedRequest), String> {
    let (mut form, mut told) = (form_of(request).to_owned(), Vec::new());
    let method = method(request).unwrap_or_else(|| {
        told.push("no method: taken as POST");
        "POST"
    });
    let target = first_text(request, &TARGETS).map(target_of).unwrap_or_else(|| {
        told.push("no path: taken as /");
        "/".to_owned()
    });
    let target = with_query(request, target, &mut told);
    let headers = headers(request)?;
    let body = body(request)?;
    if !told.is_empty() {
        form = format!("{form} ({})", told.join(", "));
    }
    Ok((form, DescribedRequest { method: method.to_ascii_uppercase(), target, headers, body }))
}

fn form_of(request: &Map<String, Value>) -> &'static str {
    if request.contains_key("isBase64Encoded") || request.contains_key("requestContext") {
        return "an event of a gateway for functions (AWS API Gateway, Lambda)";
    }
    if request.contains_key("postData") || request.contains_key("headersSize") {
        return "an entry of a HAR file";
    }
    "JSON with the header fields and the body of a request"
}

/// The query, where the path has none.
fn with_query(request: &Map<String, Value>, target: String, told: &mut Vec<&'static str>) -> String {
    if target.contains('?') {
        return target;
    }
    if let Some(query) = text(request, &["rawQueryString"]).filter(|query| !query.is_empty()) {
        return format!("{target}?{query}");
    }
    let single = request.get("queryStringParameters").and_then(Value::as_object);
    let several = request.get("multiValueQueryStringParameters").and_then(Value::as_object);
    let mut pairs = Vec::new();
    for (name, value) in several.or(single).into_iter().flatten() {
        for value in value.as_array().map_or_else(|| vec![value], |all| all.iter().collect()) {
            pairs.extend(value.as_str().map(|value| format!("{}={}", escaped(name), escaped(value))));
        }
    }
    if pairs.is_empty() {
        return target;
    }
    told.push("its query is decoded: written again, perhaps in another order");
    format!("{target}?{}", pairs.join("&"))
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

/// The fields, in any of the forms in which tools write them.
fn headers(request: &Map<String, Value>) -> Result<Vec<(String, String)>, String> {
    let found = ["multiValueHeaders", "headers", "rawHeaders"].iter().filter_map(|name| request.get(*name));
    let mut found = found.filter(|value| value.as_object().is_some_and(|it| !it.is_empty()) || value.is_array());
    let mut fields = Vec::new();
    match found.next() {
        Some(Value::Object(members)) => {
            for (name, value) in members {
                let values = value.as_array().map_or_else(|| vec![value], |all| all.iter().collect());
                fields.extend(values.into_iter().filter_map(|value| Some((name.clone(), plain(value)?))));
            }
        }
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            let (pairs, _) = texts.as_chunks::<2>();
            fields.extend(pairs.iter().map(|[name, value]| ((*name).to_owned(), (*value).to_owned())));
        }
        Some(Value::Array(items)) => {
            for item in items {
                let pair = match item {
                    Value::Array(pair) => pair.first().zip(pair.get(1)),
                    item => item.get("name").or_else(|| item.get("key")).zip(item.get("value")),
                };
                fields.extend(pair.and_then(|(name, value)| Some((name.as_str()?.to_owned(), plain(value)?))));
            }
        }
        _ => {}
    }
    if fields.is_empty() {
        return Err(format!("the capture is JSON whose header fields cannot be read: {WANTED}"));
    }
    Ok(fields)
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The bytes of the body.
fn body(request: &Map<String, Value>) -> Result<Vec<u8>, String> {
    let place = BODIES.iter().find_map(|path| {
        let (first, rest) = path.split_first()?;
        let value = rest.iter().try_fold(request.get(*first)?, |value, name| value.get(name))?;
        (!value.is_null()).then_some((path.join("."), value))
    });
    let Some((name, value)) = place else { return Ok(Vec::new()) };
    let Some(text) = value.as_str() else {
        return Err(format!(
            "the capture is JSON that has the body as a parsed value (`{}`), and not its bytes, which are what is signed: log the \
             raw body",
            quoted(name)
        ));
    };
    let encoded = request.get("isBase64Encoded").and_then(Value::as_bool) == Some(true)
        || self::text(request, &["postData", "encoding"]) == Some("base64");
    if !encoded {
        return Ok(text.as_bytes().to_vec());
    }
    let mut out = vec![0; text.len() + 3];
    let length = Encoding::Base64.decode_key_into(text.as_bytes(), &mut out);
    let length = length.ok_or("the capture says that the body is base64, and it is none")?;
    out.truncate(length);
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[track_caller]
    fn assert_reads(text: &str, form: &str, expected: &str) {
        let OtherForm::Read(found, bytes) = read(text.as_bytes()).unwrap() else { panic!("it is read") };
        assert!(found.contains(form), "{found}");
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn requests_in_json_are_read() {
        assert_reads(
            r#"{"httpMethod":"POST","path":"/a","queryStringParameters":{"b":"c d"},"headers":{"X-S":"1"},"body":"e30=","isBase64Encoded":true}"#,
            "AWS API Gateway",
            "POST /a?b=c%20d HTTP/1.1\r\nX-S: 1\r\nContent-Length: 2\r\n\r\n{}",
        );
        assert_reads(
            r#"{"version":"2.0","rawPath":"/a","rawQueryString":"b=c","requestContext":{"http":{"method":"POST"}},"headers":{"x-s":"1","content-length":"2"},"body":"{}","isBase64Encoded":false}"#,
            "AWS API Gateway",
            "POST /a?b=c HTTP/1.1\r\ncontent-length: 2\r\nx-s: 1\r\n\r\n{}",
        );
        assert_reads(
            r#"{"log":{"entries":[{"request":{"method":"GET","url":"https://h/","headers":[]}},{"request":{"method":"POST","url":"https://h/a","headers":[{"name":":method","value":"POST"},{"name":"X-S","value":"1"}],"postData":{"text":"{\n}"}},"response":{"headers":[]}}]}}"#,
            "HAR",
            "POST /a HTTP/1.1\r\nX-S: 1\r\nContent-Length: 3\r\n\r\n{\n}",
        );
        assert_reads(
            "{\"level\":\"info\",\"req\":{\"headers\":{\"x-s\":[\"1\",\"2\"]},\"body\":\"{}\"}}\n",
            "no method: taken as POST, no path: taken as /",
            "POST / HTTP/1.1\r\nx-s: 1\r\nx-s: 2\r\nContent-Length: 2\r\n\r\n{}",
        );
    }

    #[test]
    fn what_lacks_the_bytes_is_named() {
        for (text, what) in [
            ("{\"a\":1}", "is it the body alone?"),
            ("{\"a\":", "begins like JSON and is none"),
            ("{\"headers\":{\"a\":\"b\"},\"body\":{\"c\":1}}", "as a parsed value (`body`)"),
            ("{\"headers\":{\"a\":{}}}", "cannot be read"),
            ("{\"headers\":{\"a\":\"b\"}}\n{\"headers\":{\"a\":\"c\"}}", "2 requests"),
            ("{\"headers\":{\"a\":\"b\\r\\nc\"}}", "has a line break"),
            ("{\"headers\":{\"a\":\"b\"},\"body\":\"?\",\"isBase64Encoded\":true}", "it is none"),
        ] {
            let why = read(text.as_bytes()).map(drop).unwrap_err();
            assert!(why.contains(what), "{why}");
        }
    }
}
