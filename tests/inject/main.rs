//! `countersign inject`: manifests as they are found in the world, with the sidecar added (snapshots), added twice, and taken
//! out again.
//!
//! `COUNTERSIGN_WRITE_SNAPSHOTS=1 cargo test --test inject` writes the snapshots anew.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use countersign::inject::sidecar::SidecarOptions;
use countersign::inject::tree::{Node, NodeKind, parse};
use countersign::inject::{InjectError, InjectionOptions, inject, remove};
use proptest::prelude::*;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inject").join(name)
}

/// Every manifest, with its name.
fn cases() -> Vec<(String, String)> {
    let files = fs::read_dir(folder("cases")).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    cases.sort();
    assert!(cases.len() >= 12);
    cases
}

fn options() -> InjectionOptions {
    let sidecar = SidecarOptions {
        image: "registry.example/countersign:1.0.0".to_owned(),
        config_map: "countersign".to_owned(),
        secret: "countersign-secrets".to_owned(),
        listen: 8443,
        admin: 9090,
        seccomp: None,
        plain: false,
    };
    InjectionOptions { sidecar, port: None, workload: None }
}

/// What the case needs beside the usual.
fn options_of(name: &str) -> InjectionOptions {
    let mut options = options();
    match name {
        "several-ports.yaml" => options.port = Some(3000),
        "two-workloads.yaml" => options.workload = Some("web".to_owned()),
        "stateful-set.yaml" => options.sidecar.plain = true,
        "daemon-set.yaml" => options.sidecar.seccomp = Some("profiles/countersign.json".to_owned()),
        _ => {}
    }
    options
}

#[test]
fn every_manifest_gets_what_its_snapshot_has() {
    for (name, text) in cases() {
        let injected = inject(&text, &options_of(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let notes: String = injected.notes.iter().map(|note| format!("# note: {note}\n")).collect();
        let found = if name.ends_with(".json") { injected.text.clone() } else { notes + &injected.text };
        let path = folder("snapshots").join(&name);
        if std::env::var_os("COUNTERSIGN_WRITE_SNAPSHOTS").is_some() {
            fs::create_dir_all(folder("snapshots")).unwrap();
            fs::write(&path, &found).unwrap();
        }
        assert_eq!(found, fs::read_to_string(&path).unwrap(), "{name}");
    }
}

#[test]
fn twice_is_once_and_taken_out_it_is_as_before() {
    for (name, text) in cases() {
        let options = options_of(&name);
        let once = inject(&text, &options).unwrap().text;
        assert_ne!(once, text, "{name}");
        assert_eq!(inject(&once, &options).unwrap().text, once, "{name}: twice");
        assert_eq!(remove(&once).unwrap(), text, "{name}: taken out");
        assert_eq!(remove(&text).unwrap(), text, "{name}: there was nothing to take out");
        // With other options it is replaced.
        let mut newer = options.clone();
        newer.sidecar.image = "registry.example/countersign:2.0.0".to_owned();
        newer.sidecar.plain = !newer.sidecar.plain;
        assert_eq!(inject(&once, &newer).unwrap(), inject(&text, &newer).unwrap(), "{name}: replaced");
    }
}

/// As a cluster or a tool gives it back: as JSON, with keys in the order of the alphabet.
fn sorted(node: &Node) -> String {
    match &node.kind {
        NodeKind::Map { entries, .. } => {
            let mut pairs: Vec<_> =
                entries.iter().map(|(key, value)| format!("{:?}: {}", key.text().unwrap(), sorted(value))).collect();
            pairs.sort();
            format!("{{{}}}", pairs.join(", "))
        }
        NodeKind::List { items, .. } => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(", ")),
        NodeKind::Scalar { text, is_plain: true } if text == "null" || text.is_empty() => "null".to_owned(),
        NodeKind::Scalar { text, is_plain: true }
            if text.parse::<f64>().is_ok() || ["true", "false"].contains(&&**text) =>
        {
            text.clone()
        }
        NodeKind::Scalar { text, .. } => serde_json::to_string(text).unwrap(),
        NodeKind::Alias => "null".to_owned(),
    }
}

#[test]
fn what_a_tool_has_written_anew_is_taken_out_all_the_same() {
    for (name, text) in cases() {
        let once = inject(&text, &options_of(&name)).unwrap().text;
        let anew = |text: &str| -> Vec<String> {
            parse(text).unwrap().iter().filter_map(|document| document.root.as_ref()).map(sorted).collect()
        };
        for (position, before) in anew(&text).iter().enumerate() {
            let after = remove(&anew(&once)[position]).unwrap();
            let json = |text: &str| -> serde_json::Value {
                serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"))
            };
            assert_eq!(json(&after), json(before), "{name}");
        }
    }
}

#[test]
fn what_cannot_be_decided_is_asked_for() {
    let text = |name: &str| fs::read_to_string(folder("cases").join(name)).unwrap();
    let refused = |text: &str, options: &InjectionOptions| match inject(text, options) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was injected"),
    };
    assert!(
        refused(&text("several-ports.yaml"), &options()).contains("several ports (3000, 9102): name one with --port")
    );
    assert!(refused(&text("two-workloads.yaml"), &options()).contains("several workloads (web, worker)"));
    let mut other = options();
    other.workload = Some("none".to_owned());
    assert!(refused(&text("minimal.yaml"), &other).contains("no workload is called \"none\"; there are shop"));
    let mut taken = options();
    taken.sidecar.listen = 9000;
    assert!(refused(&text("minimal.yaml"), &taken).contains("has port 9000, which the sidecar needs"));
    assert!(matches!(inject("kind: Service", &options()), Err(InjectError::NoWorkload(_))));
    assert!(matches!(inject("a: [", &options()), Err(InjectError::NotYaml(_))));
    let nothing =
        text("minimal.yaml").replace("    spec:\n      containers", "    spec:\n      volumes:\n      containers");
    assert!(refused(&nothing, &options()).contains("a sequence is expected"));
    let no_port = text("minimal.yaml").replace("        ports:\n        - containerPort: 9000\n", "");
    assert!(refused(&no_port, &options()).contains("--port"));
}

