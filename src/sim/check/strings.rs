//! Registers, counters, and transactions on several of them, as one model: keys that hold a text or a number.
//!
//! GET, EXISTS, SET with NX, XX, IFEQ or IFNE, DEL, DELIFEQ and the INCR family; alone, or several as a transaction,
//! which may be guarded by what was seen in watched keys. Keys that appear in one transaction are judged together, all
//! others alone.

use std::collections::{BTreeMap, HashMap};

use super::Verdict;
use super::history::{Operation, Value};
use super::model::{Call, Model};
use super::search::{Found, Stuck, search};

/// Whether the operations are linearizable, at not more than `states_max` positions for each group of keys. A command
/// that is not of this model leads to no verdict.
#[must_use]
pub fn check(operations: &[Operation], states_max: usize) -> Verdict {
    Verdict::all(groups(operations).into_values().map(|group| check_group(&group, states_max)))
}

/// The operations by groups of keys that have to do with each other, each under its first key. What failed for certain
/// is left out: if it had an effect, nobody will find a place for that.
fn groups(operations: &[Operation]) -> BTreeMap<&str, Vec<&Operation>> {
    // Each key's representative: another key of its group, and at last one that is its own.
    let mut parents: HashMap<&str, &str> = HashMap::new();
    fn root<'a>(parents: &HashMap<&'a str, &'a str>, mut key: &'a str) -> &'a str {
        while let Some(parent) = parents.get(key).filter(|parent| **parent != key) {
            key = parent;
        }
        key
    }
    let certain = operations.iter().filter(|operation| !operation.has_failed());
    for operation in certain.clone() {
        let mut first = None;
        for key in operation.request.keys() {
            let own = root(&parents, key);
            let other = *first.get_or_insert(own);
            let (low, high) = if own < other { (own, other) } else { (other, own) };
            parents.insert(low, low);
            parents.insert(high, low);
            first = Some(low);
        }
    }
    let mut groups: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in certain {
        let first = operation.request.keys().next().unwrap_or_default();
        groups.entry(root(&parents, first)).or_default().push(operation);
    }
    groups
}

fn check_group(operations: &[&Operation], states_max: usize) -> Verdict {
    let mut names = Names::default();
    let mut calls = Vec::new();
    for operation in operations {
        match names.call(operation) {
            Ok(call) => calls.push(call),
            Err(why) => return Verdict::Undecided(format!("{operation}: {why}")),
        }
    }
    let keys = names.keys.join(" ");
    let (found, states) = match names.keys.len() {
        1 => search(&OneKey(&names), &calls, states_max),
        _ => search(&Group(&names), &calls, states_max),
    };
    match found {
        Found::Order => Verdict::Accepted,
        Found::TooMany => Verdict::Undecided(format!("{keys}: gave up after {states} positions")),
        Found::Nothing(stuck) => Verdict::Violation(explain(&keys, operations, &stuck)),
    }
}

fn explain(keys: &str, operations: &[&Operation], stuck: &Stuck) -> String {
    let mut text = format!("{keys}: no order explains these answers. The best has {} of ", stuck.placed);
    text += &format!("{} operations; its last:\n", operations.len());
    for call in &stuck.last {
        text += &format!("    {}\n", operations[*call]);
    }
    text += &format!("which leads to {}. Then one of these would have to come next:\n", stuck.state);
    for call in &stuck.unplaced {
        text += &format!("    {}\n", operations[*call]);
    }
    text
}

/// What a key holds. A reply is one, too: OK is a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cell {
    #[default]
    Absent,
    Number(i64),
    /// One that is not a number, by its place among the names.
    Text(u32),
}

/// The reply to SET.
const OK: Cell = Cell::Text(0);
/// What no key can hold: the reply is an error, and nothing happens.
const ERROR: Cell = Cell::Text(u32::MAX);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
    IfEqual(Cell),
    IfNotEqual(Cell),
}

