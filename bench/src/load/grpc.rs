//! etcd's gRPC API, as much of it as a load generator needs: Put and Range over HTTP/2.
//!
//! Each request is a stream of its own, of two frames that are ready but for the stream's number and the
//! key. Of the answers, only the frames' heads are read. A call that worked is answered with data and then
//! with trailers that end the stream; one that failed, with trailers alone, so no header has to be decoded.
//! The windows we announce are as large as the protocol allows, and a run's answers fit into them.

use std::net::SocketAddr;

use anyhow::{Result, bail};

use super::template::{Keys, Template};
use super::{Dialect, Replies};
use crate::workload::{Chance, Command, Mix};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
const WINDOW_MAX: u32 = (1 << 31) - 1;
const WINDOW_DEFAULT: u32 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Requests of one mix; of SETs and GETs only.
pub struct Grpc {
    mix: Mix,
    chance: Chance,
    keys: Keys,
    put: Template,
    range: Template,
    /// Where the second frame begins: the length of the frame of headers.
    put_data: usize,
    range_data: usize,
}

impl Grpc {
    /// Requests of `mix` for `keys`, with values of so many bytes, to a server at `address`.
    #[must_use]
    pub fn new(address: SocketAddr, mix: Mix, value_bytes: usize, chance: Chance, keys: Keys) -> Self {
        let key = Template::key("key");
        let put = [field(1, key.as_bytes()), field(2, &vec![b'x'; value_bytes])].concat();
        let (put, put_data) = call("/etcdserverpb.KV/Put", address, &put);
        let (range, range_data) = call("/etcdserverpb.KV/Range", address, &field(1, key.as_bytes()));
        Self { mix, chance, keys, put: Template::new(put), range: Template::new(range), put_data, range_data }
    }
}

impl Dialect for Grpc {
    type State = State;

    fn greet(&self, wire: &mut Vec<u8>) {
        const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
        wire.extend_from_slice(PREFACE);
        frame(wire, SETTINGS, 0, 0, &[&INITIAL_WINDOW_SIZE[..], &WINDOW_MAX.to_be_bytes()].concat());
        frame(wire, WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - WINDOW_DEFAULT).to_be_bytes());
    }

    fn request(&mut self, state: &mut State, wire: &mut Vec<u8>) {
        let (template, data) = match self.mix.pick(&mut self.chance) {
            Command::Set => (&self.put, self.put_data),
            _ => (&self.range, self.range_data),
        };
        let stream = state.next_stream();
        let start = wire.len();
        template.append(wire, &mut self.keys);
        for head in [start, start + data] {
            wire[head + 5..head + HEAD_BYTES].copy_from_slice(&stream.to_be_bytes());
        }
    }

    fn read(&mut self, state: &mut State, bytes: &[u8], wire: &mut Vec<u8>) -> Result<Replies> {
        state.read(bytes, wire)
    }
}

/// What a connection is in the middle of.
#[derive(Debug, Default)]
pub struct State {
    streams: u32,
    /// The head of a frame, and the content of one that is not skipped.
    kept: Vec<u8>,
    /// Bytes of a frame of data or headers that are still to come.
    skip: usize,
    /// Streams that were answered with data and have not ended.
    answered: Vec<u32>,
}

struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl State {
    /// Clients' streams have odd numbers.
    fn next_stream(&mut self) -> u32 {
        self.streams += 1;
        self.streams * 2 - 1
    }

    fn read(&mut self, mut bytes: &[u8], wire: &mut Vec<u8>) -> Result<Replies> {
        let mut replies = Replies::default();
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            self.keep(&mut bytes, HEAD_BYTES);
            if self.kept.len() < HEAD_BYTES {
                return Ok(replies);
            }
            let head = self.head();
            if matches!(head.kind, DATA | HEADERS) {
                self.read_answer(&head, &mut replies);
                self.skip = head.length;
                self.kept.clear();
                continue;
            }
            let whole = HEAD_BYTES + head.length;
            self.keep(&mut bytes, whole);
            if self.kept.len() < whole {
                return Ok(replies);
            }
            self.read_other(&head, wire, &mut replies)?;
            self.kept.clear();
        }
    }

    /// Moves bytes to `kept` until it has `length` of them.
    fn keep(&mut self, bytes: &mut &[u8], length: usize) {
        let wanted = length.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..wanted]);
        *bytes = &bytes[wanted..];
    }

    fn head(&self) -> Head {
        let kept = &self.kept;
        let number = |range: std::ops::Range<usize>| {
            kept[range].iter().fold(0_u32, |number, &byte| number << 8 | u32::from(byte))
        };
        Head {
            length: usize::try_from(number(0..3)).expect("24 bits"),
            kind: kept[3],
            flags: kept[4],
            stream: number(5..9) & WINDOW_MAX,
        }
    }

    fn read_answer(&mut self, head: &Head, replies: &mut Replies) {
        if head.kind == DATA && !self.answered.contains(&head.stream) {
            self.answered.push(head.stream);
        }
        if head.flags & END_STREAM != 0 {
            self.end_stream(head.stream, replies);
        }
    }

    fn end_stream(&mut self, stream: u32, replies: &mut Replies) {
        match self.answered.iter().position(|&answered| answered == stream) {
            Some(position) => {
                self.answered.swap_remove(position);
            }
            None => replies.fail("a call was answered without data"),
        }
        replies.count += 1;
    }

    fn read_other(&mut self, head: &Head, wire: &mut Vec<u8>, replies: &mut Replies) -> Result<()> {
        let content = &self.kept[HEAD_BYTES..];
        match head.kind {
            SETTINGS if head.flags & ACK == 0 => frame(wire, SETTINGS, ACK, 0, &[]),
            PING if head.flags & ACK == 0 => frame(wire, PING, ACK, 0, content),
            RST_STREAM => {
                self.answered.retain(|&answered| answered != head.stream);
                self.end_stream(head.stream, replies);
            }
            GOAWAY => bail!("the server said goodbye: {}", String::from_utf8_lossy(content)),
            _ => {}
        }
        Ok(())
    }
}

