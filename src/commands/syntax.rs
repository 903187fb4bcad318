//! Redis' notation for arguments, as a tree: what arity, COMMAND DOCS and redis-cli's hints are computed
//! from.
//!
//! The notation is that of Redis' documentation:
//!
//! | written | means |
//! | --- | --- |
//! | `key` | one argument |
//! | `NX` | that very word |
//! | `EX seconds` | that word, and what follows it |
//! | `[...]` | optional |
//! | `a \| b` | one of them; inside brackets of either kind |
//! | `<...>` | a group, not optional |
//! | `key [key ...]` | one or more |
//! | `[key ...]` | none or more |

/// An argument, or a group of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    pub name: String,
    /// The word in front of it.
    pub token: Option<&'static str>,
    pub shape: Shape,
    pub optional: bool,
    pub multiple: bool,
}

/// What an [`Argument`] consists of, beside its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A value.
    Value,
    /// Nothing: the token is all.
    Token,
    /// One of these.
    OneOf(Vec<Argument>),
    /// All of these.
    Block(Vec<Argument>),
}

/// The arguments a syntax describes.
///
/// # Panics
/// If the syntax is malformed; a test reads that of every command.
#[must_use]
pub fn parse(syntax: &'static str) -> Vec<Argument> {
    let mut words = Words(syntax);
    let arguments = parse_sequence(&mut words);
    assert!(words.next().is_none(), "unbalanced brackets in {syntax:?}");
    arguments
}

/// The fewest words these arguments can take, and whether they can take more.
#[must_use]
pub fn count(arguments: &[Argument]) -> (usize, bool) {
    let mut fewest = 0;
    let mut more = false;
    for argument in arguments {
        let (within, within_more) = match &argument.shape {
            Shape::Value => (1, false),
            Shape::Token => (0, false),
            Shape::Block(parts) => count(parts),
            Shape::OneOf(choices) => {
                let counts = choices.iter().map(|choice| count(std::slice::from_ref(choice)));
                let (least, any_more) = counts.clone().min().unwrap_or_default();
                (least, any_more || counts.clone().any(|other| other != (least, false)))
            }
        };
        more |= within_more || argument.optional || argument.multiple;
        if !argument.optional {
            fewest += within + usize::from(argument.token.is_some());
        }
    }
    (fewest, more)
}

/// The words and brackets of a syntax.
#[derive(Clone)]
struct Words(&'static str);

impl Iterator for Words {
    type Item = &'static str;

    fn next(&mut self) -> Option<&'static str> {
        let text = self.0.trim_start();
        let length = match text.find(|c: char| c == ' ' || "[]<>|".contains(c)) {
            Some(0) => 1,
            Some(length) => length,
            None => text.len(),
        };
        let (word, rest) = text.split_at(length);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }
}

impl Words {
    fn peek(&self) -> Option<&'static str> {
        self.clone().next()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        if found {
            self.next();
        }
        found
    }
}

/// Items up to a closing bracket, a bar, or the end.
fn parse_sequence(words: &mut Words) -> Vec<Argument> {
    let mut items: Vec<Argument> = Vec::new();
    loop {
        match words.peek() {
            None | Some("]" | ">" | "|") => return items,
            Some("...") => {
                // `[key ...]`: all before it, again and again.
                words.next();
                let mut all = join(std::mem::take(&mut items));
                all.multiple = true;
                items.push(all);
            }
            Some("[") => {
                words.next();
                let mut group = parse_choices(words);
                assert!(words.take("]"), "a bracket is not closed");
                if group.multiple && repeats(&mut items, &group) {
                    continue;
                }
                group.optional = true;
                items.push(group);
            }
            Some("<") => {
                words.next();
                let group = parse_choices(words);
                assert!(words.take(">"), "a bracket is not closed");
                items.push(group);
            }
            Some(word) => {
                words.next();
                items.push(parse_word(word, words));
            }
        }
    }
}

/// A value, or a token with what belongs to it: the rest of its alternative.
fn parse_word(word: &'static str, words: &mut Words) -> Argument {
    let mut argument = Argument {
        name: word.to_ascii_lowercase(),
        token: None,
        shape: Shape::Value,
        optional: false,
        multiple: false,
    };
    if word.chars().all(|c| c.is_ascii_uppercase() || c == '-') {
        argument.token = Some(word);
        argument.shape = Shape::Token;
        let mut of_token = parse_sequence(words);
        match of_token.len() {
            0 => {}
            1 if of_token[0].token.is_none() && !of_token[0].optional => {
                argument = Argument { token: Some(word), ..of_token.remove(0) };
            }
            _ => {
                argument.name = names(&of_token);
                argument.shape = Shape::Block(of_token);
            }
        }
    }
    argument
}

