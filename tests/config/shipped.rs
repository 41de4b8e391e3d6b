//! The files that we ship.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use countersign::config::parse_str;
use countersign::config::section::access_log::AccessLogSettings;
use countersign::config::section::limits::LimitSettings;
use countersign::config::section::reload::ReloadSettings;
use countersign::config::section::server::ServerSettings;
use countersign::config::section::upstream::UpstreamSettings;
use countersign::config::settings::vocabulary;
use countersign::gate::verify::TOKENS;
use toml::de::{DeTable, DeValue};

use crate::support::directory;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

/// All keys of a table, with their paths and without positions.
fn keys(table: &DeTable<'_>, path: &str, found: &mut BTreeSet<String>) {
    for (key, value) in table.iter() {
        let path = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
        match value.get_ref() {
            DeValue::Table(table) => keys(table, &path, found),
            DeValue::Array(array) => {
                array.iter().filter_map(|item| item.get_ref().as_table()).for_each(|t| keys(t, &path, found))
            }
            _ => {}
        }
        found.insert(path);
    }
}

#[test]
fn the_example_has_every_key_and_every_default() {
    let text = fs::read_to_string(shipped("example.toml")).unwrap();
    let (settings, warnings) = parse_str("example.toml", &text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(warnings.len(), 3, "{warnings}");
    assert_eq!((settings.server, settings.limits), (ServerSettings::default(), LimitSettings::default()));
    assert_eq!((settings.upstream, settings.reload), (UpstreamSettings::default(), ReloadSettings::default()));
    assert_eq!(settings.access_log, AccessLogSettings::default());
    // What is written there is what counts if nothing is.
    let short = text.split("\nfsync = ").next().unwrap().to_owned() + &text[text.find("\n[[route]]").unwrap()..];
    let (short, _) = parse_str("example.toml", &short).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(settings.audit, short.audit);
    assert!(settings.audit.is_some());
    let mut written = BTreeSet::new();
    keys(DeTable::parse(&text).unwrap().get_ref(), "", &mut written);
    // Places of a scheme or a handshake exclude each other, and so do an address and sentinels, a directory and an engine, and TLS
    // to an application and an application in plain text, as most are: it is enough that the comments have them.
    let excluding = [
        "scheme.",
        "handshake.",
        "ranges.",
        "shared.sentinel",
        "shared.service",
        "shared.cluster",
        "inbox.trust_engine",
        "upstream.tls",
    ];
    let (schemes, known): (BTreeSet<String>, BTreeSet<String>) =
        vocabulary(&text).into_iter().partition(|key| excluding.iter().any(|start| key.starts_with(start)));
    assert!(schemes.contains("scheme.mycompany.signature.form"), "{schemes:?}");
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let silent: Vec<_> = schemes.iter().filter(|key| !words.contains(key.rsplit('.').next().unwrap())).collect();
    assert!(silent.is_empty(), "{silent:?}");
    // A public key has the same fields as a secret, where the example has all of them.
    let compared = |key: &String| {
        let left_out = ["scheme.", "handshake.", "ranges.", "route.public_keys.", "route.challenge_tokens."];
        !left_out.iter().any(|start| key.starts_with(start))
    };
    let written: Vec<String> = written.into_iter().filter(compared).collect();
    let known: Vec<String> = known.into_iter().filter(compared).collect();
    assert_eq!(written, known);
}

#[test]
fn the_example_explains_every_token() {
    let text = fs::read_to_string(shipped("example.toml")).unwrap();
    let tokens = TOKENS.split(';').next().unwrap().split_whitespace().filter(|word| word.starts_with('{'));
    for token in tokens.chain(["{{ and }}"]) {
        let token = token.replace("{header:NAME}", "{header:Name}");
        let lines = text.lines().filter(|line| line.starts_with(&format!("#   {token} ")));
        assert_eq!(lines.count(), 1, "{token}");
    }
}

#[test]
fn the_file_of_every_provider_loads() {
    let directory = directory();
    let mut count = 0;
    for entry in fs::read_dir(shipped("providers")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // 32 bytes in base64, which every kind of secret accepts.
        directory.write(&format!("secrets/{name}"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=\n");
        directory.write(
            &format!("secrets/{name}.pub"),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\n",
        );
        let loaded = directory.load(&fs::read_to_string(&path).unwrap());
        let loaded = loaded.unwrap_or_else(|problems| panic!("{name}: {problems}"));
        // Some providers sign weakly, and nothing in the file can change that.
        let others = loaded.warnings.iter().filter(|problem| problem.place.key_path != "route[0].scheme");
        assert_eq!(others.count(), 0, "{name}: {}", loaded.warnings);
        assert!(loaded.gate.routes.resolve(b"x", &format!("/webhooks/{name}"), b"POST").is_ok(), "{name}");
        count += 1;
    }
    assert!(count >= 10);
}

#[test]
fn the_files_for_kubernetes_are_understood() {
    // The ConfigMaps are checked by tests/kubernetes.rs.
    let entries = fs::read_dir(shipped("kubernetes")).unwrap().map(|entry| entry.unwrap().path());
    for path in entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let text = fs::read_to_string(&path).unwrap();
        // What is commented out must hold too.
        let all = text.replace("# client_", "client_");
        for text in [&text, &all] {
            let (settings, warnings) = parse_str("shipped.toml", text).unwrap_or_else(|problems| panic!("{problems}"));
            assert!(warnings.is_empty() && settings.listeners[0].tls.is_some(), "{warnings}");
        }
        assert!(all.contains("\nclient_ca"));
    }
}