impl Condition {
    fn holds(self, cell: Cell) -> bool {
        match self {
            Self::Always => true,
            Self::IfAbsent => cell == Cell::Absent,
            Self::IfPresent => cell != Cell::Absent,
            Self::IfEqual(wanted) => cell == wanted,
            // As the server has it: a key that is not there equals nothing.
            Self::IfNotEqual(unwanted) => cell != unwanted,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Get,
    Exists,
    Set(Cell, Condition),
    Delete(Condition),
    Add(i64),
}

impl Command {
    /// The reply, and what the key holds then.
    fn run(self, cell: Cell) -> (Cell, Cell) {
        match self {
            Self::Get => (cell, cell),
            Self::Exists => (Cell::Number((cell != Cell::Absent).into()), cell),
            Self::Set(value, condition) if condition.holds(cell) => (OK, value),
            Self::Set(..) => (Cell::Absent, cell),
            Self::Delete(condition) if cell != Cell::Absent && condition.holds(cell) => {
                (Cell::Number(1), Cell::Absent)
            }
            Self::Delete(_) => (Cell::Number(0), cell),
            Self::Add(by) => match cell {
                Cell::Absent => (Cell::Number(by), Cell::Number(by)),
                Cell::Number(number) => {
                    number.checked_add(by).map_or((ERROR, cell), |sum| (Cell::Number(sum), Cell::Number(sum)))
                }
                Cell::Text(_) => (ERROR, cell),
            },
        }
    }

    /// Whether it changes nothing wherever this is its reply.
    fn is_read(self, reply: Option<Cell>) -> bool {
        match self {
            Self::Get | Self::Exists => true,
            Self::Set(..) => reply == Some(Cell::Absent),
            Self::Delete(_) => reply == Some(Cell::Number(0)),
            Self::Add(_) => false,
        }
    }
}

/// An operation with places of keys instead of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Op {
    guards: Vec<(usize, Cell)>,
    commands: Vec<(usize, Command)>,
    replies: Option<Vec<Cell>>,
}

/// The keys and texts of a group, each by a number.
struct Names {
    keys: Vec<String>,
    texts: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Default for Names {
    fn default() -> Self {
        let mut names = Self { keys: Vec::new(), texts: Vec::new(), numbers: HashMap::new() };
        assert_eq!(names.cell("OK"), OK);
        names
    }
}

impl Names {
    fn key(&mut self, key: &str) -> usize {
        self.keys.iter().position(|known| known == key).unwrap_or_else(|| {
            self.keys.push(key.to_owned());
            self.keys.len() - 1
        })
    }

    fn cell(&mut self, text: &str) -> Cell {
        // "+5" and "05" are texts: INCR takes neither.
        if let Some(number) = text.parse::<i64>().ok().filter(|number| number.to_string() == text) {
            return Cell::Number(number);
        }
        let next = u32::try_from(self.texts.len()).expect("fewer than 2^32 texts fit into memory");
        let number = *self.numbers.entry(text.to_owned()).or_insert(next);
        if number == next {
            self.texts.push(text.to_owned());
        }
        Cell::Text(number)
    }

    fn value(&mut self, value: &Value) -> Result<Cell, String> {
        match value {
            Value::Nil => Ok(Cell::Absent),
            Value::Int(number) => Ok(Cell::Number(*number)),
            Value::Text(text) => Ok(self.cell(text)),
            Value::List(_) => Err(format!("no string has the reply {value}")),
        }
    }

    fn call(&mut self, operation: &Operation) -> Result<Call<Op>, String> {
        let request = &operation.request;
        let mut op = Op { guards: Vec::new(), commands: Vec::new(), replies: None };
        for (key, seen) in &request.guards {
            let guard = (self.key(key), self.value(seen)?);
            op.guards.push(guard);
        }
        for words in &request.commands {
            let command = self.command(words).ok_or("not a command of this model")?;
            op.commands.push(command);
        }
        if let Some((reply, _)) = operation.answer() {
            let replies = request.replies(reply).ok_or("not a reply for each command")?;
            op.replies = Some(replies.iter().map(|reply| self.value(reply)).collect::<Result<_, _>>()?);
        }
        let returned_ns = operation.answer().map(|(_, ns)| ns);
        Ok(Call { op, invoked_ns: operation.invoked_ns, returned_ns })
    }