#[test]
fn what_the_workload_has_already_is_neither_taken_out_nor_there_twice() {
    let text = fs::read_to_string(folder("cases/minimal.yaml")).unwrap();
    let refused = |text: &str| inject(text, &options()).unwrap_err().to_string();
    let own = text.replace("      - name: shop\n", "      - name: countersign\n");
    assert_ne!(own, text);
    assert_eq!(remove(&own).unwrap(), own);
    assert!(refused(&own).starts_with("containers of shop have one with the name countersign already"));
    let spec = "    spec:\n      containers:\n";
    let own = text.replace(
        spec,
        "    spec:\n      volumes:\n      - name: countersign-config\n        emptyDir: {}\n      containers:\n",
    );
    assert_eq!(remove(&own).unwrap(), own);
    assert!(refused(&own).starts_with("volumes of shop have one with the name countersign-config already"));
    // An init container that has a port of the sidecar, which is there before it.
    let init = "    spec:\n      initContainers:\n      - name: proxy\n        ports: [{ containerPort: 9090 }]\n      containers:\n";
    assert!(refused(&text.replace(spec, init)).contains("has port 9090, which the sidecar needs"));
}

#[test]
fn what_keeps_the_port_of_the_application_open_is_said() {
    let text = fs::read_to_string(folder("cases/minimal.yaml")).unwrap();
    let notes = |text: &str| inject(text, &options()).unwrap().notes.join("\n");
    assert!(!notes(&text).contains("NetworkPolicy") && !notes(&text).contains("hostNetwork"));
    let host =
        text.replace("    spec:\n      containers:\n", "    spec:\n      hostNetwork: true\n      containers:\n");
    assert!(notes(&host).contains("for which no NetworkPolicy counts"), "{}", notes(&host));
    let policy = |labels: &str| {
        format!("{text}---\nkind: NetworkPolicy\nmetadata: {{ name: open }}\nspec: {{ podSelector: {{ {labels} }} }}\n")
    };
    for labels in ["", "matchLabels: { app: shop }"] {
        let said = notes(&policy(labels));
        assert!(said.contains("the NetworkPolicy open of the input concerns the same pods"), "{said}");
    }
    assert!(!notes(&policy("matchLabels: { app: other }")).contains("concerns the same pods"));
}

