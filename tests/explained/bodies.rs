//! Mistakes that happen to bodies: what was signed, and what has come.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::mistakes::{Kind, kind};
use crate::senders::{Making, hex};

/// Bodies of different shapes, with `#` for a number. All of them begin and end as objects do, as some senders ask.
pub(crate) const BODIES: [&str; 4] = [
    r##"{"id":"evt_#","type":"order.paid","data":{"name":"Zoë Müller","total":"12.50","tags":["a","b"],"note":null},"created":17000#}"##,
    r##"{"zone":"eu-#","event":{"kind":"push","ref":"refs/heads/main","commits":[{"sha":"#a","by":"ann"},{"sha":"#b","by":"bob"}]},"attempt":1}"##,
    r##"{"type":"invoice","object":{"url":"https://shop.example/i/#?a=1&b=2","title":"<b>It's</b> 5 > 3","paid":true},"n":#}"##,
    r##"{"webhookId":#,"resource":"contact","changes":[{"field":"email","from":"a@example.com","to":"é@example.com"}],"ok":false}"##,
];

pub(crate) fn body(number: u32) -> String {
    BODIES[number as usize % BODIES.len()].replace('#', &(1000 + number).to_string())
}

/// What has come, and what was signed; `#` is a number.
fn pair(it: &mut Making, signed: &str, arrived: &str) -> bool {
    let number = (it.now % 9973 + 1000).to_string();
    it.signed_body = signed.replace('#', &number).into_bytes();
    it.body = arrived.replace('#', &number).into_bytes();
    it.sender.content.contains("{b}")
}

fn arrived(it: &mut Making, change: impl Fn(&str) -> String) -> bool {
    let text = String::from_utf8(it.signed_body.clone()).unwrap();
    it.body = change(&text).into_bytes();
    it.body != it.signed_body && it.sender.content.contains("{b}")
}

fn numbers(text: &str) -> String {
    text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",")
}

fn percent(text: &str, plain: &str, space: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b' ' => out.push_str(space),
            byte if byte.is_ascii_alphanumeric() || plain.as_bytes().contains(&byte) => out.push(char::from(byte)),
            byte => write!(out, "%{byte:02X}").unwrap(),
        }
        out
    })
}

/// Senders that refuse bodies that are no objects before they hash them.
fn any_text(it: &Making) -> bool {
    it.sender.content.contains("{b}") && !it.sender.content.contains("{u}")
}

/// With its spaces and colons as `json.dumps` of Python writes them.
fn spaced(text: &str) -> String {
    let mut inside = false;
    text.chars().fold(String::new(), |mut out, character| {
        inside ^= character == '"';
        out.push(character);
        if !inside && matches!(character, ',' | ':') {
            out.push(' ');
        }
        out
    })
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, character| {
        if character.is_ascii() {
            out.push(character)
        } else {
            write!(out, "\\u{:04x}", u32::from(character)).unwrap()
        }
        out
    })
}

