//! What a secret or a body looks like that no trial explains. Nothing proves these, and the words say so.

use super::case::TriedCase;
use super::ends::looks_of_end;
use super::finding::NamedMistake;
use super::mistake::Mistake;
use super::quoted::{quoted, quoted_start};
use super::wrapped::form_of;
use super::{json_keys, json_numbers, python, text};
use crate::gate::verify::Part;

/// Beginnings of credentials for the API of a sender, which no sender signs webhooks with.
const CREDENTIALS: [(&[&str], &str); 12] = [
    (&["sk_live_", "sk_test_", "rk_live_", "rk_test_"], "an API key of Stripe"),
    (&["pk_live_", "pk_test_"], "a publishable key of Stripe"),
    (&["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"], "an access token of GitHub"),
    (&["xoxb-", "xoxp-", "xoxa-", "xapp-"], "a token of Slack"),
    (&["glpat-"], "an access token of GitLab"),
    (&["shpat_", "shpca_", "shppa_"], "an access token of Shopify"),
    (&["ntn_", "secret_ntn_"], "an integration token of Notion"),
    (&["AKIA", "ASIA"], "an access key of AWS"),
    (&["SG."], "an API key of SendGrid"),
    (&["lin_api_", "lin_oauth_"], "an API key of Linear"),
    (&["sk-", "sk-proj-"], "an API key of OpenAI"),
    (&["pdl_live_apikey_", "pdl_sdbx_apikey_", "EAAA", "eyJ"], "an API key or an access token"),
];

/// A file with one secret, which cannot be it.
pub(super) fn looks_of_secret(case: TriedCase<'_>) -> Option<NamedMistake> {
    let [(id, secret)] = case.known.secrets else { return None };
    let id = format!("`{}`", quoted(id));
    let bare = text::trimmed(secret);
    let begins = |start: &&str| bare.strip_prefix(start.as_bytes()).is_some_and(|rest| rest.len() >= 8);
    if let Some((_, what)) = CREDENTIALS.iter().find(|(starts, _)| starts.iter().any(&begins)) {
        return Some(NamedMistake::new(Mistake::SecretApiKey, &[&id, what]));
    }
    if let Some(what) = other_thing(bare) {
        return Some(NamedMistake::new(Mistake::SecretOther, &[&id, what]));
    }
    if is_masked(bare) {
        return Some(NamedMistake::new(Mistake::SecretMasked, &[&id]));
    }
    if let Some(form) = form_of(bare) {
        return Some(NamedMistake::new(Mistake::SecretWrappedLooks, &[&id, form]));
    }
    is_placeholder(bare).then(|| NamedMistake::new(Mistake::SecretPlaceholder, &[&id]))
}

/// Folders at the root in which files with secrets lie.
const FOLDERS: [&str; 12] = [
    "/run/",
    "/etc/",
    "/var/",
    "/home/",
    "/opt/",
    "/mnt/",
    "/secrets/",
    "/usr/",
    "/tmp/",
    "/app/",
    "/root/",
    "/vault/",
];

/// Ids with a beginning, a length behind it, and the bytes of which that is.
type KnownForm = (&'static str, usize, fn(&u8) -> bool, &'static str);

const FORMS: [KnownForm; 6] = [
    ("AC", 32, u8::is_ascii_hexdigit, "an account SID of Twilio"),
    ("SK", 32, u8::is_ascii_hexdigit, "the SID of an API key of Twilio"),
    ("we_", 24, u8::is_ascii_alphanumeric, "the id of a webhook endpoint of Stripe"),
    ("ck_", 40, u8::is_ascii_hexdigit, "a consumer key of WooCommerce"),
    ("cs_", 40, u8::is_ascii_hexdigit, "a consumer secret of WooCommerce, which is for its API"),
    ("ntfset_", 26, u8::is_ascii_alphanumeric, "the id of a notification setting of Paddle"),
];

