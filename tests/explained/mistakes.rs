//! The mistakes that people make, seeded into deliveries: around the secret, the content, the header, the URL and the
//! time. [`crate::bodies`] has those of the body.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::senders::{Coding, HOST, Hash, Maker, Making, Place, Shown, Time, hex};

/// One kind of mistake: its name, the codes that name it, and what it does to a delivery; false where it does not apply.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) codes: &'static [&'static str],
    pub(crate) make: fn(&mut Making) -> bool,
}

pub(crate) const fn kind(name: &'static str, codes: &'static [&'static str], make: fn(&mut Making) -> bool) -> Kind {
    Kind { name, codes, make }
}

fn file(it: &mut Making, change: impl Fn(&[u8]) -> Vec<u8>) -> bool {
    it.file = change(&it.file);
    it.sender.shown != Shown::Public
}

fn around(it: &mut Making, before: &str, after: &str) -> bool {
    file(it, |text| [before.as_bytes(), text, after.as_bytes()].concat())
}

fn utf16(it: &mut Making, mark: &[u8], to_bytes: fn(u16) -> [u8; 2]) -> bool {
    file(it, |text| {
        let text = std::str::from_utf8(text).unwrap();
        [mark, &text.encode_utf16().flat_map(to_bytes).collect::<Vec<u8>>()].concat()
    })
}

/// A secret with characters that are escaped in URLs.
fn special(it: &mut Making) {
    if it.sender.shown == Shown::Text("") {
        it.file.extend_from_slice(b"/+=&%");
        it.key = it.file.clone();
    }
}

pub(crate) static SECRETS: &[Kind] = &[
    kind("secret: NAME=value", &["secret_assignment"], |it| around(it, "WEBHOOK_SECRET=", "")),
    kind("secret: export NAME=\"value\"", &["secret_assignment"], |it| around(it, "export HOOK_KEY=\"", "\"\n")),
    kind("secret: name: value", &["secret_assignment"], |it| around(it, "secret: ", "\n")),
    kind("secret: byte order mark", &["secret_byte_order_mark"], |it| around(it, "\u{feff}", "")),
    kind("secret: UTF-16 of an editor", &["secret_utf16"], |it| utf16(it, b"\xff\xfe", u16::to_le_bytes)),
    kind("secret: UTF-16, big end first", &["secret_utf16"], |it| utf16(it, b"\xfe\xff", u16::to_be_bytes)),
    kind("secret: UTF-16 without a mark", &["secret_utf16"], |it| utf16(it, b"", u16::to_le_bytes)),
    kind("secret: JSON", &["secret_json"], |it| around(it, "{\"secret\":\"", "\"}")),
    kind("secret: JSON of a manager", &["secret_json"], |it| {
        around(it, "{\n  \"user\": \"x\",\n  \"webhook-signing-key\": \"", "\"\n}\n")
    }),
    kind("secret: quotes", &["secret_quotes"], |it| around(it, "\"", "\"\n")),
    kind("secret: single quotes", &["secret_quotes"], |it| around(it, "'", "'")),
    kind("secret: space behind", &["secret_space"], |it| around(it, "", " ")),
    kind("secret: space in front", &["secret_space"], |it| around(it, " \t", "\n")),
    kind("secret: two newlines", &["secret_space"], |it| around(it, "", "\n\n")),
    kind("secret: semicolon", &["secret_punctuation"], |it| around(it, "", ";")),
    kind("secret: signed with a newline", &["secret_newline"], |it| {
        it.key.push(b'\n');
        matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: base64 of it", &["secret_base64"], |it| file(it, |text| STANDARD.encode(text).into_bytes())),
    kind("secret: base64 of it with a newline", &["secret_base64"], |it| {
        file(it, |text| STANDARD.encode([text, b"\n"].concat()).into_bytes())
    }),
    kind("secret: base64 of base64", &["secret_base64"], |it| {
        file(it, |text| STANDARD.encode(STANDARD.encode(text)).into_bytes())
    }),
    kind("secret: hexadecimal of it", &["secret_hex"], |it| file(it, |text| hex(text).into_bytes())),
    kind("secret: percent-encoded", &["secret_percent"], |it| {
        special(it);
        let text = String::from_utf8(it.file.clone()).unwrap();
        let escaped = text.replace('%', "%25").replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
        let changed = escaped != text;
        file(it, |_| escaped.clone().into_bytes()) && changed
    }),
    kind("secret: prefix cut off", &["secret_prefix"], |it| {
        let Shown::Text(prefix) = it.sender.shown else { return false };
        file(it, |text| text[prefix.len()..].to_vec()) && !prefix.is_empty()
    }),
    kind("secret: v1,whsec_", &["secret_prefix"], |it| {
        around(it, "v1,", "") && it.sender.shown == Shown::Whsec && it.sender.name != "standard-webhooks"
    }),
    kind("secret: whsec_ in front that is not theirs", &["secret_prefix"], |it| {
        around(it, "whsec_", "") && it.sender.shown == Shown::Text("")
    }),
    kind("secret: used as text, prefix and all", &["secret_encoding"], |it| {
        it.key = it.file.clone();
        matches!(it.sender.shown, Shown::Whsec | Shown::Hex)
    }),
    kind("secret: used as text, without the prefix", &["secret_encoding"], |it| {
        it.key = it.file[6..].to_vec();
        it.sender.shown == Shown::Whsec
    }),
    kind("secret: decoded by the sender", &["secret_encoding", "secret_base64"], |it| {
        let Shown::Text("") = it.sender.shown else { return false };
        it.file = STANDARD.encode(&it.key).into_bytes();
        true
    }),
    kind("secret: decoded with its prefix", &["secret_encoding"], |it| {
        let text = String::from_utf8(it.file.clone()).unwrap().replace('+', "-").replace('/', "_");
        let bare = text.trim_end_matches('=');
        let Ok(key) = URL_SAFE_NO_PAD.decode(&bare[..bare.len() / 4 * 4]) else { return false };
        it.key = key;
        it.file = bare[..bare.len() / 4 * 4].into();
        it.sender.shown == Shown::Whsec
    }),
    kind("secret: decoded twice", &["secret_encoding", "secret_base64"], |it| {
        it.file = format!("whsec_{}", STANDARD.encode(STANDARD.encode(&it.key))).into_bytes();
        it.sender.shown == Shown::Whsec
    }),
    kind("secret: API key of Stripe", &["secret_api_key"], |it| {
        file(it, |_| b"sk_live_51HabcdefghIJKLMNOP0123456789".to_vec()) && matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: token of Slack", &["secret_api_key"], |it| {
        file(it, |_| b"xoxb-1234567890-0987654321-AbCdEfGhIjKl".to_vec()) && matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: token of GitHub", &["secret_api_key"], |it| {
        file(it, |_| b"ghp_0123456789abcdefghijABCDEFGHIJ456789".to_vec()) && matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: token of Shopify", &["secret_api_key"], |it| {
        file(it, |_| b"shpat_0123456789abcdef0123456789abcdef".to_vec()) && matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: token of Notion", &["secret_api_key"], |it| {
        file(it, |_| b"ntn_0123456789abcdef0123456789abcdefABCD".to_vec()) && matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: masked with dots", &["secret_masked"], |it| file(it, |_| "whsec_••••••••3f".into())),
    kind("secret: masked with stars", &["secret_masked"], |it| file(it, |_| b"abcd****************wxyz".to_vec())),
    kind("secret: cut with an ellipsis", &["secret_masked"], |it| {
        file(it, |text| [&text[..10], "…".as_bytes()].concat())
    }),
    kind("secret: $NAME", &["secret_placeholder"], |it| file(it, |_| b"$WEBHOOK_SECRET".to_vec())),
    kind("secret: ${NAME}", &["secret_placeholder"], |it| file(it, |_| b"${WEBHOOK_SECRET}".to_vec())),
    kind("secret: changeme", &["secret_placeholder"], |it| file(it, |_| b"changeme".to_vec())),
    kind("secret: one of several lines", &["secret_lines"], |it| {
        around(it, "# production\n", "\nold-one-0123456789\n")
    }),
    kind("secret: in XML", &["secret_wrapped"], |it| around(it, "<secret>", "</secret>\n")),
    kind("secret: in an element of XML", &["secret_wrapped"], |it| {
        around(it, "<?xml version=\"1.0\"?>\n<config>\n  <name>hook</name>\n  <key>", "</key>\n</config>\n")
    }),
    kind("secret: escaped for HTML", &["secret_wrapped"], |it| {
        special(it);
        it.file.contains(&b'&') && file(it, |text| String::from_utf8_lossy(text).replace('&', "&amp;").into_bytes())
    }),
    kind("secret: manifest with stringData", &["secret_wrapped"], |it| {
        around(it, "apiVersion: v1\nkind: Secret\nstringData:\n  hook: ", "\n")
    }),
    kind("secret: manifest with data", &["secret_wrapped"], |it| {
        file(it, |text| format!("kind: Secret\ndata:\n  hook: {}\n", STANDARD.encode(text)).into_bytes())
    }),
    kind("secret: Python's bytes", &["secret_wrapped"], |it| around(it, "b'", "'")),
    kind("secret: PowerShell", &["secret_wrapped"], |it| around(it, "$env:HOOK_SECRET = '", "'\r\n")),
    kind("secret: docker -e", &["secret_wrapped"], |it| around(it, "-e HOOK_SECRET=", "")),
    kind("secret: docker --env", &["secret_wrapped"], |it| around(it, "--env HOOK_SECRET=\"", "\"")),
    kind("secret: systemd", &["secret_wrapped"], |it| around(it, "Environment=\"HOOK_SECRET=", "\"\n")),
    kind("secret: systemd without quotes", &["secret_wrapped"], |it| around(it, "Environment=HOOK_SECRET=", "\n")),
    kind("secret: PHP's define", &["secret_wrapped"], |it| around(it, "define('HOOK_SECRET', '", "');\n")),
    kind("secret: PHP's array", &["secret_wrapped"], |it| around(it, "'hook_secret' => '", "',")),
    kind("secret: backticks of Markdown", &["secret_quotes"], |it| around(it, "`", "`")),
    kind("secret: code of Markdown", &["secret_lines"], |it| around(it, "```\n", "\n```\n")),
    kind("secret: XML with another inside", &["secret_wrapped_looks"], |it| {
        file(it, |_| b"<secret>0123456789abcdefgh</secret>".to_vec()) && matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: empty at the sender", &["secret_empty_there"], |it| {
        it.key = Vec::new();
        matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: the path of a file", &["secret_other"], |it| {
        file(it, |_| b"/run/secrets/hook".to_vec()) && matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: a URL", &["secret_other"], |it| {
        file(it, |_| b"https://hooks.example.com/in/hook".to_vec()) && matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: an ARN", &["secret_other"], |it| {
        file(it, |_| b"arn:aws:secretsmanager:eu-west-1:123456789012:secret:hook".to_vec())
            && matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: PEM", &["secret_other"], |it| {
        file(it, |_| b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0C\n-----END PUBLIC KEY-----\n".to_vec())
            && matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: the id of an endpoint", &["secret_other"], |it| {
        file(it, |_| b"we_1H8aB2cD3eF4gH5iJ6kL7mN8".to_vec()) && matches!(it.sender.shown, Shown::Text(_))
    }),
    kind("secret: a variable that was not set", &["secret_unset"], |it| {
        it.key = b"undefined".to_vec();
        matches!(it.sender.shown, Shown::Text(_))
    }),
];

fn content(it: &mut Making, change: impl Fn(&str) -> String) -> bool {
    let changed = change(&it.content);
    let differs = changed != it.content;
    it.content = changed;
    differs
}

pub(crate) static CONTENT: &[Kind] = &[
    kind("content: no separator", &["content_separator"], |it| {
        it.content.contains("}.{") && content(it, |text| text.replace("}.{", "}{"))
    }),
    kind("content: another separator", &["content_separator"], |it| {
        content(it, |text| text.replace("}.{", "}:{").replace("v0:{t}:", "v0.{t}."))
    }),
    kind("content: v0 left out", &["content_separator"], |it| content(it, |text| text.replace("v0:", ""))),
    kind("content: body before time", &["content_order"], |it| {
        ["{t}.{b}", "{t}:{b}", "{t}{b}"].contains(&it.sender.content)
            && content(it, |text| {
                let separator = &text[3..text.len() - 3];
                format!("{{b}}{separator}{{t}}")
            })
    }),
    kind("content: body alone", &["content_body_alone"], |it| content(it, |_| "{b}".to_owned())),
    kind("content: id left out", &["content_part_missing"], |it| {
        it.sender.content == "{i}.{t}.{b}" && content(it, |_| "{t}.{b}".to_owned())
    }),
    kind("content: time and body where the body is", &["content_order", "content_separator"], |it| {
        it.content.starts_with("{t}")
            && content(it, |text| text.replacen("{t}", "{t}\n", 1))
            && it.sender.content == "{t}{b}"
    }),
    kind("content: arguments of HMAC exchanged", &["content_swapped"], |it| {
        it.maker = Maker::Swapped;
        it.sender.hash != Hash::Ed25519
    }),
    kind("content: plain hash, secret first", &["content_plain_hash"], |it| {
        it.maker = Maker::Plain;
        it.sender.hash != Hash::Ed25519 && content(it, |text| format!("{{k}}{text}"))
    }),
    kind("content: plain hash, secret last", &["content_plain_hash"], |it| {
        it.maker = Maker::Plain;
        it.sender.hash != Hash::Ed25519 && content(it, |text| format!("{text}{{k}}"))
    }),
    kind("content: plain hash of the body", &["content_plain_hash"], |it| {
        it.maker = Maker::Plain;
        it.sender.hash != Hash::Ed25519 && {
            it.content = "{b}".to_owned();
            true
        }
    }),
    kind("content: another hash", &["algorithm"], |it| {
        let wanted = it.sender.hash;
        it.sender.hash = if wanted == Hash::Sha256 { Hash::Sha512 } else { Hash::Sha256 };
        wanted != Hash::Ed25519
    }),
];

const fn prefix_of(it: &Making) -> &'static str {
    match it.sender.place {
        Place::Single(_, prefix) => prefix,
        Place::Pairs(..) => "",
    }
}

fn header_of(it: &Making) -> &'static str {
    match it.sender.place {
        Place::Single(header, _) | Place::Pairs(header, ..) => header,
    }
}

fn renamed(it: &mut Making, name: String) -> bool {
    it.header = Some(name);
    true
}

pub(crate) static HEADERS: &[Kind] = &[
    kind("header: prefix twice", &["header_prefix_twice"], |it| {
        it.value = |value| match value.find(['=', ',']) {
            Some(at) => format!("{}{value}", &value[..=at]),
            None => value,
        };
        !prefix_of(it).is_empty()
    }),
    kind("header: prefix left out", &["header_prefix"], |it| {
        it.value = |value| value[value.find(['=', ',']).map_or(0, |at| at + 1)..].to_owned();
        !prefix_of(it).is_empty()
    }),
    kind("header: a prefix that is not theirs", &["header_prefix"], |it| {
        it.value = |value| format!("sha256={value}");
        matches!(it.sender.place, Place::Single(_, ""))
    }),
    kind("header: two values joined", &["header_joined"], |it| {
        it.value = |value| format!("{value}, {value}");
        matches!(it.sender.place, Place::Single(..)) && it.sender.name != "pagerduty" && it.sender.shown != Shown::Whsec
    }),
    kind("header: quotes", &["header_quotes"], |it| {
        it.value = |value| format!("\"{value}\"");
        true
    }),
    kind("header: renamed with X-Forwarded-", &["header_renamed"], |it| {
        renamed(it, format!("X-Forwarded-{}", header_of(it)))
    }),
    kind("header: underscores", &["header_renamed"], |it| {
        header_of(it).contains('-') && renamed(it, header_of(it).replace('-', "_"))
    }),
    kind("header: as CGI names it", &["header_renamed"], |it| {
        renamed(it, format!("HTTP_{}", header_of(it).replace('-', "_").to_uppercase()))
    }),
    kind("header: base64 of hexadecimal", &["header_base64_of_hex"], |it| {
        it.coding = Coding::Hex;
        it.tag = |tag| STANDARD.encode(tag);
        true
    }),
    kind("header: the other encoding", &["header_encoding"], |it| {
        it.coding = if it.coding == Coding::Hex { Coding::Base64 } else { Coding::Hex };
        true
    }),
    kind("header: percent-encoded", &["header_percent"], |it| {
        it.tag = |tag| tag.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        it.coding == Coding::Base64
    }),
    kind("header: other separators", &["header_separator"], |it| {
        it.value = |value| if value.contains(';') { value.replace(';', ",") } else { value.replace(',', ";") };
        matches!(it.sender.place, Place::Pairs(..))
    }),
    kind("header: keys in capitals", &["header_keys"], |it| {
        it.value = |value| {
            let separator = if value.contains(';') { ";" } else { "," };
            let pairs = value.split(separator).map(|pair| pair.split_once('=').unwrap());
            pairs.map(|(key, text)| format!("{}={text}", key.to_uppercase())).collect::<Vec<_>>().join(separator)
        };
        matches!(it.sender.place, Place::Pairs(..))
    }),
    kind("header: base64 of the value", &["header_base64"], |it| {
        it.value = |value| STANDARD.encode(value);
        matches!(it.sender.place, Place::Pairs(..)) || prefix_of(it) == "sha256="
    }),
    kind("header: prefix in capitals", &["header_prefix"], |it| {
        it.value = |value| value.replace("sha256=", "SHA256=");
        prefix_of(it) == "sha256="
    }),
    kind("header: prefix with a colon", &["header_prefix"], |it| {
        it.value = |value| value.replace("sha256=", "sha256: ");
        prefix_of(it) == "sha256="
    }),
    kind("header: twice", &["header_twice"], |it| {
        it.twice = true;
        true
    }),
    kind("header: empty", &["header_empty"], |it| {
        it.value = |_| String::new();
        true
    }),
    kind("header: missing", &["header_missing"], |it| renamed(it, String::new())),
    kind("header: GitHub's SHA-1", &["header_legacy"], |it| {
        it.sender.hash = Hash::Sha1;
        it.value = |value| value.replace("sha256=", "sha1=");
        it.more.push(("X-GitHub-Event".to_owned(), "push".to_owned()));
        it.sender.name == "github" && renamed(it, "X-Hub-Signature".to_owned())
    }),
    kind("header: SHA-1 of another sender", &["scheme_other"], |it| {
        it.sender.hash = Hash::Sha1;
        it.value = |value| value.replace("sha256=", "sha1=");
        it.sender.name == "github" && renamed(it, "X-Hub-Signature".to_owned())
    }),
    kind("header: the time is missing", &["time_missing"], |it| {
        let (Time::Seconds(name) | Time::Millis(name) | Time::Iso(name)) = it.sender.time else { return false };
        it.sender.time = Time::None;
        it.content = it.content.replace("{t}", &(it.time).to_string());
        !name.is_empty()
    }),
    kind("header: the id is missing", &["id_missing"], |it| it.sender.id.take().is_some()),
    kind("header: cut off", &["header_length"], |it| {
        it.tag = |tag| tag[..tag.len() - 8].to_owned();
        true
    }),
];

fn url(it: &mut Making, signed: String) -> bool {
    it.signed_url = signed;
    it.sender.content.contains("{u}")
}

pub(crate) static URLS: &[Kind] = &[
    kind("URL: http", &["url_scheme"], |it| url(it, it.public_url.replace("https", "http"))),
    kind("URL: slash at the end", &["url_slash"], |it| url(it, format!("{}/", it.public_url))),
    kind("URL: port", &["url_port"], |it| url(it, it.public_url.replace(HOST, "hooks.example.com:443"))),
    kind("URL: another host, by X-Forwarded-Host", &["url_host"], |it| {
        it.more.push(("X-Forwarded-Host".to_owned(), "shop.example.org".to_owned()));
        url(it, it.public_url.replace(HOST, "shop.example.org"))
    }),
    kind("URL: another port, by X-Forwarded-Port", &["url_port"], |it| {
        it.more.push(("X-Forwarded-Port".to_owned(), "8443".to_owned()));
        url(it, it.public_url.replace(HOST, "hooks.example.com:8443"))
    }),
    kind("URL: prefix, by X-Forwarded-Prefix", &["url_path"], |it| {
        it.more.push(("X-Forwarded-Prefix".to_owned(), "/api/v2".to_owned()));
        url(it, it.public_url.replace("/in/", "/api/v2/in/"))
    }),
    kind("URL: path, by X-Original-URI", &["url_path"], |it| {
        it.more.push(("X-Original-URI".to_owned(), "/outer/path".to_owned()));
        url(it, format!("https://{HOST}/outer/path"))
    }),
    kind("URL: host of the request", &["url_host"], |it| {
        it.public_url = it.public_url.replace(HOST, "internal.example.net");
        it.sender.content.contains("{u}")
    }),
    kind("URL: tunnel, by X-Forwarded-Host and -Proto", &["url_host", "url_scheme"], |it| {
        it.more.push(("X-Forwarded-Host".to_owned(), "a1b2.tunnel.example".to_owned()));
        it.more.push(("X-Forwarded-Proto".to_owned(), "http".to_owned()));
        url(it, it.public_url.replace(HOST, "a1b2.tunnel.example").replace("https", "http"))
    }),
    kind("URL: query not signed", &["query_extra"], |it| {
        it.target.push_str("?utm=1");
        it.sender.content.contains("{u}")
    }),
    kind("URL: query dropped, by X-Original-URI", &["query_missing"], |it| {
        it.more.push(("X-Original-URI".to_owned(), format!("{}?tenant=7", it.target)));
        url(it, format!("{}?tenant=7", it.public_url))
    }),
    kind("URL: query in another order", &["query_order"], |it| {
        it.target.push_str("?a=1&b=2&c=3");
        url(it, format!("{}?c=3&a=1&b=2", it.public_url))
    }),
    kind("URL: a field added to the query", &["query_other"], |it| {
        it.target.push_str("?a=1&b=2&utm=3");
        url(it, format!("{}?a=1&b=2", it.public_url))
    }),
    kind("URL: %2f and %2F", &["url_escapes"], |it| {
        it.target.push_str("?to=x%2Fy");
        it.sender.name != "hubspot-v3" && url(it, format!("{}?to=x%2fy", it.public_url))
    }),
    kind("URL: escapes decoded", &["url_escapes"], |it| {
        it.target.push_str("?to=x%2Cy");
        it.sender.name != "hubspot-v3" && url(it, format!("{}?to=x,y", it.public_url))
    }),
    kind("method: a redirect has made it GET", &["method_redirected"], |it| {
        it.method = "GET".to_owned();
        it.body = Vec::new();
        true
    }),
    kind("method: GET without a signature", &["method_redirected"], |it| {
        it.method = "GET".to_owned();
        it.body = Vec::new();
        renamed(it, String::new())
    }),
    kind("method: in small letters", &["method"], |it| {
        it.signed_method = "post".to_owned();
        it.sender.content.contains("{m}")
    }),
    kind("method: another", &["method"], |it| {
        it.signed_method = "PUT".to_owned();
        it.sender.content.contains("{m}")
    }),
];

pub(crate) static TIMES: &[Kind] = &[
    kind("time: of another request, 10 s before", &["time_of_another"], |it| {
        it.time -= 10;
        it.sender.time != Time::None && !matches!(it.sender.time, Time::Millis(_))
    }),
    kind("time: of another request, 50 s after", &["time_of_another"], |it| {
        it.signed_time -= 50;
        it.sender.time != Time::None && it.sender.name != "paddle" && !matches!(it.sender.time, Time::Millis(_))
    }),
    kind("time: an hour old", &["time_stale"], |it| {
        it.now += 3700;
        it.sender.time != Time::None
    }),
    kind("time: days old", &["time_stale"], |it| {
        it.now += 400_000;
        it.sender.time != Time::None
    }),
    kind("time: in the future", &["time_future"], |it| {
        it.now -= 1000;
        it.sender.time != Time::None
    }),
    kind("time: the clock is not set", &["time_form"], |it| {
        it.unit = Some(|_| "0".to_owned());
        matches!(it.sender.time, Time::Seconds(_) | Time::Paired | Time::Millis(_))
    }),
    kind("time: in milliseconds", &["time_unit"], |it| {
        it.unit = Some(|seconds| format!("{seconds}000"));
        matches!(it.sender.time, Time::Seconds(_) | Time::Paired)
    }),
    kind("time: in seconds", &["time_unit"], |it| {
        it.unit = Some(|seconds| seconds.to_string());
        matches!(it.sender.time, Time::Millis(_))
    }),
];
