//! Paths and hosts that two readers may read in two ways: what is matched is what the application routes on.

use crate::support::application::OK;
use crate::support::folder::Folder;
use crate::support::{Application, Delivery, Driver, Proxy, on_both_drivers};

on_both_drivers! {
    a_host_with_a_dot_at_its_end_is_the_host_without,
    paths_with_a_second_reading_are_refused,
    a_path_that_another_route_could_mean_is_refused,
    a_query_is_opaque,
    http_1_0_without_a_host_names_the_application,
    absolute_targets_agree_with_their_hosts,
}

const UNVERIFIED: &str = "scheme = \"none\"";

fn to(target: &str) -> Delivery {
    Delivery::of(b"x").line(&format!("POST {target} HTTP/1.1"))
}

fn a_host_with_a_dot_at_its_end_is_the_host_without(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application)
        .route(&format!("name = \"strict\"\npath = \"/shared\"\nhost = \"hooks.example.com\"\n{UNVERIFIED}"))
        .route(&format!("name = \"lax\"\npath = \"/shared\"\n{UNVERIFIED}"))
        .start();
    for (host, route, told) in [
        ("hooks.example.com.", "strict", "hooks.example.com"),
        ("HOOKS.example.com.:8443", "strict", "HOOKS.example.com:8443"),
        ("hooks.example.com", "strict", "hooks.example.com"),
        ("other.example.", "lax", "other.example"),
        ("[::1]:80", "lax", "[::1]:80"),
    ] {
        let seen = application.requests().len();
        let answer = proxy.connect().ask(&to("/shared").host(Some(host)).bytes());
        assert_eq!(answer.status, 200, "{host}");
        let request = application.assert_requests(seen + 1).pop().unwrap();
        assert_eq!(request.field("X-Countersign-Route"), route, "{host}");
        assert_eq!(request.field("Host"), told);
        assert_eq!(request.field("X-Forwarded-Host"), told);
    }
    for host in [".", "..", "hooks.example.com..", "hooks..example.com", ".example.com", "[::1]."] {
        assert_eq!(proxy.connect().ask(&to("/shared").host(Some(host)).bytes()).status, 400, "{host}");
    }
}

fn paths_with_a_second_reading_are_refused(driver: Driver) {
    let application = Application::answering(OK);
    let proxy =
        Proxy::on(driver, &application).route(&format!("name = \"all\"\npath = \"/{{*rest}}\"\n{UNVERIFIED}")).start();
    for path in [
        "/x%c0%afhook",
        "/%c0%ae%c0%ae/hook",
        "/x/%ef%bc%8e%ef%bc%8e/hook",
        "/x%EF%BC%8Fhook",
        "/x%e2%88%95hook",
        "/x%c2%a5hook",
        "/hook%ef%bc%9ba",
        "/x%ef%bc%852ehook",
        "/x%e2%84%80hook",
        "/hook%ef%bc%9f",
        "/x%fc",
        "/x%c3",
        "/%68ook",
        "/hook%2d",
        "/x//hook",
        "/x/./hook",
        "/x/../hook",
        "/x%2fhook",
        "/x%5chook",
        "/hook;a",
        "/hook%3ba",
        "/caf\u{e9}",
        "/hook.",
        "/hook%20",
    ] {
        let answer = proxy.connect().ask(&to(path).bytes());
        assert_eq!((answer.status, answer.closes()), (400, true), "{path}");
        application.assert_saw_nothing(path);
    }
    proxy.assert_endings(&["target_invalid"; 24]);
    // Near misses arrive as they were written.
    let near = [
        "/caf%C3%A9",
        "/a%20b",
        "/user%40example.com",
        "/AbC%3D%3D",
        "/a:b",
        "/a%3Ab",
        "/100%25",
        "/a.b/.c",
        "/x/",
        "/X",
    ];
    for path in near {
        assert_eq!(proxy.connect().ask(&to(path).bytes()).status, 200, "{path}");
    }
    let lines: Vec<String> = application.assert_requests(near.len()).into_iter().map(|request| request.line).collect();
    assert_eq!(lines, near.map(|path| format!("POST {path} HTTP/1.1")));
}

/// The route `/hook` is verified; another one, which is not, stands for every path.
fn a_path_that_another_route_could_mean_is_refused(driver: Driver) {
    let application = Application::answering(OK);
    let route = |name: &str, path: &str| format!("name = \"{name}\"\npath = \"{path}\"\n{UNVERIFIED}");
    let proxy = Proxy::on(driver, &application)
        .route(&route("all", "/{*rest}"))
        .route("name = \"colon\"\npath = \"/a:b\"\nscheme = \"github\"\nsecrets = [{ id = \"1\", value = \"correct-horse-battery-staple-0123456789\" }]")
        .start();
    for path in ["/a%3Ab", "/a%3ab", "/A:b", "/HOOK", "/Hook", "/hook/", "/a:b/"] {
        assert_eq!(proxy.connect().ask(&to(path).bytes()).status, 400, "{path}");
        application.assert_saw_nothing(path);
    }
    // Unsigned, so that it is seen which route it was.
    for (path, status) in [("/hook", 401), ("/a:b", 401), ("/hooks", 200), ("/Other/", 200), ("/b%3Ab", 200)] {
        let delivery = Delivery::unsigned(b"x").line(&format!("POST {path} HTTP/1.1"));
        assert_eq!(proxy.connect().ask(&delivery.bytes()).status, status, "{path}");
    }
    // Where no other route takes it, a path in another case or with a slash is unknown; a needless escape is refused.
    let proxy = Proxy::on(driver, &application).route(&route("colon", "/a:b")).start();
    for (path, status) in [("/HOOK", 404), ("/hook/", 404), ("/x%3A", 404), ("/a%3Ab", 400)] {
        assert_eq!(proxy.connect().ask(&to(path).bytes()).status, status, "{path}");
    }
}

