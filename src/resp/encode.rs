//! Replies: as bytes of the protocol that the connection speaks.
//!
//! RESP3 has a type for each kind of reply. RESP2 has five, and the rest is flattened as Redis does it: a
//! map to an array of keys and values, a double to its text, a boolean to 0 or 1.

use bytes::BytesMut;

use super::number::format_double;
use super::reply::Reply;

/// The protocol that a connection speaks: RESP2, until it says `HELLO 3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// The longest header: a type, an `i64`, a line end.
const HEADER_BYTES_MAX: usize = 1 + 20 + 2;
const LINE_END: &[u8] = b"\r\n";

/// Appends `reply` to `out`.
pub fn encode(reply: &Reply, protocol: Protocol, out: &mut BytesMut) {
    use Protocol::{Resp2, Resp3};
    match reply {
        Reply::Ok => out.extend_from_slice(b"+OK\r\n"),
        Reply::Status(text) => encode_line(b'+', text.as_bytes(), out),
        Reply::StatusText(text) => encode_line(b'+', text, out),
        Reply::Error(error) => encode_line(b'-', error.as_str().as_bytes(), out),
        Reply::Int(value) => encode_number(b':', *value, out),
        Reply::Bulk(bytes) => encode_bulk(b'$', "", bytes, out),
        Reply::Nil => out.extend_from_slice(if protocol == Resp3 { b"_\r\n" } else { b"$-1\r\n" }),
        Reply::NilArray => out.extend_from_slice(if protocol == Resp3 { b"_\r\n" } else { b"*-1\r\n" }),
        Reply::Double(value) => match (format_double(*value), protocol) {
            (text, Resp2) => encode_bulk(b'$', "", text.as_bytes(), out),
            (text, Resp3) => encode_line(b',', text.as_bytes(), out),
        },
        Reply::Bool(value) => match protocol {
            Resp2 => encode_number(b':', i64::from(*value), out),
            Resp3 => out.extend_from_slice(if *value { b"#t\r\n" } else { b"#f\r\n" }),
        },
        Reply::Verbatim(text) => match protocol {
            Resp2 => encode_bulk(b'$', "", text, out),
            Resp3 => encode_bulk(b'=', "txt:", text, out),
        },
        Reply::VerbatimAs(format, text) => match protocol {
            Resp2 => encode_bulk(b'$', "", text, out),
            Resp3 => encode_bulk(b'=', "", &[&format[..], b":", text].concat(), out),
        },
        Reply::BigNumber(digits) => match protocol {
            Resp2 => encode_bulk(b'$', "", digits, out),
            Resp3 => encode_line(b'(', digits, out),
        },
        Reply::Array(replies) => encode_all(b'*', replies, protocol, out),
        Reply::Set(replies) => {
            encode_all(if protocol == Resp3 { b'~' } else { b'*' }, replies, protocol, out)
        }
        Reply::Push(replies) => {
            encode_all(if protocol == Resp3 { b'>' } else { b'*' }, replies, protocol, out);
        }
        Reply::Map(pairs) => {
            match protocol {
                Resp2 => encode_number(b'*', pairs.len() * 2, out),
                Resp3 => encode_number(b'%', pairs.len(), out),
            }
            for (key, value) in pairs {
                encode(key, protocol, out);
                encode(value, protocol, out);
            }
        }
        Reply::Attributes(_) if protocol == Resp2 => {}
        Reply::Attributes(pairs) => {
            encode_number(b'|', pairs.len(), out);
            for (key, value) in pairs {
                encode(key, protocol, out);
                encode(value, protocol, out);
            }
        }
        Reply::Pairs(pairs) => {
            match protocol {
                Resp2 => encode_number(b'*', pairs.len() * 2, out),
                Resp3 => encode_number(b'*', pairs.len(), out),
            }
            for (first, second) in pairs {
                if protocol == Resp3 {
                    encode_number(b'*', 2u32, out);
                }
                encode(first, protocol, out);
                encode(second, protocol, out);
            }
        }
        Reply::Sequence(replies) => {
            for reply in replies {
                encode(reply, protocol, out);
            }
        }
        Reply::Nothing => {}
        // The delivering node has put the number in its place. Nobody counted: nobody received.
        Reply::Receivers(_) => encode_number(b':', 0u32, out),
    }
}

