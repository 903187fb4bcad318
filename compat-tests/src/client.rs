//! A blocking RESP client. It never retries and never reconnects: what happened to a command must stay
//! visible.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::reply::Reply;

/// How long a reply may take: longer than any election.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// One connection.
pub struct Connection {
    reader: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Connection {
    /// Connects. Nothing is sent: what a server says to a connection that says nothing is part of the tests.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::new(stream), address })
    }

    /// Changes how long [`Self::receive`] waits; a reply that takes longer is an error of kind `WouldBlock`.
    pub fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.reader.get_ref().set_read_timeout(Some(patience))
    }

    /// The server's end.
    #[must_use]
    pub const fn server(&self) -> SocketAddr {
        self.address
    }

    /// This end, as the server names it in CLIENT LIST.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.reader.get_ref().local_addr()
    }

    /// Sends a command and reads its reply.
    pub fn call(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        self.send(words)?;
        self.receive()
    }

    /// Sends commands in one piece and reads as many replies.
    pub fn pipeline<W: AsRef<[u8]>>(&mut self, commands: &[Vec<W>]) -> io::Result<Vec<Reply>> {
        let wire: Vec<u8> = commands.iter().flat_map(|words| encode(words)).collect();
        self.send_raw(&wire)?;
        commands.iter().map(|_| self.receive()).collect()
    }

    /// Sends a command.
    pub fn send(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<()> {
        self.send_raw(&encode(words))
    }

    /// Sends bytes.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&self) -> io::Result<()> {
        self.reader.get_ref().shutdown(Shutdown::Write)
    }

    /// Reads one reply.
    pub fn receive(&mut self) -> io::Result<Reply> {
        Reply::read(&mut self.reader)
    }

    /// Whether the server closes the connection, saying nothing more, while we are patient.
    pub fn is_closed(&mut self) -> bool {
        match self.reader.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => is_end(&error),
        }
    }
}

/// Unix time in milliseconds, as the server has it too.
#[must_use]
pub fn wall_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("it is after 1970");
    i64::try_from(since.as_millis()).expect("and before the year 292278994")
}

/// Lets time pass.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Whether the error means that the server closed the connection, rather than that it is silent or talks
/// nonsense.
#[must_use]
pub fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe | ConnectionAborted)
}

/// Whether the error means that nothing came in time.
#[must_use]
pub fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A command as a flat array of bulk strings.
#[must_use]
pub fn encode(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        wire.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        wire.extend_from_slice(word);
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

/// Connects, calls once, and wants an answer that is no error.
pub fn ask(address: SocketAddr, words: &[&str]) -> Result<Reply> {
    let reply = Connection::open(address)?.call(words)?;
    match reply.error() {
        Some(error) => bail!("{words:?} at {address}: {error}"),
        None => Ok(reply),
    }
}

/// A field of INFO, if the node shows it.
pub fn info(address: SocketAddr, section: &str, field: &str) -> Result<Option<String>> {
    let reply = ask(address, &["INFO", section])?;
    let text = String::from_utf8_lossy(reply.text().context("INFO answers with text")?).into_owned();
    Ok(text.lines().find_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.to_owned())))
}

/// The status and the body of an HTTP resource.
pub fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer without an end of its head")?;
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an HTTP answer without status")?;
    Ok((status, body.to_owned()))
}

/// The value of a metric without labels in what `/metrics` answered.
#[must_use]
pub fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_by_their_whole_name() {
        let text = "# HELP a_count x\n# TYPE a_count counter\na_count_total 7\nb_a_count 8\na_count 1.5e3\n";
        assert_eq!(metric(text, "a_count"), Some(1500.0));
        assert_eq!(metric(text, "a"), None);
    }
}
