//! The providers' own code against the real binary.
//!
//! What an official SDK signs passes through a running proxy byte for byte, and does not once a byte is changed. What
//! `countersign sign` signs is accepted by the official SDK, and refused once it is changed. The SDKs are installed by
//! `tests/sdk/install DIR` and found through `COUNTERSIGN_SDK_DIR=DIR`; without them the tests say so and pass, unless
//! `COUNTERSIGN_SDK_REQUIRED=1`.

#![allow(clippy::disallowed_methods, missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "sdk/delivery.rs"]
mod delivery;
#[path = "sdk/interpreter.rs"]
mod interpreter;
#[path = "sdk/proxy.rs"]
mod proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use delivery::{
    Key, PLACEHOLDER, another_amount, body, changes, content_type, nonce, target, url, url_with_digest, with_signature,
};
use interpreter::Interpreter;
use proxy::{Folder, Proxy, Route, Upstream};

/// Writes a line past the capturing of the test harness.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Seconds since 1970.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn question(mode: &str, scheme: &str, key: &Key, url: &str, body: &[u8]) -> Value {
    json!({
        "mode": mode, "scheme": scheme, "secret": key.secret, "public_key": key.public, "method": "POST", "url": url,
        "body_base64": STANDARD.encode(body),
    })
}

/// A row of the report: scheme, SDK, what went wrong.
type Row = (String, String, Vec<String>);