fn encode_line(kind: u8, text: &[u8], out: &mut BytesMut) {
    out.reserve(1 + text.len() + LINE_END.len());
    out.extend_from_slice(&[kind]);
    out.extend_from_slice(text);
    out.extend_from_slice(LINE_END);
}

fn encode_number(kind: u8, number: impl itoa::Integer, out: &mut BytesMut) {
    encode_line(kind, itoa::Buffer::new().format(number).as_bytes(), out);
}

/// A string that may hold anything; `prefix` counts as a part of it.
fn encode_bulk(kind: u8, prefix: &str, bytes: &[u8], out: &mut BytesMut) {
    let length = prefix.len() + bytes.len();
    out.reserve(HEADER_BYTES_MAX + length + LINE_END.len());
    encode_number(kind, length, out);
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(LINE_END);
}

fn encode_all(kind: u8, replies: &[Reply], protocol: Protocol, out: &mut BytesMut) {
    encode_number(kind, replies.len(), out);
    for reply in replies {
        encode(reply, protocol, out);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use redis_protocol::resp2;
    use redis_protocol::resp3;
    use redis_protocol::resp3::types::VerbatimStringFormat;

    use super::*;
    use crate::error::ClientError;

    fn encoded(reply: &Reply, protocol: Protocol) -> Bytes {
        let mut out = BytesMut::new();
        encode(reply, protocol, &mut out);
        out.freeze()
    }

    fn check(reply: &Reply, resp2: &str, resp3: &str) {
        assert_eq!(encoded(reply, Protocol::Resp2), resp2, "{reply:?}");
        assert_eq!(encoded(reply, Protocol::Resp3), resp3, "{reply:?}");
    }

    #[test]
    fn simple_replies() {
        check(&Reply::Ok, "+OK\r\n", "+OK\r\n");
        check(&Reply::Status("PONG"), "+PONG\r\n", "+PONG\r\n");
        check(&Reply::StatusText(Bytes::from_static(b"none")), "+none\r\n", "+none\r\n");
        check(&ClientError::new("ERR a\r\nb").into(), "-ERR a  b\r\n", "-ERR a  b\r\n");
        check(&Reply::Int(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n");
        check(&Reply::text(""), "$0\r\n\r\n", "$0\r\n\r\n");
        check(&Reply::text("a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n");
        check(&Reply::Nil, "$-1\r\n", "_\r\n");
        check(&Reply::NilArray, "*-1\r\n", "_\r\n");
        check(&Reply::Bool(true), ":1\r\n", "#t\r\n");
        check(&Reply::Bool(false), ":0\r\n", "#f\r\n");
        check(&Reply::Verbatim(Bytes::from_static(b"hi")), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
        let markdown = Reply::VerbatimAs(*b"mkd", Bytes::from_static(b"hi"));
        check(&markdown, "$2\r\nhi\r\n", "=6\r\nmkd:hi\r\n");
        check(&Reply::BigNumber(Bytes::from_static(b"12")), "$2\r\n12\r\n", "(12\r\n");
        check(&Reply::Nothing, "", "");
        check(&Reply::Receivers(3), ":0\r\n", ":0\r\n");
    }

    #[test]
    fn doubles() {
        check(&Reply::Double(0.1), "$19\r\n0.10000000000000001\r\n", ",0.10000000000000001\r\n");
        check(&Reply::Double(3.0), "$1\r\n3\r\n", ",3\r\n");
        check(&Reply::Double(1e17), "$5\r\n1e+17\r\n", ",1e+17\r\n");
        check(&Reply::Double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n");
        check(&Reply::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
        check(&Reply::Double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n");
    }

    #[test]
    fn aggregates() {
        let two = || vec![Reply::Int(1), Reply::Nil];
        check(&Reply::Array(vec![]), "*0\r\n", "*0\r\n");
        check(&Reply::Array(two()), "*2\r\n:1\r\n$-1\r\n", "*2\r\n:1\r\n_\r\n");
        check(&Reply::Set(two()), "*2\r\n:1\r\n$-1\r\n", "~2\r\n:1\r\n_\r\n");
        check(&Reply::Push(two()), "*2\r\n:1\r\n$-1\r\n", ">2\r\n:1\r\n_\r\n");
        let map = Reply::Map(vec![(Reply::text("k"), Reply::Double(1.5))]);
        check(&map, "*2\r\n$1\r\nk\r\n$3\r\n1.5\r\n", "%1\r\n$1\r\nk\r\n,1.5\r\n");
        let about = Reply::Attributes(vec![(Reply::text("ttl"), Reply::Int(9))]);
        check(&Reply::Sequence(vec![about, Reply::Ok]), "+OK\r\n", "|1\r\n$3\r\nttl\r\n:9\r\n+OK\r\n");
        let sequence = Reply::Sequence(vec![Reply::Push(vec![Reply::Int(1)]), Reply::Ok]);
        check(&sequence, "*1\r\n:1\r\n+OK\r\n", ">1\r\n:1\r\n+OK\r\n");
    }

    /// Any reply that a decoder can tell apart, so without sequences and NaN, and with each member of a set
    /// and key of a map only once.
    fn replies() -> impl Strategy<Value = Reply> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..20);
        let leaf = prop_oneof![
            Just(Reply::Ok),
            Just(Reply::Status("PONG")),
            "[^\r\n]{0,20}".prop_map(|text| Reply::StatusText(text.into())),
            "[A-Z]{1,9} [^\r\n]{0,20}".prop_map(|text| Reply::Error(ClientError::new(text))),
            any::<i64>().prop_map(Reply::Int),
            bytes().prop_map(Reply::bulk),
            Just(Reply::Nil),
            Just(Reply::NilArray),
            any::<f64>().prop_filter("not NaN", |value| !value.is_nan()).prop_map(Reply::Double),
            any::<bool>().prop_map(Reply::Bool),
            "[ -~\r\n]{0,20}".prop_map(|text| Reply::Verbatim(text.into())),
            "[ -~\r\n]{0,20}".prop_map(|text| Reply::VerbatimAs(*b"mkd", text.into())),
            "-?[1-9][0-9]{0,30}".prop_map(|digits| Reply::BigNumber(digits.into())),
            prop::collection::hash_set(any::<i64>(), 0..5)
                .prop_map(|members| Reply::Set(members.into_iter().map(Reply::Int).collect())),
        ];
        leaf.prop_recursive(4, 40, 6, move |reply| {
            let pairs = prop::collection::hash_map(bytes(), reply.clone(), 0..5);
            prop_oneof![
                prop::collection::vec(reply.clone(), 0..6).prop_map(Reply::Array),
                prop::collection::vec((reply.clone(), reply), 0..4).prop_map(Reply::Pairs),
                pairs.prop_map(|pairs| {
                    Reply::Map(pairs.into_iter().map(|(key, value)| (Reply::bulk(key), value)).collect())
                }),
            ]
        })
    }

    /// What a RESP2 client should see of `reply`.
    fn resp2_frame(reply: &Reply) -> resp2::types::BytesFrame {
        use resp2::types::BytesFrame as Frame;
        match reply {
            Reply::Ok => Frame::SimpleString(Bytes::from_static(b"OK")),
            Reply::Status(text) => Frame::SimpleString(Bytes::from_static(text.as_bytes())),
            Reply::StatusText(text) => Frame::SimpleString(text.clone()),
            Reply::Error(error) => Frame::Error(error.as_str().into()),
            Reply::Int(value) => Frame::Integer(*value),
            Reply::Bulk(bytes)
            | Reply::Verbatim(bytes)
            | Reply::VerbatimAs(_, bytes)
            | Reply::BigNumber(bytes) => Frame::BulkString(bytes.clone()),
            Reply::Nil | Reply::NilArray => Frame::Null,
            Reply::Double(value) => Frame::BulkString(format_double(*value).into()),
            Reply::Bool(value) => Frame::Integer((*value).into()),
            Reply::Array(replies) | Reply::Set(replies) | Reply::Push(replies) => {
                Frame::Array(replies.iter().map(resp2_frame).collect())
            }
            Reply::Map(pairs) | Reply::Pairs(pairs) => {
                let flat = pairs.iter().flat_map(|(key, value)| [key, value]);
                Frame::Array(flat.map(resp2_frame).collect())
            }
            Reply::Attributes(_) | Reply::Sequence(_) | Reply::Nothing | Reply::Receivers(_) => {
                panic!("not one frame: {reply:?}")
            }
        }
    }

    /// What a RESP3 client should see of `reply`.
    fn resp3_frame(reply: &Reply) -> resp3::types::BytesFrame {
        use resp3::types::BytesFrame as Frame;
        let attributes = None;
        match reply {
            Reply::Ok => Frame::SimpleString { data: Bytes::from_static(b"OK"), attributes },
            Reply::Status(text) => {
                Frame::SimpleString { data: Bytes::from_static(text.as_bytes()), attributes }
            }
            Reply::StatusText(text) => Frame::SimpleString { data: text.clone(), attributes },
            Reply::Error(error) => Frame::SimpleError { data: error.as_str().into(), attributes },
            Reply::Int(value) => Frame::Number { data: *value, attributes },
            Reply::Bulk(bytes) => Frame::BlobString { data: bytes.clone(), attributes },
            Reply::Nil | Reply::NilArray => Frame::Null,
            Reply::Double(value) => Frame::Double { data: *value, attributes },
            Reply::Bool(value) => Frame::Boolean { data: *value, attributes },
            Reply::Verbatim(text) => {
                Frame::VerbatimString { data: text.clone(), format: VerbatimStringFormat::Text, attributes }
            }
            Reply::VerbatimAs(_, text) => Frame::VerbatimString {
                data: text.clone(),
                format: VerbatimStringFormat::Markdown,
                attributes,
            },
            Reply::BigNumber(digits) => Frame::BigNumber { data: digits.clone(), attributes },
            Reply::Array(replies) => {
                Frame::Array { data: replies.iter().map(resp3_frame).collect(), attributes }
            }
            Reply::Set(replies) => Frame::Set { data: replies.iter().map(resp3_frame).collect(), attributes },
            Reply::Push(replies) => {
                Frame::Push { data: replies.iter().map(resp3_frame).collect(), attributes }
            }
            Reply::Map(pairs) => {
                let data = pairs.iter().map(|(key, value)| (resp3_frame(key), resp3_frame(value))).collect();
                Frame::Map { data, attributes }
            }
            Reply::Pairs(pairs) => {
                let pair = |(first, second): &(Reply, Reply)| Frame::Array {
                    data: vec![resp3_frame(first), resp3_frame(second)],
                    attributes: None,
                };
                Frame::Array { data: pairs.iter().map(pair).collect(), attributes }
            }
            Reply::Attributes(_) | Reply::Sequence(_) | Reply::Nothing | Reply::Receivers(_) => {
                panic!("not one frame: {reply:?}")
            }
        }
    }

    proptest! {
        #[test]
        fn a_client_decodes_what_was_meant(reply in replies()) {
            let bytes = encoded(&reply, Protocol::Resp2);
            let decoded = resp2::decode::decode_bytes(&bytes).expect("valid RESP2");
            prop_assert_eq!(decoded, Some((resp2_frame(&reply), bytes.len())));

            let bytes = encoded(&reply, Protocol::Resp3);
            let decoded = resp3::decode::complete::decode_bytes(&bytes).expect("valid RESP3");
            prop_assert_eq!(decoded, Some((resp3_frame(&reply), bytes.len())));
        }

        #[test]
        fn a_stored_reply_encodes_the_same(reply in replies()) {
            let mut stored = Vec::new();
            reply.store(&mut stored);
            let loaded = Reply::load(&mut stored.as_slice()).expect("what was stored loads");
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                prop_assert_eq!(encoded(&reply, protocol), encoded(&loaded, protocol));
            }
        }
    }
}
