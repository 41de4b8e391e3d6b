//! The manifests that are shipped: the configuration in them holds and fits its memory, the sidecar in them is the one that
//! `countersign inject` writes, and what is made of other files is as they are. `.ci/run manifests` validates them against the
//! schemas of Kubernetes.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign::config::{load, worst_case};
use countersign::inject::sidecar::SidecarOptions;
use countersign::inject::tree::{Node, NodeKind, parse};
use countersign::inject::{InjectionOptions, inject};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join("config/kubernetes").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn value(node: &Node) -> Value {
    match &node.kind {
        NodeKind::Map { entries, .. } => {
            entries.iter().map(|(key, it)| (key.text().unwrap().to_owned(), value(it))).collect()
        }
        NodeKind::List { items, .. } => items.iter().map(value).collect(),
        NodeKind::Scalar { text, is_plain: true } => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        NodeKind::Scalar { text, .. } => json!(text),
        NodeKind::Alias => panic!("no aliases here"),
    }
}

/// The objects of a file.
fn objects(name: &str) -> Vec<Value> {
    let documents = parse(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    documents.iter().filter_map(|document| document.root.as_ref()).map(value).collect()
}

fn of_kind(name: &str, kind: &str) -> Value {
    objects(name).into_iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("{name} has no {kind}"))
}

fn manifests() -> Vec<String> {
    let of = |folder: &str| {
        let entries = fs::read_dir(root().join("config/kubernetes").join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".yaml")).map(|name| format!("{folder}{name}")).collect::<Vec<_>>()
    };
    [of(""), of("component/"), of("shared/")].concat()
}

fn options(plain: bool) -> InjectionOptions {
    let sidecar = SidecarOptions {
        image: concat!("countersign:", env!("CARGO_PKG_VERSION")).to_owned(),
        config_map: "countersign".to_owned(),
        secret: "countersign-secrets".to_owned(),
        listen: 8443,
        admin: 9090,
        seccomp: None,
        plain,
    };
    InjectionOptions { sidecar, port: None, workload: None }
}

