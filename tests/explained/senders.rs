//! Senders, as this test knows them: what they sign, with what, and how they write it. Nothing of the library signs here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::KeyPair;
use ring::{digest, hmac};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha256,
    Sha512,
    Ed25519,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Hex,
    Base64,
}

/// Where the signature stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// Header and prefix.
    Single(&'static str, &'static str),
    /// Header, key of the time, key of the signature, separator.
    Pairs(&'static str, &'static str, &'static str, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    None,
    /// In the pairs of the signature.
    Paired,
    Seconds(&'static str),
    Millis(&'static str),
    Iso(&'static str),
}

/// How a secret is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Text that is the key, with a prefix that belongs to it.
    Text(&'static str),
    /// `whsec_` and the base64 of the key.
    Whsec,
    /// The key in hexadecimal digits.
    Hex,
    /// A public key in hexadecimal digits.
    Public,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) name: &'static str,
    pub(crate) hash: Hash,
    /// `{t}` time, `{i}` id, `{b}` body, `{u}` URL, `{m}` method.
    pub(crate) content: &'static str,
    pub(crate) place: Place,
    pub(crate) coding: Coding,
    pub(crate) time: Time,
    pub(crate) id: Option<&'static str>,
    pub(crate) shown: Shown,
}

const fn plain(name: &'static str, header: &'static str, prefix: &'static str, coding: Coding) -> Sender {
    Sender {
        name,
        hash: Hash::Sha256,
        content: "{b}",
        place: Place::Single(header, prefix),
        coding,
        time: Time::None,
        id: None,
        shown: Shown::Text(""),
    }
}

const fn paired(name: &'static str, header: &'static str, keys: [&'static str; 3], content: &'static str) -> Sender {
    Sender {
        content,
        place: Place::Pairs(header, keys[0], keys[1], keys[2]),
        time: Time::Paired,
        ..plain(name, header, "", Coding::Hex)
    }
}

const fn standard(name: &'static str, headers: [&'static str; 3]) -> Sender {
    Sender {
        content: "{i}.{t}.{b}",
        time: Time::Seconds(headers[1]),
        id: Some(headers[2]),
        shown: Shown::Whsec,
        ..plain(name, headers[0], "v1,", Coding::Base64)
    }
}

const SVIX: [&str; 3] = ["svix-signature", "svix-timestamp", "svix-id"];
const WEBHOOK: [&str; 3] = ["webhook-signature", "webhook-timestamp", "webhook-id"];

pub(crate) static SENDERS: [Sender; 32] = [
    plain("github", "X-Hub-Signature-256", "sha256=", Coding::Hex),
    Sender { shown: Shown::Text("whsec_"), ..paired("stripe", "Stripe-Signature", ["t", "v1", ","], "{t}.{b}") },
    plain("shopify", "X-Shopify-Hmac-Sha256", "", Coding::Base64),
    Sender {
        content: "v0:{t}:{b}",
        time: Time::Seconds("X-Slack-Request-Timestamp"),
        ..plain("slack", "X-Slack-Signature", "v0=", Coding::Hex)
    },
    standard("standard-webhooks", WEBHOOK),
    Sender { content: "{u}{b}", ..plain("square", "x-square-hmacsha256-signature", "", Coding::Base64) },
    Sender { shown: Shown::Text("pdl_ntfset_"), ..paired("paddle", "Paddle-Signature", ["ts", "h1", ";"], "{t}:{b}") },
    plain("gitea", "X-Gitea-Signature", "", Coding::Hex),
    standard("svix", SVIX),
    Sender {
        content: "v0:{t}:{b}",
        time: Time::Seconds("x-zm-request-timestamp"),
        ..plain("zoom", "x-zm-signature", "v0=", Coding::Hex)
    },
    Sender { hash: Hash::Sha1, ..plain("vercel", "x-vercel-signature", "", Coding::Hex) },
    Sender {
        content: "{i}{t}{b}",
        time: Time::Iso("Twitch-Eventsub-Message-Timestamp"),
        id: Some("Twitch-Eventsub-Message-Id"),
        ..plain("twitch", "Twitch-Eventsub-Message-Signature", "sha256=", Coding::Hex)
    },
    Sender {
        content: "{m}{u}{b}{t}",
        time: Time::Millis("X-HubSpot-Request-Timestamp"),
        ..plain("hubspot-v3", "X-HubSpot-Signature-v3", "", Coding::Base64)
    },
    plain("pagerduty", "X-PagerDuty-Signature", "v1=", Coding::Hex),
    Sender { hash: Hash::Sha512, ..plain("terraform-cloud", "X-TFE-Notification-Signature", "", Coding::Hex) },
    standard("clerk", SVIX),
    Sender { hash: Hash::Sha1, content: "{b}{u}", ..plain("trello", "X-Trello-Webhook", "", Coding::Base64) },
    plain("sentry", "Sentry-Hook-Signature", "", Coding::Hex),
    Sender { shown: Shown::Hex, ..plain("adyen-platform", "HmacSignature", "", Coding::Base64) },
    Sender {
        content: "{t}:{b}",
        time: Time::Seconds("X-Grafana-Alerting-Signature-Timestamp"),
        ..plain("grafana", "X-Grafana-Alerting-Signature", "", Coding::Hex)
    },
    Sender { hash: Hash::Sha1, ..plain("intercom", "X-Hub-Signature", "sha1=", Coding::Hex) },
    paired("calendly", "Calendly-Webhook-Signature", ["t", "v1", ","], "{t}.{b}"),
    standard("resend", SVIX),
    plain("woocommerce", "X-WC-Webhook-Signature", "", Coding::Base64),
    Sender {
        content: "{t}{b}",
        time: Time::Iso("X-Zendesk-Webhook-Signature-Timestamp"),
        ..plain("zendesk", "X-Zendesk-Webhook-Signature", "", Coding::Base64)
    },
    plain("lemon-squeezy", "X-Signature", "", Coding::Hex),
    Sender {
        hash: Hash::Ed25519,
        content: "{t}{b}",
        time: Time::Seconds("X-Signature-Timestamp"),
        shown: Shown::Public,
        ..plain("discord", "X-Signature-Ed25519", "", Coding::Hex)
    },
    standard("openai", WEBHOOK),
    plain("meta", "X-Hub-Signature-256", "sha256=", Coding::Hex),
    paired("buildkite", "X-Buildkite-Signature", ["timestamp", "signature", ","], "{t}.{b}"),
    plain("razorpay", "X-Razorpay-Signature", "", Coding::Hex),
    Sender { content: "{b}", ..plain("typeform", "Typeform-Signature", "sha256=", Coding::Base64) },
];

/// How the bytes of the signature are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    Keyed,
    /// The content is the key, and the key is what is signed.
    Swapped,
    /// A plain hash of the key and the content.
    Plain,
}

/// A delivery in the making, before and after what went wrong.
#[derive(Clone, Debug)]
pub(crate) struct Making {
    pub(crate) sender: Sender,
    /// What the sender signs with.
    pub(crate) key: Vec<u8>,
    /// What stands in the operator's file.
    pub(crate) file: Vec<u8>,
    pub(crate) maker: Maker,
    pub(crate) content: String,
    pub(crate) signed_body: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) signed_url: String,
    pub(crate) target: String,
    pub(crate) public_url: String,
    pub(crate) signed_method: String,
    pub(crate) method: String,
    /// In seconds.
    pub(crate) signed_time: i64,
    pub(crate) time: i64,
    pub(crate) now: i64,
    pub(crate) id: String,
    pub(crate) coding: Coding,
    /// What becomes of the written signature, and of the whole value.
    pub(crate) tag: fn(String) -> String,
    pub(crate) value: fn(String) -> String,
    pub(crate) header: Option<String>,
    pub(crate) twice: bool,
    /// Time in another unit: its text by the seconds.
    pub(crate) unit: Option<fn(i64) -> String>,
    pub(crate) more: Vec<(String, String)>,
}

