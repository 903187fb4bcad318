use proptest::prelude::*;
use redis_protocol::resp2;

use super::*;

const LIMITS: Limits = Limits::authenticated(512 << 20, 1 << 30);

/// What a client is told when it sends `bytes` at once: its requests, and the error that ended them.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    requests: Vec<Vec<Bytes>>,
    violation: Option<Violation>,
}

impl Outcome {
    /// Sends `bytes` through `reader` in reads of `read_bytes` at most.
    fn send(reader: &mut Reader, bytes: &[u8], read_bytes: usize, limits: &Limits) -> Self {
        let mut outcome = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() && outcome.violation.is_none() {
            let buffer = reader.buffer();
            let room = buffer.capacity() - buffer.len();
            assert!(room > 0, "there is always room to read into");
            let (read, unread) = rest.split_at(rest.len().min(room).min(read_bytes));
            buffer.extend_from_slice(read);
            rest = unread;
            outcome.take(reader, limits);
        }
        outcome
    }

    fn take(&mut self, reader: &mut Reader, limits: &Limits) {
        loop {
            match reader.next(limits) {
                Ok(Some(args)) => self.requests.push(args),
                Ok(None) => return,
                Err(violation) => {
                    self.violation = Some(violation);
                    return;
                }
            }
        }
    }
}

/// `bytes` are requests, which read `expected` (words parted by spaces), and then `violation`; in one read
/// and in reads of a byte.
fn check_with(limits: &Limits, bytes: &[u8], expected: &[&str], violation: Option<&str>) {
    for read_bytes in [usize::MAX, 1] {
        let outcome = Outcome::send(&mut Reader::new(), bytes, read_bytes, limits);
        let requests: Vec<_> =
            outcome.requests.iter().map(|args| args.join(&b' ').escape_ascii().to_string()).collect();
        let start = bytes[..bytes.len().min(100)].escape_ascii();
        assert_eq!(requests, expected, "{start}");
        assert_eq!(outcome.violation.map(|violation| violation.to_string()).as_deref(), violation, "{start}");
    }
}

fn check(bytes: &[u8], expected: &[&str], violation: Option<&str>) {
    check_with(&LIMITS, bytes, expected, violation);
}

