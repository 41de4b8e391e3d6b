//! Every kind of mistake: its line, its key path, what is said and what to do.

use countersign::config::Severity;

use crate::support::{FRAME, ROUTE, assert_mistakes, github, problems, route};

#[test]
fn mistakes_in_the_sections() {
    let with = |text: &str| format!("{FRAME}{ROUTE}{text}\n");
    let listener = |text: &str| format!("[upstream]\naddress = 'app:1'\n{ROUTE}{text}\n");
    let ready = |value: &str| with(&format!("[admin]\naddress = '127.0.0.1:9'\nready = {value}"));
    assert_mistakes(
        Severity::Error,
        &[
            (&with("[server]\nworkers = -1"), 10, "server.workers", "-1 is out of range", "0 to 1024"),
            (
                &with("[server]\nworkers = '4'"),
                10,
                "server.workers",
                "expected a whole number, found a string",
                "without quotes",
            ),
            (&with("[server]\ndriver = 'uring'"), 10, "server.driver", "not one of the choices", "\"io_uring\""),
            (&with("[server]\ndrain_grace = 25"), 10, "server.drain_grace", "25 has no unit", "with a unit"),
            (&with("[server]\nthreads = 1"), 10, "server.threads", "unknown key", "known here: workers"),
            (&with("[admin]\nhosts = []"), 9, "admin.address", "is missing", "127.0.0.1:9090"),
            (&with("[admin]\naddress = ':9090'"), 10, "admin.address", "not an IP address", "127.0.0.1:9090"),
            (&with("[admin]\naddress = 'unix:a'"), 10, "admin.address", "does not name a socket", "absolute path"),
            (
                &with("[admin]\naddress = '127.0.0.1:8080'"),
                10,
                "admin.address",
                "taken by the listener in line 2",
                "another",
            ),
            (&with("[admin]\naddress = '0.0.0.0:9000'"), 10, "admin.address", "is this port", "another number"),
            (
                &with("[admin]\naddress = '127.0.0.1:9'\nhosts = ['a.b:80']"),
                11,
                "admin.hosts[0]",
                "has a port",
                "host = \"a.b\"",
            ),
            (&ready("{}"), 11, "admin.ready.upstreams", "is missing", "\"all\""),
            (&ready("true"), 11, "admin.ready", "expected a table", "table"),
            (&ready("{ upstreams = [] }"), 11, "admin.ready.upstreams", "names no application", "remove [admin.ready]"),
            (&ready("{ upstreams = 1 }"), 11, "admin.ready.upstreams", "a string or a list", "list"),
            (&ready("{ upstreams = 'app' }"), 11, "admin.ready.upstreams", "has no port", "127.0.0.1:9000"),
            (
                &ready("{ upstreams = ['all', '127.0.0.1:9000'] }"),
                11,
                "admin.ready.upstreams",
                "\"all\" among others",
                "upstreams = \"all\"",
            ),
            (
                &ready("{ upstreams = 'app:1' }"),
                11,
                "admin.ready.upstreams",
                "no route forwards to app:1",
                ":9000\", or",
            ),
            (
                &ready("{ upstreams = ['127.0.0.1:9000', '127.0.0.1:9000'] }"),
                11,
                "admin.ready.upstreams",
                "given twice",
                "remove one",
            ),
            (
                &ready("{ upstreams = 'all', failures = 0 }"),
                11,
                "admin.ready.failures",
                "0 is out of range",
                "1 to 100",
            ),
            (
                &ready("{ upstreams = 'all', successes = 101 }"),
                11,
                "admin.ready.successes",
                "101 is out of range",
                "1 to 100",
            ),
            (
                &ready("{ upstreams = 'all', interval = '0s' }"),
                11,
                "admin.ready.interval",
                "0s is out of range",
                "100ms to 1m",
            ),
            (&ready("{ upstreams = 'all', rise = 2 }"), 11, "admin.ready.rise", "unknown key", "known here: "),
            (&with("[admin]\naddress = '127.0.0.1:9'\nport = 1"), 11, "admin.port", "unknown key", "address"),
            (
                &with("[reload]\npoll = '50ms'"),
                10,
                "reload.poll",
                "50ms is out of range",
                "100ms to 1h, or 0s for never",
            ),
            (&with("[reload]\npoll = '2h'"), 10, "reload.poll", "2h is out of range", "to 1h, or 0s"),
            (&with("[reload]\nwatch = 1"), 10, "reload.watch", "expected true or false", "true or false"),
            (&with("[reload]\nwatsh = true"), 10, "reload.watsh", "unknown key", "did you mean \"watch\"?"),
            (&with("[servers]\nworkers = 1"), 9, "servers", "unknown key", "did you mean \"server\"?"),
            (&with("[limits]\nhead_size = '64B'"), 10, "limits.head_size", "64B is out of range", "1KiB to 64KiB"),
            (&with("[limits]\nheaders = 300"), 10, "limits.headers", "out of range", "8 to 256"),
            (
                &with("[limits]\ntarget_size = '16KiB'"),
                10,
                "limits.target_size",
                "not smaller than head_size",
                "smaller",
            ),
            (&with("[limits]\nbody_size = '1 MB'"), 10, "limits.body_size", "unknown unit", "\"1MB\""),
            (&with("[limits]\nbody_timeout = '0s'"), 10, "limits.body_timeout", "0s is out of range", "1ms to 1h"),
            (&with("[limits]\nidle_timeout = '2h'"), 10, "limits.idle_timeout", "2h is out of range", "1ms to 1h"),
            (&with("[limits]\nbodysize = '1MiB'"), 10, "limits.bodysize", "unknown key", "did you mean \"body_size\"?"),
            (&listener(""), 1, "listener", "is missing", "[[listener]]"),
            (&listener("[[listener]]"), 7, "listener[0].address", "is missing", "127.0.0.1:8080"),
            (&listener("[listener]\naddress = '127.0.0.1:1'"), 7, "listener", "found one table", "[[listener]]"),
            (
                &listener("[[listener]]\naddress = 'localhost:8080'"),
                8,
                "listener[0].address",
                "not an IP address",
                "127.0.0.1:8080",
            ),
            (
                &with("[[listener]]\naddress = '127.0.0.1:8080'"),
                10,
                "listener[1].address",
                "already given in line 2",
                "remove",
            ),
            (
                &with("[[listener]]\naddress = '127.0.0.1:9000'"),
                10,
                "listener[1].address",
                "is this listener",
                "another port",
            ),
        ],
    );
}

