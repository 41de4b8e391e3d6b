//! References to keys, and what stands in the files that they name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use countersign::config::Severity;
use countersign::config::summary::summary;
use countersign::now::Now;

use crate::support::{SECRET, assert_mistakes, directory, github, problems, route};

#[test]
fn mistakes_about_keys() {
    let with = |secrets: &str| route(&format!("path = '/a'\nscheme = 'github'\nsecrets = [\n{secrets}\n]"));
    let key = "route[0].secrets[0]";
    let key_path = |name: &str| format!("{key}.{name}");
    assert_mistakes(
        Severity::Error,
        &[
            (&with(""), 8, "route[0].secrets", "has 0 keys", "from 1 to 16"),
            (
                &route("path = '/a'\nscheme = 'github'\nsecrets = ['secrets/good']"),
                8,
                "route[0].secrets",
                "found a list of something else",
                "secrets = [{ id = \"1\", file = \"secrets/github\" }]",
            ),
            (
                &route("path = '/a'\nscheme = 'github'\nsecrets = 'secrets/good'"),
                8,
                "route[0].secrets",
                "found string",
                "secrets = [{ id = \"1\", file = \"secrets/github\" }]",
            ),
            (&with("{ file = 'secrets/good' }"), 9, &key_path("id"), "is missing", "add id"),
            (&with("{ id = 'a b', file = 'secrets/good' }"), 9, &key_path("id"), "not a name", "letters"),
            (&with("{ id = '1' }"), 9, key, "says nowhere", "add file"),
            (&with("{ id = '1', file = 'a', env = 'B' }"), 9, key, "file and env exclude", "keep one"),
            (&with("{ id = '1', file = '' }"), 9, &key_path("file"), "is empty", "name the file"),
            (&with("{ id = '1', env = '$A' }"), 9, &key_path("env"), "not the name of a variable", "alone"),
            (
                &with("{ id = '1', env = 'NOT_SET_ANYWHERE' }"),
                9,
                &key_path("env"),
                "no environment variable",
                "set NOT_SET",
            ),
            (
                &with("{ id = '1', path = 'a', file = 'secrets/good' }"),
                9,
                &key_path("path"),
                "unknown key",
                "known here",
            ),
            (&with("{ id = '1', file = 'secrets/missing' }"), 9, &key_path("file"), "cannot be read", "relative to"),
            (&with("{ id = '1', file = 'secrets' }"), 9, &key_path("file"), "not a regular file", "check the path"),
            (
                &with("{ id = '1', file = 'secrets/good', not_before = 'soon' }"),
                9,
                &key_path("not_before"),
                "not a date",
                "RFC 3339",
            ),
            (
                &with(
                    "{ id = '1', file = 'secrets/good', not_before = 2026-01-02T00:00:00Z, not_after = 2026-01-01T00:00:00Z }",
                ),
                9,
                &key_path("not_after"),
                "not later than not_before",
                "correct",
            ),
            (
                &with("{ id = '1', file = 'secrets/good' },\n{ id = '1', file = 'secrets/other' }"),
                10,
                "route[0].secrets[1].id",
                "id of another key",
                "its own",
            ),
        ],
    );
}

#[test]
fn oddities_are_warnings_and_load() {
    let with = |secrets: &str| route(&format!("path = '/a'\nscheme = 'github'\nsecrets = [\n{secrets}\n]"));
    assert_mistakes(
        Severity::Warning,
        &[
            (&route("path = '/a'\nscheme = 'none'"), 7, "route[0].scheme", "nothing is verified", "name the scheme"),
            (
                &with(&format!("{{ id = '1', value = '{SECRET}' }}")),
                9,
                "route[0].secrets[0].value",
                "stands in the configuration",
                "move it to a file",
            ),
            (
                &with("{ id = '1', file = 'secrets/good' },\n{ id = '2', file = 'secrets/good' }"),
                10,
                "route[0].secrets[1].file",
                "the same as the key \"1\"",
                "remove one",
            ),
        ],
    );
    assert!(
        problems(&with("{ id = '1', env = 'CARGO_MANIFEST_DIR' }")).iter().all(|p| p.severity == Severity::Warning)
    );
}

