//! What is signed: keys, URLs and bodies, in the forms that each provider has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Schemes that sign the URL.
const SIGN_URL: [&str; 6] = ["twilio", "twilio-json", "square", "hubspot-v2", "hubspot-v3", "plivo"];

/// Schemes whose secrets are base64 behind `whsec_`.
const STANDARD_SECRETS: [&str; 7] = ["standard-webhooks", "svix", "clerk", "resend", "openai", "replicate", "portone"];

/// Schemes whose secrets are base64 without a prefix.
const BASE64_SECRETS: [&str; 1] = ["finch"];

/// Schemes whose signature stands in the body, over some of its fields.
const SIGN_FIELDS: [&str; 6] = ["adyen", "alipay", "braintree", "dropbox-sign", "mailgun", "mailgun-routes"];

/// What stands in the body where the signature belongs.
pub(crate) const PLACEHOLDER: &str = "SIGNATURE";

/// Schemes whose bodies are forms.
const FORMS: [&str; 5] = ["twilio", "plivo", "alipay", "braintree", "mailgun-routes"];

/// Keys of tests, made with `openssl genpkey`.
const RSA: [(&str, &str); 2] = [
    (include_str!("../keys/rsa-1.pem"), include_str!("../keys/rsa-1.pub.pem")),
    (include_str!("../keys/rsa-2.pem"), include_str!("../keys/rsa-2.pub.pem")),
];

/// SubjectPublicKeyInfo of a P-256 key, up to the point (RFC 5480, section 2).
const P256_HEAD: [u8; 26] =
    *b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\0";

/// What a sender signs with, and what a receiver verifies with.
pub(crate) struct Key {
    /// The shared secret as the provider shows it, or a private key.
    pub(crate) secret: String,
    /// The public key as the provider shows it; nothing where the secret is shared.
    pub(crate) public: Option<String>,
}

impl Key {
    /// A key in the form of the scheme's provider, a different one for each `which`.
    pub(crate) fn new(scheme: &str, which: u8) -> Self {
        let random = SystemRandom::new();
        match scheme {
            "alipay" => {
                let (private, public) = RSA[usize::from(which - 1)];
                Self { secret: private.to_owned(), public: Some(public.to_owned()) }
            }
            "discord" | "telnyx" => {
                let der = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap();
                Self { secret: pem(der.as_ref()), public: Some(hex(pair.public_key().as_ref())) }
            }
            "sendgrid" => {
                let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
                let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap();
                let public = STANDARD.encode([&P256_HEAD, pair.public_key().as_ref()].concat());
                Self { secret: pem(der.as_ref()), public: Some(public) }
            }
            _ => Self { secret: shared(scheme, which), public: None },
        }
    }
}

fn shared(scheme: &str, which: u8) -> String {
    let seed = digest(&SHA256, &[scheme.as_bytes(), &[which]].concat());
    match scheme {
        _ if STANDARD_SECRETS.contains(&scheme) => format!("whsec_{}", STANDARD.encode(seed)),
        _ if BASE64_SECRETS.contains(&scheme) => STANDARD.encode(seed),
        "stripe" => format!("whsec_{}", hex(seed.as_ref())),
        _ => hex(seed.as_ref()),
    }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sixteen digits that belong to `name`.
pub(crate) fn nonce(name: &str) -> String {
    hex(&digest(&SHA256, name.as_bytes()).as_ref()[..8])
}

/// What `public_url` says on the scheme's route, where it wants one.
pub(crate) fn public_url(scheme: &str) -> Option<String> {
    SIGN_URL.contains(&scheme).then(|| format!("https://hooks.example.com/webhooks/{scheme}"))
}

/// The URL that is called.
pub(crate) fn url(scheme: &str) -> String {
    let path = format!("https://hooks.example.com/webhooks/{scheme}");
    match scheme {
        "plivo" => path,
        // The Python SDK of HubSpot leaves it to its caller to undo escapes: there are none here.
        "hubspot-v3" => format!("{path}?first=1&second=b"),
        _ if SIGN_URL.contains(&scheme) => format!("{path}?first=1&second=a%20b"),
        _ => path,
    }
}

/// The URL with the digest of the body, where the scheme wants one.
pub(crate) fn url_with_digest(scheme: &str, body: &[u8]) -> String {
    match scheme {
        "twilio-json" => format!("{}&bodySHA256={}", url(scheme), hex(digest(&SHA256, body).as_ref())),
        _ => url(scheme),
    }
}

/// The request target of a URL.
pub(crate) fn target(url: &str) -> &str {
    url.strip_prefix("https://hooks.example.com").unwrap()
}

pub(crate) fn content_type(scheme: &str) -> &'static str {
    match scheme {
        "dropbox-sign" => "multipart/form-data; boundary=----boundary",
        _ if FORMS.contains(&scheme) => "application/x-www-form-urlencoded",
        _ => "application/json",
    }
}

