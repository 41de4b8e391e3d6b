//! Networks that a sender publishes, against a local publisher in every mood: what clients of the route saw, at the gate and
//! through a process that forwards.

use core::time::Duration;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use countersign::control::publishers::KeySources;
use countersign::gate::allowlist::AllowList;
use countersign::gate::networks::{Network, Networks};
use countersign::gate::range_feed::RangeForm;
use countersign::gate::ranges::{PublishedRanges, RangeFeed, RangeSource};

use super::{Mood, Publisher, publishers};

const FIRST: &str = r#"{"hooks":["140.82.112.0/20","192.30.252.0/22"],"web":["9.9.9.9"]}"#;
const SECOND: &str = r#"{"hooks":["140.82.112.0/20","143.55.64.0/20"]}"#;

fn ranges(publisher: &Publisher, refresh: Option<Duration>) -> Arc<PublishedRanges> {
    let networks = ["140.82.112.0/20", "192.30.252.0/22"].map(|text| Network::parse(text).unwrap()).to_vec();
    let feed = RangeFeed { url: publisher.url(), form: RangeForm::Json(vec!["/hooks".into()]) };
    let source = RangeSource { name: "sender".into(), networks, as_of: 1_700_000_000, feed: Some(feed) };
    Arc::new(PublishedRanges::new(Arc::new(source), refresh))
}

fn sources(ranges: &Arc<PublishedRanges>) -> KeySources {
    KeySources { ranges: vec![Arc::clone(ranges)], ..KeySources::default() }
}

fn list(ranges: &Arc<PublishedRanges>) -> AllowList {
    AllowList::new(None, Networks::default()).with_published(vec![Arc::clone(ranges)])
}

fn admits(list: &AllowList, client: &str) -> bool {
    list.admit(client.parse().ok()).is_ok()
}

fn answers(text: &str) -> Mood {
    Mood::Answers(200, text.to_owned())
}

/// Waits until it is so.
fn settles(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..400 {
        if is_so() {
            return println!("{what}");
        }
        thread::park_timeout(Duration::from_millis(25));
    }
    panic!("{what}: not after ten seconds");
}