#[test]
fn ports_that_only_a_service_names_stay_reachable() {
    let text = fs::read_to_string(folder("cases/minimal.yaml")).unwrap();
    let service = "---\nkind: Service\nmetadata: { name: s }\nspec:\n  selector: { app: shop }\n  ports:\n  - { port: 80, targetPort: 9000 }\n  - { port: 81, targetPort: 9001 }\n  - { port: 53, protocol: UDP }\n";
    let injected = inject(&format!("{text}{service}"), &options()).unwrap().text;
    let (_, policy) = injected.rsplit_once("ports:\n").unwrap();
    let open: Vec<&str> = policy.lines().map(|line| line.trim().trim_start_matches("- ")).collect();
    let open: Vec<[&str; 2]> = open.chunks(2).map(|pair| [pair[0], pair[1]]).collect();
    let (tcp, udp) = ("protocol: TCP", "protocol: UDP");
    assert_eq!(open, [[tcp, "port: 8443"], [tcp, "port: 9090"], [tcp, "port: 9001"], [udp, "port: 53"]]);
}

#[test]
fn what_has_to_be_made_a_manifest_first_is_said() {
    let refused = |text: &str| inject(text, &options()).unwrap_err().to_string();
    assert!(
        refused("kind: Kustomization\nresources: [a.yaml]\n").contains("kubectl kustomize FOLDER | countersign inject")
    );
    assert!(refused("kind: CronJob\n---\nkind: Service\n").ends_with(", only CronJob, Service"));
    let text = fs::read_to_string(folder("cases/minimal.yaml")).unwrap();
    assert!(
        refused(&text.replace("  name: shop\n", "  name: {{ .Release.Name }}\n")).contains("has to be rendered first")
    );
    let broken = text.replace("  name: shop\n", "  name: shop\n  {{- with .Values.labels }}\n");
    assert!(
        refused(&broken).contains("a template (Helm, for instance) has to be rendered first"),
        "{}",
        refused(&broken)
    );
}

fn run(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .arg("inject")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn every_byte_of_a_text_from_another_system_stays() {
    let text = fs::read_to_string(folder("cases/with-service.yaml")).unwrap();
    // What a terminal would not be shown, in a comment.
    let text = text.replacen('\n', " # \u{5e9}\u{5dc}\u{200f}\n", 1);
    for before in [text.clone(), text.replace('\n', "\r\n"), format!("\u{feff}{text}"), text.trim_end().to_owned()] {
        let (code, injected, notes) = run(&[], &before);
        assert_eq!(code, Some(0), "{notes}");
        assert_eq!(injected.matches("\r\n").count() > 0, before.contains('\r'));
        assert!(!before.contains('\r') || injected.matches('\n').count() == injected.matches("\r\n").count());
        assert_eq!(run(&[], &injected).1, injected, "twice");
        assert_eq!(run(&["--remove"], &injected).1, before, "taken out");
        let (_, diff, _) = run(&["--dry-run"], &before);
        let taken = diff.lines().filter(|line| line.starts_with('-') && !line.starts_with("---")).count();
        assert!(
            diff.contains("+      initContainers:") && taken <= 3,
            "grace period, targetPort, the last line: {diff}"
        );
    }
}

#[test]
fn the_command_reads_standard_input_and_shows_a_diff() {
    let text = fs::read_to_string(folder("cases/minimal.yaml")).unwrap();
    let (code, injected, notes) = run(&["--image", "registry.example/countersign:1.0.0"], &text);
    assert_eq!((code, &injected), (Some(0), &inject(&text, &options()).unwrap().text));
    assert!(notes.contains("127.0.0.1:9000") && notes.contains("no Service in the input"), "{notes}");
    assert_eq!(run(&["--remove", "-"], &injected), (Some(0), text.clone(), String::new()));
    let (_, diff, _) = run(&["--dry-run"], &text);
    assert!(diff.contains("+      initContainers:") && diff.contains("+kind: NetworkPolicy"), "{diff}");
    assert!(!diff.contains("\n-  "), "nothing is taken away: {diff}");
    let (_, diff, _) = run(&["--dry-run", "--image", "registry.example/countersign:1.0.0"], &injected);
    assert_eq!(diff, "");
    assert_eq!(run(&[], "kind: Pod").0, Some(2));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the text is, nothing panics, and what is injected is taken out again.
    #[test]
    fn mutilated_manifests_do_no_harm(case in 0_usize..12, cut in any::<prop::sample::Index>(), byte in any::<char>()) {
        let (name, mut text) = cases().swap_remove(case);
        let at = (0..=cut.index(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        text.insert(at, byte);
        if let Ok(injected) = inject(&text, &options_of(&name)) {
            let without = remove(&text).unwrap();
            prop_assert_eq!(remove(&injected.text).unwrap(), without);
        }
    }
}
