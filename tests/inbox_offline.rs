//! `countersign inbox` on a directory that no process has.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use countersign::control::inbox::directory::Directory;
use countersign::control::inbox::keys::{InboxKey, random_salt};
use countersign::control::inbox::shelf::{Shelf, ShelfTerms};
use countersign::inbox::delivery::{DeliveryId, DeliveryReason};
use countersign::inbox::fresh::FreshDelivery;
use countersign::inbox::store::{Committed, DeliveryStore, Settled, Settlement};
use countersign::now::Now;
use serde_json::Value;

/// A directory that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("inbox-offline-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn now() -> Now {
    Now::at_unix(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap())
}

fn shelf(path: &Path, keys: Vec<InboxKey>) -> Shelf {
    let terms = ShelfTerms {
        size: 64 << 20,
        dead_size: 16 << 20,
        deliveries: 1_000,
        retention: 0,
        drops_oldest: false,
        durable: true,
        keys: keys.into(),
        salt: Box::new(random_salt),
    };
    Shelf::open(Box::new(Directory::open(path).unwrap()), terms, now()).unwrap()
}

/// Five deliveries, the first two of them dead.
fn filled(folder: &Folder, keys: Vec<InboxKey>) -> Vec<DeliveryId> {
    let mut shelf = shelf(&folder.0.join("inbox"), keys);
    let bodies: Vec<String> = (0..5).map(|number| format!("{{\"order\":{number}}}")).collect();
    let batch: Vec<FreshDelivery<'_>> = bodies
        .iter()
        .map(|body| FreshDelivery {
            route: "orders",
            head: b"POST /hook HTTP/1.1\r\nHost: app\r\n",
            body: body.as_bytes(),
            accepted: u64::try_from(now().unix_millis()).unwrap(),
            order_key: [0; 16],
            seen_key: [0; 32],
            seen_also: &[],
            seen_until: 0,
        })
        .collect();
    let mut done = Committed::default();
    shelf.commit(&batch, &[], now(), &mut done).unwrap();
    let ids: Vec<DeliveryId> = done.accepted.iter().map(|row| row.id).collect();
    let reason = DeliveryReason::RefusedByApplication;
    let dies = |id: &DeliveryId| Settlement {
        id: *id,
        redrives: 0,
        attempts: 1,
        status: 400,
        reason,
        settled: Settled::Dead { reason },
        awaited: true,
    };
    let deaths: Vec<Settlement> = ids.iter().take(2).map(dies).collect();
    shelf.commit(&[], &deaths, now(), &mut done).unwrap();
    assert_eq!(shelf.standing().dead, 2);
    ids
}

