//! The log of the process: as text and as JSON, from which level on, and what its first line says.

use serde_json::Value;

use crate::support::folder::Folder;
use crate::support::{Program, eventually};

/// A configuration with this `[log]`.
fn configured(folder: &Folder, log: &str) {
    folder.write("secret", "0123456789abcdef0123456789abcdef");
    folder.write(
        "countersign.toml",
        &format!(
            "[server]\nworkers = 1\ndrain_delay = '0s'\n[[listener]]\naddress = '127.0.0.1:0'\n[upstream]\naddress = '127.0.0.1:9'\n\
             [access_log]\noutput = 'off'\n{log}\n\
             [[route]]\nname = 'hook'\npath = '/hook'\nscheme = 'github'\nsecrets = [{{ id = '1', file = 'secret' }}]\n"
        ),
    );
}

#[test]
fn the_first_line_says_what_runs_and_by_which_configuration() {
    let folder = Folder::new();
    configured(&folder, "");
    let program = Program::run(&folder.path("countersign.toml"));
    let ready = program.await_line(" ready: ");
    let first = program.log().remove(0);
    let (version, path) = (env!("CARGO_PKG_VERSION"), folder.path("countersign.toml"));
    let expected = format!("INFO  countersign {version} starts: configuration={} driver=", path.display());
    assert!(first.contains(&expected), "{first}");
    let driver = |line: &str| line.split("driver=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    assert_eq!(driver(&first), driver(&ready));
}

#[test]
fn as_json_every_line_is_an_object() {
    let folder = Folder::new();
    configured(&folder, "[log]\nformat = 'json'");
    let mut program = Program::run(&folder.path("countersign.toml"));
    program.await_line("ready: ");
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
    let lines: Vec<Value> = program.log().iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.len() > 3, "{lines:?}");
    for line in &lines {
        let level = line["level"].as_str().unwrap();
        assert!(["info", "warn", "error"].contains(&level) && line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    assert!(lines[0]["message"].as_str().unwrap().starts_with("countersign "), "{}", lines[0]);
    assert_eq!(lines.last().unwrap()["message"], "stopped");
}

#[test]
fn a_reload_changes_how_it_looks_and_what_is_left_out() {
    let folder = Folder::new();
    configured(&folder, "");
    let program = Program::run(&folder.path("countersign.toml"));
    program.await_line(" ready: ");
    configured(&folder, "[log]\nformat = 'json'");
    let line = program.await_line("reloaded generation=2");
    assert!(serde_json::from_str::<Value>(&line).is_ok() && line.contains("[log]"), "{line}");
    configured(&folder, "[log]\nformat = 'json'\nlevel = 'error'");
    program.signal("HUP");
    let before = program.log().len();
    // Only a failure has a line now.
    configured(&folder, "[log]\nformat = 'json'\nlevel = 'loud'");
    program.await_line("not one of the choices");
    let since = program.log().split_off(before);
    assert!(
        eventually(|| !since.is_empty()) && since.iter().all(|line| line.contains("\"level\":\"error\"")),
        "{since:#?}"
    );
}
