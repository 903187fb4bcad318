//! The functions of `math` whose results no standard says to the last digit: here they are computed, not asked of
//! the C library, which may be another on another node.
//!
//! The others (`sqrt`, `fmod`, `floor`, `frexp` and so on) have exact results, as have `+ - * / %` and the
//! ways between numbers and text. The operator `^` asks the numbers' metatable, which scripts never see.

use mlua::{Lua, Result, Table};

use crate::script::function;

/// Replaces the functions in Lua's `math`.
pub fn open(lua: &Lua, math: &Table) -> Result<()> {
    for (name, compute) in OF_ONE {
        math.raw_set(name, function(lua, name, move |_, args| Ok(compute(args.number(0)?)))?)?;
    }
    for (name, compute) in OF_TWO {
        let function = function(lua, name, move |_, args| {
            let first = args.number(0)?;
            Ok(compute(first, args.number(1)?))
        })?;
        math.raw_set(name, function)?;
    }
    let numbers = lua.create_table()?;
    numbers.raw_set("__pow", lua.create_function(|_, (base, exponent)| Ok(libm::pow(base, exponent)))?)?;
    lua.set_type_metatable::<mlua::Number>(Some(numbers));
    Ok(())
}

type OfOne = fn(f64) -> f64;

const OF_ONE: [(&str, OfOne); 12] = [
    ("acos", libm::acos),
    ("asin", libm::asin),
    ("atan", libm::atan),
    ("cos", libm::cos),
    ("cosh", libm::cosh),
    ("exp", libm::exp),
    ("log", libm::log),
    ("log10", libm::log10),
    ("sin", libm::sin),
    ("sinh", libm::sinh),
    ("tan", libm::tan),
    ("tanh", libm::tanh),
];

type OfTwo = fn(f64, f64) -> f64;

const OF_TWO: [(&str, OfTwo); 2] = [("atan2", libm::atan2), ("pow", libm::pow)];

#[cfg(test)]
mod tests {
    use crate::script::tests::check;

    #[test]
    fn results_are_the_same_to_the_last_digit() {
        let exact = |call: &str, expect: &str| check(&format!("string.format('%.17g', {call})"), expect);
        exact("math.sin(1)", "0.8414709848078965");
        exact("math.cos(1e22)", "0.52321478539513899");
        exact("math.exp(0.1)", "1.1051709180756477");
        exact("math.log(10)", "2.3025850929940459");
        exact("math.pow(2, 0.5)", "1.4142135623730951");
        exact("2 ^ '0.5'", "1.4142135623730951");
        exact("math.atan2(-1, -1)", "-2.3561944901923448");
        exact("math.tanh('0.5')", "0.46211715726000974");
        check("math.log(-1) ~= math.log(-1)", "true");
        check("math.sin({})", "ERR user_script:1: bad argument #1 to 'sin' (number expected, got table)");
        check("getmetatable(1) == nil and 2 ^ -1", "0.5");
        check("pcall(function() return 2 ^ nil end)", "false");
        check("math.pow(1)", "ERR user_script:1: bad argument #2 to 'pow' (number expected, got no value)");
    }
}