#[test]
fn every_configuration_holds_and_fits_its_memory() {
    let mut count = 0;
    for name in manifests() {
        let is_ours = |object: &&Value| object["kind"] == "ConfigMap" && object["data"]["countersign.toml"].is_string();
        for object in objects(&name).iter().filter(is_ours) {
            let folder = std::env::temp_dir().join(format!("countersign-kubernetes-{}-{count}", std::process::id()));
            for part in ["secrets", "secrets-shared"] {
                fs::create_dir_all(folder.join(part)).unwrap();
            }
            let authority = authority();
            for (file, content) in [
                ("secrets/github", "0123456789abcdef0123456789abcdef"),
                ("secrets-shared/password", "a-password"),
                ("secrets-shared/key", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
                ("secrets-shared/ca.crt", &authority),
            ] {
                let secret = folder.join(file);
                fs::write(&secret, content).unwrap();
                let private = Command::new("chmod").args(["600"]).arg(&secret).status().unwrap();
                assert!(private.success());
            }
            let text = object["data"]["countersign.toml"].as_str().unwrap();
            let path = folder.join("countersign.toml");
            fs::write(&path, text.replace("/etc/countersign/", &format!("{}/", folder.display()))).unwrap();
            let loaded = load(&path).unwrap_or_else(|problems| panic!("{name}: {problems}"));
            assert!(loaded.warnings.is_empty(), "{name}: {}", loaded.warnings);
            // The container has 64Mi, and the process itself needs a part of it.
            assert!(worst_case(&loaded.settings, 1) <= 56 << 20, "{name}: {}", worst_case(&loaded.settings, 1));
            let check = Command::new(env!("CARGO_BIN_EXE_countersign")).args(["check", "--config"]).arg(&path).output();
            assert!(check.unwrap().status.success(), "{name}");
            fs::remove_dir_all(&folder).unwrap();
            count += 1;
        }
    }
    assert!(count >= 4);
}

/// The certificate of an authority, in PEM.
fn authority() -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

/// The engine of the replicas: what is written in several files of the example, and in the documentation, is the same.
#[test]
fn the_engine_that_replicas_share_is_the_one_that_they_are_told_of() {
    let text = |name: &str, kind: &str, key: &str| of_kind(name, kind)["data"][key].as_str().unwrap().to_owned();
    let config = text("shared/configmap.yaml", "ConfigMap", "countersign.toml");
    let plain = text("component/configmap.yaml", "ConfigMap", "countersign.toml");
    let lines: Vec<&str> = config.lines().collect();
    assert!(plain.lines().all(|line| lines.contains(&line)), "it is that of the component, and more");
    let service = of_kind("shared/redis.yaml", "Service");
    let (name, port) = (service["metadata"]["name"].as_str().unwrap(), &service["spec"]["ports"][0]["port"]);
    assert!(config.contains(&format!("address = \"rediss://{name}:{port}\"")), "{name}:{port}");
    let redis = text("shared/redis.yaml", "ConfigMap", "redis.conf");
    for line in ["tls-port 6379", "appendonly yes", "appendfsync always", "maxmemory-policy noeviction"] {
        assert!(redis.lines().any(|it| it == line), "{line}");
    }
    let certificates = objects("shared/redis-certificate.yaml");
    let certificate =
        certificates.iter().find(|it| it["metadata"]["name"] == name && it["kind"] == "Certificate").unwrap();
    assert_eq!(certificate["spec"]["dnsNames"], json!([name]));
    let set = of_kind("shared/redis.yaml", "StatefulSet");
    let pod = &set["spec"]["template"];
    let policy = of_kind("shared/networkpolicy.yaml", "NetworkPolicy");
    assert_eq!(policy["spec"]["podSelector"]["matchLabels"], pod["metadata"]["labels"]);
    assert_eq!(policy["spec"]["ingress"][0]["ports"][0]["port"], *port);
    let callers = &of_kind("deployment.yaml", "Deployment")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"], *callers);
    assert_eq!(of_kind("shared/replicas.yaml", "Deployment")["spec"]["replicas"], 3);
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let secrets: Vec<&Value> =
        volumes.iter().map(|it| &it["secret"]["secretName"]).filter(|it| it.is_string()).collect();
    assert_eq!(
        secrets,
        [&of_kind("shared/redis-secret.yaml", "Secret")["metadata"]["name"], &certificate["spec"]["secretName"]]
    );
    // The user is that of the documentation, and its password the one that the replicas have.
    let password = of_kind("shared/replicas-secret.yaml", "Secret")["stringData"]["password"].clone();
    let page = fs::read_to_string(root().join("docs/replicas.md")).unwrap();
    let documented = page.lines().find(|line| line.starts_with("user countersign ")).unwrap();
    let users = of_kind("shared/redis-secret.yaml", "Secret")["stringData"]["users.acl"].clone();
    let users: Vec<&str> = users.as_str().unwrap().lines().collect();
    assert_eq!(users, ["user default off", &documented.replace("PASSWORD", password.as_str().unwrap())]);
}

#[test]
fn the_sidecar_is_the_one_that_inject_writes() {
    for (name, plain) in [("deployment.yaml", false), ("deployment-plain.yaml", true)] {
        let text = read(name);
        let injected = inject(&text, &options(plain)).unwrap();
        assert_eq!(injected.text, text, "{name}");
        assert!(!injected.notes.iter().any(|note| note.contains("preStop")), "{:?}", injected.notes);
    }
    let pod = |name: &str| of_kind(name, "Deployment")["spec"]["template"]["spec"].clone();
    let (shipped, patch) = (pod("deployment.yaml"), pod("component/sidecar.yaml"));
    assert_eq!(patch["initContainers"], shipped["initContainers"]);
    assert_eq!(patch["volumes"], shipped["volumes"]);
    assert_eq!(patch["terminationGracePeriodSeconds"], shipped["terminationGracePeriodSeconds"]);
    assert_eq!(patch["securityContext"]["fsGroup"], shipped["securityContext"]["fsGroup"]);
    let kept = |name: &str| of_kind(name, "ConfigMap")["data"].clone();
    assert_eq!(kept("component/configmap.yaml"), kept("deployment.yaml"));
    assert_eq!(kept("deployment-plain.yaml"), kept("deployment.yaml"));
}

#[test]
fn names_agree_between_files() {
    let container = of_kind("deployment.yaml", "Deployment")["spec"]["template"]["spec"]["initContainers"][0].clone();
    let ports = |at: usize| container["ports"][at].clone();
    let monitor = of_kind("podmonitor.yaml", "PodMonitor");
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], ports(1)["name"]);
    assert_eq!(of_kind("deployment.yaml", "Service")["spec"]["ports"][0]["targetPort"], ports(0)["name"]);
    assert_eq!(of_kind("component/service.yaml", "Service")["spec"]["ports"][0]["targetPort"], ports(0)["name"]);
    let policy = of_kind("networkpolicy.yaml", "NetworkPolicy");
    for at in 0..2 {
        assert_eq!(policy["spec"]["ingress"][at]["ports"][0]["port"], ports(at)["containerPort"]);
    }
    let secret = "countersign-secrets";
    assert_eq!(of_kind("externalsecret.yaml", "ExternalSecret")["spec"]["target"]["name"], secret);
    assert_eq!(of_kind("secretproviderclass.yaml", "SecretProviderClass")["metadata"]["name"], secret);
    // Restricted Pod Security.
    let security = &container["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
}

