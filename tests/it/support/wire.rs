//! One end of an HTTP/1.1 connection, byte for byte: no library between the test and the socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::PATIENCE;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In order.
    Fin,
    /// Torn off.
    Reset,
}

/// The head of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The first line.
    pub(crate) line: String,
    /// The fields, names in lower case.
    pub(crate) fields: Vec<(String, String)>,
}

/// A whole message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its head.
    pub(crate) head: Head,
    /// Its body without framing.
    pub(crate) body: Vec<u8>,
    /// Fields behind a chunked body.
    pub(crate) trailers: Vec<(String, String)>,
}

/// How a body is delimited.
enum Framing {
    None,
    Length(usize),
    Chunked,
    Close,
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        Self { line, fields: lines.filter(|line| !line.is_empty()).map(field).collect() }
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        let status = self.line.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no status in {:?}", self.line))
    }

    /// The method and the target of a request.
    pub(crate) fn target(&self) -> (&str, &str) {
        let mut words = self.line.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a field; empty if there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        match *self.all(name) {
            [] => "",
            [value] => value,
            ref values => panic!("{name} is there {} times", values.len()),
        }
    }

    /// Whether there is such a field.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    fn framing(&self, is_answer: bool) -> Framing {
        if self.all("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunked;
        }
        match self.get("content-length") {
            "" if is_answer => Framing::Close,
            "" => Framing::None,
            length => Framing::Length(length.parse().unwrap_or_else(|_| panic!("content-length {length:?}"))),
        }
    }
}

impl Message {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
    (name.to_ascii_lowercase(), value.trim().to_owned())
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Wire {
    /// Takes over a connected stream.
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, ahead: Vec::new() }
    }

    /// The same, for an upstream whose clients may be silent as long as they like.
    pub(crate) fn waiting(stream: TcpStream) -> Self {
        let wire = Self::new(stream);
        wire.stream.set_read_timeout(None).unwrap();
        wire
    }

    /// The stream itself.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Waits no longer than this for bytes.
    pub(crate) fn patience(&self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).unwrap();
    }

    /// Sends bytes; the other side takes them.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes, if the other side takes them.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&self) {
        // The other side may have torn it off already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection in order, unless there is unread input.
    pub(crate) fn close(self) {}

    /// Tears the connection off.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Some bytes; empty at the end.
    pub(crate) fn some(&mut self) -> io::Result<Vec<u8>> {
        if !self.ahead.is_empty() {
            return Ok(std::mem::take(&mut self.ahead));
        }
        let mut bytes = vec![0; 64 * 1024];
        let length = self.stream.read(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Exactly so many bytes.
    pub(crate) fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < length {
            self.more()?;
        }
        Ok(self.ahead.drain(..length).collect())
    }

    /// Everything until the connection ends, and how it ends.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, End) {
        let mut bytes = std::mem::take(&mut self.ahead);
        loop {
            match self.some() {
                Ok(more) if more.is_empty() => return (bytes, End::Fin),
                Ok(more) => bytes.extend(more),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return (bytes, End::Reset),
                Err(error) => panic!("the connection does not end: {error}"),
            }
        }
    }

    /// The head of the next message; none if the connection ends before its first byte.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return Ok(Some(Head::parse(&String::from_utf8_lossy(&head[..end]))));
            }
            let nothing_yet = self.ahead.is_empty();
            match self.more() {
                Ok(()) => {}
                Err(error) if nothing_yet && error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next request; none if the connection ends before its first byte.
    pub(crate) fn request(&mut self) -> io::Result<Option<Message>> {
        let Some(head) = self.head()? else { return Ok(None) };
        let framing = head.framing(false);
        self.message(head, framing).map(Some)
    }

    /// The next answer, which is not to HEAD; an error unless it is complete.
    pub(crate) fn answer(&mut self) -> io::Result<Message> {
        let head = self.head()?.ok_or(ErrorKind::UnexpectedEof)?;
        self.answer_after(head)
    }

    /// The rest of an answer whose head was read.
    pub(crate) fn answer_after(&mut self, head: Head) -> io::Result<Message> {
        let framing = if matches!(head.status(), 100..=199 | 204 | 304) { Framing::None } else { head.framing(true) };
        self.message(head, framing)
    }

    /// One chunk's data; empty for the last one, whose trailers are still to come.
    pub(crate) fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let line = self.line()?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(|_| ErrorKind::InvalidData)?;
        let data = self.exactly(length)?;
        if length > 0 && self.exactly(2)? != b"\r\n" {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(data)
    }

    fn message(&mut self, head: Head, framing: Framing) -> io::Result<Message> {
        let mut message = Message { head, ..Message::default() };
        match framing {
            Framing::None => {}
            Framing::Length(length) => message.body = self.exactly(length)?,
            Framing::Close => loop {
                let more = self.some()?;
                if more.is_empty() {
                    break;
                }
                message.body.extend(more);
            },
            Framing::Chunked => {
                loop {
                    let data = self.chunk()?;
                    if data.is_empty() {
                        break;
                    }
                    message.body.extend(data);
                }
                loop {
                    let line = self.line()?;
                    if line.is_empty() {
                        break;
                    }
                    message.trailers.push(field(&line));
                }
            }
        }
        Ok(message)
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            length => {
                self.ahead.extend_from_slice(&bytes[..length]);
                Ok(())
            }
        }
    }
}
