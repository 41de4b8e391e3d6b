//! The binary as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Client, eventually};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_countersign");

/// A running binary; killed when dropped.
pub(crate) struct Program {
    child: Child,
    errors: Lines,
    output: Lines,
    readers: Vec<JoinHandle<()>>,
}

type Lines = Arc<Mutex<Vec<String>>>;

fn collect(from: impl Read + Send + 'static) -> (Lines, JoinHandle<()>) {
    let lines = Lines::default();
    let written = Arc::clone(&lines);
    let reader = thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            written.lock().unwrap().push(line);
        }
    });
    (lines, reader)
}

/// The same command without the descriptors of this process. The runtime accepts connections without `SOCK_CLOEXEC` on
/// io_uring, and a proxy of another test closes its connections in vain while a child has them, too.
fn alone(command: &Command) -> Command {
    const CLOSED: &str =
        "for it in /proc/self/fd/*; do it=${it##*/}; if ((it > 2)); then eval \"exec $it>&-\"; fi; done";
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(format!("{CLOSED}; exec \"$0\" \"$@\"")).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

impl Program {
    /// `countersign run` with this configuration.
    pub(crate) fn run(config: &Path) -> Self {
        Self::start(Command::new(BINARY).arg("run").arg("--config").arg(config))
    }

    /// The same with this hard limit of open files.
    pub(crate) fn run_with_open_files(config: &Path, limit: usize) -> Self {
        let script = format!("ulimit -n {limit}; exec \"$0\" run --config \"$1\"");
        Self::start(Command::new("sh").arg("-c").arg(script).arg(BINARY).arg(config))
    }

    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = alone(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (errors, of_errors) = collect(child.stderr.take().expect("a pipe"));
        let (output, of_output) = collect(child.stdout.take().expect("a pipe"));
        Self { child, errors, output, readers: vec![of_errors, of_output] }
    }

    /// The same where standard input and output are for something else: standard error alone is collected.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let (errors, of_errors) = collect(child.stderr.take().expect("a pipe"));
        Self { child, errors, output: Lines::default(), readers: vec![of_errors] }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.errors.lock().unwrap().clone()
    }

    /// What it has written to standard output so far.
    pub(crate) fn output(&self) -> Vec<String> {
        self.output.lock().unwrap().clone()
    }

    /// Waits for a line of standard output that contains `text`.
    #[track_caller]
    pub(crate) fn await_output(&self, text: &str) -> String {
        let find = || self.output().into_iter().find(|line| line.contains(text));
        eventually(|| find().is_some());
        find().unwrap_or_else(|| panic!("no {text:?} in {:#?}", self.output()))
    }

    /// Waits for a line that contains `text`.
    #[track_caller]
    pub(crate) fn await_line(&self, text: &str) -> String {
        let find = || self.log().into_iter().find(|line| line.contains(text));
        eventually(|| find().is_some());
        find().unwrap_or_else(|| panic!("no {text:?} in {:#?}", self.log()))
    }

    /// Where it listens, once it is ready.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        self.await_line(" ready: ");
        let line = self.await_line("listening on ");
        line.rsplit(' ').next().and_then(|address| address.parse().ok()).expect("an address")
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").arg("-c").arg(kill).status().expect("a shell").success());
    }

    /// The most memory that it has ever had, in bytes.
    pub(crate) fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }

    /// Whether these bytes are anywhere in its memory; nothing if we may not look, which takes privileges.
    pub(crate) fn remembers(&self, bytes: &[u8]) -> Option<bool> {
        use std::os::unix::fs::FileExt;
        let folder = format!("/proc/{}", self.child.id());
        let maps = std::fs::read_to_string(format!("{folder}/maps")).ok()?;
        let memory = std::fs::File::open(format!("{folder}/mem")).ok()?;
        let writable = maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")));
        let mut found = false;
        for line in writable {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
            let mut region = vec![0; usize::try_from(end - start).ok()?];
            // Some regions of the kernel's cannot be read.
            let length = memory.read_at(&mut region, start).unwrap_or(0);
            found |= memchr::memmem::find(&region[..length], bytes).is_some();
        }
        Some(found)
    }

    /// The user to whom its files in /proc belong: root, for a process that must not be looked into.
    pub(crate) fn owner(&self) -> u32 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(format!("/proc/{}/environ", self.child.id())).expect("it runs").uid()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Waits for its end; how it ended and how long that took.
    #[track_caller]
    pub(crate) fn end(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        assert!(eventually(|| self.has_ended()), "it does not end: {:#?}", self.log());
        let took = begun.elapsed();
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
        (self.child.wait().expect("our child"), took)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