#[test]
fn the_rules_are_those_that_are_tested_each_with_a_runbook() {
    let made = Command::new("python3").arg(root().join("config/kubernetes/prometheusrule")).output();
    let Ok(made) = made else { return eprintln!("left out: python3 is not installed") };
    assert_eq!(
        String::from_utf8(made.stdout).unwrap(),
        read("prometheusrule.yaml"),
        "make it anew: config/kubernetes/prometheusrule"
    );
    let page = fs::read_to_string(root().join("docs/alerts.md")).unwrap();
    let rules = of_kind("prometheusrule.yaml", "PrometheusRule")["spec"]["groups"][0]["rules"].clone();
    let rules = rules.as_array().unwrap();
    assert!(rules.len() > 10);
    for rule in rules {
        let alert = rule["alert"].as_str().unwrap();
        assert!(page.contains(&format!("\n## {alert}\n")), "docs/alerts.md has no {alert}");
        let runbook = rule["annotations"]["runbook_url"].as_str().unwrap();
        assert!(runbook.ends_with(&format!("#{}", alert.to_lowercase())), "{runbook}");
    }
    assert_eq!(page.matches("\n## ").count(), rules.len(), "docs/alerts.md has an alert that there is not");
}

#[test]
fn both_forms_of_the_seccomp_profile_say_the_same() {
    let mut profile: Value = serde_json::from_str(&read("seccomp.json")).unwrap();
    // The operator's object has no field for it.
    assert!(profile.as_object_mut().unwrap().remove("defaultErrnoRet").is_some());
    assert_eq!(of_kind("seccompprofile.yaml", "SeccompProfile")["spec"], profile);
    let allowed = profile["syscalls"][0]["names"].as_array().unwrap();
    for name in ["io_uring_setup", "io_uring_enter", "io_uring_register", "execve", "accept4"] {
        assert!(allowed.iter().any(|it| it == name), "{name}");
    }
    for name in [
        "bpf",
        "mount",
        "unshare",
        "ptrace",
        "keyctl",
        "setns",
        "init_module",
        "kexec_load",
        "perf_event_open",
        "userfaultfd",
    ] {
        assert!(!allowed.iter().any(|it| it == name), "{name}");
    }
}

#[test]
fn every_file_is_one_or_more_objects() {
    let patches = ["vault-agent.yaml", "component/kustomization.yaml", "shared/kustomization.yaml"];
    for name in manifests() {
        for object in objects(&name).iter().filter(|_| !patches.contains(&name.as_str())) {
            assert!(object["apiVersion"].is_string() && object["metadata"]["name"].is_string(), "{name}: {object}");
        }
    }
    for folder in ["component", "shared"] {
        let component = &objects(&format!("{folder}/kustomization.yaml"))[0];
        let patches = component["patches"].as_array().unwrap().iter().map(|patch| &patch["path"]);
        for file in patches.chain(component["resources"].as_array().unwrap()) {
            let file = file.as_str().unwrap();
            assert!(root().join("config/kubernetes").join(folder).join(file).exists(), "{folder}/{file}");
        }
    }
    let paths: Vec<PathBuf> = manifests().iter().map(PathBuf::from).collect();
    assert!(paths.len() >= 12, "{paths:?}");
}
