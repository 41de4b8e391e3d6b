//! docs/explain.md: ten typical answers of `explain`, as the program gives them.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::child::BINARY;
use crate::support::delivery::github_signature;
use crate::support::folder::Folder;

const SECRET: &str = "correct-horse-battery-staple-0123456789";
const AT: &str = "1760000000";

/// What is refused: the words of the page, the scheme, more arguments, what stands in the file, head and body.
struct Refused {
    words: &'static str,
    scheme: &'static str,
    more: &'static [&'static str],
    file: String,
    head: String,
    body: &'static str,
}

fn github(words: &'static str, file: &str, signed: &str, body: &'static str) -> Refused {
    let head = format!("X-Hub-Signature-256: {}", github_signature(SECRET, signed.as_bytes()));
    Refused { words, scheme: "github", more: &[], file: file.to_owned(), head, body }
}

fn tag(algorithm: ring::hmac::Algorithm, content: &str) -> Vec<u8> {
    ring::hmac::sign(&ring::hmac::Key::new(algorithm, SECRET.as_bytes()), content.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn refused() -> [Refused; 10] {
    let body = r#"{"id":1,"name":"Zoë"}"#;
    let sha1 = hex(&tag(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, body));
    let of_url = STANDARD.encode(tag(ring::hmac::HMAC_SHA256, &format!("https://shop.example/hooks{body}")));
    let old = hex(&tag(ring::hmac::HMAC_SHA256, &format!("1759990000.{body}")));
    let square = Refused {
        words: "A proxy listens on another port than the one that the sender knows.",
        scheme: "square",
        more: &["--url", "https://shop.example:8443/hooks"],
        head: format!("x-square-hmacsha256-signature: {of_url}"),
        ..github("", SECRET, body, body)
    };
    let stripe = Refused {
        words: "A delivery that was sent again some hours later.",
        scheme: "stripe",
        head: format!("Stripe-Signature: t=1759990000,v1={old}"),
        ..github("", SECRET, body, body)
    };
    let with_head = |words, name: &str| {
        let it = github(words, SECRET, body, body);
        Refused { head: it.head.replace("X-Hub-Signature-256", name), ..it }
    };
    [
        github("An editor has added a newline to the body.", SECRET, body, "{\"id\":1,\"name\":\"Zoë\"}\n"),
        github("The line of an environment file was copied.", &format!("GITHUB_SECRET={SECRET}\n"), body, body),
        github("`json.dumps` has written the body again.", SECRET, body, r#"{"id": 1, "name": "Zo\u00eb"}"#),
        square,
        with_head("A gateway has renamed the header.", "X_Hub_Signature_256"),
        stripe,
        Refused {
            head: format!("X-GitHub-Event: push\r\nX-Hub-Signature: sha1={sha1}"),
            ..with_head("Only the older signature has come.", "")
        },
        github("An access token was entered as the secret.", "ghp_0123456789abcdefghijABCDEFGHIJ456789", body, body),
        Refused { head: "User-Agent: curl/8.5.0".to_owned(), ..with_head("Nothing is signed.", "") },
        github("The secret is another one: nothing explains it.", "of-another-sender-0123456789", body, body),
    ]
}

const HEAD: &str = "# Why was it refused? Ten typical answers

`countersign explain` names the mistake: what it was, what to do, and how sure that is. *Proven: with that corrected the
signature matches* means that the engine has judged the request without the mistake. *It can be seen in the request* needs no
proof. *Likely … by its looks* is a guess from the form of a secret or a body. [How to call it](commands.md#why-was-a-delivery-refused).

This page is made of the program's own answers; `BLESS=1 cargo test --test it explained_page` writes it.
";

#[test]
fn ten_typical_answers_are_those_of_the_program() {
    let folder = Folder::new();
    let mut page = HEAD.to_owned();
    for (number, refused) in refused().iter().enumerate() {
        folder.write("secret", &refused.file);
        let Refused { head, body, words, .. } = refused;
        let length = body.len();
        let request =
            format!("POST /hooks HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {length}\r\n{head}\r\n\r\n{body}");
        folder.write("request", &request);
        let given = ["explain", "--request", "request", "--scheme", refused.scheme, "--secret-file", "secret"];
        let arguments = [&given[..], refused.more, &["--at", AT]].concat();
        let output = Command::new(BINARY).args(&arguments).current_dir(folder.path("")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(!text.contains(SECRET), "{text}");
        let command = arguments.join(" ");
        page.push_str(&format!("\n## {}. {words}\n\n```console\n$ countersign {command}\n{text}```\n", number + 1));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/explain.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/explain.md is another; BLESS=1 writes it:\n{page}");
}
