//! A client of the proxy on one kept-alive HTTP/1.1 connection.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};

use super::wire::{Message, Wire};

/// The host that the tests' configuration answers.
pub(crate) const HOST: &str = "product-service";

/// A connection to the proxy.
#[derive(Debug)]
pub(crate) struct Client(Wire);

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self(Wire::new(TcpStream::connect(address).unwrap()))
    }

    /// GET, answered completely.
    pub(crate) fn get(&mut self, target: &str) -> Message {
        self.try_get(target).unwrap()
    }

    /// GET.
    pub(crate) fn try_get(&mut self, target: &str) -> io::Result<Message> {
        self.ask(HOST, target, &[])
    }

    /// GET from a host, with more fields.
    pub(crate) fn ask(&mut self, host: &str, target: &str, fields: &[(&str, &str)]) -> io::Result<Message> {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.try_send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{fields}\r\n"))?;
        self.answer()
    }

    /// POST with a body, answered completely.
    pub(crate) fn post(&mut self, target: &str, body: &[u8]) -> Message {
        self.send(request("POST", target, body));
        self.answer().unwrap()
    }
}

/// A request with a body of known length.
pub(crate) fn request(method: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{method} {target} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

impl Deref for Client {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.0
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.0
    }
}

impl From<Client> for Wire {
    fn from(client: Client) -> Self {
        client.0
    }
}
