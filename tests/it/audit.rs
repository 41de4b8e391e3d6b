//! The audit trail of a running process: complete, provable, and no way around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use serde_json::{Value, json};

use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::folder::Folder;
use crate::support::secure::Authority;
use crate::support::{Application, Client, Delivery, Driver, Program, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    every_delivery_has_a_record,
    an_acceptance_that_could_not_be_passed_on_has_a_record,
    an_answer_waits_for_its_record,
    a_full_disk_refuses_deliveries,
    a_full_disk_may_be_passed_by,
    nothing_is_written_to_a_file_without_a_name,
    the_last_record_that_is_told_of_is_there,
    a_killed_process_leaves_a_trail_that_goes_on,
    a_trail_without_its_beginning_is_not_proven,
    the_chain_goes_on_in_other_files,
    what_deliveries_are_judged_by_is_recorded,
    a_forged_end_is_not_proven,
    a_killed_process_is_not_taken_for_a_forger,
}

const KEY: &str = "the-key-of-the-seals-0123456789";

fn audited(folder: &Folder, driver: Driver, application: &Application, keys: &str) -> PathBuf {
    folder.write("key", KEY);
    let text = Proxy::on(driver, application).replay("{ mode = \"enforce\" }").text();
    folder.write(
        "countersign.toml",
        &format!(
            "{text}\n[access_log]\noutput = \"off\"\n[audit]\nfile = \"audit.jsonl\"\n\
             key = {{ id = \"k\", file = \"key\" }}\n{keys}"
        ),
    )
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn deliveries(path: &Path) -> Vec<Value> {
    records(path).into_iter().filter(|record| record["event"] == "delivery").collect()
}

fn audit(folder: &Folder, arguments: &[&str]) -> (Output, String) {
    let output = Command::new(BINARY).arg("audit").args(arguments).current_dir(folder.path("")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

#[track_caller]
fn assert_whole(folder: &Folder, files: &[&str]) -> String {
    let (output, text) = audit(folder, &[&["verify", "--key-file", "key", "--key-id", "k"], files].concat());
    assert_eq!(output.status.code(), Some(0), "{text}");
    text
}

fn every_delivery_has_a_record(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let config = audited(&folder, driver, &application, "");
    let mut program = Program::run(&config);
    let mut client = program.connect();
    let mut ask = |delivery: &Delivery| client.ask(&delivery.bytes()).status;
    let genuine = Delivery::of(b"{\"a\":1}");
    assert_eq!((ask(&genuine), ask(&genuine), ask(&Delivery::forged(b"x"))), (200, 200, 401));
    assert_eq!(ask(&Delivery::of(b"x").line("POST /elsewhere HTTP/1.1")), 404);
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
    let trail = folder.path("audit.jsonl");
    let records = records(&trail);
    let events: Vec<&str> = records.iter().map(|record| record["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["start", "seal", "secret", "secret", "delivery", "delivery", "delivery", "stop", "seal"]);
    let sum = Command::new("sha256sum").arg(&config).output().unwrap().stdout;
    assert!(String::from_utf8(sum).unwrap().starts_with(records[0]["configuration"].as_str().unwrap()));
    for (record, outcome, reason, status, key) in [
        (&records[4], "passed", "forwarded", 200, json!("current")),
        (&records[5], "acknowledged", "duplicate", 200, json!("current")),
        (&records[6], "refused", "signature_mismatch", 401, Value::Null),
    ] {
        assert_eq!((&record["outcome"], &record["reason"]), (&json!(outcome), &json!(reason)), "{record}");
        assert_eq!((&record["status"], &record["key_id"]), (&json!(status), &key), "{record}");
        assert_eq!((&record["route"], &record["client"]), (&json!("hook"), &json!("127.0.0.1")), "{record}");
    }
    let digest = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862";
    assert_eq!(records[4]["body_sha256"], digest);
    let text = fs::read_to_string(&trail).unwrap();
    assert!(!text.contains("sha256=") && !text.contains("{\\\"a\\\"") && !text.contains(KEY));
    let told = assert_whole(&folder, &["audit.jsonl"]);
    assert!(told.contains("2 seals hold") && told.contains("whole: 9 records"), "{told}");
    // The last record is printed where it can be kept elsewhere, and then nothing can be cut off.
    let line = program.await_line("the audit trail ends with record 9:");
    let last = line.rsplit(' ').next().unwrap();
    assert!(told.contains(last), "{told}");
    assert_eq!(told.matches("proven: records 1 to 9 (audit.jsonl:1 to audit.jsonl:9)").count(), 1, "{told}");
    fs::write(folder.path("cut"), text.split_inclusive('\n').take(7).collect::<String>()).unwrap();
    let keyed = ["verify", "--key-file", "key", "--key-id", "k"];
    let (output, told) = audit(&folder, &[&keyed[..], &["cut"]].concat());
    let told_so =
        told.contains("proven: records 1 to 2 (") && told.contains("not proven yet: records 3 to 7 (cut:3 to ");
    assert!(output.status.code() == Some(0) && told_so && told.contains("whole: 7 records"), "{told}");
    let (output, told) = audit(&folder, &["verify", "cut", "--expect-last", last]);
    assert!(output.status.code() == Some(1) && told.contains("the last record is 7:"), "{told}");
    // What is known elsewhere needs no seal, and without either nothing is proven.
    let (output, told) = audit(&folder, &["verify", "audit.jsonl", "--expect-last", last]);
    assert!(output.status.code() == Some(0) && told.contains("whole: 9 records"), "{told}");
    let (output, told) = audit(&folder, &["verify", "audit.jsonl"]);
    assert!(output.status.code() == Some(1) && told.contains("not proven: records 1 to 9"), "{told}");
    let (output, told) = audit(&folder, &["verify", "audit.jsonl", "--key-file", "key", "--key-id", "other"]);
    assert!(output.status.code() == Some(1) && told.contains("no seal under the given keys"), "{told}");
    assert!(told.contains("sealed with the key `k`"), "{told}");
    fs::write(folder.path("changed"), text.replacen("\"status\":401", "\"status\":200", 1)).unwrap();
    let (output, told) = audit(&folder, &[&keyed[..], &["changed"]].concat());
    assert!(output.status.code() == Some(1) && told.contains("broken: changed:7: it has been changed"), "{told}");
    assert!(told.contains("proven: records 1 to 2 (") && told.contains("not proven yet: records 3 to 6"), "{told}");
    let (_, shown) = audit(&folder, &["show", "audit.jsonl", "--route", "hook", "--reason", "duplicate"]);
    assert_eq!(shown.lines().count(), 1, "{shown}");
    let (_, shown) = audit(&folder, &["show", "audit.jsonl", "--until", "2020-01-01T00:00:00Z"]);
    assert_eq!(shown, "");
}

/// A copy is acknowledged because of it, so it must be found in the trail.
fn an_acceptance_that_could_not_be_passed_on_has_a_record(driver: Driver) {
    let (application, folder) = (
        Application::answering(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
        Folder::new(),
    );
    let program = Program::run(&audited(&folder, driver, &application, "fsync = \"each\""));
    let mut client = program.connect();
    let delivery = Delivery::of(b"{}").bytes();
    assert_eq!(client.ask(&delivery).status, 502);
    // It was durable before the answer left.
    let trail = folder.path("audit.jsonl");
    let record = deliveries(&trail).pop().unwrap();
    for (name, value) in [
        ("outcome", json!("failed")),
        ("reason", json!("upstream_malformed")),
        ("rule", json!("content_length_twice")),
        ("status", json!(502)),
        ("accepted", json!(201)),
    ] {
        assert_eq!(record[name], value, "{name} in {record}");
    }
    assert_eq!(client.ask(&delivery).status, 200);
    let reasons: Vec<Value> = deliveries(&trail).into_iter().map(|record| record["reason"].clone()).collect();
    assert_eq!(reasons, [json!("upstream_malformed"), json!("duplicate")], "one record each");
}

fn an_answer_waits_for_its_record(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let program = Program::run(&audited(&folder, driver, &application, "fsync = \"each\""));
    let trail = folder.path("audit.jsonl");
    let mut client = program.connect();
    for count in 1..=20_usize {
        let delivery = Delivery::of(format!("{{\"n\":{count}}}").as_bytes());
        assert_eq!(client.ask(&delivery.bytes()).status, 200);
        // No waiting: the record was there before the answer.
        assert_eq!(deliveries(&trail).len(), count);
    }
}

/// With files that may not become larger than this many kibibytes: that is what a full disk looks like.
fn run_on_a_small_disk(config: &Path, kibibytes: u64) -> Program {
    // The shell counts in blocks of 512 bytes. The signal that comes with the limit is not what a full disk sends.
    let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$0\" run --config \"$1\"", kibibytes * 2);
    Program::start(Command::new("sh").arg("-c").arg(script).arg(BINARY).arg(config))
}

/// Sends deliveries until one is answered `status`.
#[track_caller]
fn send_until(client: &mut Client, status: u16, numbers: &mut impl Iterator<Item = u64>) -> u64 {
    let mut passed = 0;
    let met = eventually(|| {
        let delivery = Delivery::of(format!("{{\"n\":{}}}", numbers.next().unwrap()).as_bytes());
        let answer = client.ask(&delivery.bytes());
        assert!(answer.status == status || answer.status == 200 || answer.status == 503, "{}", answer.status);
        passed += u64::from(answer.status == 200);
        answer.status == status
    });
    assert!(met, "none was answered {status}");
    passed
}

fn a_full_disk_refuses_deliveries(driver: Driver) {
    for fsync in ["fsync = \"each\"", "interval = \"20ms\""] {
        let (application, folder) = (Application::answering(OK), Folder::new());
        let mut program = run_on_a_small_disk(&audited(&folder, driver, &application, fsync), 16);
        let (mut client, mut numbers) = (program.connect(), 0..);
        let passed = send_until(&mut client, 503, &mut numbers);
        assert!(passed > 10, "{passed}");
        program.await_line("the audit trail cannot be written: File too large");
        let reached = application.requests().len();
        for _ in 0..5 {
            let delivery = Delivery::of(format!("{{\"n\":{}}}", numbers.next().unwrap()).as_bytes());
            assert_eq!(client.ask(&delivery.bytes()).status, 503);
        }
        assert_eq!(application.requests().len(), reached, "nothing is forwarded");
        assert_whole(&folder, &["audit.jsonl"]);
        // There is room again.
        let Some(()) = lift_limit(&program) else { return };
        send_until(&mut client, 200, &mut numbers);
        program.await_line("the audit trail is written again");
        program.signal("TERM");
        assert_eq!(program.end().0.code(), Some(0));
        assert_whole(&folder, &["audit.jsonl"]);
        // Everything that the application has got has a record, and what was answered 200 among it.
        let recorded = deliveries(&folder.path("audit.jsonl"));
        let forwarded = recorded.iter().filter(|record| record["reason"] == "forwarded").count();
        assert_eq!(forwarded, application.requests().len());
    }
}

/// Nothing where there is no such program.
fn lift_limit(program: &Program) -> Option<()> {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &program.id().to_string(), "--fsize=unlimited"]);
    let done = command.status().is_ok_and(|status| status.success());
    if !done {
        eprintln!("left out: there is no prlimit");
    }
    done.then_some(())
}

fn a_full_disk_may_be_passed_by(driver: Driver) {
    for fsync in ["fsync = \"each\"", "interval = \"20ms\""] {
        let (application, folder) = (Application::answering(OK), Folder::new());
        let keys = format!("when_blocked = \"drop\"\n{fsync}");
        let mut program = run_on_a_small_disk(&audited(&folder, driver, &application, &keys), 16);
        let mut client = program.connect();
        for number in 0..4000 {
            let delivery = Delivery::of(format!("{{\"n\":{number}}}").as_bytes());
            assert_eq!(client.ask(&delivery.bytes()).status, 200);
        }
        program.await_line("the audit trail cannot be written");
        let Some(()) = lift_limit(&program) else { return };
        program.await_line("the audit trail is written again");
        program.signal("TERM");
        assert_eq!(program.end().0.code(), Some(0));
        assert_whole(&folder, &["audit.jsonl"]);
        let records = records(&folder.path("audit.jsonl"));
        let missing = records.iter().filter(|record| record["why"] == "blocked");
        let missing: u64 = missing.map(|record| record["count"].as_u64().unwrap()).sum();
        assert!(missing > 0);
        assert_eq!(deliveries(&folder.path("audit.jsonl")).len() as u64 + missing, 4000);
    }
}

/// Killed at any moment under load, again and again: what was acknowledged as durable is there, and the trail is whole.
fn nothing_is_written_to_a_file_without_a_name(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let mut program = Program::run(&audited(&folder, driver, &application, "interval = \"20ms\""));
    let (mut client, mut numbers) = (program.connect(), 0..);
    send_until(&mut client, 200, &mut numbers);
    // Another file cannot be opened under its name.
    fs::rename(folder.path("audit.jsonl"), folder.path("moved")).unwrap();
    fs::create_dir(folder.path("audit.jsonl")).unwrap();
    send_until(&mut client, 503, &mut numbers);
    program.await_line("the audit trail cannot be written: its file is gone, and there cannot be another");
    fs::remove_dir(folder.path("audit.jsonl")).unwrap();
    send_until(&mut client, 200, &mut numbers);
    program.await_line("the audit trail is written again");
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
    assert_whole(&folder, &["moved", "audit.jsonl"]);
    let recorded = ["moved", "audit.jsonl"].map(|file| deliveries(&folder.path(file))).concat();
    let forwarded = recorded.iter().filter(|record| record["reason"] == "forwarded").count();
    assert_eq!(forwarded, application.requests().len());
}

/// Also when others behind it could not be written any more.
fn the_last_record_that_is_told_of_is_there(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let config = audited(&folder, driver, &application, "when_blocked = \"drop\"");
    let script = "trap '' XFSZ; ulimit -f 16; exec \"$0\" run --config \"$1\"";
    let mut program = Program::start(Command::new("sh").arg("-c").arg(script).arg(BINARY).arg(config));
    let mut client = program.connect();
    let failing = || program.log().iter().any(|line| line.contains("the audit trail cannot be written"));
    let mut number = 0;
    assert!(eventually(|| {
        number += 1;
        assert_eq!(client.ask(&Delivery::of(format!("{number}").as_bytes()).bytes()).status, 200);
        failing()
    }));
    drop(client);
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
    let line = program.await_line("the audit trail ends with record ");
    let (told, lost) = line.split_once(" record ").unwrap().1.split_once("; ").unwrap_or_else(|| panic!("{line}"));
    assert!(lost.ends_with(" behind it could not be written") && lost.as_bytes()[0] != b'0', "{line}");
    let (output, text) = audit(&folder, &["verify", "audit.jsonl", "--expect-last", told]);
    assert_eq!(output.status.code(), Some(0), "{line}: {text}");
}

/// What an attacker without the key can do: another number, another line before it, another hash.
fn made_anew(lines: &[String]) -> String {
    let (mut before, mut text) = ("0".repeat(64), String::new());
    for (number, line) in lines.iter().enumerate() {
        let entry = &line[line.find("\"time\":").unwrap()..line.rfind(",\"hash\":").unwrap()];
        let whole = format!("{{\"seq\":{},\"prev\":\"{before}\",{entry}", number + 1);
        let digest = ring::digest::digest(&ring::digest::SHA256, whole.as_bytes());
        before = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("{whole},\"hash\":\"{before}\"}}\n");
    }
    text
}

/// Everything behind the first seal is thinned out and chained anew, with seals under a key that does not exist or
/// without any: neither is proven, not even when a process has gone on behind it and sealed it.
fn a_forged_end_is_not_proven(driver: Driver) {
    let forging = [("seal_every = \"1s\"", false, "too_many"), ("seal_every = \"1s\"", true, "other_key")];
    for (keys, sealed, why) in forging {
        let (application, folder) = (Application::answering(OK), Folder::new());
        let config = audited(&folder, driver, &application, keys);
        let mut program = Program::run(&config);
        let mut client = program.connect();
        for number in 0..400 {
            assert_eq!(client.ask(&Delivery::of(format!("{number}").as_bytes()).bytes()).status, 200);
        }
        program.signal("TERM");
        assert_eq!(program.end().0.code(), Some(0));
        assert_whole(&folder, &["audit.jsonl"]);
        let trail = folder.path("audit.jsonl");
        let text = fs::read_to_string(&trail).unwrap();
        let is_seal = |line: &str| line.contains("\"event\":\"seal\"");
        let first = text.lines().position(is_seal).unwrap();
        let kept = text.lines().enumerate().filter(|(number, line)| *number <= first || !is_seal(line));
        let mut lines: Vec<String> = kept
            .filter(|(number, line)| *number <= first || number % 3 > 0 && !line.contains("\"event\":\"stop\""))
            .map(|(_, line)| line.to_owned())
            .collect();
        if sealed {
            let seal = text.lines().rfind(|line| is_seal(line)).unwrap();
            lines.push(seal.replace("\"key_id\":\"k\"", "\"key_id\":\"unknown\""));
        }
        fs::write(&trail, made_anew(&lines)).unwrap();
        let verify = ["verify", "audit.jsonl", "--key-file", "key", "--key-id", "k"];
        let (output, told) = audit(&folder, &verify);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let range = format!("not proven: records {} to {} (", first + 2, lines.len());
        assert!(told.contains(&range) && told.contains("\nnot proven: "), "{told}");
        // The next process says so, in the trail, too, and its seals do not make it any better.
        let mut program = Program::run(&config);
        program.await_line(&format!("records {} to {} are NOT PROVEN", first + 2, lines.len()));
        assert_eq!(program.connect().ask(&Delivery::of(b"after").bytes()).status, 200);
        program.signal("TERM");
        assert_eq!(program.end().0.code(), Some(0));
        let records = records(&trail);
        let [unproven] = records.iter().filter(|record| record["event"] == "unproven").collect::<Vec<_>>()[..] else {
            panic!("no record about it")
        };
        assert_eq!((&unproven["first"], &unproven["last"]), (&json!(first + 2), &json!(lines.len())), "{unproven}");
        assert_eq!(unproven["why"], why);
        let (output, told) = audit(&folder, &verify);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(&range) && told.contains(&format!("proven: records {} to ", lines.len() + 1)), "{told}");
        // One more has nothing to add.
        let mut program = Program::run(&config);
        program.address();
        program.signal("TERM");
        program.end();
        assert!(!program.log().iter().any(|line| line.contains("PROVEN")));
    }
}

/// A process that is killed leaves what it has not sealed, and that is all that is said of it.
fn a_killed_process_is_not_taken_for_a_forger(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let config = audited(&folder, driver, &application, "fsync = \"each\"");
    let program = Program::run(&config);
    let mut client = program.connect();
    for number in 0..10 {
        assert_eq!(client.ask(&Delivery::of(format!("{number}").as_bytes()).bytes()).status, 200);
    }
    drop(program);
    let told = assert_whole(&folder, &["audit.jsonl"]);
    assert!(told.contains("proven: records 1 to 2 (") && told.contains("not proven yet: records 3 to 14"), "{told}");
    let mut program = Program::run(&config);
    program.await_line("records 3 to 14 are not proven: the process that wrote them was killed");
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
    let told = assert_whole(&folder, &["audit.jsonl"]);
    assert!(told.contains("not proven: records 3 to 14 (") && told.contains("whole: "), "{told}");
}

#[test]
fn a_file_that_is_no_trail_is_left_as_it_is() {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let config = audited(&folder, Driver::Epoll, &application, "");
    for text in ["the only line, without an end", "a line\nand the beginning of another"] {
        let path = folder.write("audit.jsonl", text);
        let mut program = Program::run(&config);
        assert_eq!(program.end().0.code(), Some(2));
        program.await_line("audit trail ");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    // What a crash of the machine may leave.
    folder.write("audit.jsonl", "{\"se\0\0\0");
    let program = Program::run(&config);
    program.await_line(" ready: ");
    // The writer has a thread of its own.
    let path = folder.path("audit.jsonl");
    assert!(eventually(|| records(&path).iter().any(|record| record["event"] == "torn_line_removed")));
}

/// Half of a trail is not to be taken for the whole, but a reader may have enough.
#[test]
fn what_cannot_be_printed_is_no_success() {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let mut program = Program::run(&audited(&folder, Driver::Epoll, &application, ""));
    assert_eq!(program.connect().ask(&Delivery::of(b"x").bytes()).status, 200);
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
    let trail = folder.path("audit.jsonl");
    for command in ["verify", "show"] {
        let mut audit = Command::new(BINARY);
        audit.args(["audit", command]).arg(&trail).current_dir(folder.path(""));
        if command == "verify" {
            audit.args(["--key-file", "key", "--key-id", "k"]);
        }
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = audit.stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("standard output cannot be written: No space"));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = audit.stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{command}");
    }
}

fn a_killed_process_leaves_a_trail_that_goes_on(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let config = audited(&folder, driver, &application, "fsync = \"each\"\nrotate_size = \"64KiB\"");
    let mut acknowledged = Vec::new();
    let count = Arc::new(AtomicUsize::new(0));
    for round in 0..4_usize {
        let program = Program::run(&config);
        let address = program.address();
        let deliver = |lane| {
            let count = Arc::clone(&count);
            std::thread::spawn(move || deliver_until_cut(address, round * 4 + lane, &count))
        };
        let clients: Vec<_> = (0..4_usize).map(deliver).collect();
        // However slow the machine is, the process is killed in the middle of its work.
        assert!(eventually(|| count.load(Relaxed) > 20 * (round + 1)));
        std::thread::sleep(std::time::Duration::from_millis(37 * round as u64));
        drop(program);
        acknowledged.extend(clients.into_iter().flat_map(|client| client.join().unwrap()));
    }
    let mut program = Program::run(&config);
    program.address();
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
    let files = files(&folder);
    assert_whole(&folder, &files.iter().map(String::as_str).collect::<Vec<_>>());
    let recorded: std::collections::HashSet<String> = files
        .iter()
        .flat_map(|file| deliveries(&folder.path(file)))
        .map(|record| record["body_sha256"].as_str().unwrap().to_owned())
        .collect();
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
    let lost = acknowledged.iter().filter(|digest| !recorded.contains(*digest)).count();
    assert_eq!(lost, 0, "of {}", acknowledged.len());
}

/// The SHA-256 of the bodies that were answered 200.
fn deliver_until_cut(address: std::net::SocketAddr, lane: usize, count: &AtomicUsize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut client = Client::connect(address);
    for number in 0.. {
        let body = format!("{{\"n\":\"{lane}-{number}\"}}");
        let delivery = Delivery::of(body.as_bytes());
        if !client.try_send(&delivery.bytes()) {
            break;
        }
        let Ok(answer) = client.try_answer() else { break };
        assert_eq!(answer.status, 200);
        count.fetch_add(1, Relaxed);
        let digest = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
        acknowledged.push(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect());
    }
    acknowledged
}

/// The files of the trail.
fn files(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("audit.jsonl")).collect()
}

/// Without its first file a trail is proven only for an operator who says that this file is not given on purpose.
fn a_trail_without_its_beginning_is_not_proven(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let config = audited(&folder, driver, &application, "interval = \"20ms\"");
    let run = || {
        let mut program = Program::run(&config);
        program.address();
        program.signal("TERM");
        assert_eq!(program.end().0.code(), Some(0));
    };
    run();
    let last = records(&folder.path("audit.jsonl")).len();
    fs::rename(folder.path("audit.jsonl"), folder.path(&format!("audit.jsonl.{last:012}"))).unwrap();
    run();
    let verify = |more: &[&str]| {
        let known = ["verify", "--key-file", "key", "--key-id", "k"];
        let (output, told) = audit(&folder, &[&known[..], more].concat());
        (output.status.code(), told)
    };
    let first = format!("audit.jsonl.{last:012}");
    assert_eq!(verify(&[&first, "audit.jsonl"]).0, Some(0));
    let (_, told) = verify(&[&first]);
    let link = told.rsplit("the last is ").next().unwrap().trim().to_owned();
    let (code, told) = verify(&["audit.jsonl"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(&format!("not proven from its beginning: records 1 to {last} are not")), "{told}");
    // What is at the end is another matter: knowing it does not bring back the beginning.
    let end = told.rsplit("the last is ").next().unwrap().trim().to_owned();
    assert_eq!(verify(&["audit.jsonl", "--expect-last", &end]).0, Some(1));
    for after in [last.to_string(), link.clone()] {
        let (code, told) = verify(&["audit.jsonl", "--after", &after]);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.lines().last().unwrap().starts_with("whole: "), "{told}");
    }
    let (code, told) = verify(&["audit.jsonl", "--after", &(last - 1).to_string()]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("does not follow record"), "{told}");
    let other = format!("{last}:{}", "0".repeat(64));
    let (code, told) = verify(&["audit.jsonl", "--after", &other]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("broken: audit.jsonl:1: "), "{told}");
    assert_eq!(verify(&["audit.jsonl", "--after", "yesterday"]).0, Some(2));
}

fn the_chain_goes_on_in_other_files(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let config = audited(&folder, driver, &application, "interval = \"20ms\"\nrotate_size = \"64KiB\"");
    let mut program = Program::run(&config);
    let mut client = program.connect();
    let mut numbers = 0..;
    let mut send = |client: &mut Client| {
        let delivery = Delivery::of(format!("{{\"n\":{}}}", numbers.next().unwrap()).as_bytes());
        assert_eq!(client.ask(&delivery.bytes()).status, 200);
    };
    assert!(eventually(|| {
        (0..50).for_each(|_| send(&mut client));
        files(&folder).len() >= 3
    }));
    // A second process cannot write to the same trail.
    let mut second = Program::run(&config);
    assert_eq!(second.end().0.code(), Some(2));
    second.await_line("another process writes it");
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
    // A process that stopped between two files.
    let set_aside = format!("audit.jsonl.{:012}", records(&folder.path("audit.jsonl")).len() + 1_000_000);
    fs::rename(folder.path("audit.jsonl"), folder.path(&set_aside)).unwrap();
    let mut program = Program::run(&config);
    send(&mut program.connect());
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
    let files = files(&folder);
    let told = assert_whole(&folder, &files.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!told.contains("begins with record"), "{told}");
    // A torn line at the end is removed, and that is recorded.
    let trail = folder.path("audit.jsonl");
    let text = fs::read_to_string(&trail).unwrap();
    fs::write(&trail, format!("{text}{{\"seq\":7,\"prev")).unwrap();
    let mut program = Program::run(&config);
    program.address();
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
    assert!(records(&trail).iter().any(|record| record["event"] == "torn_line_removed" && record["bytes"] == 14));
    assert_whole(&folder, &files.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Keys, certificates and authorities in files of their own, each changed, added or removed: what they were and are
/// stands in the trail by fingerprint, and nothing by which a secret could be guessed.
fn what_deliveries_are_judged_by_is_recorded(driver: Driver) {
    let (application, folder, ours) = (Application::answering(OK), Folder::new(), Authority::new("ours"));
    let theirs = Authority::new("theirs");
    let put = |name: &str, text: &str| {
        let path = folder.write(&format!("{name}.new"), text);
        fs::rename(path, folder.path(name)).unwrap();
    };
    let (first, second) = (ours.certify(&["localhost"]), ours.certify(&["localhost"]));
    for (name, text) in [
        ("seals", KEY),
        ("old", "an-old-secret-0123456789"),
        ("new", "a-new-secret-0123456789"),
        ("ca.crt", &ours.pem()),
        ("tls.crt", &first.certificate),
        ("tls.key", &first.key),
    ] {
        folder.write(name, text);
    }
    let (name, upstream) = (driver.name(), application.address());
    let text = format!(
        "[server]\nworkers = 1\ndriver = \"{name}\"\ndrain_delay = \"0s\"\ndrain_grace = \"0s\"\n\
         [reload]\nwatch = false\npoll = \"0s\"\n[audit]\nfile = \"audit.jsonl\"\n\
         key = {{ id = \"k\", file = \"seals\" }}\n[[listener]]\naddress = \"127.0.0.1:0\"\n[listener.tls]\n\
         certificate = \"tls.crt\"\nkey = \"tls.key\"\nclient_ca = \"ca.crt\"\n[upstream]\naddress = \"{upstream}\"\n\
         [[route]]\nname = \"hook\"\npath = \"/hook\"\nscheme = \"github\"\nsecrets = [{{ id = \"1\", file = \"old\" }}]\n"
    );
    let config = folder.write("countersign.toml", &text);
    let mut program = Program::run(&config);
    program.address();
    let reload = |generation: u32| {
        program.signal("HUP");
        program.await_line(&format!("reloaded generation={generation}"));
    };
    put("old", "another-secret-0123456789");
    reload(2);
    put("countersign.toml", &text.replace("\"old\" }", "\"old\" }, { id = \"2\", file = \"new\" }"));
    reload(3);
    put("tls.key", &second.key);
    put("tls.crt", &second.certificate);
    put("ca.crt", &theirs.pem());
    reload(4);
    put("countersign.toml", &text);
    reload(5);
    put("old", "an-old-secret-0123456789");
    reload(6);
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
    let trail = folder.path("audit.jsonl");
    let written = records(&trail);
    let told: Vec<String> = written.iter().filter_map(judged_by).collect();
    let expected = [
        "secret hook 1 in_force",
        "certificate 127.0.0.1:0 tls.crt in_force",
        "authority 127.0.0.1:0 in_force",
        "configuration 2",
        "secret hook 1 changed",
        "configuration 3",
        "secret hook 2 added",
        "configuration 4",
        "authority 127.0.0.1:0 removed",
        "certificate 127.0.0.1:0 tls.crt changed",
        "authority 127.0.0.1:0 added",
        "configuration 5",
        "secret hook 2 removed",
        "configuration 6",
        "secret hook 1 changed",
    ];
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(told.clone()), sorted(expected.map(str::to_owned).to_vec()), "{told:#?}");
    let of_first: Vec<&Value> = written.iter().filter(|it| it["event"] == "secret" && it["key_id"] == "1").collect();
    let [start, changed, back] = of_first.as_slice() else { panic!("{of_first:?}") };
    assert_eq!(start["fingerprint"].as_str().map(str::len), Some(16));
    assert_eq!(changed["fingerprint_before"], start["fingerprint"]);
    assert_eq!(back["fingerprint_before"], changed["fingerprint"]);
    assert_eq!((&back["fingerprint"], back["fingerprint"] != changed["fingerprint"]), (&start["fingerprint"], true));
    let certificate = written.iter().find(|it| it["event"] == "certificate" && it["change"] == "changed").unwrap();
    for (name, pem) in [("fingerprint_before", &first.certificate), ("fingerprint", &second.certificate)] {
        assert_eq!(certificate[name], crate::reload_tls::fingerprint(pem));
    }
    // Not even a plain digest of a secret.
    let text = fs::read_to_string(&trail).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, b"an-old-secret-0123456789");
    let digest: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    assert!(!text.contains("-secret-") && !text.contains(&digest) && !text.contains("PRIVATE"));
    let (output, told) = audit(&folder, &["verify", "--key-file", "seals", "--key-id", "k", "audit.jsonl"]);
    assert_eq!(output.status.code(), Some(0), "{told}");
}

/// A record of what deliveries are judged by, in words.
fn judged_by(record: &Value) -> Option<String> {
    let event = record["event"].as_str()?;
    if event == "configuration" {
        return Some(format!("configuration {}", record["generation"]));
    }
    let members = ["event", "route", "key_id", "listener", "file", "change"];
    let words: Vec<&str> = members.into_iter().filter_map(|name| record[name].as_str()).collect();
    matches!(event, "secret" | "certificate" | "authority").then(|| words.join(" "))
}
