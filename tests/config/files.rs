//! Files that load and files that do not.

use std::fs;

use countersign::config::load::load_noting;
use countersign::config::{Loaded, Problems, load};

use crate::support::{SECRET, directory, github};

#[test]
fn a_good_file_loads_without_a_word() {
    let loaded = directory().load(&github("")).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let route = loaded.gate.routes.resolve(b"any.example:80", "/github", b"POST").unwrap();
    assert_eq!((route.name.as_str(), route.body_limit, route.upstream), ("github", 1 << 20, 0));
    assert_eq!(route.verifier.keys().len(), 1);
    assert_eq!(loaded.gate.upstreams[0].to_string(), "127.0.0.1:9000");
}

#[test]
fn files_that_are_not_configurations_are_refused() {
    let directory = directory();
    let first = |result: Result<Loaded, Problems>| result.unwrap_err().iter().next().unwrap().clone();
    assert!(first(load(&directory.0.join("missing.toml"))).message.contains("cannot be read"));
    assert!(first(load(&directory.0)).message.contains("not a regular file"));
    let problem = first(load(&directory.write("latin1.toml", b"a = 1\nb = '\xe9'\n")));
    assert_eq!((problem.place.line, problem.place.column), (2, 6), "{problem}");
    let problem = first(directory.load("[[listener]]\naddress = \n"));
    assert_eq!(problem.place.line, 2, "{problem}");
    assert!(first(directory.load("")).message.contains("is missing"));
}

/// What a configuration depends on is every file that it names, there or not.
#[test]
fn every_file_is_noted_and_every_change_of_one_is_seen() {
    let directory = directory();
    let text = github("allow_file = 'networks'\n").replace("secrets/good", "secrets/missing");
    let config = directory.write("countersign.toml", &text);
    let (outcome, sources) = load_noting(&config);
    assert!(outcome.is_err());
    let paths: Vec<_> = sources.paths().map(ToOwned::to_owned).collect();
    let (missing, networks) = (directory.0.join("secrets/missing"), directory.0.join("networks"));
    assert_eq!(paths, [config.clone(), missing.clone(), networks.clone()]);
    assert_eq!(sources.again(), sources);
    fs::write(&missing, SECRET).unwrap();
    assert_eq!(sources.again().changed_since(&sources).collect::<Vec<_>>(), [missing]);
    fs::write(&networks, "192.0.2.0/24\n").unwrap();
    let (outcome, sources) = load_noting(&config);
    assert_eq!(outcome.unwrap().gate.routes.routes().len(), 1);
    fs::write(&networks, "192.0.2.0/25\n").unwrap();
    assert_eq!(sources.again().changed_since(&sources).collect::<Vec<_>>(), [networks.as_path()]);
    fs::write(&networks, "192.0.2.0/24\n").unwrap();
    assert_eq!(sources.again(), sources);
    fs::remove_file(&networks).unwrap();
    assert_eq!(sources.again().changed_since(&sources).collect::<Vec<_>>(), [networks]);
    assert!(!format!("{sources:?}").contains(SECRET));
}
