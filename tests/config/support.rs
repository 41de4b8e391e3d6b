//! What the tests of the configuration share: a directory with files in it, and what is said about them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use countersign::config::{Loaded, Problem, Problems, Severity, load};

/// A directory that is gone when the test is over.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("countersign-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("secrets")).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        path
    }

    pub(crate) fn load(&self, text: &str) -> Result<Loaded, Problems> {
        load(&self.write("countersign.toml", text))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd";

/// Lines 1 to 4 of most tests.
pub(crate) const FRAME: &str = "[[listener]]\naddress = '127.0.0.1:8080'\n[upstream]\naddress = '127.0.0.1:9000'\n";
/// Lines 5 to 8 of most tests.
pub(crate) const ROUTE: &str =
    "[[route]]\npath = '/github'\nscheme = 'github'\nsecrets = [{ id = '1', file = 'secrets/good' }]\n";

pub(crate) fn directory() -> Directory {
    let directory = Directory::new();
    directory.write("secrets/good", format!("{SECRET}\n"));
    directory.write("secrets/other", "7d1e1b0c5f5e4a0a8f0f6c1f0d8d1a6f3b7c9e24\n");
    directory
}

pub(crate) fn problems(text: &str) -> Vec<Problem> {
    match directory().load(text) {
        Ok(loaded) => loaded.warnings.iter().cloned().collect(),
        Err(problems) => problems.iter().cloned().collect(),
    }
}

/// One mistake: its text, and line, key path, part of the message and part of the fix that are expected.
pub(crate) type Mistake<'m> = (&'m str, u32, &'m str, &'m str, &'m str);

pub(crate) fn assert_mistakes(severity: Severity, mistakes: &[Mistake<'_>]) {
    for (text, line, key_path, message, fix) in mistakes {
        let found = problems(text);
        let all: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{text}\n{}", all.join("\n"));
        let problem = &found[0];
        assert_eq!(problem.severity, severity, "{text}\n{problem}");
        assert_eq!((problem.place.line, problem.place.key_path.as_str()), (*line, *key_path), "{text}\n{problem}");
        assert!(problem.message.contains(message), "{text}\n{problem}");
        assert!(problem.fix.contains(fix), "{text}\n{problem}");
        assert!(problem.place.file.ends_with("countersign.toml"), "{problem}");
    }
}

/// A route from line 5 on, with these lines in it.
pub(crate) fn route(lines: &str) -> String {
    format!("{FRAME}[[route]]\n{lines}\n")
}

/// A route for GitHub from line 5 on; the given lines begin at line 9.
pub(crate) fn github(lines: &str) -> String {
    format!("{FRAME}{ROUTE}{lines}\n")
}