/// The exit code, what was printed, and what was complained of.
fn countersign(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    let output = command.arg("inbox").args(arguments).env_remove("COUNTERSIGN_ADMIN").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(arguments: &[&str]) -> Value {
    let (code, out, err) = countersign(&[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    serde_json::from_str(&out).unwrap()
}

fn states(directory: &str) -> Vec<(String, String)> {
    let listed = json(&["list", "--directory", directory]);
    let of = |it: &Value, name: &str| it[name].as_str().unwrap().to_owned();
    listed["deliveries"].as_array().unwrap().iter().map(|it| (of(it, "id"), of(it, "state"))).collect()
}

#[test]
fn dead_letters_are_listed_shown_redriven_and_purged() {
    let folder = Folder::new("letters");
    let ids: Vec<String> = filled(&folder, Vec::new()).iter().map(ToString::to_string).collect();
    let directory = folder.path("inbox");
    let run = |arguments: &[&str]| countersign(&[arguments, &["--directory", &directory]].concat());
    let dead = json(&["list", "--state", "dead", "--directory", &directory]);
    let first = &dead["deliveries"][0];
    assert_eq!((first["id"].as_str(), first["reason"].as_str()), (Some(&*ids[0]), Some("refused_by_application")));
    assert_eq!((&first["status"], &first["attempts"]), (&Value::from(400), &Value::from(1)));
    let (code, out, _) = run(&["list"]);
    assert!(code == 0 && ids.iter().all(|id| out.contains(id)) && out.contains("refused_by_application"), "{out}");
    assert_eq!(json(&["stats", "--directory", &directory])["standing"]["dead"], 2);
    let body = folder.path("body");
    assert_eq!(run(&["show", &ids[1], "--body", &body]).0, 0);
    assert_eq!(fs::read_to_string(&body).unwrap(), "{\"order\":1}");
    assert!(run(&["show", &ids[1]]).1.contains("POST /hook HTTP/1.1"));
    assert_eq!(run(&["show", "0000000000000"]).0, 1);
    // A dry run changes nothing; a redrive of one leaves the other one.
    assert_eq!(run(&["redrive", "--all", "--dry-run"]).0, 0);
    assert_eq!(states(&directory).iter().filter(|(_, state)| state == "dead").count(), 2);
    let (code, out, _) = run(&["redrive", &ids[0]]);
    assert!(code == 0 && out.contains("1 deliveries are attempted again"), "{out}");
    assert_eq!(run(&["redrive", &ids[0]]).0, 1, "it is not dead any more");
    let shown = json(&["show", &ids[0], "--directory", &directory]);
    assert_eq!((&shown["deliveries"][0]["redrives"], &shown["deliveries"][0]["attempts"]), (&1.into(), &0.into()));
    // Nothing is removed without --yes, and what waits only where that is said.
    assert!(run(&["purge", "--all"]).1.contains("--yes"));
    assert_eq!(run(&["purge", "--all", "--yes"]).0, 0);
    let left = states(&directory);
    assert_eq!(left.len(), 4);
    assert!(left.iter().all(|(_, state)| state == "waiting"));
    assert_eq!(run(&["redrive"]).0, 2, "which ones?");
    assert_eq!(run(&["list", "--state", "alive"]).0, 2);
    assert_eq!(run(&["hold", "orders"]).0, 0);
    assert_eq!(json(&["stats", "--directory", &directory])["held_routes"][0], "orders");
    assert_eq!(run(&["release", "--route", "orders"]).0, 0);
    let (code, _, err) = run(&["hold", "bills\norders\u{1b}[31m"]);
    assert!(code == 2 && err.contains("is no name of a route") && !err.contains('\u{1b}'), "{err}");
    assert_eq!(json(&["stats", "--directory", &directory])["held_routes"], serde_json::json!([]));
    // Names of exported files are known beforehand: a link that lies there is not followed.
    let (exported, elsewhere) = (folder.path("exported"), folder.path("elsewhere"));
    fs::create_dir(&exported).unwrap();
    fs::write(&elsewhere, "mine").unwrap();
    for ending in ["http", "new"] {
        std::os::unix::fs::symlink(&elsewhere, format!("{exported}/{}.{ending}", ids[4])).unwrap();
    }
    assert_eq!(run(&["export", &exported]).0, 0);
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
    let kept = fs::symlink_metadata(format!("{exported}/{}.http", ids[4])).unwrap();
    assert!(kept.is_file() && std::os::unix::fs::PermissionsExt::mode(&kept.permissions()) & 0o777 == 0o600);
    let message = fs::read(Path::new(&exported).join(format!("{}.http", ids[4]))).unwrap();
    assert_eq!(message, b"POST /hook HTTP/1.1\r\nHost: app\r\n\r\n{\"order\":4}");
}

#[test]
fn a_directory_that_a_process_has_is_refused() {
    let folder = Folder::new("taken");
    let _shelf = shelf(&folder.0.join("inbox"), Vec::new());
    let (code, _, err) = countersign(&["list", "--directory", &folder.path("inbox")]);
    assert!(code == 2 && err.contains("a process has this directory"), "{err}");
    assert_eq!(countersign(&["list", "--directory", &folder.path("none")]).0, 2);
    assert!(!Path::new(&folder.path("none")).exists());
}

#[test]
fn a_damaged_file_is_named_and_salvaged_with_its_key() {
    let folder = Folder::new("damaged");
    fs::write(folder.path("key"), "5a".repeat(32)).unwrap();
    let key = InboxKey::parse("2026", vec![0x5a; 32]).unwrap();
    let ids = filled(&folder, vec![key]);
    let (directory, key) = (folder.path("inbox"), format!("2026={}", folder.path("key")));
    let verified = json(&["verify", &directory, "--key", &key]);
    assert_eq!(verified["ok"], true);
    let (code, out, _) = countersign(&["verify", &directory]);
    assert!(code == 1 && out.contains("\"2026\""), "{out}");
    let file = Path::new(&directory).join("inbox-00000001.redb");
    let mut bytes = fs::read(&file).unwrap();
    bytes[..64].iter_mut().for_each(|byte| *byte ^= 0xff);
    fs::write(&file, bytes).unwrap();
    assert_eq!(countersign(&["verify", &directory, "--key", &key]).0, 1);
    let file = file.to_str().unwrap();
    let (code, out, err) = countersign(&["salvage", file, "--key", &key, "--dry-run"]);
    assert!(code == 0 && out.contains("deliveries can be salvaged"), "{out}{err}");
    let (code, out, err) = countersign(&["salvage", file, "--key", &key]);
    assert!(code == 0 && out.contains("3 dead letters"), "{out}{err}");
    let listed = json(&["list", "--reason", "salvaged", "--directory", &directory, "--key", &key]);
    assert_eq!(listed["deliveries"].as_array().unwrap().len(), 3);
    let body = folder.path("body");
    let id = ids[3].to_string();
    assert_eq!(countersign(&["show", &id, "--directory", &directory, "--key", &key, "--body", &body]).0, 0);
    assert_eq!(fs::read_to_string(&body).unwrap(), "{\"order\":3}");
}