/// What stands in a file by mistake, and is no secret at all, or another one.
fn other_thing(text: &[u8]) -> Option<&'static str> {
    let starts = |start: &str| text.starts_with(start.as_bytes());
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let has = |part: &str| memchr::memmem::find(first, part.as_bytes()).is_some();
    let one_word = !text.iter().any(u8::is_ascii_whitespace);
    let known = FORMS.iter().find(|(start, length, is, _)| {
        text.strip_prefix(start.as_bytes()).is_some_and(|rest| rest.len() == *length && rest.iter().all(is))
    });
    match known {
        Some((.., what)) => Some(what),
        None if starts("-----BEGIN ") && has("PRIVATE KEY") => Some("a private key (PEM)"),
        None if starts("-----BEGIN ") && has("PUBLIC KEY") => Some("a public key (PEM)"),
        None if starts("-----BEGIN ") && has("CERTIFICATE") => Some("a certificate (PEM)"),
        None if starts("-----BEGIN ") => Some("a block of PEM"),
        None if (starts("https://") || starts("http://")) && one_word => Some("a URL"),
        None if starts("arn:aws") => Some("an ARN, which is the name of something at AWS"),
        None if starts("op://") || starts("vault:") => Some("a reference to a secret manager"),
        None if starts("projects/") && has("/secrets/") => Some("the name of a secret at Google Cloud"),
        None if one_word && FOLDERS.iter().any(|folder| starts(folder)) => Some("the path of a file"),
        None if one_word && (starts("./") || starts("~/")) => Some("the path of a file"),
        None => None,
    }
}

fn is_masked(text: &[u8]) -> bool {
    let has = |part: &str| memchr::memmem::find(text, part.as_bytes()).is_some();
    ["••", "****", "…", "●●", "⋯", "xxxxxx", "XXXXXX"].into_iter().any(has) || text.ends_with(b"...")
}

/// Words that stand in documentation where a secret should stand.
const WORDS: [&str; 14] = [
    "changeme",
    "change-me",
    "change_me",
    "secret",
    "mysecret",
    "my-secret",
    "my_secret",
    "password",
    "placeholder",
    "replaceme",
    "example",
    "test",
    "todo",
    "undefined",
];

fn is_placeholder(text: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(text) else { return false };
    let bare = text.strip_prefix("whsec_").unwrap_or(text);
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let between = |open: &str, close: &str| bare.starts_with(open) && bare.ends_with(close);
    let small = bare.to_ascii_lowercase();
    WORDS.contains(&small.as_str())
        || bare.strip_prefix('$').or_else(|| bare.strip_prefix("process.env.")).is_some_and(is_name)
        || between("${", "}")
        || between("$(", ")")
        || between("{{", "}}")
        || between("<", ">")
        || between("%", "%")
        || ["your-", "your_", "your "].iter().any(|start| small.starts_with(start))
}

/// A GET without a body where a body is signed: senders of webhooks send none, and HTTP libraries that follow a redirect do.
pub(super) fn looks_redirected(case: TriedCase<'_>) -> Option<NamedMistake> {
    let says_length = case.seen.header("Content-Length").is_some_and(|it| it != b"0");
    let has_body =
        !case.seen.body.is_empty() || says_length || case.seen.headers.all("Transfer-Encoding").next().is_some();
    // A form that is signed is empty where the sender uses GET on purpose.
    let wants_body = case.scheme.content.any(|part| {
        matches!(part, Part::Body | Part::HashedBody(..) | Part::Form(_) | Part::Json { .. } | Part::JsonLines(_))
    });
    let redirected = case.seen.method == b"GET" && !has_body && (wants_body || !case.scheme.signs());
    redirected.then(|| NamedMistake::new(Mistake::MethodRedirected, &[]))
}

/// Values of Content-Encoding (RFC 9110 section 8.4.1) that text cannot be.
const COMPRESSED: [&str; 7] = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"];

