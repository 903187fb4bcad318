//! Libraries of functions: what their first line says, and what they register when they are loaded.
//!
//! A library is loaded again for each call of one of its functions, so what its functions keep between calls in
//! local variables of the library is gone, where Redis' would stay until the server ends. Only so is a call the same
//! on every node, and after a restart.

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::{Caller, Code, Program, SOURCE_BYTES_MAX, evaluate};
use crate::error::{ClientError, Failure, StoreError};
use crate::resp::{self, Reply};
use crate::types::libraries::{Function, Library};

/// The longest name of a library or a function.
pub const FUNCTION_NAME_CHARS_MAX: usize = 128;

/// What the first line of a library says: `#!lua name=mylib`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: Bytes,
}

impl Header {
    /// Reads the first line.
    ///
    /// # Errors
    /// It says something unknown, or nothing; or the code is too long.
    pub fn parse(code: &[u8]) -> Result<Self, ClientError> {
        const MISSING: ClientError = ClientError::fixed("ERR Missing library metadata");
        const INVALID: ClientError = ClientError::fixed("ERR Invalid library metadata");
        const TWICE: ClientError =
            ClientError::fixed("ERR Invalid metadata value, name argument was given multiple times");
        const NO_NAME: ClientError = ClientError::fixed("ERR Library name was not given");
        const CHARACTERS: ClientError = ClientError::fixed(
            "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one \
             character long",
        );
        if code.len() > SOURCE_BYTES_MAX {
            return Err(ClientError::new(format!(
                "ERR a library must not have more than {SOURCE_BYTES_MAX} bytes"
            )));
        }
        if !code.starts_with(b"#!") {
            return Err(MISSING);
        }
        let end = code.iter().position(|byte| *byte == b'\n').ok_or(INVALID)?;
        let words = resp::inline::split(&code[..end]).ok_or(INVALID)?;
        let (engine, options) = words.split_first().ok_or(INVALID)?;
        let mut name = None;
        for option in options {
            match option.split_at_checked(5) {
                Some((key, value)) if key.eq_ignore_ascii_case(b"name=") => {
                    if name.replace(option.slice_ref(value)).is_some() {
                        return Err(TWICE);
                    }
                }
                _ => {
                    let shown = String::from_utf8_lossy(option);
                    return Err(ClientError::new(format!("ERR Invalid metadata value given: {shown}")));
                }
            }
        }
        let name = name.ok_or(NO_NAME)?;
        if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return Err(CHARACTERS);
        }
        if name.len() > FUNCTION_NAME_CHARS_MAX {
            return Err(ClientError::new(format!(
                "ERR Library names can have no more than {FUNCTION_NAME_CHARS_MAX} characters"
            )));
        }
        if !engine[2..].eq_ignore_ascii_case(b"lua") {
            let shown = String::from_utf8_lossy(&engine[2..]);
            return Err(ClientError::new(format!("ERR Engine '{shown}' not found")));
        }
        Ok(Self { name })
    }
}

/// Loads a library, and answers it with what it registers.
///
/// # Errors
/// It does not compile, fails, or registers nothing.
pub fn functions(code: &Bytes) -> Result<Library, Failure> {
    const NOTHING: ClientError = ClientError::fixed("ERR No functions registered");
    let digest = Sha1::digest(code).into();
    let program = Program::Library(Code { digest: &digest, text: code });
    let list = match evaluate(program, &[], &[], 0, &mut Nobody)? {
        Reply::Array(list) => list,
        Reply::Error(error) => return Err(error.into()),
        other => unreachable!("a list of functions is an array, not {other:?}"),
    };
    let mut functions: Vec<Function> = Vec::with_capacity(list.len() / 3);
    for entry in list.as_chunks().0 {
        let [Reply::Bulk(name), description, Reply::Int(flags)] = entry else {
            unreachable!("a function is listed by name, description and flags, not {entry:?}")
        };
        let description = match description {
            Reply::Bulk(description) => Some(description.clone()),
            _ => None,
        };
        functions.push(Function { name: name.clone(), description, flags: *flags as u8 });
    }
    if functions.is_empty() {
        return Err(NOTHING.into());
    }
    functions.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Library { digest, functions, code: code.clone() })
}