/// Prints the verdicts, and fails if one is wrong.
fn report(title: &str, rows: &[Row]) {
    let mut table = format!("\n{title}\n{:<22} {:<38} {:<9} tampered\n", "scheme", "SDK", "genuine");
    for (scheme, sdk, wrong) in rows {
        let verdict = if wrong.is_empty() { "accepted  refused" } else { "WRONG" };
        table += &format!("{scheme:<22} {sdk:<38} {verdict}\n");
    }
    say(&table);
    let wrong =
        rows.iter().flat_map(|(scheme, sdk, wrong)| wrong.iter().map(move |why| format!("{scheme}, {sdk}: {why}")));
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every scheme of the SDKs behind one proxy.
struct House {
    folder: Folder,
    upstream: Upstream,
    routes: Vec<Route>,
    proxy: Proxy,
}

impl House {
    fn start(name: &str, schemes: BTreeSet<String>) -> Self {
        let folder = Folder::new(name);
        let upstream = Upstream::start();
        let routes: Vec<Route> =
            schemes.into_iter().map(|scheme| Route { key: Key::new(&scheme, 1), scheme }).collect();
        let proxy = Proxy::start(&folder, &routes, upstream.address);
        Self { folder, upstream, routes, proxy }
    }

    fn key(&self, scheme: &str) -> &Key {
        &self.routes.iter().find(|route| route.scheme == scheme).expect("every scheme has a route").key
    }

    /// Sends all changed forms of a delivery, and then itself. Gives what went wrong.
    fn deliver(&self, scheme: &str, url: &str, signature: &Signature, body: &[u8]) -> Vec<String> {
        let mut headers = signature.clone();
        headers.push(("Content-Type".to_owned(), content_type(scheme).to_owned()));
        let mut wrong = Vec::new();
        for (index, changed) in changes(scheme, body).iter().enumerate() {
            let status = self.proxy.send(target(url), &headers, changed);
            if status != 401 {
                wrong.push(format!("change {index} was answered {status}"));
            }
        }
        let arrived = self.upstream.take().len();
        if arrived > 0 {
            wrong.push(format!("{arrived} changed deliveries arrived"));
        }
        let status = self.proxy.send(target(url), &headers, body);
        if status != 200 {
            wrong.push(format!("the genuine delivery was answered {status}; it has {signature:?}"));
        }
        match self.upstream.take().as_slice() {
            [received] if received.body != body => wrong.push("the body arrived changed".to_owned()),
            [received] => {
                let changed = headers.iter().filter(|(name, value)| !received.has(name, value));
                wrong.extend(changed.map(|(name, _)| format!("{name} arrived changed")));
            }
            others => wrong.push(format!("{} requests arrived instead of one", others.len())),
        }
        wrong
    }
}

/// The headers that a signature consists of.
type Signature = Vec<(String, String)>;

#[test]
fn what_official_sdks_sign_passes_and_what_is_changed_does_not() {
    let mut sdks = Interpreter::all();
    if sdks.is_empty() {
        return;
    }
    let house = House::start("sdk-signs", sdks.iter().flat_map(|sdk| sdk.signers.keys().cloned()).collect());
    let mut rows = Vec::new();
    for sdk in &mut sdks {
        for (scheme, signer) in sdk.signers.clone() {
            let now = unix_now();
            let nonce = nonce(&signer);
            let body = body(&scheme, &nonce, now);
            let mut asked = question("sign", &scheme, house.key(&scheme), &url(&scheme), &body);
            asked["now"] = json!(now);
            asked["id"] = json!(format!("msg_{nonce}"));
            let signed = sdk.ask(&asked);
            let signature = serde_json::from_value::<BTreeMap<_, _>>(signed["headers"].clone()).expect("headers");
            let url = signed["url"].as_str().expect("the URL");
            let changed = signed["body_base64"].as_str().map(|text| STANDARD.decode(text).expect("base64"));
            let body = changed.unwrap_or(body);
            rows.push((scheme.clone(), signer, house.deliver(&scheme, url, &signature.into_iter().collect(), &body)));
        }
    }
    report("official SDKs sign, countersign run verifies", &rows);
}

#[test]
fn what_countersign_signs_official_sdks_and_the_proxy_accept_and_refuse_once_changed() {
    let mut sdks = Interpreter::all();
    if sdks.is_empty() {
        return;
    }
    let house = House::start("sdk-verifies", sdks.iter().flat_map(|sdk| sdk.verifiers.keys().cloned()).collect());
    let mut rows = Vec::new();
    for sdk in &mut sdks {
        for (scheme, verifier) in sdk.verifiers.clone() {
            let wrong = judge(sdk, &scheme, &verifier, &house);
            rows.push((scheme, verifier, wrong));
        }
    }
    report("countersign sign signs, official SDKs and countersign run verify", &rows);
}

/// What `countersign sign` signs, and what becomes of it, before the SDK and before the proxy.
fn judge(sdk: &mut Interpreter, scheme: &str, verifier: &str, house: &House) -> Vec<String> {
    let now = unix_now();
    let body = body(scheme, &nonce(verifier), now);
    let url = url_with_digest(scheme, &body);
    let key = house.key(scheme);
    let signed = Signed { scheme, url: &url, body: &body, id: &format!("msg_{}", nonce(verifier)), now };
    let mut verdict = |signature: &Signature, presented: &[u8]| {
        let mut asked = question("verify", scheme, key, &url, presented);
        let kind = [("Content-Type".to_owned(), content_type(scheme).to_owned())];
        asked["headers"] = signature.iter().chain(&kind).map(|(name, value)| (name.clone(), json!(value))).collect();
        let answer = sdk.ask(&asked);
        (answer["accepted"].as_bool().expect("a verdict"), answer["why"].to_string())
    };
    let (signature, body) = signed.with(key, &house.folder);
    let mut wrong = Vec::new();
    if let (false, why) = verdict(&signature, &body) {
        wrong.push(format!("what countersign signed is refused: {why}"));
    }
    if verdict(&signature, &another_amount(&body)).0 {
        wrong.push("a changed body is accepted".to_owned());
    }
    let (foreign, foreign_body) = signed.with(&Key::new(scheme, 2), &house.folder);
    if verdict(&foreign, &foreign_body).0 {
        wrong.push("a signature with another key is accepted".to_owned());
    }
    wrong.extend(house.deliver(scheme, &url, &signature, &body));
    wrong
}

/// What `countersign sign` is asked to sign.
struct Signed<'a> {
    scheme: &'a str,
    url: &'a str,
    body: &'a [u8],
    id: &'a str,
    now: u64,
}