#[test]
fn mistakes_in_the_upstream() {
    let with = |address: &str| format!("[[listener]]\naddress = '127.0.0.1:8080'\n[upstream]\n{address}\n{ROUTE}");
    assert_mistakes(
        Severity::Error,
        &[
            (&with("address = 'http://localhost:9000'"), 4, "upstream.address", "is a URL", "127.0.0.1:9000"),
            (&with("address = '127.0.0.1'"), 4, "upstream.address", "has no port", "127.0.0.1:9000"),
            (&with("address = 'unix:app.sock'"), 4, "upstream.address", "does not name a socket", "absolute"),
            (&with("adress = '127.0.0.1:9000'\naddress = 'a:1'"), 4, "upstream.adress", "unknown key", "\"address\""),
            (&with("connect_timeout = '1s'"), 5, "route[0].upstream", "no application", "to [upstream]"),
            (
                &with("address = 'app:1'\nreuse_after = '4s'"),
                5,
                "upstream.reuse_after",
                "not shorter than idle_timeout",
                "idle_connections = 0",
            ),
            (
                &with("address = 'app:1'\nreuse_after = '11s'"),
                5,
                "upstream.reuse_after",
                "11s is out of range",
                "0s to 10s",
            ),
        ],
    );
}

#[test]
fn mistakes_in_a_route() {
    assert_mistakes(
        Severity::Error,
        &[
            (FRAME, 1, "route", "is missing", "[[route]]"),
            (
                &route("scheme = 'github'\nsecrets = [{ id = '1', file = 'secrets/good' }]"),
                5,
                "route[0].path",
                "is missing",
                "path =",
            ),
            (&route("path = '/a'"), 5, "route[0].scheme", "is missing", "scheme = \"none\""),
            (
                &route("path = '/a'\nscheme = 'gihtub'"),
                7,
                "route[0].scheme",
                "no scheme \"gihtub\"",
                "did you mean \"github\"?",
            ),
            (
                &route("path = '/a'\nscheme = 'github'"),
                5,
                "route[0].secrets",
                "is missing",
                "file = \"secrets/github\"",
            ),
            (&github("hots = 'a'"), 9, "route[0].hots", "unknown key", "did you mean \"host\"?"),
            (&github("host = 'a:80'"), 9, "route[0].host", "has a port", "host = \"a\""),
            (&github("host = '*.a'"), 9, "route[0].host", "wildcards", "one route per host"),
            (&github("name = 'a b'"), 9, "route[0].name", "not a name", "letters"),
        ],
    );
}

