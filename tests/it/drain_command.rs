//! `countersign drain`, as a preStop hook calls it.

use std::process::{Command, Output};

use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::folder::Folder;
use crate::support::{Application, Delivery, Driver, Program, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    deliveries_are_served_until_the_end,
    it_can_be_waited_for,
}

fn configured(folder: &Folder, driver: Driver, application: &Application, delay: &str) -> std::path::PathBuf {
    let text = Proxy::on(driver, application).drain(delay, "20s").text();
    let admin = folder.path("admin.sock");
    folder.write("countersign.toml", &format!("{text}\n[admin]\naddress = \"unix:{}\"\n", admin.display()))
}

fn drain(config: &std::path::Path, more: &[&str]) -> Output {
    Command::new(BINARY).args(["drain", "--config"]).arg(config).args(more).output().unwrap()
}

fn deliveries_are_served_until_the_end(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let config = configured(&folder, driver, &application, "4s");
    let mut program = Program::run(&config);
    let address = program.address();
    let output = drain(&config, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("draining, as after SIGTERM"), "{output:?}");
    // New clients are still served, and the SIGTERM that comes when the hook has ended shortens nothing.
    program.signal("TERM");
    // A worker hears of the drain a moment after the command has been answered.
    let closes = || {
        let answer = crate::support::Client::connect(address).ask(&Delivery::of(b"x").bytes());
        assert_eq!(answer.status, 200);
        answer.closes()
    };
    assert!(eventually(closes));
    // Asked again, it says so and changes nothing.
    assert!(String::from_utf8_lossy(&drain(&config, &[]).stdout).contains("draining already"));
    assert_eq!(program.end().0.code(), Some(0), "{:#?}", program.log());
}

fn it_can_be_waited_for(driver: Driver) {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let config = configured(&folder, driver, &application, "0s");
    let mut program = Program::run(&config);
    program.address();
    assert_eq!(drain(&config, &["--wait"]).status.code(), Some(0));
    assert!(eventually(|| program.has_ended()));
}

#[test]
fn a_process_that_does_not_answer_cannot_be_drained() {
    let (application, folder) = (Application::answering(OK), Folder::new());
    let config = configured(&folder, Driver::Epoll, &application, "0s");
    let output = drain(&config, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not answer"), "{output:?}");
}