pub(crate) static UNDONE: &[Kind] = &[
    kind("body: newline added", &["body_line_end"], |it| arrived(it, |text| format!("{text}\n"))),
    kind("body: newline lost", &["body_line_end"], |it| {
        it.signed_body.push(b'\n');
        !it.sender.name.contains("trello") && it.sender.content.contains("{b}")
    }),
    kind("body: newline of a CRLF lost", &["body_line_end"], |it| {
        it.signed_body.extend_from_slice(b"\r\n");
        it.body = [it.body.as_slice(), b"\r"].concat();
        !it.sender.name.contains("trello") && any_text(it)
    }),
    kind("body: CRLF at the end made LF", &["body_line_end"], |it| {
        it.signed_body = b"{\n}\r\n".to_vec();
        it.body = b"{\n}\n".to_vec();
        any_text(it)
    }),
    kind("body: CR for CRLF", &["body_line_ends"], |it| pair(it, "{\r\n\"a\":#\r\n}", "{\r\"a\":#\r}")),
    kind("body: zero byte at the end", &["body_line_end"], |it| {
        any_text(it) && arrived(it, |text| format!("{text}\0"))
    }),
    kind("body: byte order mark", &["body_byte_order_mark"], |it| {
        any_text(it) && arrived(it, |text| format!("\u{feff}{text}"))
    }),
    kind("body: CRLF", &["body_line_ends"], |it| {
        pair(it, "{\n \"a\": #,\n \"b\": \"x\"\n}", "{\r\n \"a\": #,\r\n \"b\": \"x\"\r\n}")
    }),
    kind("body: base64 of it", &["body_base64"], |it| any_text(it) && arrived(it, |text| STANDARD.encode(text))),
    kind("body: Buffer of Node.js", &["body_numbers"], |it| {
        any_text(it) && arrived(it, |text| format!("{{\"type\":\"Buffer\",\"data\":[{}]}}", numbers(text)))
    }),
    kind("body: array of numbers", &["body_numbers"], |it| {
        any_text(it) && arrived(it, |text| format!("[{}]", numbers(text)))
    }),
    kind("body: hexadecimal digits", &["body_hex"], |it| any_text(it) && arrived(it, |text| hex(text.as_bytes()))),
    kind("body: bytea of Postgres", &["body_hex"], |it| {
        any_text(it) && arrived(it, |text| format!("\\x{}", hex(text.as_bytes())))
    }),
    kind("body: UTF-16", &["body_charset"], |it| {
        let text = String::from_utf8(it.signed_body.clone()).unwrap();
        it.body = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        any_text(it)
    }),
    kind("body: sizes of chunks in it", &["body_chunk_sizes"], |it| {
        let (first, second) = it.signed_body.split_at(20);
        let sizes = [format!("{:x}\r\n", first.len()), format!("\r\n{:x}\r\n", second.len())];
        it.body = [sizes[0].as_bytes(), first, sizes[1].as_bytes(), second, b"\r\n0\r\n\r\n"].concat();
        any_text(it)
    }),
    kind("body: escaped for HTML", &["body_entities"], |it| {
        arrived(it, |text| {
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            text.replace('"', "&quot;").replace('\'', "&#39;")
        })
    }),
    kind("body: base64 of gzip", &["body_compressed"], |it| {
        let deflated = miniz_oxide::deflate::compress_to_vec(&it.signed_body, 6);
        it.body =
            STANDARD.encode([&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &deflated, &[0; 8]].concat()).into_bytes();
        any_text(it)
    }),
    kind("body: event of a gateway", &["body_envelope"], |it| {
        arrived(it, |text| {
            format!("{{\"isBase64Encoded\":true,\"body\":\"{}\",\"path\":\"/x\"}}", STANDARD.encode(text))
        })
    }),
    kind("body: JSON string", &["body_string"], |it| {
        any_text(it) && arrived(it, |text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
    }),
    kind("body: escaped, without quotes", &["body_string"], |it| {
        arrived(it, |text| text.replace('\\', "\\\\").replace('"', "\\\""))
    }),
    kind("body: form field unwrapped", &["body_form_unwrapped"], |it| {
        let text = String::from_utf8(it.signed_body.clone()).unwrap();
        it.signed_body = format!("payload={}", percent(&text, "*-._", "+")).into_bytes();
        any_text(it)
    }),
    kind("body: wrapped into a form field", &["body_form_field"], |it| {
        any_text(it) && arrived(it, |text| format!("payload={}", percent(text, "*-._", "+")))
    }),
    kind("body: form in another order", &["body_form_order"], |it| {
        any_text(it) && pair(it, "token=x&event=#&amount=12.50&zone=eu", "amount=12.50&event=#&token=x&zone=eu")
    }),
    kind("body: other case of hex", &["body_form_escapes"], |it| {
        any_text(it) && pair(it, "a=%c3%a9&b=%2f#", "a=%C3%A9&b=%2F#")
    }),
    kind("body: tilde escaped", &["body_form_escapes"], |it| any_text(it) && pair(it, "a=~x&b=#", "a=%7Ex&b=#")),
    kind("body: %20 and +", &["body_form_escapes"], |it| any_text(it) && pair(it, "a=x%20y&b=#", "a=x+y&b=#")),
    kind("body: form decoded", &["body_form_escapes"], |it| any_text(it) && pair(it, "a=x%3Ay%2Fz&b=#", "a=x:y/z&b=#")),
    kind("body: Latin-1", &["body_charset"], |it| {
        pair(it, "{\"name\":\"Zoë\",\"n\":#}", "");
        it.body = String::from_utf8(it.signed_body.clone()).unwrap().chars().map(|c| c as u32 as u8).collect();
        it.sender.content.contains("{b}")
    }),
    kind("body: UTF-8 twice", &["body_charset"], |it| {
        pair(it, "{\"name\":\"Zoë\",\"n\":#}", "{\"name\":\"ZoÃ«\",\"n\":#}")
    }),
    kind("body: compressed", &["body_compressed"], |it| {
        let deflated = miniz_oxide::deflate::compress_to_vec(&it.signed_body, 6);
        it.body = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &deflated, &[0; 8]].concat();
        any_text(it)
    }),
];

