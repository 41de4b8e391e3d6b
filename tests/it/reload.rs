//! Changes of files take effect on a proxy that runs: whatever way they are made, all together or not at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use countersign::config::load::load_noting;
use countersign::control::event_log::EventLog;
use countersign::control::plan::plan;
use countersign::control::reload::{self, Start};
use countersign::control::reloader::{ReloadError, ReloadStatus, Reloaded};
use countersign::control::resolver::Resolver;
use countersign::control::supervisor::{self, Applied, Witnesses};
use countersign::edge::worker::Observer;
use countersign::telemetry::exchange::Exchange;

use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::folder::Folder;
use crate::support::{Application, Delivery, Driver, Program, eventually, on_both_drivers};

on_both_drivers! {
    a_secret_written_in_place,
    a_secret_replaced_by_editors,
    a_secret_deleted_and_recreated,
    a_directory_deleted_and_recreated,
    a_directory_replaced_by_another,
    a_directory_that_appears_later,
    a_link_that_is_retargeted,
    a_link_to_a_file_elsewhere,
    mounts_of_kubernetes,
    a_configuration_half_written,
    a_configuration_that_is_wrong,
    routes_come_and_go,
    lists_of_networks_are_read_again,
    secrets_rotate_with_overlap,
    sighup_reloads_at_once,
    what_needs_a_restart_is_said_and_the_rest_applied,
    a_burst_is_one_reload_and_the_same_bytes_are_none,
    how_changes_are_noticed_can_be_changed,
    an_old_secret_is_forgotten,
    names_of_applications_are_followed,
}

const OLD: &str = "the-old-horse-and-its-battery-0123456789";
const NEW: &str = "the-new-horse-and-its-battery-0123456789";

/// Longer than it takes to notice a change, by events and by looking.
const LONG_ENOUGH: Duration = Duration::from_millis(900);

/// How changes are noticed: by one of the two alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noticed {
    ByEvents,
    ByLooking,
    OnRequest,
}

impl Noticed {
    const fn section(self) -> &'static str {
        match self {
            Self::ByEvents => "watch = true\npoll = \"0s\"",
            Self::ByLooking => "watch = false\npoll = \"100ms\"",
            Self::OnRequest => "watch = false\npoll = \"0s\"",
        }
    }
}

const BOTH: [Noticed; 2] = [Noticed::ByEvents, Noticed::ByLooking];

/// A proxy whose files a test changes.
struct Site {
    folder: Folder,
    application: Application,
    program: Program,
}

impl Site {
    /// With a secret in a file of this name, which `arrange` puts there.
    fn with_secret_at(driver: Driver, noticed: Noticed, name: &str, arrange: impl Fn(&Folder)) -> Self {
        let folder = Folder::new();
        let application = Application::answering(OK);
        arrange(&folder);
        let config = folder.write("countersign.toml", &text(driver, noticed, &application, name));
        let program = Program::run(&config);
        program.address();
        Self { folder, application, program }
    }

    fn new(driver: Driver, noticed: Noticed) -> Self {
        Self::with_secret_at(driver, noticed, "secret", |folder| drop(folder.write("secret", OLD)))
    }

    fn text(&self) -> String {
        fs::read_to_string(self.folder.path("countersign.toml")).unwrap()
    }

    /// Replaces the configuration, as editors do.
    fn edit(&self, change: impl FnOnce(String) -> String) {
        let path = self.folder.write("countersign.toml.new", &change(self.text()));
        fs::rename(path, self.folder.path("countersign.toml")).unwrap();
    }

    fn status(&self, delivery: &Delivery) -> u16 {
        self.program.connect().ask(&delivery.bytes()).status
    }

    fn accepts(&self, secret: &str) -> bool {
        self.status(&Delivery::signed_with(secret, b"x")) == 200
    }

    /// Waits until the new secret counts; then the old one does not.
    #[track_caller]
    fn assert_turns(&self, from: &str, to: &str, why: &str) {
        eventually(|| self.accepts(to));
        let now = (self.accepts(from), self.accepts(to));
        assert_eq!(now, (false, true), "{why}: {:#?}", self.program.log());
    }

    /// How often a line of the log contains this.
    fn told(&self, text: &str) -> usize {
        self.program.log().iter().filter(|line| line.contains(text)).count()
    }

    #[track_caller]
    fn await_told(&self, text: &str, times: usize) {
        eventually(|| self.told(text) >= times);
        assert_eq!(self.told(text), times, "{text:?} in {:#?}", self.program.log());
    }

