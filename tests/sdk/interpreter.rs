//! A running `sign.py` or `sign.mjs`: one JSON question a line, one JSON answer a line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::say;

/// How long an answer may take. The first one loads every SDK.
const PATIENCE: Duration = Duration::from_secs(120);

/// The SDKs of one language.
pub(crate) struct Interpreter {
    child: Child,
    questions: ChildStdin,
    answers: Receiver<String>,
    /// Scheme -> the SDK that signs it.
    pub(crate) signers: BTreeMap<String, String>,
    /// Scheme -> the SDK that verifies it.
    pub(crate) verifiers: BTreeMap<String, String>,
}

impl Interpreter {
    /// Every language whose SDKs are installed. What is missing is said, or fatal where it is required.
    pub(crate) fn all() -> Vec<Self> {
        let Some(folder) = std::env::var_os("COUNTERSIGN_SDK_DIR").map(PathBuf::from) else {
            missing("COUNTERSIGN_SDK_DIR is not set");
            return Vec::new();
        };
        // The interpreters run in that folder, so a relative name would not mean the same to them.
        let folder = folder.canonicalize().unwrap_or(folder);
        let python = folder.join("venv/bin/python");
        let languages = [
            ("Python", python.clone(), "sign.py", python.exists()),
            ("Node", PathBuf::from("node"), "sign.mjs", folder.join("node_modules").exists()),
        ];
        let mut found = Vec::new();
        for (language, program, script, installed) in languages {
            if !installed {
                missing(&format!("the {language} SDKs are not in {}", folder.display()));
                continue;
            }
            match Self::start(&program, script, &folder) {
                Ok(interpreter) => found.push(interpreter),
                Err(error) => missing(&format!("{}: {error}", program.display())),
            }
        }
        found
    }

    fn start(program: &Path, script: &str, folder: &Path) -> std::io::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(script);
        let mut child = Command::new(program)
            .arg(script)
            .current_dir(folder)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = child.stdin.take().expect("stdin is a pipe");
        let lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
        let (send, answers) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut started = Self { child, questions, answers, signers: BTreeMap::new(), verifiers: BTreeMap::new() };
        let listed = started.ask(&json!({ "mode": "list" }));
        for package in listed["missing"].as_array().expect("a list") {
            missing(&format!("{package} is not installed"));
        }
        started.signers = serde_json::from_value(listed["sign"].clone()).expect("names by scheme");
        started.verifiers = serde_json::from_value(listed["verify"].clone()).expect("names by scheme");
        Ok(started)
    }

    /// The answer to one question.
    pub(crate) fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.questions, "{question}").expect("the interpreter reads");
        let line = self.answers.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no answer to {question}"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that something is left out, where it is seen without `--nocapture` too.
///
/// # Panics
/// Where everything is required.
fn missing(what: &str) {
    let how = "run `tests/sdk/install DIR` and set COUNTERSIGN_SDK_DIR=DIR";
    assert!(std::env::var("COUNTERSIGN_SDK_REQUIRED").as_deref() != Ok("1"), "{what}; {how}");
    say(&format!("SKIPPED: {what}; to enable, {how}"));
}
