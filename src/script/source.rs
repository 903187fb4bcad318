//! A script as it was sent: its text, its name, and what its first line says.

use bytes::Bytes;
use sha1::{Digest, Sha1};

use crate::error::ClientError;

/// The longest text. Compiling takes time that nobody counts, and memory.
pub const SOURCE_BYTES_MAX: usize = 1 << 20;

/// How many characters a script's name has: a SHA-1 in lower case hexadecimal.
pub const NAME_CHARS: usize = 40;

/// A script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The SHA-1 of its text, as scripts are called, and as bytes.
    pub name: String,
    pub digest: [u8; 20],
    /// All of it, the first line included.
    pub text: Bytes,
    pub flags: Flags,
    /// Where what Lua reads begins: behind a line that begins with `#!`.
    body_at: usize,
}

/// What a script says about itself: `#!lua flags=no-writes,allow-oom`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Whether it has such a line at all: then what it does not claim is not allowed to it.
    pub declared: bool,
    pub no_writes: bool,
    pub allow_oom: bool,
}

impl Script {
    /// Reads a script's text.
    ///
    /// # Errors
    /// It is too long, or the first line says something unknown.
    pub fn new(text: Bytes) -> Result<Self, ClientError> {
        if text.len() > SOURCE_BYTES_MAX {
            return Err(ClientError::new(format!(
                "ERR a script must not have more than {SOURCE_BYTES_MAX} bytes"
            )));
        }
        let digest = Sha1::digest(&text).into();
        Self::with_digest(text, digest)
    }

    /// As [`Script::new`], for a text whose SHA-1 is known.
    ///
    /// # Errors
    /// The first line says something unknown.
    pub fn with_digest(text: Bytes, digest: [u8; 20]) -> Result<Self, ClientError> {
        let (flags, body_at) = read_first_line(&text)?;
        Ok(Self { name: hex(&digest), digest, text, flags, body_at })
    }

    /// What Lua reads. Its first line is empty if the text's says what the script is.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.text[self.body_at..]
    }
}

/// The SHA-1 of `text`, as scripts are called.
#[must_use]
pub fn sha1_hex(text: &[u8]) -> String {
    hex(&Sha1::digest(text))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn read_first_line(text: &[u8]) -> Result<(Flags, usize), ClientError> {
    if !text.starts_with(b"#!") {
        return Ok((Flags::default(), 0));
    }
    let end = text.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or(ClientError::fixed("ERR Invalid script shebang"))?;
    let line = String::from_utf8_lossy(&text[..end]);
    let mut words = line.split_ascii_whitespace();
    let engine = words.next().unwrap_or_default();
    if engine != "#!lua" {
        return Err(ClientError::new(format!("ERR Unexpected engine in script shebang: {engine}")));
    }
    let mut flags = Flags { declared: true, ..Flags::default() };
    for word in words {
        let Some(names) = word.strip_prefix("flags=") else {
            return Err(ClientError::new(format!("ERR Unknown lua shebang option: {word}")));
        };
        for name in names.split(',').filter(|name| !name.is_empty()) {
            match name {
                "no-writes" => flags.no_writes = true,
                "allow-oom" => flags.allow_oom = true,
                "allow-stale" | "no-cluster" | "allow-cross-slot-keys" => {}
                _ => return Err(ClientError::new(format!("ERR Unexpected flag in script shebang: {name}"))),
            }
        }
    }
    Ok((flags, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &'static str, expect: Result<(Flags, &str), &str>) {
        let script = Script::new(Bytes::from_static(text.as_bytes()));
        let found = script.as_ref().map(|script| (script.flags, script.body()));
        let expect = expect.map(|(flags, body)| (flags, body.as_bytes()));
        assert_eq!(found.map_err(ClientError::as_str), expect, "{text:?}");
    }

    #[test]
    fn the_first_line_is_read() {
        let declared = Flags { declared: true, ..Flags::default() };
        check("return 1", Ok((Flags::default(), "return 1")));
        check("#!lua\nreturn 1", Ok((declared, "\nreturn 1")));
        check("#!lua flags=\n", Ok((declared, "\n")));
        check(
            "#!lua flags=no-writes,allow-oom,no-cluster\n",
            Ok((Flags { no_writes: true, allow_oom: true, ..declared }, "\n")),
        );
        check("#!lua", Err("ERR Invalid script shebang"));
        check("#!python\n", Err("ERR Unexpected engine in script shebang: #!python"));
        check("#!lua name=x\n", Err("ERR Unknown lua shebang option: name=x"));
        check("#!lua flags=fast\n", Err("ERR Unexpected flag in script shebang: fast"));
    }

    #[test]
    fn names_are_those_of_redis() {
        assert_eq!(sha1_hex(b"return 1"), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