    fn hang_up(&self) {
        self.program.signal("HUP");
    }
}

fn text(driver: Driver, noticed: Noticed, application: &Application, secret: &str) -> String {
    let (driver, upstream, reload) = (driver.name(), application.address(), noticed.section());
    format!(
        "[server]\nworkers = 1\ndriver = \"{driver}\"\ndrain_delay = \"0s\"\ndrain_grace = \"0s\"\n[reload]\n{reload}\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\n[upstream]\naddress = \"{upstream}\"\n\
         [limits]\nunverified_per_client = {{ rate = \"100000/s\", burst = 100000 }}\n\
         [[route]]\nname = \"hook\"\npath = \"/hook\"\nscheme = \"github\"\nreplay = {{ mode = \"off\" }}\n\
         secrets = [{{ id = \"key\", file = \"{secret}\" }}]\n"
    )
}

fn a_secret_written_in_place(driver: Driver) {
    for noticed in BOTH {
        let site = Site::new(driver, noticed);
        assert!(site.accepts(OLD) && !site.accepts(NEW));
        site.folder.write("secret", NEW);
        site.assert_turns(OLD, NEW, "in place");
        let line = site.program.await_line("reloaded generation=2");
        assert!(line.contains("/secret; key \"key\" of route hook changed"), "{line}");
        assert!(site.program.log().iter().all(|line| !line.contains("horse")));
    }
}

fn shell(script: &str, argument: &Path) {
    let status = Command::new("sh").arg("-euc").arg(script).arg("sh").arg(argument).status().expect("a shell");
    assert!(status.success(), "{script}");
}

fn a_secret_replaced_by_editors(driver: Driver) {
    for noticed in BOTH {
        let site = Site::new(driver, noticed);
        let path = site.folder.path("secret");
        shell("sed -i s/old/new/ \"$1\"", &path);
        site.assert_turns(OLD, NEW, "sed -i");
        // As vim does it: the old file becomes a backup, the new one is written and the backup is deleted.
        shell(
            "mv \"$1\" \"$1~\"; sed s/new/old/ \"$1~\" > \"$1\"; chmod 600 \"$1\"; rm \"$1~\"; \
             touch \"${1%/*}/4913\"; rm \"${1%/*}/4913\"",
            &path,
        );
        site.assert_turns(NEW, OLD, "vim");
        shell("sed s/old/new/ \"$1\" > \"$1.tmp\"; chmod 600 \"$1.tmp\"; mv -f \"$1.tmp\" \"$1\"", &path);
        site.assert_turns(OLD, NEW, "rename");
        shell("sed s/new/old/ \"$1\" > \"$1.tmp\"; chmod 600 \"$1.tmp\"; ln -f \"$1.tmp\" \"$1\"", &path);
        site.assert_turns(NEW, OLD, "hard link");
    }
}

fn a_secret_deleted_and_recreated(driver: Driver) {
    for noticed in BOTH {
        let site = Site::new(driver, noticed);
        for (from, to) in [(OLD, NEW), (NEW, OLD)] {
            let refusals = site.told("reload refused");
            fs::remove_file(site.folder.path("secret")).unwrap();
            site.await_told("reload refused", refusals + 1);
            assert!(site.accepts(from));
            site.folder.write("secret", to);
            site.assert_turns(from, to, "recreated");
        }
    }
}

fn in_directory(folder: &Folder, name: &str, secret: &str) {
    fs::create_dir_all(folder.path(name)).unwrap();
    folder.write(&format!("{name}/key"), secret);
}

fn a_directory_deleted_and_recreated(driver: Driver) {
    for noticed in BOTH {
        let site =
            Site::with_secret_at(driver, noticed, "secrets/all/key", |folder| in_directory(folder, "secrets/all", OLD));
        let mut turn = (OLD, NEW);
        // At once, after it has been noticed, and with the directory above it.
        for (gone, wait) in [("secrets/all", false), ("secrets/all", true), ("secrets", true), ("secrets", false)] {
            let refusals = site.told("reload refused");
            fs::remove_dir_all(site.folder.path(gone)).unwrap();
            if wait {
                site.await_told("reload refused", refusals + 1);
                assert!(site.accepts(turn.0));
            }
            in_directory(&site.folder, "secrets/all", turn.1);
            site.assert_turns(turn.0, turn.1, gone);
            turn = (turn.1, turn.0);
        }
    }
}