#[test]
fn arrays() {
    check(b"*1\r\n$4\r\nPING\r\n", &["PING"], None);
    check(
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\r\n\xff\r\n*1\r\n$4\r\nPING\r\n",
        &[r"SET k \r\n\xff", "PING"],
        None,
    );
    check(b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", &["ECHO "], None);
    check(b"*0\r\n*-1\r\n*-5\r\n\r\n\n  \n*1\r\n$4\r\nPING\r\n", &["PING"], None);
    check(b"*1\r\n$4\r\nPI", &[], None);
    check(b"*2147483647\r\n", &[], Some("invalid multibulk length"));
}

/// Each answer was recorded from redis-server 7.0.15.
#[test]
fn malformed_arrays() {
    for count in ["", "+1", "01", " 1", "1 ", "-0", "abc", "2147483648", "99999999999999999999999"] {
        check(format!("*{count}\r\n$4\r\nPING\r\n").as_bytes(), &[], Some("invalid multibulk length"));
    }
    for length in ["", "-1", "+4", "04", "4 ", "4\0", "x", "536870913", "99999999999999999999"] {
        check(format!("*1\r\n${length}\r\nPING\r\n").as_bytes(), &[], Some("invalid bulk length"));
    }
    check(b"*1\r\nfoo\r\n", &[], Some("expected '$', got 'f'"));
    check(b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", &[], Some("expected '$', got 'f'"));
    check(b"*1\r\nfoo", &[], None);
    // Neither Redis nor we look at what ends an argument or follows a \r.
    check(b"*1\rx$4\rxPINGxxPING\n", &["PING", "PING"], None);
    check(b"*1\n$4\nPING\n", &[], None);
    check(&[b'*'; 70_000], &[], Some("too big mbulk count string"));
    check(&[b"*1\r\n$".as_slice(), &[b'1'; 70_000]].concat(), &[], Some("too big bulk count string"));
}

#[test]
fn inline_requests() {
    check(b"PING\r\nPING\n  SET k  'a b'\r\n", &["PING", "PING", "SET k a b"], None);
    check(b"PING\r\r\n", &["PING"], None);
    check(b"$4\r\nPING\r\n", &["$4", "PING"], None);
    check(b"ECHO \"abc\r\n", &[], Some("unbalanced quotes in request"));
    check(b"PING\r\nECHO 'abc'd\r\n", &["PING"], Some("unbalanced quotes in request"));
    check(&[b'a'; 65_537], &[], Some("too big inline request"));
    check(&[b'a'; 200 * 1024], &[], Some("too big inline request"));
    let longest = [b'a'; 65_536];
    let name = std::str::from_utf8(&longest).expect("letters");
    check(&[&longest[..], b"\nPING\n"].concat(), &[name, "PING"], None);
}

#[test]
fn requests_of_browsers() {
    for bytes in ["POST / HTTP/1.1\r\nPING\r\n", "post x\r\n", "Host: localhost\r\nPING\r\n", "host:\r\n"] {
        check(bytes.as_bytes(), &[], Some("an HTTP request"));
    }
    check(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &["GET / HTTP/1.1"], Some("an HTTP request"));
    check(b"*1\r\n$4\r\nPOST\r\n", &["POST"], None);
}

#[test]
fn replies_to_violations() {
    fn reply(violation: Violation) -> Option<String> {
        violation.reply().map(|error| error.as_str().to_owned())
    }
    let got = |text: &str| Some(format!("ERR Protocol error: expected '$', got '{text}'"));
    assert_eq!(reply(Violation::InvalidLength).as_deref(), Some("ERR Protocol error: invalid bulk length"));
    assert_eq!(reply(Violation::ExpectedBulk(b'*')), got("*"));
    assert_eq!(reply(Violation::ExpectedBulk(b'\r')), got(" "));
    assert_eq!(reply(Violation::ExpectedBulk(0xff)), got("\u{ff}"));
    assert_eq!(reply(Violation::CrossProtocol), None);
}

#[test]
fn limits() {
    let check_stranger = |bytes: &[u8], expected| check_with(&Limits::UNAUTHENTICATED, bytes, &[], expected);
    check_stranger(b"*10\r\n$16384\r\n", None);
    check_stranger(b"*11\r\n", Some("unauthenticated multibulk length"));
    check_stranger(b"*2\r\n$16385\r\n", Some("unauthenticated bulk length"));
    check_stranger(b"*1\r\n$-1\r\n", Some("invalid bulk length"));
    check_stranger(b"*x\r\n", Some("invalid multibulk length"));

    let limits = Limits::authenticated(10, 40);
    check_with(&limits, b"*1\r\n$11\r\n", &[], Some("invalid bulk length"));
    let ten = b"$10\r\n0123456789\r\n";
    let echo = |count| [format!("*{count}\r\n").as_bytes(), &ten.repeat(count)].concat();
    check_with(&limits, &echo(2).repeat(5), &["0123456789 0123456789"; 5], None);
    check_with(&limits, &echo(3), &[], Some("too big request"));
}

#[test]
fn hostile_nesting() {
    check(&b"*1\r\n".repeat(200_000), &[], Some("expected '$', got '*'"));
}

/// No byte is looked at twice: a pass over all that has arrived, once per read, would take minutes here.
#[test]
fn as_many_arguments_as_there_may_be_in_small_reads() {
    let count = 256 * 1024;
    let bytes = [format!("*{count}\r\n").into_bytes(), b"$1\r\nx\r\n".repeat(count)].concat();
    let mut reader = Reader::new();
    let outcome = Outcome::send(&mut reader, &bytes, 1_000, &LIMITS);
    assert_eq!(outcome.requests.iter().map(Vec::len).collect::<Vec<_>>(), [count]);
    assert_eq!(outcome.violation, None);
    assert_eq!(reader.buffered(), 0);
    assert!(reader.buffer().capacity() <= CHUNK_BYTES);

    check(format!("*{}\r\n", count + 1).as_bytes(), &[], Some("invalid multibulk length"));
}

/// An argument is where it was read to, and the buffer moved only a few times to grow.
#[test]
fn a_big_argument_is_not_copied_again_and_again() {
    let value = b"0123456789abcdef".repeat(1 << 20);
    let bytes =
        [format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
    let mut reader = Reader::new();
    let mut places = Vec::new();
    for read in bytes.chunks(1_024) {
        reader.buffer().extend_from_slice(read);
        places.push(reader.buffer.as_ptr());
        if let Some(args) = reader.next(&LIMITS).expect("a valid request") {
            assert!(args[2] == value);
            assert_eq!(args[2].as_ptr(), *places.last().expect("there was a read"));
        }
    }
    places.dedup();
    assert!(places.len() <= 8, "{} buffers for 16 MiB", places.len());
    assert_eq!(reader.buffer.capacity(), 0, "the value's memory is not kept");
    assert!(reader.buffer().capacity() <= CHUNK_BYTES);
}

#[test]
fn memory_follows_what_has_arrived() {
    let mut reader = Reader::new();
    Outcome::send(&mut reader, b"*200000\r\n$536870912\r\n", usize::MAX, &LIMITS);
    assert!(reader.args.capacity() <= RESERVED_ARGS);
    assert!(reader.buffer().capacity() <= RESERVED_UNSEEN_BYTES);
    Outcome::send(&mut reader, &[0; 3 << 20], usize::MAX, &LIMITS);
    assert!(reader.buffer().capacity() <= 12 << 20);
    assert_eq!(reader.buffered(), 21 + (3 << 20));
}

#[test]
fn limits_may_change_between_requests() {
    let mut reader = Reader::new();
    let value = [b'x'; 20_000];
    reader.buffer().extend_from_slice(b"*1\r\n$4\r\nAUTH\r\n*1\r\n$20000\r\n");
    assert_eq!(reader.next(&Limits::UNAUTHENTICATED), Ok(Some(vec![Bytes::from_static(b"AUTH")])));
    assert_eq!(reader.next(&LIMITS), Ok(None));
    let outcome = Outcome::send(&mut reader, &[&value[..], b"\r\n"].concat(), usize::MAX, &LIMITS);
    assert_eq!(outcome.requests, [[Bytes::copy_from_slice(&value)]]);
}

fn requests() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let arg = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..30),
        1 => (any::<u8>(), 0..50_000usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    prop::collection::vec(prop::collection::vec(arg, 1..6), 1..5)
}

/// `requests` as another implementation writes them.
fn encoded(requests: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut out = BytesMut::new();
    for args in requests {
        let args = args.iter().map(|arg| resp2::types::BytesFrame::BulkString(Bytes::copy_from_slice(arg)));
        let frame = resp2::types::BytesFrame::Array(args.collect());
        resp2::encode::extend_encode(&mut out, &frame, false).expect("a request has a RESP2 form");
    }
    out.to_vec()
}

proptest! {
    #[test]
    fn requests_arrive_however_they_were_cut(requests in requests(), read_bytes in 1..40_000usize) {
        let bytes = encoded(&requests);
        let mut reader = Reader::new();
        let outcome = Outcome::send(&mut reader, &bytes, read_bytes, &LIMITS);
        prop_assert!(outcome.requests == requests);
        prop_assert_eq!(outcome.violation, None);
        prop_assert_eq!(reader.buffered(), 0);
    }

    #[test]
    fn requests_arrive_cut_at_any_byte(args in prop::collection::vec("[\\x00-\\x7f]{0,8}", 1..5)) {
        let requests = vec![args.into_iter().map(String::into_bytes).collect()];
        let bytes = encoded(&requests);
        for cut in 0..bytes.len() {
            let mut reader = Reader::new();
            let start = Outcome::send(&mut reader, &bytes[..cut], usize::MAX, &LIMITS);
            prop_assert_eq!(start, Outcome::default());
            prop_assert_eq!(reader.buffered(), cut);
            let end = Outcome::send(&mut reader, &bytes[cut..], usize::MAX, &LIMITS);
            prop_assert!(end.requests == requests);
        }
    }

    /// No bytes make the reader panic, and where they were cut never matters.
    #[test]
    fn any_bytes(tokens in prop::collection::vec(
        prop_oneof!["\\*[0-3]?\r?\n?", "\\$[0-5]?\r?\n?", "\r\n", "[a-z \"'\\\\]{0,6}", "\\*-?[0-9]{1,20}\r\n"], 0..20,
    )) {
        let bytes = tokens.concat().into_bytes();
        let whole = Outcome::send(&mut Reader::new(), &bytes, usize::MAX, &LIMITS);
        let pieces = Outcome::send(&mut Reader::new(), &bytes, 1, &LIMITS);
        prop_assert_eq!(whole, pieces);
    }
}