#[test]
fn what_stands_in_a_secret_file_is_judged_and_never_shown() {
    for (content, severity, message) in [
        ("", Severity::Error, "is empty"),
        ("\n", Severity::Error, "is empty"),
        ("changeme\n", Severity::Error, "is a placeholder"),
        ("${GITHUB_SECRET}\n", Severity::Error, "not filled in"),
        ("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n", Severity::Error, "no secret"),
        ("'hunter2-hunter2-hunter2'\n", Severity::Warning, "in quotes"),
        ("HOOK=hunter2-hunter2-hunter2\n", Severity::Warning, "NAME=value"),
        ("hunter2\n", Severity::Warning, "fewer than 16 bytes"),
        (" hunter2-hunter2-hunter2\n", Severity::Warning, "white space"),
        ("hunter2-hunter2-hunter2\n\n", Severity::Warning, "white space"),
    ] {
        let directory = directory();
        directory.write("secrets/good", content);
        let (list, loaded) = match directory.load(&github("")) {
            Ok(loaded) => (loaded.warnings, true),
            Err(problems) => (problems, false),
        };
        assert_eq!(list.len(), 1, "{content:?} {list}");
        let problem = list.iter().next().unwrap();
        assert_eq!((problem.severity, loaded), (severity, severity == Severity::Warning), "{content:?} {list}");
        assert_eq!((problem.place.line, problem.place.key_path.as_str()), (8, "route[0].secrets[0].file"));
        assert!(problem.message.contains(message), "{content:?} {list}");
        assert!(!list.to_string().contains("hunter2"), "{list}");
    }
}

#[test]
fn a_file_that_is_too_long_for_a_secret_is_probably_another() {
    let directory = directory();
    directory.write("secrets/good", vec![b'x'; (64 << 10) + 1]);
    let problems = directory.load(&github("")).unwrap_err().to_string();
    assert!(problems.contains("a secret is at most 64KiB long; is this the right file?"), "{problems}");
}

#[test]
fn a_secret_that_the_scheme_cannot_decode_is_refused() {
    let directory = directory();
    directory.write("secrets/good", "whsec_this is not base64 at all!\n");
    let text = github("").replace("'github'\n", "'standard-webhooks'\n");
    let problems = directory.load(&text).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems}");
    let problem = problems.iter().next().unwrap();
    assert_eq!((problem.place.line, problem.place.key_path.as_str()), (8, "route[0].secrets[0].file"), "{problem}");
    assert!(!problems.to_string().contains("not base64 at all"), "{problems}");
}

#[test]
fn only_a_secret_that_every_user_can_read_is_warned_about() {
    for (mode, warned) in [(0o400, false), (0o440, false), (0o600, false), (0o640, false), (0o644, true), (0o604, true)]
    {
        let directory = directory();
        let path = directory.0.join("secrets/good");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let warnings = directory.load(&github("")).unwrap().warnings.to_string();
        assert_eq!(warnings.contains("every user"), warned, "{mode:o} {warnings}");
    }
}

/// `echo` and editors leave a line end, which is no part of a secret: it is left out, and `check` says so.
#[test]
fn a_line_end_that_is_left_out_is_noted() {
    let note = "the line end at its end is not part of it";
    for (content, noted) in [("hunter2-hunter2-hunter2\n", true), ("hunter2-hunter2-hunter2", false)] {
        let directory = directory();
        directory.write("secrets/good", content);
        let loaded = directory.load(&github("")).unwrap();
        let text = summary(&loaded.settings, Now::at_unix(Duration::ZERO));
        assert!(loaded.warnings.is_empty() && text.contains(note) == noted, "{content:?} {text}");
    }
}
