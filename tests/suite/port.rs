//! A port of this machine: one that is free, and one request over it.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// A port that nobody listens on now.
pub fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A `GET`; status, head and body. None while nobody answers.
pub fn get(port: u16, path: &str, headers: &str) -> Option<(u16, String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let head = format!("GET {path} HTTP/1.0\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((status, head.to_owned(), body.to_owned()))
}

/// A `GET` of JSON.
pub fn json(port: u16, path: &str) -> Option<Value> {
    let (status, _, body) = get(port, path, "")?;
    (status == 200).then(|| serde_json::from_str(&body).unwrap())
}