    fn command(&mut self, words: &[String]) -> Option<(usize, Command)> {
        let words = words.iter().map(String::as_str).collect::<Vec<_>>();
        let command = match words.as_slice() {
            ["GET", _] => Command::Get,
            ["EXISTS", _] => Command::Exists,
            ["SET", _, value] => Command::Set(self.cell(value), Condition::Always),
            ["SET", _, value, "NX"] => Command::Set(self.cell(value), Condition::IfAbsent),
            ["SET", _, value, "XX"] => Command::Set(self.cell(value), Condition::IfPresent),
            ["SET", _, value, "IFEQ", old] => {
                Command::Set(self.cell(value), Condition::IfEqual(self.cell(old)))
            }
            ["SET", _, value, "IFNE", old] => {
                Command::Set(self.cell(value), Condition::IfNotEqual(self.cell(old)))
            }
            ["DEL", _] => Command::Delete(Condition::Always),
            ["DELIFEQ", _, old] => Command::Delete(Condition::IfEqual(self.cell(old))),
            ["INCR", _] => Command::Add(1),
            ["DECR", _] => Command::Add(-1),
            ["INCRBY", _, by] => Command::Add(by.parse().ok()?),
            _ => return None,
        };
        Some((self.key(words[1]), command))
    }
}

/// Whether the commands, one after the other, have these replies. `cells` are changed as they go.
fn run(op: &Op, cells: &mut [Cell]) -> bool {
    let holds = op.guards.iter().all(|(key, seen)| cells[*key] == *seen);
    let Some(replies) = &op.replies else {
        if holds {
            for (key, command) in &op.commands {
                cells[*key] = command.run(cells[*key]).1;
            }
        }
        return true;
    };
    holds
        && op.commands.iter().zip(replies).all(|((key, command), expected)| {
            let (reply, cell) = command.run(cells[*key]);
            cells[*key] = cell;
            reply == *expected
        })
}

fn is_read(op: &Op) -> bool {
    let mut commands = op.commands.iter().enumerate();
    commands.all(|(i, (_, command))| command.is_read(op.replies.as_ref().map(|replies| replies[i])))
}

/// A key that has to do with no other.
struct OneKey<'a>(&'a Names);

impl Model for OneKey<'_> {
    type Op = Op;
    type State = Cell;

    fn start(&self) -> Cell {
        Cell::Absent
    }

    fn step(&self, state: &Cell, op: &Op) -> Option<Cell> {
        let mut cells = [*state];
        run(op, &mut cells).then_some(cells[0])
    }

    fn is_read(&self, op: &Op) -> bool {
        is_read(op)
    }

    fn describe(&self, state: &Cell) -> String {
        format!("{}={}", self.0.keys[0], describe(self.0, *state))
    }
}

/// Keys that appear in transactions together.
struct Group<'a>(&'a Names);

impl Model for Group<'_> {
    type Op = Op;
    type State = Vec<Cell>;

    fn start(&self) -> Vec<Cell> {
        vec![Cell::Absent; self.0.keys.len()]
    }

    fn step(&self, state: &Vec<Cell>, op: &Op) -> Option<Vec<Cell>> {
        let mut cells = state.clone();
        run(op, &mut cells).then_some(cells)
    }

    fn is_read(&self, op: &Op) -> bool {
        is_read(op)
    }

    fn describe(&self, state: &Vec<Cell>) -> String {
        let cell = |(key, cell): (&String, &Cell)| format!("{key}={}", describe(self.0, *cell));
        self.0.keys.iter().zip(state).map(cell).collect::<Vec<_>>().join(" ")
    }
}

fn describe(names: &Names, cell: Cell) -> String {
    match cell {
        Cell::Absent => "nothing".into(),
        Cell::Number(number) => number.to_string(),
        Cell::Text(number) => names.texts[number as usize].clone(),
    }
}
