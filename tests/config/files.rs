//! Files that load and files that do not.

use countersign::config::{Loaded, Problems, load};

use crate::support::{directory, github};

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