impl Signed<'_> {
    /// The headers that `countersign sign` prints, and the body: with the signature in it, where it belongs there.
    fn with(&self, key: &Key, folder: &Folder) -> (Signature, Vec<u8>) {
        let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["sign", "--scheme", self.scheme, "--url", self.url, "--id", self.id, "--now", &self.now.to_string()])
            .args(["--header", &format!("Content-Type: {}", content_type(self.scheme))])
            .arg("--secret-file")
            .arg(folder.write("signing.secret", key.secret.as_bytes()))
            .arg("--body-file")
            .arg(folder.write("signing.body", self.body))
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "{}: {}", self.scheme, String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("headers are text");
        if text.starts_with("the field of the JSON body") || text.starts_with("the form field") {
            let value = text.trim_end().rsplit_once(": ").expect("the value").1;
            assert!(String::from_utf8_lossy(self.body).contains(PLACEHOLDER), "{}", self.scheme);
            return (Vec::new(), with_signature(self.scheme, self.body, value));
        }
        let fields = text.lines().map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no header: {line}")));
        let fields = fields.filter(|(name, _)| *name != "Content-Type");
        (fields.map(|(name, value)| (name.to_owned(), self.as_sent(value))).collect(), self.body.to_vec())
    }

    /// The value as the provider writes it. WorkOS sets a space after the comma, and its Python SDK insists on it;
    /// `countersign sign` writes none. The proxy takes both.
    fn as_sent(&self, value: &str) -> String {
        if self.scheme == "workos" { value.replace(",v1=", ", v1=") } else { value.to_owned() }
    }
}

/// The whole way with other people's tools: `countersign sign --format curl`, curl, the proxy, Python's HTTP server.
#[test]
fn curl_and_a_python_server_agree_on_every_byte() {
    let installed = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    if let Some(tool) = ["curl", "python3"].into_iter().find(|tool| !installed(tool)) {
        assert!(std::env::var("COUNTERSIGN_SDK_REQUIRED").as_deref() != Ok("1"), "{tool} is not installed");
        say(&format!("SKIPPED: {tool} is not installed; to enable, install it"));
        return;
    }
    let folder = Folder::new("sdk-curl");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/recorder.py");
    let mut recorder = Command::new("python3").arg(script).arg(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    BufReader::new(recorder.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let upstream = format!("127.0.0.1:{}", port.trim()).parse().expect("the recorder prints its port");
    let proxy = Proxy::start(&folder, &[Route { scheme: "github".to_owned(), key: Key::new("github", 1) }], upstream);

    // Every byte there is, in an order that is no text, and enough of it to come in several pieces.
    let body: Vec<u8> = (0..100_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let verdicts = [("genuine", body.clone()), ("changed", another_amount(&[&body[..], b"1.00"].concat()))].map(
        |(name, presented)| {
            let file = folder.write("delivery.bin", &body);
            let command = curl_command(&folder, proxy.address, &file);
            folder.write("delivery.bin", &presented);
            let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
            (name, String::from_utf8_lossy(&output.stdout).into_owned())
        },
    );
    let received = std::fs::read(folder.path().join("1.body"));
    let second = folder.path().join("2.body").exists();
    let _ = recorder.kill();
    let _ = recorder.wait();

    assert!(verdicts[0].1.contains("HTTP/1.1 200"), "{verdicts:?}");
    assert!(verdicts[1].1.contains("HTTP/1.1 401"), "{verdicts:?}");
    assert!(received.expect("the delivery arrived") == body, "the body arrived changed");
    assert!(!second, "the changed delivery arrived");
}

fn curl_command(folder: &Folder, proxy: std::net::SocketAddr, body: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["sign", "--scheme", "github", "--format", "curl", "--id", "1"])
        .args(["--url", &format!("http://{proxy}/webhooks/github")])
        .arg("--secret-file")
        .arg(folder.path().join("github.secret"))
        .arg("--body-file")
        .arg(body)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a command is text")
}