fn replaced(it: &mut Making, body: &[u8]) -> bool {
    it.body = body.to_vec();
    any_text(it)
}

pub(crate) static LOOKS: &[Kind] = &[
    kind("looks: cut at 2 KiB", &["body_cut"], |it| {
        it.signed_body = format!("{{\"a\":\"{}\"}}", "x".repeat(5000)).into_bytes();
        it.body = it.signed_body[..2048].to_vec();
        any_text(it)
    }),
    kind("looks: {}", &["body_empty"], |it| replaced(it, b"{}")),
    kind("looks: null", &["body_empty"], |it| replaced(it, b"null")),
    kind("looks: nothing", &["body_empty"], |it| replaced(it, b"")),
    kind("looks: [object Object]", &["body_object"], |it| replaced(it, b"[object Object]")),
    kind("looks: the name of a class", &["body_class_name"], |it| replaced(it, b"System.Byte[]")),
    kind("looks: U+FFFD", &["body_replacement"], |it| {
        pair(it, "{\"name\":\"Zo\u{eb}\",\"n\":#}", "{\"name\":\"Zo\u{fffd}\",\"n\":#}")
    }),
    kind("looks: Python's repr", &["body_python"], |it| {
        pair(it, "{\"a\": \"x\", \"b\": null, \"c\": true, \"n\": #}", "{'a': 'x', 'b': None, 'c': True, 'n': #}")
    }),
    kind("looks: Python's repr of bytes", &["body_python"], |it| {
        any_text(it)
            && arrived(it, |text| format!("b'{}'", text.replace('\'', "\\'").replace('ë', "\\xc3\\xab")))
            && it.signed_body.is_ascii()
    }),
    kind("looks: decompressed", &["body_decompressed"], |it| {
        it.more.push(("Content-Encoding".to_owned(), "gzip".to_owned()));
        let text = it.signed_body.clone();
        it.signed_body = miniz_oxide::deflate::compress_to_vec(&text, 6);
        any_text(it)
    }),
];

