//! A request typed by hand: words on one line, quoted as in `redis-cli`.
//!
//! Redis' `sdssplitargs`, except that a zero byte is a byte like any other, where Redis would wait for the
//! line's end in vain.

use bytes::Bytes;

/// The words of `line`; `None` if its quotes are not balanced, or a closing one is not followed by a space.
pub fn split(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        // The one space that Rust does not count among the ASCII ones.
        while let Some(after) = rest.strip_prefix(b"\x0b") {
            rest = after.trim_ascii_start();
        }
        if rest.is_empty() {
            return Some(words);
        }
        words.push(split_word(&mut rest)?.into());
    }
}

/// Takes a word. It ends with a space or with a closing quote, and a quote may open in its middle.
fn split_word(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut word = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        *rest = after;
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => break,
            b'"' => {
                split_double_quoted(rest, &mut word)?;
                return ends_word(rest).then_some(word);
            }
            b'\'' => {
                split_single_quoted(rest, &mut word)?;
                return ends_word(rest).then_some(word);
            }
            byte => word.push(byte),
        }
    }
    Some(word)
}

/// Whether a closing quote may stand before `rest`.
fn ends_word(rest: &[u8]) -> bool {
    rest.first().is_none_or(|&byte| byte.is_ascii_whitespace() || byte == b'\x0b')
}

/// Takes the rest of a `"..."`, with `\x41`, `\n` and the like in it.
fn split_double_quoted(rest: &mut &[u8], word: &mut Vec<u8>) -> Option<()> {
    loop {
        let (byte, after) = match **rest {
            [b'"', ref after @ ..] => {
                *rest = after;
                return Some(());
            }
            [b'\\', b'x', high, low, ref after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex_digit(high) << 4 | hex_digit(low), after)
            }
            [b'\\', escaped, ref after @ ..] => (escape(escaped), after),
            [byte, ref after @ ..] => (byte, after),
            [] => return None,
        };
        word.push(byte);
        *rest = after;
    }
}

/// Takes the rest of a `'...'`, in which only `\'` is special.
fn split_single_quoted(rest: &mut &[u8], word: &mut Vec<u8>) -> Option<()> {
    loop {
        let (byte, after) = match **rest {
            [b'\'', ref after @ ..] => {
                *rest = after;
                return Some(());
            }
            [b'\\', b'\'', ref after @ ..] => (b'\'', after),
            [byte, ref after @ ..] => (byte, after),
            [] => return None,
        };
        word.push(byte);
        *rest = after;
    }
}

/// What a backslash and `byte` stand for.
const fn escape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

const fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[u8], expected: Option<&[&[u8]]>) {
        let expected = expected.map(|words| words.iter().copied().map(Bytes::copy_from_slice).collect());
        assert_eq!(split(line), expected, "{}", line.escape_ascii());
    }

    #[test]
    fn words_end_with_spaces() {
        check(b"", Some(&[]));
        check(b" \t\r\x0b\x0c ", Some(&[]));
        check(b"PING", Some(&[b"PING"]));
        check(b"  SET\tk \r v  ", Some(&[b"SET", b"k", b"v"]));
        check(b"\x0bPING", Some(&[b"PING"]));
        check(b"ECHO\x0bx", Some(&[b"ECHO\x0bx"]));
        check(b"a\0b c", Some(&[b"a\0b", b"c"]));
    }

    #[test]
    fn quotes() {
        check(b"''", Some(&[b""]));
        check(b"ECHO \"\"", Some(&[b"ECHO", b""]));
        check(b"\"a b\" 'c d'", Some(&[b"a b", b"c d"]));
        check(b"a\"b\"", Some(&[b"ab"]));
        check(b"\"a\"\x0b", Some(&[b"a"]));
        check(b"\"abc", None);
        check(b"'abc", None);
        check(b"\"abc\"d", None);
        check(b"a\"b\"\"c\"", None);
        check(b"\"a\\\"", None);
        check(b"\"a\\", None);
    }

    #[test]
    fn escapes() {
        check(br#""a\x41\n\q\xzz""#, Some(&[b"aA\nqxzz"]));
        check(br#""\x4""#, Some(&[b"x4"]));
        check(br#""\xfF\r\t\b\a\\\"""#, Some(&[b"\xff\r\t\x08\x07\\\""]));
        check(br"'a\'b\n'", Some(&[br"a'b\n"]));
        check(br"a\x41", Some(&[br"a\x41"]));
    }
}
