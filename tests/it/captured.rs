//! Refused requests that are kept for explanations: only where that is asked for, only a few, and nothing of others.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::support::answer::{Answer, AnswerReader};
use crate::support::application::OK;
use crate::support::child::BINARY;
use crate::support::folder::Folder;
use crate::support::{Application, Delivery, Driver, PATIENCE, Program, Proxy, eventually, on_both_drivers};

on_both_drivers! {
    a_refused_request_is_kept_and_explained,
    only_so_many_are_kept,
}

const BODY: &str = r#"{"zen":"Keep it logically awesome."}"#;

struct Kept {
    program: Program,
    folder: Folder,
    _application: Application,
}

impl Kept {
    fn start(driver: Driver, admin: &str) -> Self {
        let (application, folder) = (Application::answering(OK), Folder::new());
        let text = Proxy::on(driver, &application).text();
        let text = format!("[admin]\naddress = \"127.0.0.1:0\"\n{admin}\n{text}");
        let program = Program::run(&folder.write("countersign.toml", &text));
        program.await_line(" ready: ");
        Self { program, folder, _application: application }
    }

    fn admin(&self) -> SocketAddr {
        let line = self.program.await_line("admin port at ");
        line.rsplit(' ').next().and_then(|address| address.parse().ok()).expect("an address")
    }

    fn get(&self, path: &str, host: &str) -> Answer {
        let mut stream = TcpStream::connect(self.admin()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("sent");
        AnswerReader::default().read(&mut stream, false).expect("an answer")
    }

    fn list(&self) -> Vec<Value> {
        serde_json::from_slice(&self.get("/captured", "localhost").body).expect("a list")
    }

    /// What is kept, once this request is: that is noted when its sender has been answered.
    fn list_with(&self, id: &str) -> Vec<Value> {
        assert!(eventually(|| self.list().iter().any(|it| it["request_id"] == id)), "{:?}", self.list());
        self.list()
    }

    /// Sends a genuine delivery to whose body somebody has added a newline; its id.
    fn spoiled(&self, body: &str) -> String {
        let genuine = Delivery::of(body.as_bytes());
        let mut bytes =
            genuine.field("Cookie", "session=of-somebody").field("Authorization", "Bearer of-others").bytes();
        let length = format!("Content-Length: {}", body.len());
        let longer = format!("Content-Length: {}", body.len() + 1);
        let text = String::from_utf8(bytes.clone()).expect("text").replace(&length, &longer);
        bytes = format!("{text}\n").into_bytes();
        let answer = self.program.connect().ask(&bytes);
        assert_eq!(answer.status, 401);
        answer.field("X-Request-Id").expect("an id").to_owned()
    }

    fn explain(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(BINARY);
        let output =
            command.arg("explain").args(arguments).current_dir(self.folder.path("")).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    }
}

fn a_refused_request_is_kept_and_explained(driver: Driver) {
    let kept = Kept::start(driver, "capture_refused = 5");
    kept.program.await_line("are kept in memory, with bodies and signatures");
    // What passes is not kept.
    assert_eq!(kept.program.connect().ask(&Delivery::of(b"fine").bytes()).status, 200);
    let id = kept.spoiled(BODY);
    let list = kept.list_with(&id);
    let [described] = list.as_slice() else { panic!("one is kept: {list:?}") };
    assert_eq!(
        (&described["request_id"], &described["reason"]),
        (&Value::from(id.as_str()), &"signature_mismatch".into())
    );
    assert!(!described.to_string().contains("sha256="), "{described}");
    let whole = kept.get(&format!("/captured/{id}"), "localhost");
    let text = String::from_utf8(whole.body).expect("text");
    assert!(text.starts_with("POST ") && text.ends_with(&format!("{BODY}\n")), "{text}");
    assert!(text.contains("sha256=") && !text.contains("of-somebody") && !text.contains("of-others"), "{text}");
    assert_eq!(kept.get(&format!("/captured/{id}"), "rebind.example").status, 421);
    assert_eq!(kept.get("/captured/00", "localhost").status, 404);

    let (code, told) = kept.explain(&[&id, "--admin", &kept.admin().to_string()]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("signature_mismatch") && told.contains("newline"), "{told}");
    let (code, told) = kept.explain(&[&"0".repeat(32), "--admin", &kept.admin().to_string()]);
    assert!(code == Some(2) && told.contains("is kept (any more)"), "{told}");
}

fn only_so_many_are_kept(driver: Driver) {
    let kept = Kept::start(driver, "capture_refused = 1");
    let unsigned = kept.program.connect().ask(&Delivery::unsigned(b"x").bytes());
    assert_eq!(unsigned.status, 401);
    kept.list_with(unsigned.field("X-Request-Id").expect("an id"));
    let id = kept.spoiled(BODY);
    let list = kept.list_with(&id);
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!(list[0]["request_id"], id.as_str());
}

#[test]
fn nothing_is_kept_where_nobody_asks_for_it() {
    let kept = Kept::start(Driver::Epoll, "");
    let id = kept.spoiled(BODY);
    assert_eq!(kept.get("/captured", "localhost").status, 404);
    let (code, told) = kept.explain(&[&id, "--admin", &kept.admin().to_string()]);
    assert!(code == Some(2) && told.contains("capture_refused is not set"), "{told}");
}