/// The frames of a call, and where the second one begins.
fn call(path: &str, address: SocketAddr, message: &[u8]) -> (Vec<u8>, usize) {
    // Fields of HPACK's static table: `:method: POST` and `:scheme: http`; names `:path`, `:authority` and
    // `content-type` (31, which does not fit into the four bits there are); a name that is not in it.
    let mut headers = vec![0x83, 0x86];
    header(&mut headers, &[0x04], path);
    header(&mut headers, &[0x01], &address.to_string());
    header(&mut headers, &[0x0f, 31 - 15], "application/grpc");
    header(&mut headers, &[&[0, 2], &b"te"[..]].concat(), "trailers");
    let mut wire = Vec::new();
    frame(&mut wire, HEADERS, END_HEADERS, 0, &headers);
    let data = wire.len();
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    frame(&mut wire, DATA, END_STREAM, 0, &[&[0], &length[..], message].concat());
    (wire, data)
}

/// A header that is not to be remembered, so that every request has the same bytes.
fn header(headers: &mut Vec<u8>, name: &[u8], value: &str) {
    headers.extend_from_slice(name);
    headers.push(u8::try_from(value.len()).ok().filter(|length| *length < 127).expect("a short header"));
    headers.extend_from_slice(value.as_bytes());
}

fn frame(wire: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, content: &[u8]) {
    let length = u32::try_from(content.len()).expect("a short frame").to_be_bytes();
    wire.extend_from_slice(&length[1..]);
    wire.extend_from_slice(&[kind, flags]);
    wire.extend_from_slice(&stream.to_be_bytes());
    wire.extend_from_slice(content);
}

/// A field of bytes of a protobuf message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    const BYTES: u8 = 2;
    let mut field = vec![number << 3 | BYTES];
    let mut length = bytes.len();
    while length >= 0x80 {
        field.push(0x80 | u8::try_from(length & 0x7f).expect("seven bits"));
        length >>= 7;
    }
    field.push(u8::try_from(length).expect("seven bits"));
    field.extend_from_slice(bytes);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(frames: &[(u8, u8, u32, &[u8])]) -> Vec<u8> {
        let mut wire = Vec::new();
        for (kind, flags, stream, content) in frames {
            frame(&mut wire, *kind, *flags, *stream, content);
        }
        wire
    }

    /// Checks the count of replies and of errors among them, and what is said back, wherever the bytes are cut.
    #[track_caller]
    fn check(bytes: &[u8], count: u64, errors: u64, expect: &[u8]) {
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let (mut state, mut said) = (State::default(), Vec::new());
            let mut found = state.read(first, &mut said).expect("well formed");
            found.add(state.read(second, &mut said).expect("well formed"));
            assert_eq!((found.count, found.errors), (count, errors), "cut at {cut}");
            assert_eq!(said, expect, "cut at {cut}");
        }
    }

    #[test]
    fn streams_end_with_trailers() {
        let one = wire(&[
            (HEADERS, END_HEADERS, 1, b"headers"),
            (DATA, 0, 1, b"answer"),
            (WINDOW_UPDATE, 0, 0, &[0; 4]),
            (HEADERS, END_HEADERS | END_STREAM, 1, b"t"),
        ]);
        check(&one, 1, 0, b"");
        let failed = wire(&[(HEADERS, END_HEADERS | END_STREAM, 1, b"error"), (RST_STREAM, 0, 3, &[0; 4])]);
        check(&failed, 2, 2, b"");
        let mixed = wire(&[
            (DATA, 0, 1, b""),
            (DATA, 0, 3, b"1"),
            (HEADERS, END_STREAM, 3, b"1"),
            (HEADERS, END_STREAM, 1, b""),
        ]);
        check(&mixed, 2, 0, b"");
    }

    #[test]
    fn the_server_is_answered() {
        let asked = wire(&[(SETTINGS, 0, 0, b"123456"), (SETTINGS, ACK, 0, b""), (PING, 0, 0, b"12345678")]);
        check(&asked, 0, 0, &wire(&[(SETTINGS, ACK, 0, b""), (PING, ACK, 0, b"12345678")]));
        let goodbye = wire(&[(GOAWAY, 0, 0, b"tired")]);
        assert!(State::default().read(&goodbye, &mut Vec::new()).is_err());
    }

    #[test]
    fn requests_have_streams_of_their_own() {
        let address = SocketAddr::from(([127, 0, 0, 1], 2379));
        let mut grpc = Grpc::new(address, Mix::Only(Command::Get), 1, Chance::new(1), Keys::From(7, 100));
        let (mut state, mut bytes) = (State::default(), Vec::new());
        grpc.request(&mut state, &mut bytes);
        let second = bytes.len();
        grpc.request(&mut state, &mut bytes);
        for (start, stream) in [(0, 1), (grpc.range_data, 1), (second, 3), (second + grpc.range_data, 3)] {
            assert_eq!(bytes[start + 5..start + 9], [0, 0, 0, stream]);
        }
        assert!(bytes.ends_with(b"\x0a\x10key:000000000008"));
    }

    #[test]
    fn protobuf_lengths_take_several_bytes() {
        assert_eq!(field(2, &[b'x'; 256])[..4], [0x12, 0x80, 0x02, b'x']);
        assert_eq!(field(1, b"k"), [0x0a, 1, b'k']);
    }
}