fn a_directory_replaced_by_another(driver: Driver) {
    for noticed in BOTH {
        let site = Site::with_secret_at(driver, noticed, "secrets/key", |folder| in_directory(folder, "secrets", OLD));
        for (from, to, aside) in [(OLD, NEW, "aside-1"), (NEW, OLD, "aside-2")] {
            in_directory(&site.folder, "prepared", to);
            fs::rename(site.folder.path("secrets"), site.folder.path(aside)).unwrap();
            fs::rename(site.folder.path("prepared"), site.folder.path("secrets")).unwrap();
            site.assert_turns(from, to, "another directory");
            // What was there before does not matter any more, and what is there now does.
            site.folder.write("secrets/key", from);
            site.assert_turns(to, from, "in the new directory");
            site.folder.write("secrets/key", to);
            site.assert_turns(from, to, "in the new directory");
        }
    }
}

fn a_directory_that_appears_later(driver: Driver) {
    for noticed in BOTH {
        let site = Site::new(driver, noticed);
        site.edit(|text| text.replace("\"secret\"", "\"later/and/key\""));
        site.await_told("reload refused", 1);
        site.program.await_line("later/and/key cannot be read");
        assert!(site.accepts(OLD));
        fs::create_dir(site.folder.path("later")).unwrap();
        sleep(Duration::from_millis(150));
        fs::create_dir(site.folder.path("later/and")).unwrap();
        sleep(Duration::from_millis(150));
        site.folder.write("later/and/key", NEW);
        site.assert_turns(OLD, NEW, "later");
        // Why it was refused has been told once.
        assert_eq!(site.told("later/and/key cannot be read"), 1);
    }
}

fn a_link_that_is_retargeted(driver: Driver) {
    for noticed in BOTH {
        let site = Site::with_secret_at(driver, noticed, "secret", |folder| {
            in_directory(folder, "first", OLD);
            in_directory(folder, "second", NEW);
            symlink("first/key", folder.path("secret")).unwrap();
        });
        let link = site.folder.path("secret");
        let retarget = |target: &str| {
            symlink(target, site.folder.path("secret.tmp")).unwrap();
            fs::rename(site.folder.path("secret.tmp"), &link).unwrap();
        };
        retarget("second/key");
        site.assert_turns(OLD, NEW, "renamed over");
        fs::remove_file(&link).unwrap();
        symlink(site.folder.path("first/key"), &link).unwrap();
        site.assert_turns(NEW, OLD, "removed and made anew");
        retarget("second/missing");
        site.await_told("secret cannot be read", 1);
        site.folder.write("second/missing", NEW);
        site.assert_turns(OLD, NEW, "a link to nothing");
    }
}

fn a_link_to_a_file_elsewhere(driver: Driver) {
    for noticed in BOTH {
        let elsewhere = Folder::new();
        elsewhere.write("key", OLD);
        let site = Site::with_secret_at(driver, noticed, "links/secret", |folder| {
            fs::create_dir(folder.path("links")).unwrap();
            symlink(elsewhere.path("key"), folder.path("links/secret")).unwrap();
        });
        elsewhere.write("key", NEW);
        site.assert_turns(OLD, NEW, "in place");
        fs::rename(elsewhere.write("key.tmp", OLD), elsewhere.path("key")).unwrap();
        site.assert_turns(NEW, OLD, "renamed");
    }
}

/// What the kubelet does to a volume of a ConfigMap or a Secret, call by call; so does the driver of cert-manager.
pub(crate) fn publish(volume: &Path, version: &str, files: &[(&str, &str)]) {
    let directory = volume.join(format!("..{version}"));
    fs::create_dir(&directory).unwrap();
    for (name, content) in files {
        use std::os::unix::fs::PermissionsExt;
        fs::write(directory.join(name), content).unwrap();
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o440)).unwrap();
    }
    let before = fs::read_link(volume.join("..data")).ok();
    symlink(format!("..{version}"), volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for (name, _) in files {
        let link = volume.join(name);
        if link.symlink_metadata().is_err() {
            symlink(format!("..data/{name}"), link).unwrap();
        }
    }
    before.into_iter().for_each(|before| fs::remove_dir_all(volume.join(before)).unwrap());
}

