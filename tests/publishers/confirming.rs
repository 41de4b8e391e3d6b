//! Subscriptions are confirmed by a request to a pinned URL of a call that has been verified, and of no other.

use core::time::Duration;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use countersign::config::handshake::handshake;
use countersign::control::event_log::EventLog;
use countersign::control::publishers::{FetchPace, Fetching, KeyClient, KeySources, Publishers};
use countersign::gate::confirming::ConfirmOffer;
use countersign::gate::errand::{ErrandEnd, ErrandFate, WorkerBells};
use countersign::gate::verify::challenge::HandshakeScheme;
use countersign::gate::verify::{Challenges, QueryPin, Question, Verifier};
use countersign::now::Now;
use countersign::outcome::Rejection;
use countersign::wire::headers::HeaderBuf;

use super::support::Received;
use super::{Mood, Publisher};

fn call(url: &str) -> Received {
    let body = format!(r#"{{"Type":"SubscriptionConfirmation","Token":"2336","SubscribeURL":"{url}"}}"#);
    Received::of(HeaderBuf::default(), body.into_bytes())
}

fn asked(challenges: &Challenges, url: &str, is_verified: bool) -> Result<Option<Box<str>>, Rejection> {
    let now = Now::at_unix(Duration::from_secs(1_760_000_000));
    let reply = challenges.judge(Question { delivery: &call(url), is_verified, now }, &Verifier::none())?;
    Ok(reply.and_then(|reply| reply.confirm))
}

fn challenges(handshake: Arc<HandshakeScheme>) -> Challenges {
    Challenges { handshake, tokens: Vec::new(), url: None, first_calls: true, confirmations: Arc::default() }
}

#[test]
fn only_a_verified_call_with_a_url_of_the_sender_is_confirmed() {
    let challenges = challenges(handshake("aws-sns").unwrap());
    let good = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:a:1:t&Token=2336";
    assert_eq!(asked(&challenges, good, true).unwrap().as_deref(), Some(good));
    assert_eq!(asked(&challenges, good, false), Ok(None), "a stranger chooses nothing");
    for url in [
        "http://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=1",
        "https://evil.example/?Action=ConfirmSubscription&Token=1",
        "https://sns.eu-west-1.amazonaws.com.evil.example/?Action=ConfirmSubscription&Token=1",
        "https://sns.eu-west-1.amazonaws.com/?Action=DeleteTopic&TopicArn=a",
        "https://sns.eu-west-1.amazonaws.com/",
        "https://169.254.169.254/?Action=ConfirmSubscription&Token=1",
    ] {
        assert_eq!(asked(&challenges, url, true), Err(Rejection::ChallengeMalformed), "{url}");
    }
}

#[test]
fn the_one_that_waits_is_told_whether_the_sender_has_confirmed() {
    let publisher = Publisher::start("confirm", "localhost");
    let mut shape = (*handshake("aws-sns").unwrap()).clone();
    let pin = format!("https://localhost:{}/?Action=ConfirmSubscription&", publisher.port);
    shape.calls[0].confirm.as_mut().unwrap().pins = vec![QueryPin::parse(&pin).unwrap()];
    let challenges = challenges(Arc::new(shape));
    let publishers = Publishers::start(Fetching {
        client: KeyClient::with_patience(Some(&publisher.authority), Duration::from_millis(1500)),
        cache: None,
        pace: FetchPace { bell: Duration::from_millis(10), ..FetchPace::every(Duration::from_secs(3600)) },
        log: Arc::new(EventLog::start()),
    });
    publishers
        .follow(KeySources { confirmations: vec![Arc::clone(&challenges.confirmations)], ..KeySources::default() });
    let (bells, rung) = (Arc::<WorkerBells>::default(), Arc::new(AtomicUsize::new(0)));
    let heard = Arc::clone(&rung);
    bells.add(move || {
        heard.fetch_add(1, Ordering::SeqCst);
    });
    let url = asked(&challenges, &format!("{pin}Token=2336"), true).unwrap().unwrap();
    for (count, (mood, wanted)) in [
        (Mood::Answers(200, "<ConfirmSubscriptionResponse/>".into()), ErrandEnd::Done),
        (Mood::Answers(403, String::new()), ErrandEnd::Failed),
        (Mood::Redirects("https://localhost:1/".into()), ErrandEnd::Failed),
        (Mood::Gone, ErrandEnd::Failed),
        (Mood::Stalls, ErrandEnd::Failed),
    ]
    .into_iter()
    .enumerate()
    {
        publisher.becomes(mood);
        let fate = Arc::<ErrandFate>::default();
        let offer = ConfirmOffer { url: url.clone(), fate: Arc::clone(&fate), bells: Arc::clone(&bells) };
        assert!(challenges.confirmations.offer(offer));
        for _ in 0..400 {
            if rung.load(Ordering::SeqCst) > count {
                break;
            }
            thread::park_timeout(Duration::from_millis(25));
        }
        assert_eq!(fate.ended(), Some(wanted), "{count}");
    }
    assert_eq!(publisher.asked(), 5, "each once");
    drop(publishers);
    let _ = fs::remove_dir_all(&publisher.directory);
}