/// What a pair of brackets holds.
fn parse_choices(words: &mut Words) -> Argument {
    let mut choices = vec![join(parse_sequence(words))];
    while words.take("|") {
        choices.push(join(parse_sequence(words)));
    }
    if choices.len() == 1 {
        return choices.remove(0);
    }
    Argument {
        name: names(&choices),
        token: None,
        shape: Shape::OneOf(choices),
        optional: false,
        multiple: false,
    }
}

/// One argument of several.
fn join(mut items: Vec<Argument>) -> Argument {
    assert!(!items.is_empty(), "empty brackets");
    if items.len() == 1 {
        return items.remove(0);
    }
    Argument {
        name: names(&items),
        token: None,
        shape: Shape::Block(items),
        optional: false,
        multiple: false,
    }
}

/// Whether the group says that the items before it may come again; then they become one multiple
/// argument.
fn repeats(items: &mut Vec<Argument>, group: &Argument) -> bool {
    let once = Argument { multiple: false, ..group.clone() };
    let parts = match &once.shape {
        Shape::Block(parts) if once.token.is_none() => parts.clone(),
        _ => vec![once.clone()],
    };
    if !items.ends_with(&parts) {
        return false;
    }
    items.truncate(items.len() - parts.len());
    items.push(group.clone());
    true
}

fn names(items: &[Argument]) -> String {
    items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree, written with `?` for optional, `*` for multiple.
    fn show(argument: &Argument) -> String {
        let all = |parts: &[Argument], between| parts.iter().map(show).collect::<Vec<_>>().join(between);
        let body = match &argument.shape {
            Shape::Value => argument.name.clone(),
            Shape::Token => String::new(),
            Shape::OneOf(choices) => format!("({})", all(choices, "|")),
            Shape::Block(parts) => format!("({})", all(parts, " ")),
        };
        let token = argument.token.map(|token| format!("'{token}'")).unwrap_or_default();
        let optional = if argument.optional { "?" } else { "" };
        let multiple = if argument.multiple { "*" } else { "" };
        format!("{token}{body}{optional}{multiple}")
    }

    fn check(syntax: &'static str, tree: &str, counts: (usize, bool)) {
        let arguments = parse(syntax);
        assert_eq!(arguments.iter().map(show).collect::<Vec<_>>().join(" "), tree, "{syntax}");
        assert_eq!(count(&arguments), counts, "{syntax}");
    }

    #[test]
    fn reads_the_notation() {
        check("", "", (0, false));
        check("key value", "key value", (2, false));
        check("[message]", "message?", (0, true));
        check("key [key ...]", "key*", (1, true));
        check("key value [key value ...]", "(key value)*", (2, true));
        check("[channel [channel ...]]", "channel?*", (0, true));
        check("subcommand [argument ...]", "subcommand argument?*", (1, true));
        check("[username] password", "username? password", (1, true));
        check("<ON | OFF | SKIP>", "('ON'|'OFF'|'SKIP')", (1, false));
        check("<LIB-NAME name | LIB-VER version>", "('LIB-NAME'name|'LIB-VER'version)", (2, false));
        check(
            "key value [NX | XX] [GET] [EX seconds | KEEPTTL]",
            "key value ('NX'|'XX')? 'GET'? ('EX'seconds|'KEEPTTL')?",
            (2, true),
        );
        check(
            "[protover [AUTH username password] [SETNAME clientname]]",
            "(protover 'AUTH'(username password)? 'SETNAME'clientname?)?",
            (0, true),
        );
        check(
            "[TYPE <NORMAL | PUBSUB>] [ID client-id [client-id ...]]",
            "'TYPE'('NORMAL'|'PUBSUB')? 'ID'client-id?*",
            (0, true),
        );
        check(
            "<ip:port | <ID client-id | SKIPME yes/no> ...>",
            "(ip:port|('ID'client-id|'SKIPME'yes/no)*)",
            (1, true),
        );
    }
}