/// For a library that is loaded: it has no way to call a command.
struct Nobody;

impl Caller for Nobody {
    fn call(&mut self, _: Vec<Bytes>) -> Result<Reply, StoreError> {
        Ok(ClientError::fixed("ERR commands cannot be called while a library is loaded").into())
    }

    fn knows(&self, _: &[Bytes]) -> bool {
        false
    }

    fn work(&self) -> u64 {
        0
    }

    fn save(&mut self) {}

    fn undo(&mut self) {}

    fn keep(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_header(code: &str, expect: Result<&str, &str>) {
        let found = Header::parse(code.as_bytes());
        let found = found.as_ref().map(|header| &header.name[..]).map_err(ClientError::as_str);
        assert_eq!(found, expect.map(str::as_bytes), "{code:?}");
    }

    #[test]
    fn the_first_line_is_read() {
        check_header("#!lua name=lib_1\n", Ok("lib_1"));
        check_header("#!LUA  NAME=\"lib\" \nreturn", Ok("lib"));
        check_header("return 1", Err("ERR Missing library metadata"));
        check_header("#!lua name=lib", Err("ERR Invalid library metadata"));
        check_header("#!lua name=\"lib\n", Err("ERR Invalid library metadata"));
        check_header("#!lua\n", Err("ERR Library name was not given"));
        check_header("#!python name=lib\n", Err("ERR Engine 'python' not found"));
        check_header("#!lua name=lib x=1\n", Err("ERR Invalid metadata value given: x=1"));
        let twice = "ERR Invalid metadata value, name argument was given multiple times";
        check_header("#!lua name=a name=b\n", Err(twice));
        let characters = "ERR Library names can only contain letters, numbers, or underscores(_) and must be at \
                          least one character long";
        check_header("#!lua name=\n", Err(characters));
        check_header("#!lua name=a-b\n", Err(characters));
        let long = format!("#!lua name={}\n", "a".repeat(129));
        check_header(&long, Err("ERR Library names can have no more than 128 characters"));
    }

    /// A function's name, description and flags.
    type Listed<'a> = (&'a str, Option<&'a str>, u8);

    #[track_caller]
    fn check_functions(body: &str, expect: Result<&[Listed], &str>) {
        let found = functions(&Bytes::from(format!("#!lua name=lib\n{body}")));
        let listed = |library: Library| {
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            let listed = library.functions.iter().map(|function| {
                (text(&function.name), function.description.as_ref().map(text), function.flags)
            });
            listed.collect::<Vec<_>>()
        };
        let expect = expect.map(|functions| {
            let owned = functions.iter().map(|(name, description, flags)| {
                ((*name).to_owned(), description.map(str::to_owned), *flags)
            });
            owned.collect::<Vec<_>>()
        });
        assert_eq!(
            found.map(listed).map_err(|error| error.to_string()),
            expect.map_err(str::to_owned),
            "{body}"
        );
    }

    #[test]
    fn functions_are_registered_in_two_ways() {
        check_functions(
            "redis.register_function('g', function() end)
            redis.register_function{function_name = 'f', callback = function() end, description = 'd',
                flags = {'no-writes', 'ALLOW-OOM'}}",
            Ok(&[("f", Some("d"), 3), ("g", None, 0)]),
        );
        check_functions("", Err("ERR No functions registered"));
    }

    #[test]
    fn a_library_that_loads_is_on_its_own() {
        let missing = |name: &str| {
            format!(
                "ERR Error registering functions: ERR user_function:2: Script attempted to access nonexistent \
                 global variable '{name}'"
            )
        };
        check_functions("redis.call('PING')", Err(&missing("call")));
        check_functions("redis.setresp(3)", Err(&missing("setresp")));
        check_functions("return math.random()", Err(&missing("math")));
        check_functions("return pcall", Err(&missing("pcall")));
        let readonly =
            "ERR Error registering functions: ERR user_function:2: Attempt to modify a readonly table";
        check_functions("x = 1", Err(readonly));
        check_functions("redis.x = 1", Err(readonly));
        check_functions("function f() end", Err(readonly));
        check_functions(
            "while true do end",
            Err("ERR Error registering functions: ERR FUNCTION LOAD timeout"),
        );
    }
}