/// A body that no parser writes again as it was: odd spaces, escapes of both kinds, numbers in unusual forms, a name
/// that stands twice. It has the fields that SDKs look into. `nonce` makes it a delivery of its own.
pub(crate) fn body(scheme: &str, nonce: &str, now: u64) -> Vec<u8> {
    if SIGN_FIELDS.contains(&scheme) {
        return body_with_signature(scheme, nonce, now).into_bytes();
    }
    if scheme == "crisp" {
        // Its SDK is given the document, and writes it anew.
        return format!(r#"{{"id":"{nonce}","note":"grüße 😀","amount":"1.00"}}"#).into_bytes();
    }
    if ["twilio", "plivo"].contains(&scheme) {
        // Twilio signs what stands twice once, Plivo twice.
        let again = if scheme == "twilio" { "&Media=b" } else { "" };
        return format!(
            "To=%2b18005551212&Body=gr%c3%bc%C3%9fe+%F0%9F%98%80%0D%0A&Media=b&Media=a{again}&Empty=&Amount=1.00\
             &from=x&From=%2B14155550100&Nonce={nonce}"
        )
        .into_bytes();
    }
    let attempted = OffsetDateTime::from_unix_timestamp(now.cast_signed()).unwrap().format(&Rfc3339).unwrap();
    format!(
        "\u{20}{{\r\n\t\"id\" : \"evt_{nonce}\",\"events\":[ ], \"meta\":{{\"webhook_id\":\"WB{nonce}\"}},\n\
         \"payload\":{{\"resource_type\":\"check\",\"action\":\"check.completed\",\"object\":{{\"id\":\"{nonce}\"}}}},\
         \"webhookMetadata\":{{\"webhookDeliveryAttemptTimestamp\":\"{attempted}\"}},\
         \"time_ms\":{now}000, \"webhookTimestamp\": {now}000,\
         \"amount\":1.00,\"limit\":1E+2,\"none\":-0.0,\"big\":12345678901234567890123,\
         \"note\":\"gr\u{fc}\u{df}e \\u00fc \u{1f600} \\ud83d\\ude00 \\/ / \u{2028} \\u003c<&>\", \
         \"note\":  \"twice\" }}\r\n"
    )
    .into_bytes()
}

/// A body that is signed in part: what `1.00` stands in is.
fn body_with_signature(scheme: &str, nonce: &str, now: u64) -> String {
    match scheme {
        "adyen" => format!(
            "{{\"live\":\"false\",\"notificationItems\":[{{\"NotificationRequestItem\":{{\"additionalData\":{{\
             \"hmacSignature\":\"{PLACEHOLDER}\"}},\"amount\":{{\"currency\":\"EUR\",\"value\":1000}},\"eventCode\":\
             \"AUTHORISATION\",\"merchantAccountCode\":\"Shop\",\"merchantReference\":\"r\\u00e9f: 1.00\",\
             \"pspReference\":\"{nonce}\",\"reason\":\"\",\"success\":\"true\"}}}}]}}"
        ),
        "alipay" => format!(
            "gmt_create=2026-01-01+00%3A00%3A00&total_amount=1.00&subject=%E6%B5%8B%E8%AF%95+%3D&trade_no={nonce}\
             &sign_type=RSA2&sign={PLACEHOLDER}"
        ),
        "dropbox-sign" => format!(
            "------boundary\r\nContent-Disposition: form-data; name=\"json\"\r\n\r\n{{\"event\":{{\"event_time\":\
             \"{now}\",\"event_type\":\"sent_1.00\",\"event_hash\":\"{PLACEHOLDER}\"}},\"id\":\"{nonce}\"}}\r\n\
             ------boundary--\r\n"
        ),
        "mailgun" => format!(
            "{{\"signature\":{{\"timestamp\":\"{now}\",\"token\":\"1.00{nonce}\",\"signature\":\"{PLACEHOLDER}\"}}}}"
        ),
        _ => format!("timestamp={now}&token=1.00{nonce}&signature={PLACEHOLDER}&body-plain=hello"),
    }
}

/// The body with the signature in it.
pub(crate) fn with_signature(scheme: &str, body: &[u8], signature: &str) -> Vec<u8> {
    let encoded = signature.replace('%', "%25").replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let signature = if FORMS.contains(&scheme) { encoded.as_str() } else { signature };
    String::from_utf8(body.to_vec()).expect("a text").replace(PLACEHOLDER, signature).into_bytes()
}

/// The body with another amount: still a valid document of the same length.
pub(crate) fn another_amount(body: &[u8]) -> Vec<u8> {
    let amount = body.windows(4).position(|window| window == b"1.00");
    // Braintree's SDK makes its own body, in base64.
    let payload = || body.windows(11).position(|window| window == b"bt_payload=").map(|at| at + 11);
    let at = amount.or_else(payload).unwrap();
    let mut changed = body.to_vec();
    changed[at] = b'9';
    changed
}

/// The ways in which a body is changed on its way.
pub(crate) fn changes(scheme: &str, body: &[u8]) -> Vec<Vec<u8>> {
    if SIGN_FIELDS.contains(&scheme) {
        return vec![another_amount(body)];
    }
    let flipped = [0, body.len() / 2, body.len() - 1].map(|at| {
        let mut changed = body.to_vec();
        changed[at] ^= 1;
        changed
    });
    let longer = [body, b"\n"].concat();
    let shorter = body[..body.len() - 1].to_vec();
    flipped.into_iter().chain([another_amount(body), longer, shorter]).collect()
}
