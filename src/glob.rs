//! Patterns of keys and channels, as Redis matches them.
//!
//! `*` is any bytes, `?` any byte, `[a-c]` one of some, `[^a-c]` none of them, `\` takes the next byte
//! as it is. A class without its `]` ends with the pattern, and a last `\` is itself. The empty text matches
//! no pattern but the empty one, not even `*`. Ranges compare unsigned bytes, where Redis' depend on the
//! signedness of C's `char`.
//!
//! Redis' matcher calls itself for each `*`, which a client can turn against the stack and the clock.
//! This one does not: since a `*` takes any bytes, nothing before the last one met has to be tried
//! again, and the worst case is the product of both lengths.

use std::borrow::Cow;

/// Whether all of `text` matches `pattern`.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_folded(pattern, text, |byte| byte)
}

/// Whether all of `text` matches `pattern`, ASCII letters in any case.
#[must_use]
pub fn matches_ignore_case(pattern: &[u8], text: &[u8]) -> bool {
    matches_folded(pattern, text, |byte| byte.to_ascii_lowercase())
}

/// The bytes that every match starts with. All of the pattern, if it matches one text only.
#[must_use]
pub fn literal_prefix(pattern: &[u8]) -> Cow<'_, [u8]> {
    let plain = pattern.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(pattern.len());
    let (plain, mut rest) = pattern.split_at(plain);
    let mut prefix = Cow::Borrowed(plain);
    while let Some((Step::Byte(byte), after)) = Step::parse(rest) {
        prefix.to_mut().push(byte);
        rest = after;
    }
    prefix
}

fn matches_folded(pattern: &[u8], text: &[u8], fold: impl Fn(u8) -> u8 + Copy) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut pattern, mut text) = (pattern, text);
    // What follows the last `*`, and the text that it was last tried on.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let step = Step::parse(pattern);
        if let Some((Step::Any, after)) = step {
            retry = Some((after, text));
            pattern = after;
            continue;
        }
        match (step, text.split_first()) {
            (None, None) => return true,
            (Some((step, after)), Some((&byte, rest))) if step.takes(byte, fold) => {
                (pattern, text) = (after, rest);
            }
            _ => {
                // The last `*` takes one byte more.
                let Some((after, [_, rest @ ..])) = retry else { return false };
                retry = Some((after, rest));
                (pattern, text) = (after, rest);
            }
        }
    }
}

/// One step of a pattern: all but `Any` take exactly one byte.
#[derive(Clone, Copy)]
enum Step<'a> {
    Any,
    One,
    Byte(u8),
    Class { negated: bool, members: &'a [u8] },
}

impl<'a> Step<'a> {
    /// The first step of `pattern`, and the rest of it.
    fn parse(pattern: &'a [u8]) -> Option<(Self, &'a [u8])> {
        Some(match pattern {
            [] => return None,
            [b'*', rest @ ..] => (Self::Any, rest),
            [b'?', rest @ ..] => (Self::One, rest),
            [b'[', b'^', rest @ ..] => Self::parse_class(true, rest),
            [b'[', rest @ ..] => Self::parse_class(false, rest),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (Self::Byte(*byte), rest),
        })
    }

    fn parse_class(negated: bool, pattern: &'a [u8]) -> (Self, &'a [u8]) {
        let mut rest = pattern;
        while let Some((_, after)) = Member::parse(rest) {
            rest = after;
        }
        let (members, rest) = pattern.split_at(pattern.len() - rest.len());
        (Self::Class { negated, members }, rest.get(1..).unwrap_or(&[]))
    }

    fn takes(self, byte: u8, fold: impl Fn(u8) -> u8) -> bool {
        let byte = fold(byte);
        match self {
            Self::Any | Self::One => true,
            Self::Byte(expected) => fold(expected) == byte,
            Self::Class { negated, mut members } => {
                let mut found = false;
                while let (false, Some((Member { first, last }, after))) = (found, Member::parse(members)) {
                    let (first, last) = (fold(first), fold(last));
                    found = (first.min(last)..=first.max(last)).contains(&byte);
                    members = after;
                }
                found != negated
            }
        }
    }
}

/// The bytes between two, in either order.
struct Member {
    first: u8,
    last: u8,
}

impl Member {
    /// The first member of a class, and the rest of it; `None` at its end.
    fn parse(class: &[u8]) -> Option<(Self, &[u8])> {
        let (first, last, rest) = match class {
            [] | [b']', ..] => return None,
            [b'\\', byte, rest @ ..] => (byte, byte, rest),
            [first, b'-', last, rest @ ..] => (first, last, rest),
            [byte, rest @ ..] => (byte, byte, rest),
        };
        Some((Self { first: *first, last: *last }, rest))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &[u8], text: &[u8], expected: bool) {
        assert_eq!(matches(pattern, text), expected, "{} {}", pattern.escape_ascii(), text.escape_ascii());
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", false),
            ("*", "anything", true),
            ("**", "", false),
            ("?", "", false),
            ("?", "a", true),
            ("?", "ab", false),
            ("*?", "", false),
            ("a*", "", false),
            ("a**", "a", true),
            ("h?llo", "hello", true),
            ("h*llo", "heeeello", true),
            ("h*llo", "hell", false),
            ("*ab", "aab", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1c2b3", false),
            ("*a*?b", "xaab", true),
        ] {
            check(pattern.as_bytes(), text.as_bytes(), expected);
        }
    }

