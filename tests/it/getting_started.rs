//! `docs/getting-started.md`, followed to the letter from its second step on: the commands are read from the page and run by
//! a shell, on ports that are free.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::support::child::BINARY;
use crate::support::eventually;
use crate::support::folder::Folder;

/// The commands of the page behind the heading of its second step; a here-document is one command.
fn commands() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/getting-started.md");
    let text = fs::read_to_string(page).unwrap();
    let followed = text.split_once("\n## 2. ").unwrap().1;
    let mut commands = Vec::new();
    for block in followed.split("```console\n").skip(1) {
        for line in block.split("```").next().unwrap().lines() {
            match line.strip_prefix("$ ") {
                Some(command) => commands.push(command.to_owned()),
                None => {
                    let open: &mut String = commands.last_mut().expect("a block begins with a command");
                    open.push('\n');
                    open.push_str(line);
                }
            }
        }
    }
    commands
}

/// What a reader has: a shell in a folder, the program on the path, and processes that were left running.
struct Reader {
    folder: Folder,
    ports: [(&'static str, u16); 3],
    /// The current folder, below the one of the test.
    at: String,
    running: Vec<Child>,
}

impl Reader {
    fn new() -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ports = [("9000", free()), ("8080", free()), ("9090", free())];
        Self { folder: Folder::new(), ports, at: String::new(), running: Vec::new() }
    }

    fn shell(&self, command: &str) -> Command {
        let binaries = Path::new(BINARY).parent().unwrap();
        let mut command =
            self.ports.iter().fold(command.to_owned(), |text, (shown, port)| text.replace(shown, &port.to_string()));
        // `init` is not told on which ports to listen; a reader's are free.
        if command.starts_with("countersign init") {
            let [_, (_, listen), (_, admin)] = self.ports;
            command += &format!(" --listen 127.0.0.1:{listen} --admin 127.0.0.1:{admin}");
        }
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).current_dir(self.folder.path(&self.at));
        shell.env("PATH", format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap()));
        shell
    }

    fn run(&mut self, command: &str) -> Output {
        if let Some(folder) = command.strip_prefix("cd ") {
            self.at = folder.to_owned();
        }
        if command.starts_with("python3") || command == "countersign run" {
            let silent = self
                .shell(&format!("exec {command}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            self.running.push(silent.unwrap());
            let [(_, application), (_, listen), _] = self.ports;
            let port = if command == "countersign run" { listen } else { application };
            assert!(eventually(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()), "{command}");
            return self.shell("true").output().unwrap();
        }
        self.shell(if command.starts_with("cd ") { "true" } else { command }).output().unwrap()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for child in &mut self.running {
            // It may have ended by itself, which the test has found out.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn the_page_leads_to_a_verified_webhook_and_a_refused_one() {
    let mut reader = Reader::new();
    let mut said = Vec::new();
    for command in commands() {
        let output = reader.run(&command);
        // `explain` ends with 1 for a request that was refused.
        let expected = i32::from(command.starts_with("countersign explain"));
        assert_eq!(output.status.code(), Some(expected), "{command}: {output:?}");
        said.push((command, String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let of =
        |command: &str| &said.iter().find(|(it, _)| it.starts_with(command)).unwrap_or_else(|| panic!("{command}")).1;
    assert!(of("sh deliver.sh").contains(" 204 "), "{}", of("sh deliver.sh"));
    assert!(of("cat refused.txt").contains("HTTP/1.1 401 "), "{}", of("cat refused.txt"));
    let explained = of("countersign explain");
    assert!(explained.contains("\nrefused: signature_mismatch\n"), "{explained}");
}