/// The first thing that looks wrong with a body that is signed.
pub(super) fn looks_of_body(case: TriedCase<'_>) -> Option<NamedMistake> {
    if !case.scheme.covers_body() {
        return None;
    }
    let (body, budget) = (case.seen.body, case.known.budget);
    let trimmed = body.trim_ascii();
    let found = |mistake: Mistake, details: &[&str]| Some(NamedMistake::new(mistake, details));
    match trimmed {
        // Such requests have none.
        b"" if [&b"GET"[..], b"HEAD", b"DELETE"].contains(&case.seen.method) => return None,
        b"" if body.is_empty() => return found(Mistake::BodyEmpty, &["empty"]),
        b"" => return found(Mistake::BodyEmpty, &["white space and nothing else"]),
        b"{}" | b"[]" | b"null" | b"undefined" | b"\"\"" | b"None" => {
            let shown = format!("`{}`", quoted(trimmed));
            return found(Mistake::BodyEmpty, &[&shown]);
        }
        _ => {}
    }
    if trimmed.starts_with(b"[object Object]") {
        return found(Mistake::BodyObject, &[]);
    }
    let class = [&b"System.Byte[]"[..], b"Array", b"[B@", b"java.io.", b"<_io.", b"<Buffer "];
    if trimmed.len() <= 256 && class.into_iter().any(|start| trimmed.starts_with(start)) && !trimmed.contains(&b'=') {
        return found(Mistake::BodyClassName, &[&quoted_start(trimmed, 40)]);
    }
    if let Some(encoding) = case.seen.header("Content-Encoding")
        && COMPRESSED.iter().any(|name| encoding.eq_ignore_ascii_case(name.as_bytes()))
        && budget.searches(body, 1)
        && core::str::from_utf8(body).is_ok()
    {
        return found(Mistake::BodyDecompressed, &[&quoted(encoding)]);
    }
    if budget.searches(body, 1) && memchr::memmem::find(body, "\u{fffd}".as_bytes()).is_some() {
        return found(Mistake::BodyReplacement, &[]);
    }
    if budget.searches(body, 3) && python::looks_like_it(trimmed) {
        return found(Mistake::BodyPythonLooks, &[]);
    }
    let end = looks_of_end(case);
    if end.is_some() || !matches!(trimmed.first(), Some(b'{' | b'[')) {
        return end;
    }
    if budget.steps(json_numbers::looked_at(body), 1)
        && let Some(number) = json_numbers::looks_rounded(body)
    {
        return found(Mistake::JsonRounded, &[&number]);
    }
    if !json_keys::pays(case) {
        return None;
    }
    json_keys::looks_sorted(body).and_then(|order| found(Mistake::JsonRewritten, &[&order]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::string_slice)]
    use super::*;

    #[test]
    fn secrets_that_are_none_are_told_from_those_that_are() {
        for text in ["$WEBHOOK_SECRET", "${A}", "changeme", "<secret>", "{{ a }}", "process.env.HOOK", "your_secret"] {
            assert!(is_placeholder(text.as_bytes()), "{text}");
        }
        for text in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "$ecret-of-mine", "0123456789abcdef", "test-key-1234567"]
        {
            assert!(!is_placeholder(text.as_bytes()) && !is_masked(text.as_bytes()), "{text}");
        }
        let hex = "0123456789abcdef0123456789abcdef01234567";
        for (text, what) in [
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "a private key (PEM)"),
            ("-----BEGIN CERTIFICATE-----\nMIIE", "a certificate (PEM)"),
            ("https://hooks.example.com/github", "a URL"),
            ("/run/secrets/github", "the path of a file"),
            ("arn:aws:secretsmanager:eu-west-1:123:secret:gh", "an ARN, which is the name of something at AWS"),
            (&format!("AC{}", &hex[..32]), "an account SID of Twilio"),
            ("we_1H8aB2cD3eF4gH5iJ6kL7mN8", "the id of a webhook endpoint of Stripe"),
            (&format!("ck_{hex}"), "a consumer key of WooCommerce"),
        ] {
            assert_eq!(other_thing(text.as_bytes()), Some(what), "{text}");
        }
        for text in ["/aGVsbG8/d29ybGQ=", "AC-of-mine", "we_are_one", "7f3Kq9vXw2LmPz8RtYb4", "cs_"] {
            assert_eq!(other_thing(text.as_bytes()), None, "{text}");
        }
        assert!(is_masked("abcd…".as_bytes()) && is_masked(b"ab****cd"));
    }
}