pub(crate) const HOST: &str = "hooks.example.com";

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn iso(seconds: i64) -> String {
    let moment = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    moment.format(&time::format_description::well_known::Rfc3339).unwrap()
}

fn hashed(hash: Hash, key: &[u8], content: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha512 => hmac::HMAC_SHA512,
        Hash::Ed25519 => {
            return ring::signature::Ed25519KeyPair::from_seed_unchecked(key).unwrap().sign(content).as_ref().to_vec();
        }
    };
    hmac::sign(&hmac::Key::new(algorithm, key), content).as_ref().to_vec()
}

impl Making {
    /// A genuine one.
    pub(crate) fn new(sender: &Sender, number: u32, body: &str) -> Self {
        // Different for each, and nothing that looks like another kind of text by accident.
        let seed = digest::digest(&digest::SHA256, format!("{} {number}", sender.name).as_bytes());
        let bytes = seed.as_ref();
        let text = format!("{}-{}", hex(&bytes[..12]), STANDARD.encode(&bytes[12..24]).replace(['+', '/'], "x"));
        let (key, file) = match sender.shown {
            Shown::Text(prefix) => (format!("{prefix}{text}").into_bytes(), format!("{prefix}{text}").into_bytes()),
            Shown::Whsec => (bytes[..24].to_vec(), format!("whsec_{}", STANDARD.encode(&bytes[..24])).into_bytes()),
            Shown::Hex => (bytes.to_vec(), hex(bytes).into_bytes()),
            Shown::Public => {
                let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(bytes).unwrap();
                (bytes.to_vec(), hex(pair.public_key().as_ref()).into_bytes())
            }
        };
        let url = format!("https://{HOST}/in/{}", sender.name);
        let now = 1_760_000_000 + i64::from(number) * 7;
        Self {
            sender: *sender,
            key,
            file,
            maker: Maker::Keyed,
            content: sender.content.to_owned(),
            signed_body: body.into(),
            body: body.into(),
            signed_url: url.clone(),
            target: format!("/in/{}", sender.name),
            public_url: url,
            signed_method: "POST".to_owned(),
            method: "POST".to_owned(),
            signed_time: now - 1,
            time: now - 1,
            now,
            id: format!("msg_{}", hex(&bytes[24..32])),
            coding: sender.coding,
            tag: |tag| tag,
            value: |value| value,
            header: None,
            twice: false,
            unit: None,
            more: Vec::new(),
        }
    }

