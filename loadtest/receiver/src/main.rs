//! A receiver of GitHub deliveries as one would write it with hyper and tokio: the body is collected, its
//! X-Hub-Signature-256 verified with ring, and what is genuine forwarded over connections that are kept. One thread, no
//! limits, no log: less than countersign does. It listens on loopback alone and ends when it is told to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ring::hmac;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

const USAGE: &str = "usage: receiver --port PORT --upstream IP:PORT --secret-file FILE [--certificate FILE --key FILE]";
/// Connections that wait to be accepted, as for the others that are compared.
const BACKLOG: u32 = 4096;
/// The largest body, as for the others.
const LARGEST_BODY: usize = 2 << 20;

type Problem = Box<dyn Error>;

/// What every request needs.
struct Shared {
    key: hmac::Key,
    upstream: SocketAddr,
    /// Idle connections to the application.
    idle: RefCell<Vec<SendRequest<Full<Bytes>>>>,
}

fn main() -> Result<(), Problem> {
    let mut options = options()?;
    let mut take = |name: &str| options.remove(name).ok_or(USAGE);
    let port: u16 = take("--port")?.parse()?;
    let upstream = take("--upstream")?.parse()?;
    let secret = std::fs::read(take("--secret-file")?)?;
    let tls = match take("--certificate") {
        Ok(certificate) => Some(acceptor(&certificate, &take("--key")?)?),
        Err(_) => None,
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let shared = Rc::new(Shared { key, upstream, idle: RefCell::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(port, shared, tls))
}

/// The command line: pairs.
fn options() -> Result<BTreeMap<String, String>, Problem> {
    let mut words = std::env::args().skip(1);
    let mut given = BTreeMap::new();
    while let Some(name) = words.next() {
        given.insert(name, words.next().ok_or(USAGE)?);
    }
    Ok(given)
}

fn acceptor(certificate: &str, key: &str) -> Result<TlsAcceptor, Problem> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(port: u16, shared: Rc<Shared>, tls: Option<TlsAcceptor>) -> Result<(), Problem> {
    let listener = listen(port)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (shared, tls) = (Rc::clone(&shared), tls.clone());
        tokio::task::spawn_local(async move {
            match tls {
                None => attend(stream, shared).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        attend(stream, shared).await;
                    }
                }
            }
        });
    }
}

fn listen(port: u16) -> Result<TcpListener, Problem> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    Ok(socket.listen(BACKLOG)?)
}

/// Serves one connection to its end.
async fn attend(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, shared: Rc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Rc::clone(&shared);
        async move { Ok::<_, Infallible>(handle(request, &shared).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let (mut head, body) = request.into_parts();
    let Ok(body) = http_body_util::Limited::new(body, LARGEST_BODY).collect().await else {
        return answer(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let body = body.to_bytes();
    if !is_genuine(&head.headers, &body, &shared.key) {
        return answer(StatusCode::UNAUTHORIZED);
    }
    for name in [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH] {
        head.headers.remove(name);
    }
    match forward(Request::from_parts(head, Full::new(body)), shared).await {
        Ok(response) => response,
        Err(_) => answer(StatusCode::BAD_GATEWAY),
    }
}

fn is_genuine(headers: &HeaderMap, body: &[u8], key: &hmac::Key) -> bool {
    let claimed = headers.get("x-hub-signature-256").and_then(|value| value.as_bytes().strip_prefix(b"sha256="));
    let Some(tag) = claimed.and_then(decode) else { return false };
    // Compares in constant time.
    hmac::verify(key, body, &tag).is_ok()
}

/// The 32 bytes that 64 hexadecimal digits stand for.
fn decode(text: &[u8]) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.try_into().ok()?;
    let mut tag = [0; 32];
    for (byte, pair) in tag.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(tag)
}

async fn forward(request: Request<Full<Bytes>>, shared: &Shared) -> Result<Response<Full<Bytes>>, Problem> {
    let mut sender = connection(shared).await?;
    let response = sender.send_request(request).await?;
    let (mut head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    if sender.ready().await.is_ok() {
        shared.idle.borrow_mut().push(sender);
    }
    head.headers.remove(CONNECTION);
    Ok(Response::from_parts(head, Full::new(body)))
}

/// A connection to the application: one that was kept, or a new one.
async fn connection(shared: &Shared) -> Result<SendRequest<Full<Bytes>>, Problem> {
    loop {
        let kept = shared.idle.borrow_mut().pop();
        match kept {
            Some(sender) if sender.is_ready() => return Ok(sender),
            Some(_) => {}
            None => break,
        }
    }
    let stream = TcpStream::connect(shared.upstream).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_signature_of_the_body_is_genuine() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"It's a Secret to Everybody");
        let mut headers = HeaderMap::new();
        assert!(!is_genuine(&headers, b"Hello, World!", &key));
        // From GitHub's documentation.
        let value = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        headers.insert("x-hub-signature-256", value.parse().unwrap());
        assert!(is_genuine(&headers, b"Hello, World!", &key));
        assert!(!is_genuine(&headers, b"Hello, World?", &key));
        headers.insert("x-hub-signature-256", value[..70].parse().unwrap());
        assert!(!is_genuine(&headers, b"Hello, World!", &key));
    }
}