#[test]
fn mistakes_in_what_a_route_asks_for() {
    assert_mistakes(
        Severity::Error,
        &[
            (&github("methods = []"), 9, "route[0].methods", "has 0 methods", "[\"POST\"]"),
            (&github("methods = 'POST'"), 9, "route[0].methods", "expected a list", "[\"…\"]"),
            (&github("methods = ['post']"), 9, "route[0].methods", "capitals", "\"POST\""),
            (&github("methods = ['CONNECT']"), 9, "route[0].methods", "not a method", "POST"),
            (&github("methods = ['POST', 'POST']"), 9, "route[0].methods", "twice", "remove"),
            (&github("tolerance = '5m'"), 9, "route[0].tolerance", "signs no timestamp", "remove"),
            (&github("public_url = 'https://a/'"), 9, "route[0].public_url", "does not sign the URL", "remove"),
            (
                &github("public_keys = [{ id = '1', file = 'x' }]"),
                9,
                "route[0].public_keys",
                "no use for public_keys",
                "as secrets",
            ),
            (&github("body_size = '1GiB'"), 9, "route[0].body_size", "out of range", "256MiB"),
            (&github("upstream = 'app'"), 9, "route[0].upstream", "no port", "name:9000"),
            (&github("host = 'Hooks.example.'"), 9, "route[0].host", "ends in a dot", "host = \"hooks.example\""),
            (&github("keep_headers = 'X-Real-IP'"), 9, "route[0].keep_headers", "expected a list", "in brackets"),
            (
                &github("keep_headers = ['X-Real-IP', 'X-Forwarded-For']"),
                9,
                "route[0].keep_headers[1]",
                "set by countersign",
                "trusted_proxies",
            ),
            (&github("keep_headers = ['X-Countersign-Route']"), 9, "route[0].keep_headers[0]", "set by", "remove it"),
            (&github("keep_headers = ['Connection']"), 9, "route[0].keep_headers[0]", "the connection", "remove it"),
            (&github("keep_headers = ['X-GitHub-Event']"), 9, "route[0].keep_headers[0]", "anyway", "remove it"),
            (&github("keep_headers = ['X_Forwarded_Port']"), 9, "route[0].keep_headers[0]", "spelling", "\"-\""),
            (&github("keep_headers = ['X Real']"), 9, "route[0].keep_headers[0]", "not a header name", "name alone"),
            (
                &route("path = 'a'\nscheme = 'github'\nsecrets = [{ id = '1', file = 'secrets/good' }]"),
                6,
                "route[0].path",
                "begins with",
                "\"/a\"",
            ),
            (
                &github(
                    "[[route]]\npath = '/github'\nscheme = 'github'\nname = 'b'\nsecrets = [{ id = '1', file = 'secrets/good' }]",
                ),
                9,
                "route[1].path",
                "route[0] in line 5",
                "other hosts",
            ),
            (
                &github(
                    "[[route]]\npath = '/b'\nname = 'github'\nscheme = 'github'\nsecrets = [{ id = '1', file = 'secrets/good' }]",
                ),
                9,
                "route[1].name",
                "route[0] in line 5",
                "another name",
            ),
            (
                &route("path = '/a'\nscheme = 'square'\nsecrets = [{ id = '1', file = 'secrets/good' }]"),
                5,
                "route[0].public_url",
                "is missing",
                "registered with the sender",
            ),
            (
                &route(
                    "path = '/a'\nscheme = 'stripe'\nsecrets = [{ id = '1', file = 'secrets/good' }]\ntolerance = '2d'",
                ),
                9,
                "route[0].tolerance",
                "unknown unit",
                "\"1h\"",
            ),
        ],
    );
}

