//! What FUNCTION DUMP gives and FUNCTION RESTORE takes: Redis' own form, so that libraries can be moved from and to
//! Redis.
//!
//! | bytes | |
//! | --- | --- |
//! | for each library, 1 | 245 |
//! | | the code, as a string of RDB: a length, and so many bytes; or compressed by LZF |
//! | 2 | the version of RDB, 10, little-endian |
//! | 8 | CRC-64 of all bytes before, little-endian, by Jones' polynomial |

use bytes::Bytes;

/// What begins a library.
const LIBRARY: u8 = 245;
/// The version that is written, and the newest that is read: that of Redis 7.0.
const RDB_VERSION: u16 = 10;
/// The version and the checksum.
const FOOTER_BYTES: usize = 10;
/// A string that LZF has compressed.
const COMPRESSED: u8 = 0b1100_0011;

/// Why a payload cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// By its footer, it is not one, or of a version to come.
    Footer,
    /// Something else than a library is in it.
    Kind,
    /// A library is cut off, or longer than allowed.
    Library,
}

/// The payload of these libraries.
#[must_use]
pub fn encode<'a>(codes: impl IntoIterator<Item = &'a Bytes>) -> Vec<u8> {
    let mut payload = Vec::new();
    for code in codes {
        payload.push(LIBRARY);
        put_length(&mut payload, code.len());
        payload.extend_from_slice(code);
    }
    payload.extend_from_slice(&RDB_VERSION.to_le_bytes());
    let checksum = crc64(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

/// The code of each library, none longer than `bytes_max`.
///
/// # Errors
/// It is no payload, or damaged.
pub fn decode(payload: &[u8], bytes_max: usize) -> Result<Vec<Bytes>, Damage> {
    let footer_at = payload.len().checked_sub(FOOTER_BYTES).ok_or(Damage::Footer)?;
    let (mut rest, footer) = payload.split_at(footer_at);
    let (version, checksum) = footer.split_at(2);
    let version = u16::from_le_bytes(version.try_into().expect("it was split there"));
    let checksum = u64::from_le_bytes(checksum.try_into().expect("it was split there"));
    if version > RDB_VERSION || checksum != crc64(&payload[..footer_at + 2]) {
        return Err(Damage::Footer);
    }
    let mut codes = Vec::new();
    while let Some((kind, code)) = rest.split_first() {
        if *kind != LIBRARY {
            return Err(Damage::Kind);
        }
        rest = code;
        codes.push(take_string(&mut rest, bytes_max).ok_or(Damage::Library)?);
    }
    Ok(codes)
}

/// A length in 1, 2 or 5 bytes.
fn put_length(payload: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a library's code is bounded");
    match length {
        0..0x40 => payload.push(length as u8),
        0x40..0x4000 => payload.extend_from_slice(&(length as u16 | 0x4000).to_be_bytes()),
        _ => {
            payload.push(0x80);
            payload.extend_from_slice(&length.to_be_bytes());
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn take_number(rest: &mut &[u8], bytes: usize) -> Option<u64> {
    Some(take(rest, bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let first = take(rest, 1)?[0];
    let length = match (first >> 6, first) {
        (0, _) => u64::from(first & 0x3f),
        (1, _) => u64::from(first & 0x3f) << 8 | take_number(rest, 1)?,
        (_, 0x80) => take_number(rest, 4)?,
        (_, 0x81) => take_number(rest, 8)?,
        _ => return None,
    };
    usize::try_from(length).ok()
}

fn take_string(rest: &mut &[u8], bytes_max: usize) -> Option<Bytes> {
    if rest.first() != Some(&COMPRESSED) {
        let length = take_length(rest)?;
        return (length <= bytes_max).then(|| take(rest, length).map(Bytes::copy_from_slice))?;
    }
    take(rest, 1)?;
    let (compressed, length) = (take_length(rest)?, take_length(rest)?);
    let compressed = take(rest, compressed)?;
    if length > bytes_max { None } else { decompress(compressed, length).map(Bytes::from) }
}

/// What LZF has compressed, if it becomes that long.
///
/// A first byte below 32 announces one more byte than it says, as they are. Any other, in its three highest bits and
/// a next byte if they are all set, says how many bytes to repeat, less two; and in its other bits and the byte
/// after, how far back they are, less one.
fn decompress(mut compressed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    while let Some((&control, rest)) = compressed.split_first() {
        compressed = rest;
        if control < 32 {
            bytes.extend_from_slice(take(&mut compressed, usize::from(control) + 1)?);
        } else {
            let mut count = usize::from(control >> 5);
            if count == 7 {
                count += usize::from(take(&mut compressed, 1)?[0]);
            }
            let back = (usize::from(control & 31) << 8 | usize::from(take(&mut compressed, 1)?[0])) + 1;
            let from = bytes.len().checked_sub(back)?;
            // What is repeated may only just have been written.
            for at in from..from + count + 2 {
                bytes.push(bytes[at]);
            }
        }
        if bytes.len() > length {
            return None;
        }
    }
    (bytes.len() == length).then_some(bytes)
}

/// CRC-64 as RDB has it: Jones' polynomial, reflected, beginning with 0.
fn crc64(bytes: &[u8]) -> u64 {
    const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
    const TABLE: [u64; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut value = byte as u64;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    bytes.iter().fold(0, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    #[test]
    fn the_checksum_is_that_of_redis() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn what_was_written_can_be_read() {
        let codes = [0, 1, 63, 64, 16383, 16384, 70000].map(|length| Bytes::from(vec![b'x'; length]));
        assert_eq!(decode(&encode(&codes), MAX), Ok(codes.to_vec()));
        assert_eq!(decode(&encode([]), MAX), Ok(Vec::new()));
        assert_eq!(decode(&encode(&codes), 69999), Err(Damage::Library));
    }

    #[test]
    fn redis_writes_what_can_be_read() {
        let payload =
            b"\xf5\xc3@^@\x9d\x1f#!lua name=mylib\nredis.register_\rfunction('f', \xe0\0\r\x1ekeys, args) \
                        return 'hello' end)\xe0\x11E\0g\xe0!E\x01)\n\n\0\x8b\x02%6\x12D\xd4\xc8";
        let function = |name: &str| {
            format!("redis.register_function('{name}', function(keys, args) return 'hello' end)\n")
        };
        let code = format!("#!lua name=mylib\n{}{}", function("f"), function("g"));
        assert_eq!(decode(payload, MAX), Ok(vec![Bytes::from(code)]));
    }

    #[test]
    fn damage_is_noticed() {
        let whole = encode([&Bytes::from_static(b"#!lua name=a\n")]);
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length], MAX), Err(Damage::Footer));
            let mut damaged = whole.clone();
            damaged[length] ^= 1;
            assert_eq!(decode(&damaged, MAX), Err(Damage::Footer));
        }
        let signed = |body: &[u8]| {
            let mut payload = [body, &RDB_VERSION.to_le_bytes()].concat();
            let checksum = crc64(&payload);
            payload.extend_from_slice(&checksum.to_le_bytes());
            decode(&payload, MAX)
        };
        assert_eq!(signed(b"\x00\x01a"), Err(Damage::Kind));
        for cut_off in [
            &b"\xf5"[..],
            b"\xf5\x05a",
            b"\xf5\x41",
            b"\xf5\xc0\x01",
            b"\xf5\xc3\x02\x09a",
            b"\xf5\x80\xff\xff\xff\xff",
        ] {
            assert_eq!(signed(cut_off), Err(Damage::Library), "{cut_off:?}");
        }
        // A repetition of what is not there, and one that goes on too long.
        for compressed in [&b"\xf5\xc3\x03\x05\x20\x00a"[..], b"\xf5\xc3\x05\x04\x00a\xe0\xff\x00"] {
            assert_eq!(signed(compressed), Err(Damage::Library), "{compressed:?}");
        }
    }
}
