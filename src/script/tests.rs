//! What scripts see, and what they cannot get past.

use mlua::{Error, Value};

use super::budget::{Abort, Limits};
use super::interpreter::Interpreter;

pub(crate) const LIMITS: Limits = Limits { steps: 1_000_000, bytes: 16 << 20, collect_from: 4 << 20 };

/// What `return {source}` gives, as `tostring` has it, or the text of the error it ends with.
pub(crate) fn evaluate(source: &str) -> String {
    let interpreter = Interpreter::new().expect("there is memory");
    let chunk = format!("return tostring(({source}))");
    text(interpreter.evaluate(&chunk, LIMITS).0)
}

/// Checks [`evaluate`].
#[track_caller]
pub(crate) fn check(source: &str, expect: &str) {
    assert_eq!(evaluate(source), expect, "{source}");
}

pub(crate) fn text(result: mlua::Result<Value>) -> String {
    match result {
        Ok(value) => value.to_string().expect("it is a string"),
        Err(mut error) => {
            while let Error::CallbackError { cause, .. } = error {
                error = (*cause).clone();
            }
            match error {
                Error::RuntimeError(text) => {
                    text.split("\nstack traceback").next().unwrap_or_default().into()
                }
                other => other.to_string(),
            }
        }
    }
}

#[track_caller]
fn check_abort(source: &str, expect: Abort) {
    let interpreter = Interpreter::new().expect("there is memory");
    let (result, aborted) = interpreter.evaluate::<Value>(source, LIMITS);
    assert!(result.is_err(), "{source}");
    assert_eq!(aborted, Some(expect), "{source}");
}

#[test]
fn expressions_have_values() {
    check("1 + 1", "2");
    check("('x'):rep(3)", "xxx");
    check("nil + 1", "user_script:1: attempt to perform arithmetic on a nil value");
}

#[test]
fn an_endless_script_is_aborted() {
    check_abort("while true do end", Abort::Steps);
    check_abort("while true do pcall(function() while true do end end) end", Abort::Steps);
    check_abort("local function f() return pcall(f) or f() end return f()", Abort::Steps);
}