    /// Recorded from KEYS of redis-server 7.0.15.
    #[test]
    fn classes_and_escapes() {
        for (pattern, text, expected) in [
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-b]llo", "hbllo", true),
            ("[z-a]", "m", true),
            ("[", "a", false),
            ("[", "[", false),
            ("*[", "a[", false),
            ("[^", "a", true),
            ("*[^", "ab", true),
            ("[a", "a", true),
            ("[ab", "b", true),
            ("[a-", "a", true),
            ("[a-", "-", true),
            ("[a-]", "a", true),
            ("[a-]", "]", true),
            ("[a-]", "^", true),
            ("[a-]", "-", false),
            ("[]a]", "a", false),
            ("[^]", "a", true),
            ("[^]a]", "a", false),
            ("[^]a]", "xa]", true),
            ("[^^]", "^", false),
            ("[a^]", "^", true),
            ("[--a]", "-", true),
            ("[\\]]", "]", true),
            ("[\\]", "]", true),
            ("[\\", "\\", true),
            ("[a\\", "\\", true),
            ("[\\a-z]", "m", false),
            ("[\\a-z]", "-", true),
            ("[a-\\]]", "]", false),
            ("[a-\\]]", "_]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("\\a", "a", true),
            ("\\", "\\", true),
            ("*\\", "a\\", true),
            ("a\0*", "a\0b", true),
        ] {
            check(pattern.as_bytes(), text.as_bytes(), expected);
        }
        check(b"[\x80-\x90]", b"\x85", true);
        check(b"[a-\xff]", b"\x80", true);
    }

    #[test]
    fn any_case() {
        assert!(matches_ignore_case(b"MaxMemory*", b"maxmemory-POLICY"));
        assert!(matches_ignore_case(b"[A-C]x", b"bX"));
        assert!(matches_ignore_case(b"[^\\A]", b"b"));
        assert!(!matches_ignore_case(b"[^a]", b"A"));
        assert!(!matches(b"a", b"A"));
    }

    #[test]
    fn prefixes() {
        for (pattern, expected) in [
            ("", ""),
            ("*", ""),
            ("user:*", "user:"),
            ("user:?", "user:"),
            ("user:[ab]", "user:"),
            ("user:1", "user:1"),
            ("a\\*b*", "a*b"),
            ("a\\", "a\\"),
            ("\\[a]\\?[", "[a]?"),
        ] {
            assert_eq!(literal_prefix(pattern.as_bytes()), expected.as_bytes(), "{pattern}");
        }
        assert!(matches!(literal_prefix(b"user:*"), Cow::Borrowed(_)));
    }

    /// Megabytes of stars overflow no stack, and thousands of them are done before anybody notices.
    #[test]
    fn hostile_patterns() {
        check(&b"*".repeat(1 << 20), b"a", true);
        check(&b"*a".repeat(1 << 20), &b"a".repeat(1 << 20), true);
        check(&[b"*a".repeat(2_000), b"b".to_vec()].concat(), &b"a".repeat(4_000), false);
        check(&b"[".repeat(1 << 20), b"[", true);
    }

    /// The definition, tried by recursion: `*` takes no byte, or one and goes on.
    fn matches_by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match (Step::parse(pattern), text) {
            (None, text) => text.is_empty(),
            (Some((Step::Any, after)), []) => matches_by_definition(after, text),
            (Some((Step::Any, after)), [_, rest @ ..]) => {
                matches_by_definition(after, text) || matches_by_definition(pattern, rest)
            }
            (Some((step, after)), [byte, rest @ ..]) => {
                step.takes(*byte, |byte| byte) && matches_by_definition(after, rest)
            }
            (Some(_), []) => false,
        }
    }

    proptest! {
        #[test]
        fn backtracking_misses_nothing(pattern in "[ab*?\\[\\]^\\\\-]{0,10}", text in "[ab\\]-]{0,10}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            let expected = pattern.is_empty() || !text.is_empty();
            let expected = expected && matches_by_definition(pattern, text);
            prop_assert_eq!(matches(pattern, text), expected);
            if expected {
                prop_assert!(text.starts_with(&literal_prefix(pattern)));
            }
        }

        #[test]
        fn an_escaped_text_matches_itself(text in prop::collection::vec(any::<u8>(), 0..20)) {
            let escaped: Vec<u8> = text.iter().flat_map(|&byte| [b'\\', byte]).collect();
            prop_assert!(matches(&escaped, &text));
            prop_assert_eq!(literal_prefix(&escaped), text);
        }
    }
}
