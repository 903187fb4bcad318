//! Replies as they came over the wire, and how a case file writes them.
//!
//! The server writes its replies with the redis-protocol crate. This reader is deliberately another one: two
//! ends that share a codec agree on its mistakes. It also keeps what that crate's frames forget and clients
//! can see: `$-1` and `*-1` are different nulls, a double is its text, a map keeps its order.

use std::fmt::Write as _;
use std::io::{self, BufRead};

/// How deep a reply may nest: more than any of Redis' does.
const DEPTH_MAX: usize = 32;

/// One reply. The types after `Array` exist only in RESP3.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Status(Vec<u8>),
    Error(Vec<u8>),
    Int(i64),
    Bulk(Vec<u8>),
    /// `$-1`, or `_` in RESP3.
    Nil,
    /// `*-1`.
    NilArray,
    Array(Vec<Reply>),
    Set(Vec<Reply>),
    Push(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Double(Vec<u8>),
    Bool(bool),
    BigNumber(Vec<u8>),
    /// The format's three letters, a colon, the text.
    Verbatim(Vec<u8>),
}

impl Reply {
    /// Reads one reply. `Err(UnexpectedEof)` if the server closed the connection before or inside it.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        Self::read_nested(reader, 0)
    }

    fn read_nested(reader: &mut impl BufRead, depth: usize) -> io::Result<Self> {
        if depth > DEPTH_MAX {
            return Err(invalid("a reply nested too deeply"));
        }
        let line = read_line(reader)?;
        let (&kind, rest) = line.split_first().ok_or_else(|| invalid("an empty line for a reply"))?;
        Ok(match kind {
            b'+' => Self::Status(rest.to_vec()),
            b'-' => Self::Error(rest.to_vec()),
            b':' => Self::Int(integer(rest)?),
            b'_' if rest.is_empty() => Self::Nil,
            b'$' | b'*' if rest == b"-1" => [Self::Nil, Self::NilArray][usize::from(kind == b'*')].clone(),
            b'$' => Self::Bulk(read_blob(reader, rest)?),
            b'!' => Self::Error(read_blob(reader, rest)?),
            b'=' => Self::Verbatim(read_blob(reader, rest)?),
            b'*' => Self::Array(Self::read_items(reader, rest, depth)?),
            b'~' => Self::Set(Self::read_items(reader, rest, depth)?),
            b'>' => Self::Push(Self::read_items(reader, rest, depth)?),
            b'%' => {
                let mut pairs = Vec::new();
                for _ in 0..integer::<usize>(rest)? {
                    pairs
                        .push((Self::read_nested(reader, depth + 1)?, Self::read_nested(reader, depth + 1)?));
                }
                Self::Map(pairs)
            }
            b',' => Self::Double(rest.to_vec()),
            b'#' if rest == b"t" || rest == b"f" => Self::Bool(rest == b"t"),
            b'(' => Self::BigNumber(rest.to_vec()),
            _ => return Err(invalid(&format!("no reply begins so: {}", quoted(&line)))),
        })
    }

    fn read_items(reader: &mut impl BufRead, count: &[u8], depth: usize) -> io::Result<Vec<Self>> {
        (0..integer::<usize>(count)?).map(|_| Self::read_nested(reader, depth + 1)).collect()
    }

    /// The error's text, if it is one.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        match self {
            Self::Error(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        }
    }

    /// The text of a status, a bulk string or a verbatim string.
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Status(text) | Self::Bulk(text) => Some(text),
            Self::Verbatim(text) => text.get(4..),
            _ => None,
        }
    }

    /// The elements in an order that depends on them alone: for replies whose order means nothing.
    pub fn sort(&mut self) {
        match self {
            Self::Set(items) => {
                items.iter_mut().for_each(Self::sort);
                items.sort_by_key(Self::render);
            }
            Self::Array(items) => {
                items.iter_mut().for_each(Self::sort);
                if items.iter().all(|item| matches!(item, Self::Bulk(_))) {
                    items.sort_by_key(Self::render);
                }
            }
            Self::Map(pairs) => pairs.sort_by_key(|(key, _)| key.render()),
            _ => {}
        }
    }

    /// The lines a case file writes for this reply, those of an interactive redis-cli with a few more
    /// distinctions (README.md lists them).
    #[must_use]
    pub fn render(&self) -> Vec<String> {
        match self {
            Self::Status(text) if text.is_empty() => vec!["(empty status)".into()],
            Self::Status(text) => vec![unquoted(text)],
            Self::Error(text) => vec![format!("(error) {}", unquoted(text))],
            Self::Int(number) => vec![format!("(integer) {number}")],
            Self::Bulk(bytes) => vec![quoted(bytes)],
            Self::Nil => vec!["(nil)".into()],
            Self::NilArray => vec!["(nil array)".into()],
            Self::Double(text) => vec![format!("(double) {}", unquoted(text))],
            Self::Bool(value) => vec![format!("({value})")],
            Self::BigNumber(text) => vec![format!("(big number) {}", unquoted(text))],
            Self::Verbatim(text) => {
                let (format, text) = text.split_at(text.len().min(4));
                vec![format!("(verbatim {}) {}", unquoted(format).trim_end_matches(':'), quoted(text))]
            }
            Self::Array(items) => render_items(items.iter().map(Self::render), ')', "(empty array)"),
            Self::Set(items) => render_items(items.iter().map(Self::render), '~', "(empty set)"),
            Self::Push(items) => render_items(items.iter().map(Self::render), '>', "(empty push)"),
            Self::Map(pairs) => render_items(pairs.iter().map(render_pair), '#', "(empty map)"),
        }
    }
}