fn mounts_of_kubernetes(driver: Driver) {
    for noticed in BOTH {
        let folder = Folder::new();
        let application = Application::answering(OK);
        let (config, secret): (PathBuf, PathBuf) = (folder.path("config"), folder.path("secret"));
        fs::create_dir(&config).unwrap();
        fs::create_dir(&secret).unwrap();
        publish(&secret, "2026_11_01", &[("github", OLD), ("other", "not used by any route")]);
        let text = text(driver, noticed, &application, "../secret/github");
        publish(&config, "2026_11_01", &[("countersign.toml", &text)]);
        let program = Program::run(&config.join("countersign.toml"));
        program.address();
        let site = Site { folder, application, program };
        let mut turn = (OLD, NEW);
        for version in 2..6 {
            publish(&secret, &format!("2026_11_0{version}"), &[("github", turn.1), ("other", "another")]);
            site.assert_turns(turn.0, turn.1, "the secret");
            turn = (turn.1, turn.0);
        }
        for version in 2..5 {
            let other = format!("{text}[[route]]\nname = \"v{version}\"\npath = \"/v{version}\"\nscheme = \"none\"\n");
            publish(&config, &format!("2026_11_0{version}"), &[("countersign.toml", &other)]);
            let there = |version: i32| {
                let asked = Delivery::unsigned(b"x").line(&format!("POST /v{version} HTTP/1.1"));
                site.status(&asked) == 200
            };
            assert!(eventually(|| there(version)), "{:#?}", site.program.log());
            assert!(!there(version - 1) && site.accepts(turn.0));
        }
        // A swap that leaves the files as they are is no reload.
        site.await_told("reloaded", 7);
        publish(&secret, "2026_11_09", &[("github", turn.0), ("other", "yet another")]);
        sleep(LONG_ENOUGH);
        assert_eq!(site.told("reloaded"), 7);
        publish(&secret, "2026_11_10", &[("github", turn.1), ("other", "yet another")]);
        site.assert_turns(turn.0, turn.1, "after a swap of nothing");
    }
}

/// A file that is being written slowly is waited for, even when a reload is asked for: half of a configuration can be valid.
fn a_configuration_half_written(driver: Driver) {
    let site = Site::new(driver, Noticed::ByEvents);
    let more = "[[route]]\nname = \"more\"\npath = \"/more\"\nscheme = \"none\"\n";
    let text = site.text() + more;
    let path = site.folder.path("countersign.toml");
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    let half = text.len() - more.len();
    for part in [&text[..half / 2], &text[half / 2..half], &text[half..half + 20], &text[half + 20..]] {
        file.write_all(part.as_bytes()).unwrap();
        sleep(Duration::from_millis(200));
        assert!(site.accepts(OLD));
        if part.ends_with("}]\n") {
            site.hang_up();
        }
    }
    assert_eq!((site.told("reloaded"), site.told("refused,")), (0, 0), "{:#?}", site.program.log());
    drop(file);
    site.await_told("route more added", 1);
    assert_eq!((site.told("reloaded"), site.told("reload refused")), (1, 0), "{:#?}", site.program.log());
}

fn a_configuration_that_is_wrong(driver: Driver) {
    for noticed in BOTH {
        let site = Site::new(driver, noticed);
        let good = site.text();
        let wrong = |text: String| {
            text.replace("workers = 1", "workers = 'many'")
                .replace("\"github\"", "\"gitub\"")
                .replace("[[route]]\n", "[[route]]\nbody_sise = \"1B\"\n")
        };
        site.edit(wrong);
        site.await_told("reload refused, nothing has changed: generation=1 stays in force; errors=3", 1);
        for place in
            ["countersign.toml:2:11: server.workers", "body_sise", "(fix: did you mean \"body_size\"?)", "github"]
        {
            site.await_told(place, 1);
        }
        assert!(site.accepts(OLD));
        // Looking again at the same mistakes is not worth a word, and other mistakes are.
        sleep(LONG_ENOUGH);
        assert_eq!(site.told("reload refused"), 1);
        site.edit(|_| good.replace("[[route]]", "[[rout]]"));
        site.await_told("reload refused", 2);
        assert!(site.accepts(OLD));
        site.edit(|_| good.clone());
        site.await_told("the files are those that are in force, generation=1", 1);
        site.edit(|_| wrong(good.clone()));
        site.await_told("reload refused", 3);
        site.edit(|_| good.replace("\"/hook\"", "\"/hooks\""));
        site.await_told("reloaded generation=2", 1);
        let moved = Delivery::of(b"x").line("POST /hooks HTTP/1.1");
        assert_eq!((site.status(&Delivery::signed_with(OLD, b"x")), site.status(&moved)), (404, 401));
        // An empty file is a mistake like others, and so is one that is gone.
        site.edit(|_| String::new());
        site.await_told("reload refused", 4);
        fs::remove_file(site.folder.path("countersign.toml")).unwrap();
        site.await_told("the configuration cannot be read", 1);
        site.folder.write("countersign.toml", &good);
        site.await_told("reloaded generation=3", 1);
        assert!(site.accepts(OLD));
    }
}