/// What is signed must be bound to the path that was requested.
#[test]
fn a_public_url_with_a_path_does_not_go_with_parameters() {
    let with = |path: &str, url: &str| {
        let secrets = "secrets = [{ id = '1', file = 'secrets/good' }]";
        route(&format!("path = '{path}'\nscheme = 'square'\n{secrets}\npublic_url = '{url}'"))
    };
    let refused = |path: &str| {
        let text = with(path, "https://hooks.example.com:8443/webhooks/a");
        let fix = "public_url = \"https://hooks.example.com:8443\"";
        assert_mistakes(Severity::Error, &[(&text, 9, "route[0].public_url", "has parameters", fix)]);
    };
    refused("/webhooks/{tenant}");
    refused("/webhooks/{*rest}");
    for (path, url) in [("/webhooks/{tenant}", "https://a.example"), ("/webhooks/a", "https://a.example/x")] {
        let errors = problems(&with(path, url)).into_iter().filter(|problem| problem.severity == Severity::Error);
        assert_eq!(errors.count(), 0, "{path} {url}");
    }
    let braces = with("/webhooks/a", "https://a.example/{tenant}");
    assert_mistakes(
        Severity::Error,
        &[(&braces, 9, "route[0].public_url", "{tenant} are not filled in", "registered")],
    );
}

#[test]
fn mistakes_in_what_a_route_remembers() {
    let stripe = |replay: &str| {
        route(&format!(
            "path = '/a'\nscheme = 'stripe'\nsecrets = [{{ id = '1', file = 'secrets/good' }}]\ntolerance = '10m'\n{replay}"
        ))
    };
    let fixed = "[scheme.fixed]\nalgorithm = 'hmac-sha256'\ncontent = '{url}'\nsignature = { header = 'X-Signature', encoding = 'hex' }";
    let fixed = route(&format!(
        "path = '/a'\nscheme = 'fixed'\nsecrets = [{{ id = '1', file = 'secrets/good' }}]\npublic_url = 'https://a.example/'\n\
         replay.mode = 'enforce'\n{fixed}"
    ));
    assert_mistakes(
        Severity::Error,
        &[
            (&stripe("replay = 'off'"), 10, "route[0].replay", "expected a table", "a table"),
            (&stripe("replay.mode = 'on'"), 10, "route[0].replay.mode", "not one of the choices", "\"enforce\""),
            (
                &stripe("replay.lifetime = '19m'"),
                10,
                "route[0].replay.lifetime",
                "19m is shorter than the time for which a delivery stays valid: the tolerance of 10m",
                "lifetime = \"20m\"",
            ),
            (&stripe("replay.lifetime = '721h'"), 10, "route[0].replay.lifetime", "out of range", "1s to 720h"),
            (&stripe("replay.capacity = 0"), 10, "route[0].replay.capacity", "0 is out of range", "1 to 16777216"),
            (&stripe("replay.when_full = 'evict'"), 10, "route[0].replay.when_full", "choices", "\"evict_oldest\""),
            (&stripe("replay.duplicates = 409"), 10, "route[0].replay.duplicates", "expected a string", "quotes"),
            (&stripe("replay.life = '1h'"), 10, "route[0].replay.life", "unknown key", "known here: mode, lifetime"),
        ],
    );
    let found = problems(&fixed);
    assert_eq!((found.len(), found[1].place.key_path.as_str()), (2, "route[0].replay.mode"));
    assert!(found[1].message.contains("the same in every delivery"), "{}", found[1]);
    let found = problems(&route("path = '/a'\nscheme = 'none'\nreplay.mode = 'observe'"));
    assert_eq!(found.len(), 2);
    assert_eq!((found[1].severity, found[1].place.key_path.as_str()), (Severity::Error, "route[0].replay.mode"));
    assert!(found[1].message.contains("by sending it first"), "{}", found[1]);
}

