//! The real binary in front of an upstream that remembers every byte.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::delivery::{Key, public_url};

/// How long anything on loopback may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder that goes away with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that no other user can read.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).expect("a file");
        file.write_all(bytes).expect("a file can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A route of the proxy under test: its name is its path and its scheme.
pub(crate) struct Route {
    pub(crate) scheme: String,
    pub(crate) key: Key,
}

impl Route {
    /// The route as the configuration has it; the secret goes to a file.
    fn text(&self, folder: &Folder) -> String {
        let Self { scheme, key } = self;
        // Equal deliveries are sent on purpose.
        let mut text =
            format!("[[route]]\npath = \"/webhooks/{scheme}\"\nscheme = \"{scheme}\"\nreplay.mode = \"off\"\n");
        if let Some(public) = &key.public {
            let _ = writeln!(text, "public_keys = [{{ id = \"1\", value = \"\"\"{public}\"\"\" }}]");
        } else {
            folder.write(&format!("{scheme}.secret"), key.secret.as_bytes());
            let _ = writeln!(text, "secrets = [{{ id = \"1\", file = \"{scheme}.secret\" }}]");
        }
        if let Some(url) = public_url(scheme) {
            let _ = writeln!(text, "public_url = \"{url}\"");
        }
        text
    }
}

/// `countersign run`, until it is dropped.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Proxy {
    pub(crate) fn start(folder: &Folder, routes: &[Route], upstream: SocketAddr) -> Self {
        let mut text = format!(
            "[server]\nworkers = 1\n[[listener]]\naddress = \"127.0.0.1:0\"\n[upstream]\naddress = \"{upstream}\"\n"
        );
        for route in routes {
            text += &route.text(folder);
        }
        let config = folder.write("countersign.toml", text.as_bytes());
        let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["run", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        let (send, lines) = channel();
        // The log is read to its end, so that the proxy never waits for it.
        thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| drop(send.send(line))));
        let address = listening(&lines);
        Self { child, address }
    }

    /// Sends a request and gives the status of the answer.
    pub(crate) fn send(&self, target: &str, headers: &[(String, String)], body: &[u8]) -> u16 {
        let mut head = format!("POST {target} HTTP/1.1\r\nHost: hooks.example.com\r\nConnection: close\r\n");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "Content-Length: {}\r\n\r\n", body.len());
        let mut stream = TcpStream::connect(self.address).expect("the proxy accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("the proxy reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the proxy answers");
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no status in {answer:?}"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listening(lines: &Receiver<String>) -> SocketAddr {
    let mut seen = String::new();
    let mut address = None;
    while let Ok(line) = lines.recv_timeout(PATIENCE) {
        if let Some((_, found)) = line.split_once("listening on ") {
            address = found.trim().parse().ok();
        }
        if line.contains("ready: ") {
            return address.expect("the address is logged before the proxy is ready");
        }
        seen += &line;
        seen.push('\n');
    }
    panic!("the proxy did not start:\n{seen}")
}

/// What the upstream received.
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// Whether the header arrived exactly once and with exactly this value.
    pub(crate) fn has(&self, name: &str, value: &str) -> bool {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, found)| found).eq([value])
    }
}

/// An upstream that answers 200 to everything and keeps it.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    received: Receiver<Received>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback can be bound");
        let address = listener.local_addr().expect("a bound address");
        let (send, received) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let send = send.clone();
                thread::spawn(move || serve(stream, &send));
            }
        });
        Self { address, received }
    }

    /// What arrived since the last call. The upstream answers after it has kept a request, and the proxy answers after
    /// the upstream: whatever belongs to an answered request is here.
    pub(crate) fn take(&self) -> Vec<Received> {
        self.received.try_iter().collect()
    }
}

fn serve(stream: TcpStream, received: &Sender<Received>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length?];
        reader.read_exact(&mut body).ok()?;
        received.send(Received { head, body }).ok()?;
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
    }
}