/// Registered URLs are sent as they were written. Nothing is decided by a query.
fn a_query_is_opaque(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let queries = [
        "a=\"b\"",
        "a=<b>",
        "a=b^c",
        "a=b\\c",
        "name=M\u{fc}ller",
        "q=\u{65e5}\u{672c}",
        "a=/../b//c;d",
        "%zz",
        "?",
        "a=b|c{d}`e",
        "url=https://x.example/?y=%2F..%2F",
    ];
    for query in queries {
        assert_eq!(proxy.connect().ask(&to(&format!("/hook?{query}")).bytes()).status, 200, "{query}");
    }
    let lines: Vec<String> =
        application.assert_requests(queries.len()).into_iter().map(|request| request.line).collect();
    // The support shows each byte as a character.
    let shown = |query: &str| query.bytes().map(char::from).collect::<String>();
    for (line, query) in lines.iter().zip(queries) {
        let plain = format!("POST /hook?{query} HTTP/1.1");
        assert!(*line == plain || *line == format!("POST /hook?{} HTTP/1.1", shown(query)), "{line} for {query}");
    }
    for query in ["a#b", "a b", "a\u{7f}", "a\tb"] {
        assert_eq!(proxy.connect().ask(&to(&format!("/hook?{query}")).bytes()).status, 400, "{query:?}");
    }
    // Bytes that are no characters are no request.
    let mut bytes = to("/hook?a=XX").bytes();
    let at = memchr::memmem::find(&bytes, b"XX").unwrap();
    bytes[at] = 0xff;
    assert_eq!(proxy.connect().ask(&bytes).status, 400);
}

fn http_1_0_without_a_host_names_the_application(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    let old = Delivery::of(b"x").line("POST /hook HTTP/1.0").host(None).field("X-Forwarded-Host", "evil.example");
    assert_eq!(proxy.connect().ask(&old.bytes()).status, 200);
    assert_eq!(proxy.connect().ask(&old.clone().host(Some("a.example.")).bytes()).status, 200);
    // What an absolute target names is a host, too.
    let absolute = old.clone().line("POST http://b.example:80/hook HTTP/1.0");
    assert_eq!(proxy.connect().ask(&absolute.bytes()).status, 200);
    let requests = application.assert_requests(3);
    assert_eq!((requests[2].field("Host"), requests[2].field("X-Forwarded-Host")), ("b.example:80", "b.example:80"));
    assert_eq!(requests[0].field("Host"), application.address());
    assert!(requests[0].all("X-Forwarded-Host").is_empty(), "no one was asked for");
    assert_eq!((requests[1].field("Host"), requests[1].field("X-Forwarded-Host")), ("a.example", "a.example"));

    let folder = Folder::new();
    let application = Application::on_unix_socket(&folder.path("app.sock"));
    let proxy = Proxy::on(driver, &application).start();
    assert_eq!(proxy.connect().ask(&old.bytes()).status, 200);
    assert_eq!(application.assert_requests(1)[0].field("Host"), "localhost");
}

fn absolute_targets_agree_with_their_hosts(driver: Driver) {
    let application = Application::answering(OK);
    let proxy = Proxy::on(driver, &application).start();
    for (target, host, told) in [
        ("http://a.example:80/hook", "a.example", "a.example:80"),
        ("http://a.example/hook", "a.example:80", "a.example"),
        ("https://a.example/hook", "A.example.:443", "a.example"),
    ] {
        let seen = application.requests().len();
        assert_eq!(proxy.connect().ask(&to(target).host(Some(host)).bytes()).status, 200, "{target} {host}");
        let request = application.assert_requests(seen + 1).pop().unwrap();
        assert_eq!((request.line.as_str(), request.field("Host")), ("POST /hook HTTP/1.1", told));
    }
    for (target, host) in [
        ("http://a.example:443/hook", "a.example"),
        ("https://a.example/hook", "a.example:80"),
        ("http://a.example/hook", "b.example"),
        ("http://a.example:/hook", "a.example"),
        ("/hook", "a.example:"),
    ] {
        assert_eq!(proxy.connect().ask(&to(target).host(Some(host)).bytes()).status, 400, "{target} {host}");
    }
}