#[test]
fn a_list_in_every_mood_of_its_publisher() {
    let publisher = Publisher::start("ranges", "localhost");
    let cache = publisher.directory.join("cache");
    let every = Some(Duration::from_millis(50));
    let known = ranges(&publisher, every);
    let list = list(&known);
    let publishers = publishers(&publisher, Some(&cache));
    publishers.fill(&sources(&known));
    publishers.follow(sources(&known));
    let (old, kept, new) = ("192.30.252.1", "140.82.112.1", "143.55.64.1");
    assert!(admits(&list, old) && admits(&list, kept) && !admits(&list, new), "the copy counts from the start");

    let reading = || publishers.range_readings().into_iter().next().unwrap_or_default();
    let huge = format!(r#"{{"hooks":["140.82.112.0/20"],"x":"{}"}}"#, "y".repeat(5 << 20));
    let many: Vec<String> = (0..5000).map(|at| format!("\"20.{}.{}.1\"", at / 256, at % 256)).collect();
    for (what, mood, why) in [
        ("gone", Mood::Gone, ""),
        ("wrong: 500", Mood::Answers(500, SECOND.into()), "status 500"),
        ("wrong: no JSON", answers("<html>"), "no JSON"),
        ("wrong: another place", answers(r#"{"hook":["140.82.112.0/20"]}"#), "no list of texts at /hooks"),
        ("wrong: no network", answers(r#"{"hooks":["140.82.112.0/20","x"]}"#), "not a network"),
        ("empty", answers(r#"{"hooks":[]}"#), "no list of texts"),
        ("empty body", answers(""), "no JSON"),
        ("collapsed", answers(r#"{"hooks":["9.9.9.9"]}"#), "only 0 are left"),
        ("everything", answers(r#"{"hooks":["0.0.0.0/0"]}"#), "more addresses"),
        (
            "a range wider than /8",
            answers(r#"{"hooks":["140.82.112.0/20","192.30.252.0/22","16.0.0.0/7"]}"#),
            "more addr",
        ),
        ("private", answers(r#"{"hooks":["140.82.112.0/20","192.30.252.0/22","10.0.0.0/8"]}"#), "not an address of"),
        ("loopback", answers(r#"{"hooks":["140.82.112.0/20","192.30.252.0/22","127.0.0.1"]}"#), "not an address of"),
        ("many", answers(&format!("{{\"hooks\":[{}]}}", many.join(","))), "more than 4096"),
        ("huge", answers(&huge), "larger than"),
        ("redirect", Mood::Redirects("https://localhost:1/evil".into()), "redirect"),
        ("slow", Mood::Stalls, "timeout"),
    ] {
        publisher.becomes(mood);
        settles(&format!("{what}: {why}"), || reading().error.is_some_and(|error| error.contains(why)));
        assert!(
            admits(&list, old) && admits(&list, kept) && !admits(&list, new) && !admits(&list, "9.9.9.9"),
            "{what}"
        );
        assert!(!admits(&list, "127.0.0.1") && !admits(&list, "10.1.2.3"), "{what}");
    }
    let told = reading();
    assert!(told.failed > 0 && told.refused > 0 && told.succeeded == 0 && told.networks == 2, "{told:?}");
    assert_eq!(told.as_of, 1_700_000_000);

    publisher.becomes(answers(FIRST));
    settles("back", || reading().succeeded > 0 && reading().error.is_none());
    assert!(reading().as_of > 1_700_000_000 && admits(&list, old));
    publisher.becomes(answers(SECOND));
    settles("another list", || admits(&list, new));
    assert!(!admits(&list, old) && admits(&list, kept) && !admits(&list, "9.9.9.9"));

    // Another policy has the list before it is in force, and a start without network has it from disk.
    publisher.becomes(Mood::Gone);
    let next = ranges(&publisher, every);
    publishers.fill(&sources(&next));
    assert!(next.contains(new.parse().unwrap()), "after a reload");
    drop(publishers);
    let fresh = ranges(&publisher, every);
    self::publishers(&publisher, Some(&cache)).fill(&sources(&fresh));
    assert!(fresh.contains(new.parse().unwrap()) && !fresh.contains(old.parse().unwrap()), "from disk");
    let off = ranges(&publisher, None);
    self::publishers(&publisher, Some(&cache)).fill(&sources(&off));
    assert!(off.contains(old.parse().unwrap()), "where nothing is fetched, the copy counts");
    for file in fs::read_dir(&cache).unwrap().flatten() {
        fs::write(file.path(), "# as of 9999999999\n0.0.0.0/0\n").unwrap();
    }
    let tampered = ranges(&publisher, every);
    self::publishers(&publisher, Some(&cache)).fill(&sources(&tampered));
    assert!(!tampered.contains("9.9.9.9".parse().unwrap()), "what is on disk is judged, too");
    let _ = fs::remove_dir_all(&publisher.directory);
}

#[test]
fn nothing_is_fetched_unless_the_configuration_asks_for_it() {
    let publisher = Publisher::start("ranges-off", "localhost");
    publisher.becomes(answers(SECOND));
    let known = ranges(&publisher, None);
    let publishers = publishers(&publisher, None);
    publishers.follow(sources(&known));
    settles("told", || publishers.range_readings().len() == 1);
    thread::park_timeout(Duration::from_millis(300));
    assert_eq!((publisher.asked(), publishers.range_readings()[0].networks), (0, 2));
    let _ = fs::remove_dir_all(&publisher.directory);
}

/// A process that is ended with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An application that accepts everything, and its port.
fn application() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let mut stream = stream;
                while lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).count() > 0 {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
            });
        }
    });
    port
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The whole answer to a request of this client, which a trusted proxy names.
fn answer(port: u16, head: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = stream.write_all(format!("{head}Host: localhost\r\nConnection: close\r\n\r\n").as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn status(port: u16, client: &str) -> String {
    let head = format!("POST /in HTTP/1.1\r\nX-Forwarded-For: {client}\r\nContent-Length: 0\r\n");
    answer(port, &head).split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn deliveries_through_a_process_meet_the_list_that_counts() {
    let publisher = Publisher::start("ranges-process", "localhost");
    publisher.becomes(answers(FIRST));
    let (port, admin, application) = (free_port(), free_port(), application());
    let config = |observe: &str| {
        format!(
            "[[listener]]\naddress = '127.0.0.1:{port}'\ntrusted_proxies = ['127.0.0.1']\n[admin]\naddress = '127.0.0.1:{admin}'\n\
             [upstream]\naddress = '127.0.0.1:{application}'\n[published_keys]\ncache = 'cache'\nauthorities = 'ca.pem'\n\
             [published_ranges]\nrefresh = '60s'\n[ranges.sender]\nurl = '{}'\njson = '/hooks'\n\
             [[route]]\npath = '/in'\nscheme = 'none'\nallow = ['sender', '198.51.100.1']\n{observe}\n",
            publisher.url()
        )
    };
    let path = publisher.directory.join("countersign.toml");
    fs::write(&path, config("")).unwrap();
    let program = env!("CARGO_BIN_EXE_countersign");
    let start = || {
        let mut command = Command::new(program);
        command.args(["run", "-c"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        Ended(command.spawn().unwrap())
    };
    let process = start();
    settles("fetched: a network of the sender passes", || status(port, "140.82.112.1") == "200");
    for (client, wanted) in
        [("192.30.252.1", "200"), ("198.51.100.1", "200"), ("9.9.9.9", "403"), ("143.55.64.1", "403")]
    {
        assert_eq!(status(port, client), wanted, "{client}");
    }
    let metrics = answer(admin, "GET /metrics HTTP/1.1\r\n");
    for line in [
        "countersign_published_ranges{sender=\"sender\"} 2",
        "countersign_range_fetches_total{sender=\"sender\",result=\"success\"} 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    }

    // The publisher is gone at the next start: the list is that of the disk.
    drop(process);
    publisher.becomes(Mood::Gone);
    let process = start();
    settles("from disk", || status(port, "140.82.112.1") == "200");
    assert_eq!(status(port, "9.9.9.9"), "403");

    // Only counted: nothing is refused, and the metric says what would have been.
    drop(process);
    fs::write(&path, config("observe = ['allow']")).unwrap();
    let _process = start();
    settles("observed", || status(port, "9.9.9.9") == "200");
    let metrics = answer(admin, "GET /metrics HTTP/1.1\r\n");
    assert!(
        metrics
            .lines()
            .any(|line| line
                .starts_with("countersign_observed_refusals_total{route=\"in\",reason=\"client_not_allowed\"} ")),
        "{metrics}"
    );
    let _ = fs::remove_dir_all(&publisher.directory);
}