#[test]
fn a_route_without_verification_takes_nothing_that_pretends_there_is_one() {
    let found = problems(&route("path = '/a'\nscheme = 'none'\ntolerance = '5m'"));
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].severity, found[0].place.line), (Severity::Warning, 7));
    assert_eq!((found[1].severity, found[1].place.key_path.as_str()), (Severity::Error, "route[0].tolerance"));
}

#[test]
fn mistakes_everywhere_are_reported_in_one_run() {
    let text = "[server]\nworkers = 'many'\n[[listener]]\naddress = ':80'\n[upstream]\naddress = 'x'\n\
                [[route]]\npath = 'a'\nscheme = 'nothing'\n\
                [[route]]\npath = '/b'\nscheme = 'github'\nsecrets = [{ id = '1', file = 'secrets/missing' }]\n\
                [[route]]\npath = '/c'\nscheme = 'github'\nsecrets = [{ id = '1', value = 'changeme' }]\nbody = 1\n";
    let found = problems(text);
    let lines: Vec<u32> = found.iter().filter(|p| p.severity == Severity::Error).map(|p| p.place.line).collect();
    assert_eq!(lines, [2, 4, 6, 8, 9, 13, 17, 18], "{found:#?}");
}

/// Two parts that one signature could cut at two places are named, with what would keep them apart.
#[test]
fn a_content_that_can_be_cut_in_two_ways_is_refused() {
    let scheme = |content: &str, more: &str| {
        let text = format!(
            "[scheme.mine]\nalgorithm = 'hmac-sha256'\ncontent = '{content}'\n\
             signature = {{ header = 'X-S', encoding = 'hex' }}\n"
        );
        let used = |token: &str, line: &'static str| if content.contains(token) { line } else { "" };
        let id = used("{id}", "id = { header = 'X-I' }\n");
        let timestamp = used("{timestamp}", "timestamp = { header = 'X-T', unit = 's' }\n");
        github(&format!("{text}{id}{timestamp}{more}"))
    };
    let line = scheme("", "").lines().position(|line| line.starts_with("content")).unwrap() as u32 + 1;
    for (content, parts, guard) in [
        ("{id}{timestamp}.{body}", "{id} and {body}", "guard = { id = { without = \".\" } }"),
        ("{header:X}.{body}", "{header:X} and {body}", "guard = { \"header:X\" = { without = \".\" } }"),
        ("{header:A}|{header:B}|{body}", "{header:A} and {header:B}", "guard = { \"header:A\" = { without = \"|\" } }"),
        ("{path}.{body}", "{path} and {body}", "guard = { path = { without = \".\" } }"),
        ("{url}{body}", "{url} and {body}", "guard = { url = { without = \"{\" }, body = { begins = \"{\" } }"),
        ("{body}{url}", "{body} and {url}", "guard = { url = { without = \"}\" }, body = { ends = \"}\" } }"),
        ("{id}{body}", "{id} and {body}", "guard = { id = { without = \"{\" }, body = { begins = \"{\" } }"),
        ("{body}{body}", "{body} and {body}", "put a literal between them"),
    ] {
        let found = problems(&scheme(content, ""));
        let problem = found.iter().find(|p| p.message.contains("cannot be told apart"));
        let problem = problem.unwrap_or_else(|| panic!("{content}: {found:#?}"));
        assert_eq!((problem.place.line, problem.place.key_path.as_str()), (line, "scheme.mine.content"), "{content}");
        assert_eq!(problem.severity, Severity::Error);
        assert!(problem.message.starts_with(parts), "{content}: {problem:?}");
        assert!(problem.fix.contains(guard), "{content}: {problem:?}");
        // What the fix says is enough, if not at once then with what is said next.
        let guards = [guard, "guard = { \"header:A\" = { without = \"|\" }, \"header:B\" = { without = \"|\" } }"];
        let apart = guards
            .iter()
            .filter(|guard| guard.starts_with("guard"))
            .any(|guard| problems(&scheme(content, guard)).iter().all(|problem| problem.severity == Severity::Warning));
        assert_eq!(apart, content != "{body}{body}", "{content}");
    }
}