    fn written_time(&self, seconds: i64) -> String {
        if let Some(unit) = self.unit {
            return unit(seconds);
        }
        match self.sender.time {
            Time::Millis(_) => format!("{seconds}123"),
            Time::Iso(_) => iso(seconds),
            _ => seconds.to_string(),
        }
    }

    fn signed(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = self.content.as_str();
        while let Some(first) = rest.chars().next() {
            let piece = if first == '{' { rest.get(..3) } else { None };
            match piece {
                Some("{b}") => out.extend_from_slice(&self.signed_body),
                Some("{t}") => out.extend_from_slice(self.written_time(self.signed_time).as_bytes()),
                Some("{i}") => out.extend_from_slice(self.id.as_bytes()),
                Some("{u}") => out.extend_from_slice(self.signed_url.as_bytes()),
                Some("{m}") => out.extend_from_slice(self.signed_method.as_bytes()),
                Some("{k}") => out.extend_from_slice(&self.key),
                _ => {
                    out.extend_from_slice(first.to_string().as_bytes());
                    rest = &rest[first.len_utf8()..];
                    continue;
                }
            }
            rest = &rest[3..];
        }
        out
    }

    /// The header fields with which it comes.
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let signed = self.signed();
        let bytes = match self.maker {
            Maker::Keyed => hashed(self.sender.hash, &self.key, &signed),
            Maker::Swapped => hashed(self.sender.hash, &signed, &self.key),
            Maker::Plain => {
                let algorithm = match self.sender.hash {
                    Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
                    Hash::Sha512 => &digest::SHA512,
                    Hash::Sha256 | Hash::Ed25519 => &digest::SHA256,
                };
                digest::digest(algorithm, &signed).as_ref().to_vec()
            }
        };
        let tag = (self.tag)(match self.coding {
            Coding::Hex => hex(&bytes),
            Coding::Base64 => STANDARD.encode(&bytes),
        });
        let time = self.written_time(self.time);
        let (header, value) = match self.sender.place {
            Place::Single(header, prefix) => (header, format!("{prefix}{tag}")),
            Place::Pairs(header, at, key, separator) => (header, format!("{at}={time}{separator}{key}={tag}")),
        };
        let mut headers = vec![("Host".to_owned(), HOST.to_owned())];
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        let name = self.header.clone().unwrap_or_else(|| header.to_owned());
        for _ in 0..if self.twice { 2 } else { 1 } {
            headers.push((name.clone(), (self.value)(value.clone())));
        }
        if let Time::Seconds(name) | Time::Millis(name) | Time::Iso(name) = self.sender.time {
            headers.push((name.to_owned(), time));
        }
        headers.extend(self.sender.id.map(|name| (name.to_owned(), self.id.clone())));
        headers.extend(self.more.clone());
        headers.retain(|(name, _)| !name.is_empty());
        headers
    }
}