fn routes_come_and_go(driver: Driver) {
    let site = Site::new(driver, Noticed::ByEvents);
    let other = Application::answering(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
    let ask = |path: &str| site.status(&Delivery::signed_with(OLD, b"x").line(&format!("POST {path} HTTP/1.1")));
    let mut kept = site.program.connect();
    let mut keep =
        |path: &str| kept.ask(&Delivery::signed_with(OLD, b"x").line(&format!("POST {path} HTTP/1.1")).bytes()).status;
    assert_eq!((keep("/hook"), ask("/second")), (200, 404));
    let second = "[[route]]\nname = \"second\"\npath = \"/second\"\nscheme = \"github\"\nreplay = { mode = \"off\" }\n\
                  secrets = [{ id = \"key\", file = \"secret\" }]\n";
    site.edit(|text| format!("{text}{second}upstream = \"{}\"\n", other.address()));
    site.await_told("route second added", 1);
    assert_eq!((ask("/second"), keep("/second"), keep("/hook")), (202, 202, 200));
    site.edit(|text| text.replace(&other.address(), &site.application.address()));
    site.await_told("route second changed (upstream)", 1);
    assert_eq!((ask("/second"), keep("/second")), (200, 200));
    site.edit(|text| text.replace(second, "").replace(&format!("upstream = \"{}\"\n", site.application.address()), ""));
    site.await_told("route second removed", 1);
    assert_eq!((ask("/second"), keep("/second"), keep("/hook")), (404, 404, 200));
}

fn lists_of_networks_are_read_again(driver: Driver) {
    for noticed in BOTH {
        let site = Site::new(driver, noticed);
        site.folder.write("networks", "192.0.2.0/24\n");
        site.edit(|text| text.replace("scheme =", "allow_file = \"networks\"\nscheme ="));
        assert!(eventually(|| site.status(&Delivery::signed_with(OLD, b"x")) == 403));
        site.folder.write("networks", "192.0.2.0/24\n127.0.0.0/8\n");
        assert!(eventually(|| site.accepts(OLD)), "{:#?}", site.program.log());
        site.program.await_line("/networks; route hook changed (clients)");
        site.folder.write("networks", "not a network\n");
        site.await_told("reload refused", 1);
        assert!(site.accepts(OLD));
    }
}

fn secrets_rotate_with_overlap(driver: Driver) {
    for noticed in BOTH {
        let site = Site::new(driver, noticed);
        site.folder.write("next", &format!("{NEW}\n"));
        let both = "[{ id = \"next\", file = \"next\" }, { id = \"key\", file = \"secret\" }]";
        let only = "[{ id = \"key\", file = \"secret\" }]";
        site.edit(|text| text.replace(only, both));
        site.await_told("key \"next\" of route hook added", 1);
        assert!(site.accepts(OLD) && site.accepts(NEW));
        let requests = site.application.requests();
        let ids: Vec<&str> = requests.iter().map(|it| it.field("X-Countersign-Key-Id")).collect();
        assert_eq!(ids, ["key", "next"]);
        // The overlap ends where the configuration says so, or where the old key is removed.
        site.edit(|text| text.replace("file = \"secret\"", "file = \"secret\", not_after = 2026-01-01T00:00:00Z"));
        site.await_told("key \"key\" of route hook changed", 1);
        assert!(!site.accepts(OLD) && site.accepts(NEW));
        site.edit(|text| text.replace(", { id = \"key\", file = \"secret\", not_after = 2026-01-01T00:00:00Z }", ""));
        site.await_told("key \"key\" of route hook removed", 1);
        assert!(!site.accepts(OLD) && site.accepts(NEW));
        // What is odd about a new secret is told as at the start, and what is no secret is refused.
        site.folder.write("next", "hunter2\n");
        site.await_told("has fewer than 16 bytes and can be guessed", 1);
        assert!(eventually(|| site.accepts("hunter2")));
        site.folder.write("next", "changeme\n");
        site.await_told("is a placeholder", 1);
        assert!(site.accepts("hunter2"));
        assert!(site.program.log().iter().all(|line| !line.contains("hunter2") && !line.contains("changeme")));
    }
}

fn sighup_reloads_at_once(driver: Driver) {
    let site = Site::new(driver, Noticed::OnRequest);
    site.hang_up();
    site.await_told("the files are those that are in force, generation=1", 1);
    site.folder.write("secret", NEW);
    sleep(LONG_ENOUGH);
    assert!(site.accepts(OLD));
    site.hang_up();
    site.assert_turns(OLD, NEW, "SIGHUP");
    site.edit(|text| text.replace("[[route]]", "[[rout]]"));
    for times in 1..=3 {
        site.hang_up();
        site.await_told("reload refused", times);
    }
    assert!(site.accepts(NEW));
}

fn what_needs_a_restart_is_said_and_the_rest_applied(driver: Driver) {
    let site = Site::new(driver, Noticed::ByEvents);
    site.edit(|text| text.replace("workers = 1", "workers = 2").replace("\"/hook\"", "\"/hooks\""));
    site.await_told("reloaded generation=2", 1);
    let line = site.program.await_line("server.workers stays 1 until the process is restarted");
    assert!(line.contains(" WARN "), "{line}");
    assert_eq!(site.status(&Delivery::signed_with(OLD, b"x").line("POST /hooks HTTP/1.1")), 200);
    // Told once, and again only after it has been otherwise.
    site.edit(|text| text.replace("\"/hooks\"", "\"/hook\""));
    site.await_told("reloaded generation=3", 1);
    assert_eq!(site.told("until the process is restarted"), 1);
}

fn a_burst_is_one_reload_and_the_same_bytes_are_none(driver: Driver) {
    let site = Site::new(driver, Noticed::ByEvents);
    for round in 0..100 {
        site.folder.write("secret", &format!("{NEW}{round}"));
    }
    let last = format!("{NEW}99");
    site.assert_turns(OLD, &last, "the last of many");
    site.program.await_line("reloaded");
    let reloads = site.told("reload");
    assert!((1..=2).contains(&site.told("reloaded")), "{:#?}", site.program.log());
    site.folder.write("secret", &last);
    fs::rename(site.folder.write("secret.tmp", &last), site.folder.path("secret")).unwrap();
    site.folder.write("unrelated", "x");
    sleep(LONG_ENOUGH);
    assert_eq!(site.told("reload"), reloads, "{:#?}", site.program.log());
}

fn how_changes_are_noticed_can_be_changed(driver: Driver) {
    let site = Site::new(driver, Noticed::OnRequest);
    let (mut turn, mut before) = ((OLD, NEW), Noticed::OnRequest);
    for noticed in [Noticed::ByEvents, Noticed::OnRequest, Noticed::ByLooking] {
        let reloads = site.told("reloaded");
        let section = noticed.section();
        site.edit(|text| {
            let (before, rest) = text.split_once("[reload]\n").unwrap();
            format!("{before}[reload]\n{section}\n{}", &rest[rest.find("[[listener]]").unwrap()..])
        });
        if before == Noticed::OnRequest {
            site.hang_up();
        }
        site.await_told("reloaded", reloads + 1);
        site.folder.write("secret", turn.1);
        if noticed == Noticed::OnRequest {
            sleep(LONG_ENOUGH);
            assert!(site.accepts(turn.0));
            site.hang_up();
        }
        site.assert_turns(turn.0, turn.1, section);
        // The line comes after the change: without it, it would be taken for that of the next one.
        site.await_told("reloaded", reloads + 2);
        (turn, before) = ((turn.1, turn.0), noticed);
    }
}

/// Of a secret that is no longer in force nothing is left in memory, nor of the files that it was read from. (What an
/// exchange has hashed is another matter: the state of a hash is not ours to erase. So nothing is hashed here.)
fn an_old_secret_is_forgotten(driver: Driver) {
    let site = Site::new(driver, Noticed::ByEvents);
    // A scheme for which the secret itself must be kept.
    let own = "[scheme.own]\nalgorithm = \"sha256\"\ncontent = \"{secret}{body}\"\n\
               allow_length_extension = true\n\
               signature = { header = \"X-Signature\", encoding = \"hex\" }\n";
    site.edit(|text| text.replace("\"github\"", "\"own\"") + own);
    site.await_told("route hook changed (verification)", 1);
    let elsewhere = Delivery::unsigned(b"x").line("POST /elsewhere HTTP/1.1");
    // Connections that wait keep nothing of what they were judged by.
    let mut kept = site.program.connect();
    assert_eq!(kept.ask(&elsewhere.bytes()).status, 404);
    let Some(remembers) = site.program.remembers(OLD.as_bytes()) else {
        return eprintln!("left out: the memory of another process cannot be read here");
    };
    assert!(remembers);
    site.folder.write("secret", NEW);
    site.await_told("key \"key\" of route hook changed", 1);
    assert!(eventually(|| site.program.remembers(OLD.as_bytes()) == Some(false)));
    assert_eq!(site.program.remembers(NEW.as_bytes()), Some(true));
    assert_eq!(kept.ask(&elsewhere.bytes()).status, 404);
    // Nor of one that was refused.
    site.folder.write("secret", &format!("{OLD}\n"));
    site.edit(|text| text.replace("[[route]]", "[[rout]]"));
    site.program.await_line("reload refused");
    assert!(eventually(|| site.program.remembers(OLD.as_bytes()) == Some(false)));
}

fn names_of_applications_are_followed(driver: Driver) {
    let site = Site::new(driver, Noticed::ByEvents);
    let port = site.application.address().rsplit(':').next().unwrap().to_owned();
    let address = site.application.address();
    site.edit(|text| text.replace(&address, &format!("localhost:{port}")));
    site.await_told("[upstream] changed", 0);
    site.await_told("reloaded generation=2", 1);
    assert!(site.accepts(OLD), "{:#?}", site.program.log());
    // One that does not resolve holds nothing up for long, and is complained of once, though it is asked about again.
    site.edit(|text| text.replace("localhost", "no-such-name.invalid"));
    site.await_told("reloaded generation=3", 1);
    assert_eq!(site.status(&Delivery::signed_with(OLD, b"x")), 503);
    site.program.await_line("upstream no-such-name.invalid");
    sleep(Duration::from_millis(2500));
    assert_eq!(site.told("does not resolve"), 1, "{:#?}", site.program.log());
    site.edit(|text| text.replace(&format!("no-such-name.invalid:{port}"), &address));
    site.await_told("reloaded generation=4", 1);
    assert!(site.accepts(OLD));
    // One that is gone is not asked about any more: it would be complained of anew after a reload.
    sleep(Duration::from_millis(2500));
    assert_eq!(site.told("does not resolve"), 1, "{:#?}", site.program.log());
}

/// Other processes, of the same user, too, cannot look into this one, nor is there a core dump.
#[test]
fn the_process_is_not_dumpable() {
    use std::os::unix::fs::PermissionsExt;
    const UNPRIVILEGED: &str = "65534";
    let folder = Folder::new();
    let application = Application::answering(OK);
    folder.write("secret", OLD);
    let config = folder.write("countersign.toml", &text(Driver::Epoll, Noticed::OnRequest, &application, "secret"));
    let mut command = Command::new("setpriv");
    // What is root's belongs to root in any case.
    if fs::metadata(&config).unwrap().uid() == 0 {
        for name in ["secret", "countersign.toml"] {
            fs::set_permissions(folder.path(name), fs::Permissions::from_mode(0o444)).unwrap();
        }
        command.args(["--clear-groups", "--reuid", UNPRIVILEGED, "--regid", UNPRIVILEGED]);
    }
    let program = Program::start(command.arg(BINARY).arg("run").arg("--config").arg(&config));
    program.address();
    assert_eq!(program.owner(), 0);
}

/// The same way for a request within the process, whose asker is told how it went.
#[test]
fn a_request_is_answered_and_the_status_is_kept() {
    let folder = Folder::new();
    let application = Application::answering(OK);
    folder.write("secret", OLD);
    let good = text(Driver::Epoll, Noticed::OnRequest, &application, "secret");
    let config = folder.write("countersign.toml", &good);
    let (loaded, sources) = load_noting(&config);
    let loaded = loaded.unwrap();
    let (settings, outline) = (loaded.settings.reload, loaded.outline.clone());
    let (plan, names) = plan(loaded);
    let running = Mutex::new(supervisor::start(plan, Witnesses::new(Arc::new(NoObserver), 1)).unwrap());
    let log = Arc::new(EventLog::start());
    let resolver = Arc::new(Resolver::start(names, Arc::clone(&log)));
    let warnings = Vec::new();
    let start = Start {
        source: config.into(),
        sources,
        settings,
        outline,
        warnings,
        resolver,
        publishers: None,
        lookout: None,
        records: None,
        log,
    };
    let reloader = reload::start(start, Box::new(move |plan| running.lock().unwrap().apply(plan)));
    let begun = reloader.status();
    let [(route, key, since)] = &*begun.keys else { panic!("one key: {:?}", begun.keys) };
    assert_eq!((route.as_str(), key.as_str()), ("hook", "key"));
    let since = *since;
    assert_eq!(*begun, ReloadStatus { keys: Arc::clone(&begun.keys), ..ReloadStatus::default() });

    assert_eq!(reloader.request().unwrap(), Reloaded::Unchanged);
    folder.write("secret", NEW);
    let changes = vec!["key \"key\" of route hook changed".to_owned()];
    assert_eq!(reloader.request().unwrap(), Reloaded::Changed { generation: 2, changes });
    let status = reloader.status();
    assert_eq!((status.generation, status.attempts, status.failures, &status.last_error), (2, 2, 0, &None));
    assert!(status.last_success.is_some());
    assert!(status.keys[0].2 >= since);

    folder.write("countersign.toml", &good.replace("\"github\"", "\"gitub\""));
    let error = reloader.request().unwrap_err();
    assert!(
        matches!(error, ReloadError::Refused(_)) && error.to_string().contains("did you mean \"github\"?"),
        "{error}"
    );
    let status = reloader.status();
    assert_eq!((status.generation, status.attempts, status.failures), (2, 3, 1));
    assert_eq!(*status.last_error.as_ref().unwrap().text, error.to_string());

    // An address that is taken is found out before anything has changed.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().to_string();
    let busy = std::net::TcpListener::bind(&taken).unwrap();
    folder.write("countersign.toml", &good.replace("127.0.0.1:0", &taken));
    assert!(matches!(reloader.request().unwrap_err(), ReloadError::NotApplied(_)));
    drop(busy);
    // A program that another test is about to start may have it for a moment, too.
    assert!(eventually(|| std::net::TcpListener::bind(&taken).is_ok()));
    let Reloaded::Changed { generation, changes } = reloader.request().unwrap() else { panic!("it has changed") };
    assert_eq!(generation, 3);
    assert!(changes.contains(&format!("listener {taken} added")), "{changes:?}");
    let status = reloader.status();
    assert_eq!((status.attempts, status.failures, &status.last_error), (5, 2, &None));

    reloader.stop();
    assert!(matches!(reloader.request(), Err(ReloadError::Stopping)));
}

/// A volume is swapped again and again while it is read: never is a configuration put in force with the list of another.
#[test]
fn two_states_of_a_volume_never_mix() {
    let folder = Folder::new();
    let volume = folder.path("volume");
    fs::create_dir(&volume).unwrap();
    let version = |number: u8| {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[upstream]\naddress = \"127.0.0.1:1\"\n\
             [[route]]\nname = \"v{number}\"\npath = \"/\"\nscheme = \"none\"\nallow_file = \"networks\"\n"
        );
        let networks = format!("192.0.2.{number}\n");
        publish(&volume, &number.to_string(), &[("countersign.toml", &text), ("networks", &networks)]);
    };
    version(0);
    let path = volume.join("countersign.toml");
    let (loaded, sources) = load_noting(&path);
    let loaded = loaded.unwrap();
    let log = Arc::new(EventLog::start());
    let start = Start {
        source: path.into(),
        sources,
        settings: countersign::config::section::reload::ReloadSettings { watch: false, poll: None },
        outline: loaded.outline,
        warnings: Vec::new(),
        resolver: Arc::new(Resolver::start(Vec::new(), Arc::clone(&log))),
        publishers: None,
        lookout: None,
        records: None,
        log,
    };
    let applied = Arc::<Mutex<Vec<String>>>::default();
    let record = Arc::clone(&applied);
    let reloader = reload::start(
        start,
        Box::new(move |plan| {
            let route = &plan.policy.gate.routes.routes()[0];
            let number: u8 = route.name.trim_start_matches('v').parse().unwrap();
            let allows = |last: u8| route.clients.admit(Some(std::net::Ipv4Addr::new(192, 0, 2, last).into())).is_ok();
            let all: Vec<u8> = (0..=u8::MAX).filter(|last| allows(*last)).collect();
            assert_eq!(all, [number], "{}", route.name);
            record.lock().unwrap().push(route.name.clone());
            Ok(Applied { added: Vec::new(), removed: Vec::new(), needs_restart: Vec::new(), generation: 2 })
        }),
    );
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| (1..=u8::MAX).for_each(&version));
        while !publisher.is_finished() {
            // That there was no time at which nothing changed is an answer, too.
            let _ = reloader.request();
        }
    });
    assert!(reloader.request().is_ok());
    assert_eq!(applied.lock().unwrap().last().map(String::as_str), Some("v255"));
}

/// Listens to no exchange.
struct NoObserver;

impl Observer for NoObserver {
    fn exchange(&self, _: &Exchange<'_>) {}
    fn accept_failed(&self, _: &std::io::Error) {}
}