pub(crate) static JSON: &[Kind] = &[
    kind("JSON: spaces as Python writes them", &["json_layout"], |it| arrived(it, spaced)),
    kind("JSON: JSON.stringify of what Python wrote", &["json_layout", "json_escapes"], |it| {
        let text = String::from_utf8(it.signed_body.clone()).unwrap();
        it.signed_body = escaped(&spaced(&text)).into_bytes();
        it.sender.content.contains("{b}")
    }),
    kind("JSON: json.dumps of what JavaScript wrote", &["json_layout", "json_escapes"], |it| {
        arrived(it, |text| escaped(&spaced(text)))
    }),
    kind("JSON: indented", &["json_layout"], |it| {
        pair(
            it,
            "{\"a\":[1,{\"b\":#}],\"c\":\"x\"}",
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": #\n    }\n  ],\n  \"c\": \"x\"\n}",
        )
    }),
    kind("JSON: indentation lost", &["json_layout"], |it| {
        pair(it, "{\n\t\"a\": [\n\t\t1,\n\t\t#\n\t],\n\t\"c\": {}\n}", "{\"a\":[1,#],\"c\":{}}")
    }),
    kind("JSON: slashes as PHP writes them", &["json_escapes"], |it| {
        pair(it, r#"{"url":"https:\/\/a.example\/#","n":"\u00eb"}"#, r#"{"url":"https://a.example/#","n":"ë"}"#)
    }),
    kind("JSON: PHP on the way", &["json_escapes"], |it| {
        pair(it, r#"{"url":"https://a.example/#","n":"ë"}"#, r#"{"url":"https:\/\/a.example\/#","n":"\u00eb"}"#)
    }),
    kind("JSON: Go on the way", &["json_escapes"], |it| {
        pair(it, r#"{"a":"<b> & x","n":#}"#, r#"{"a":"\u003cb\u003e \u0026 x","n":#}"#)
    }),
    kind("JSON: Go signed", &["json_escapes"], |it| {
        pair(it, r#"{"a":"\u003cb\u003e \u0026 x","n":#}"#, r#"{"a":"<b> & x","n":#}"#)
    }),
    kind("JSON: Gson on the way", &["json_escapes"], |it| {
        pair(it, r#"{"a":"it's a=b & <c>","n":#}"#, r#"{"a":"it\u0027s a\u003db \u0026 \u003cc\u003e","n":#}"#)
    }),
    kind("JSON: Gson signed", &["json_escapes"], |it| {
        pair(it, r#"{"a":"it\u0027s a\u003db \u0026 \u003cc\u003e","n":#}"#, r#"{"a":"it's a=b & <c>","n":#}"#)
    }),
    kind("JSON: .NET on the way", &["json_escapes"], |it| {
        pair(
            it,
            r#"{"a":"1+1 it's \"Zoë\" <b>","n":#}"#,
            r#"{"a":"1\u002B1 it\u0027s \u0022Zo\u00EB\u0022 \u003Cb\u003E","n":#}"#,
        )
    }),
    kind("JSON: .NET signed", &["json_escapes"], |it| {
        pair(
            it,
            r#"{"a":"1\u002B1 it\u0027s \u0022Zo\u00EB\u0022 \u003Cb\u003E","n":#}"#,
            r#"{"a":"1+1 it's \"Zoë\" <b>","n":#}"#,
        )
    }),
    kind("JSON: sorted keys signed", &["json_keys"], |it| {
        pair(
            it,
            r#"{"a":1,"b":{"c":"x","d":#},"e":[{"f":1,"g":2}]}"#,
            r#"{"e":[{"g":2,"f":1}],"b":{"d":#,"c":"x"},"a":1}"#,
        )
    }),
    kind("JSON: jsonb signed", &["json_keys"], |it| {
        pair(it, r#"{"id": #, "url": "x", "name": "y", "created": 1}"#, r#"{"created":1,"name":"y","id":#,"url":"x"}"#)
    }),
    kind("JSON: Go's maps on the way", &["json_rewritten"], |it| {
        pair(
            it,
            r#"{"type":"x","id":#,"data":{"zip":1,"name":"y","city":"z"},"created":1,"api":2}"#,
            r#"{"api":2,"created":1,"data":{"city":"z","name":"y","zip":1},"id":#,"type":"x"}"#,
        )
    }),
    kind("JSON: jsonb on the way", &["json_rewritten"], |it| {
        pair(
            it,
            r#"{"type":"x","id":#,"name":"y","created":1,"amount":7,"test":true}"#,
            r#"{"id": #, "name": "y", "test": true, "type": "x", "amount": 7, "created": 1}"#,
        )
    }),
    kind("JSON: .0 gained", &["json_numbers"], |it| {
        pair(it, r#"{"id":#,"total":12,"tax":3.5}"#, r#"{"id":#,"total":12.0,"tax":3.5}"#)
    }),
    kind("JSON: .0 lost", &["json_numbers"], |it| {
        pair(it, r#"{"id":#,"total":12.0,"tax":3.5}"#, r#"{"id":#,"total":12,"tax":3.5}"#)
    }),
    kind("JSON: trailing zero lost", &["json_numbers"], |it| {
        pair(it, r#"{"id":#,"total":12.50,"tax":3.55}"#, r#"{"id":#,"total":12.5,"tax":3.55}"#)
    }),
    kind("JSON: trailing zero gained", &["json_numbers"], |it| {
        pair(it, r#"{"id":#,"total":12.5,"tax":3.55}"#, r#"{"id":#,"total":12.50,"tax":3.55}"#)
    }),
    kind("JSON: integer beyond 2^53 rounded", &["json_numbers"], |it| {
        let number: u64 = 1_234_567_890_123_450_000 + (it.now.unsigned_abs() % 9973 + 1000);
        // The shortest decimal number that is the same float, as JavaScript writes it.
        let digits: String = format!("{:e}", number as f64).split('e').next().unwrap().replace('.', "");
        it.signed_body = format!("{{\"id\":{number},\"n\":1}}").into_bytes();
        it.body = format!("{{\"id\":{digits:0<19},\"n\":1}}").into_bytes();
        it.sender.content.contains("{b}") && it.body != it.signed_body
    }),
];