/// `1) first`, `2) second`; the further lines of an element are indented under it.
fn render_items(items: impl ExactSizeIterator<Item = Vec<String>>, mark: char, empty: &str) -> Vec<String> {
    let width = items.len().to_string().len();
    let mut lines = Vec::new();
    for (i, item) in items.enumerate() {
        for (j, line) in item.into_iter().enumerate() {
            lines.push(match j {
                0 => format!("{:>width$}{mark} {line}", i + 1),
                _ => format!("{:width$}  {line}", ""),
            });
        }
    }
    if lines.is_empty() {
        lines.push(empty.into());
    }
    lines
}

/// `key => value`, a nested value on lines of its own.
fn render_pair((key, value): &(Reply, Reply)) -> Vec<String> {
    let key = key.render().join(" ");
    let value = value.render();
    match value.as_slice() {
        [only] => vec![format!("{key} => {only}")],
        lines => std::iter::once(format!("{key} =>"))
            .chain(lines.iter().map(|line| format!("    {line}")))
            .collect(),
    }
}

/// As redis-cli quotes a string.
#[must_use]
pub fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from('"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => text.extend(['\\', char::from(byte)]),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            0x07 => text.push_str("\\a"),
            0x08 => text.push_str("\\b"),
            0x20..0x7f => text.push(char::from(byte)),
            _ => write!(text, "\\x{byte:02x}").expect("a String takes all"),
        }
    }
    text.push('"');
    text
}

/// Text without quotes. What would not survive an editor is escaped: bytes that do not print, a last space.
fn unquoted(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (i, &byte) in bytes.iter().enumerate() {
        match byte {
            b' ' if i + 1 == bytes.len() => text.push_str("\\x20"),
            0x20..0x7f => text.push(char::from(byte)),
            _ => write!(text, "\\x{byte:02x}").expect("a String takes all"),
        }
    }
    text
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if !line.ends_with(b"\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if !line.ends_with(b"\r\n") {
        return Err(invalid(&format!("a line that ends without \\r: {}", quoted(&line))));
    }
    line.truncate(line.len() - 2);
    Ok(line)
}

fn read_blob(reader: &mut impl BufRead, length: &[u8]) -> io::Result<Vec<u8>> {
    let length: usize = integer(length)?;
    let mut blob = vec![0; length + 2];
    reader.read_exact(&mut blob)?;
    if !blob.ends_with(b"\r\n") {
        return Err(invalid("a bulk string that does not end where its length says"));
    }
    blob.truncate(length);
    Ok(blob)
}

fn integer<T: std::str::FromStr>(text: &[u8]) -> io::Result<T> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid(&format!("no number: {}", quoted(text))))
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wire: &[u8], lines: &[&str]) {
        let reply = Reply::read(&mut &*wire).expect("well-formed");
        assert_eq!(reply.render(), lines);
    }

    #[test]
    fn replies_read_as_redis_cli_prints_them() {
        check(b"+OK\r\n", &["OK"]);
        check(b"-ERR no 'x' \r\n", &["(error) ERR no 'x'\\x20"]);
        check(b":-7\r\n", &["(integer) -7"]);
        check(b"$5\r\na\"\r\n\xff\r\n", &[r#""a\"\r\n\xff""#]);
        check(b"$-1\r\n", &["(nil)"]);
        check(b"_\r\n", &["(nil)"]);
        check(b"*-1\r\n", &["(nil array)"]);
        check(b"*0\r\n", &["(empty array)"]);
        check(
            b"*2\r\n:1\r\n*2\r\n+a\r\n%1\r\n+k\r\n~1\r\n#t\r\n",
            &["1) (integer) 1", "2) 1) a", "   2) 1# k => 1~ (true)"],
        );
        check(
            b"%1\r\n+k\r\n*2\r\n:1\r\n:2\r\n",
            &["1# k =>", "       1) (integer) 1", "       2) (integer) 2"],
        );
        check(b">1\r\n,1.50\r\n", &["1> (double) 1.50"]);
        check(b"=6\r\ntxt:hi\r\n", &["(verbatim txt) \"hi\""]);
    }

    #[test]
    fn a_reply_cut_short_is_an_end_of_file() {
        let wire = b"*2\r\n$3\r\nabc\r\n:12\r\n";
        for end in 0..wire.len() {
            let error = Reply::read(&mut &wire[..end]).expect_err("cut");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "at {end}");
        }
    }
}