#[test]
fn guards_that_keep_nothing_apart_are_mistakes() {
    let scheme = |guard: &str| {
        github(&format!(
            "[scheme.mine]\nalgorithm = 'hmac-sha256'\ncontent = \"{{header:X}}\\n{{body}}\"\n\
             signature = {{ header = 'X-S', encoding = 'hex' }}\nguard = {guard}\n"
        ))
    };
    for (guard, key_path, message) in [
        ("{ id = { without = '.' } }", "scheme.mine.guard", "{id} is not a part of `content`"),
        ("{ idd = { without = '.' } }", "scheme.mine.guard.idd", "there is no token `{idd}`"),
        ("{ 'header:X' = { without = '' } }", "scheme.mine.guard.header:X.without", "ASCII characters"),
        ("{ 'header:X' = { begins = 'a' } }", "scheme.mine.guard.header:X.begins", "unknown key"),
        ("{ body = { without = 'a' } }", "scheme.mine.guard.body.without", "unknown key"),
        ("'none'", "scheme.mine.guard", "table"),
    ] {
        let found = problems(&scheme(guard));
        let there = found.iter().any(|p| p.place.key_path == key_path && p.message.contains(message));
        assert!(there, "{guard}: {found:#?}");
    }
    assert!(problems(&scheme("{ 'header:X' = { without = '.' } }")).iter().all(|p| p.severity == Severity::Warning));
}

/// A mistake elsewhere in a route does not hide what is wrong with its files.
#[test]
fn key_files_are_read_whatever_else_is_wrong_with_the_route() {
    let missing = "secrets = [{ id = '1', file = 'secrets/missing' }]";
    let own = "[scheme.mine]\nalgorithm = 'hmac-sha1024'\ncontent = '{url}{body}'\nsignature = { header = 'X', encoding = 'hex' }";
    let cases: [(String, &[&str]); 5] = [
        (
            route(&format!("path = '/a'\nscheme = 'gihtub'\n{missing}")),
            &["route[0].scheme", "route[0].secrets[0].file"],
        ),
        (route(&format!("path = 'a'\nscheme = 'github'\n{missing}")), &["route[0].path", "route[0].secrets[0].file"]),
        (
            route(&format!("path = '/a'\nscheme = 'square'\n{missing}")),
            &["route[0].public_url", "route[0].secrets[0].file"],
        ),
        (
            route(&format!("path = '/a'\nscheme = 'mine'\n{missing}\n{own}")),
            &["route[0].public_url", "route[0].secrets[0].file", "scheme.mine.algorithm"],
        ),
        (
            route("path = 'a'\nscheme = 'discord'\npublic_keys = [{ id = '1', file = 'secrets/missing' }]"),
            &["route[0].path", "route[0].public_keys[0].file"],
        ),
    ];
    for (text, expected) in cases {
        let found = problems(&text);
        let paths: Vec<&str> = found.iter().map(|problem| problem.place.key_path.as_str()).collect();
        assert_eq!(paths, expected, "{text}\n{found:#?}");
        assert!(found.iter().all(|problem| problem.place.file.ends_with("countersign.toml")), "{found:#?}");
    }
    let placeholder = route("path = 'a'\nscheme = 'github'\nsecrets = [{ id = '1', value = 'changeme' }]");
    assert!(problems(&placeholder).iter().any(|problem| problem.message.contains("placeholder")));
}

#[test]
fn paths_as_other_programs_write_them() {
    let with = |path: &str| {
        route(&format!("path = '{path}'\nscheme = 'github'\nsecrets = [{{ id = '1', file = 'secrets/good' }}]"))
    };
    let path = "route[0].path";
    assert_mistakes(
        Severity::Warning,
        &[
            (&with("/w/*"), 6, path, "\"*\" stands for itself", "write {*rest}"),
            (&with("/w/:id/x"), 6, path, "\":id\" stands for itself", "write {id}"),
        ],
    );
    assert_mistakes(
        Severity::Error,
        &[
            (&with("https://h/w"), 6, path, "begins with", "path = \"/w\","),
            (&with("https://h"), 6, path, "begins with", "path = \"/\","),
            // No request that is accepted has such a path.
            (&with("/a;b"), 6, path, "a \";\"", "register a URL without"),
            (&with("/%41/%7E"), 6, path, "%41 is \"A\"", "path = \"/A/~\""),
            (&with("/a%2e"), 6, path, "%2E is \".\"", "register another URL"),
            (&with("/a."), 6, path, "ends in a dot", "register another URL"),
            (&with("/a%20"), 6, path, "ends in a space", "register another URL"),
            (&with("/%c0%af"), 6, path, "not UTF-8", "register another URL"),
            (&with("/%ef%bc%8f"), 6, path, "take for one of", "register another URL"),
        ],
    );
}

