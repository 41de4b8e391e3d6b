//! The application of the demo.

use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A tiny application: remembers the bodies that reach it and answers `200`.
pub(super) struct DemoApplication {
    pub(super) address: SocketAddr,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl DemoApplication {
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let seen = Arc::clone(&bodies);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                thread::spawn(move || answer(stream, &seen));
            }
        });
        Ok(Self { address, bodies })
    }

    /// The last body that has come; nothing since the last look.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// Serves one connection of the proxy, which always frames bodies with `Content-Length`.
fn answer(stream: TcpStream, bodies: &Mutex<Vec<Vec<u8>>>) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")?;
    }
}