#[test]
fn fractions_are_not_quantities() {
    let text =
        route("path = '/a'\nscheme = 'stripe'\nsecrets = [{ id = '1', file = 'secrets/good' }]\ntolerance = '1.5m'");
    assert_mistakes(Severity::Error, &[(&text, 9, "route[0].tolerance", "not a whole number", "whole numbers only")]);
}

/// What is weak about a scheme is said at every start, where the route names it.
#[test]
fn a_weak_scheme_is_warned_about() {
    let key = "secrets = [{ id = '1', file = 'secrets/good' }]";
    let with = |scheme: &str| route(&format!("path = '/a'\nscheme = '{scheme}'\n{key}"));
    assert_mistakes(
        Severity::Warning,
        &[(&with("gitlab"), 7, "route[0].scheme", "nothing is signed", "something stronger")],
    );
    assert!(problems(&with("github")).is_empty());
}

#[test]
fn unknown_own_schemes_and_unused_ones() {
    let found = problems(&github("[scheme.mine]\nfrobnicate = 1"));
    let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(text.contains("scheme.mine.frobnicate: unknown key"), "{text}");
    assert!(text.contains("no route uses this scheme"), "{text}");
    let found = problems(&github("[scheme.github]\n"));
    assert!(found.iter().any(|problem| problem.message.contains("built in")), "{found:?}");
}

#[test]
fn mistakes_in_what_is_written_down() {
    let with = |text: &str| format!("{FRAME}{ROUTE}{text}\n");
    let audit = |text: &str| with(&format!("[audit]\nfile = 'a'\nkey = {{ id = 'k', file = 'secrets/good' }}\n{text}"));
    assert_mistakes(
        Severity::Error,
        &[
            (&with("[access_log]\noutput = ''"), 10, "access_log.output", "is empty", "\"stdout\""),
            (&with("[access_log]\noutput = 'logs/'"), 10, "access_log.output", "is a directory", "name a file"),
            (&with("[access_log]\nformat = 'xml'"), 10, "access_log.format", "not one of the choices", "\"json\""),
            (&with("[access_log]\nrefused = 100"), 10, "access_log.refused", "100 has no unit", "100/s"),
            (&with("[access_log]\nrefused = '0/s'"), 10, "access_log.refused", "out of range", "1 to 1000000"),
            (&with("[access_log]\nfile = 'a'"), 10, "access_log.file", "unknown key", "known here"),
            (&with("[audit]\nkey = { id = 'k', file = 'k' }"), 9, "audit.file", "is missing", "audit.jsonl"),
            (&audit("[access_log]\noutput = 'a'"), 10, "audit.file", "of the access log", "a file of its own"),
            (
                &with("[audit]\nfile = 'secrets/good'\nkey = { id = 'k', file = 'secrets/good' }"),
                10,
                "audit.file",
                "the file of its key",
                "a file of its own",
            ),
            (&with("[audit]\nfile = 'a'"), 9, "audit.key", "is missing", "secrets/audit"),
            (&audit("fsync = 'never'"), 12, "audit.fsync", "not one of the choices", "\"each\""),
            (&audit("fsync = 'each'\ninterval = '1s'"), 13, "audit.interval", "has no effect", "remove it"),
            (&audit("interval = '1ms'"), 12, "audit.interval", "1ms is out of range", "20ms to 1m"),
            (&audit("rotate_size = '1B'"), 12, "audit.rotate_size", "out of range", "64KiB"),
            (&audit("when_blocked = 'wait'"), 12, "audit.when_blocked", "not one of the choices", "\"refuse\""),
        ],
    );
    assert_mistakes(
        Severity::Warning,
        &[(&with("[access_log]\noutput = 'off'\nquery = true"), 11, "access_log.query", "has no effect", "remove it")],
    );
}
