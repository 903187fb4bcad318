//! What was asked, what was answered, and what was done to the servers meanwhile.
//!
//! Whoever records must take the time of an invocation before the request leaves, and that of a return after the answer
//! has come, on one monotonic clock for all clients. Then "before" is real time: one operation was over before another
//! was thought of.

use std::fmt;

/// A reply, as far as checkers care.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    Nil,
    Int(i64),
    Text(String),
    List(Vec<Self>),
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The texts of a list; nothing if it is anything else.
    #[must_use]
    pub fn texts<'a>(&'a self) -> Option<Vec<&'a str>> {
        let Self::List(items) = self else { return None };
        let text = |item: &'a Self| match item {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        };
        items.iter().map(text).collect()
    }
}

/// What a client asks for at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Keys that are watched, and what was seen in them: the commands are carried out only if they still hold that.
    /// So an optimistic transaction is its reads, each an operation of its own, then one operation with guards.
    pub guards: Vec<(String, Value)>,
    /// One command, or those of a transaction.
    pub commands: Vec<Vec<String>>,
}

impl Request {
    /// One command.
    #[must_use]
    pub fn of(words: &[&str]) -> Self {
        Self::transaction(&[words])
    }

    /// Commands that are carried out together. The reply is a list with an element for each, if there are several.
    #[must_use]
    pub fn transaction(commands: &[&[&str]]) -> Self {
        let owned = |words: &&[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Self { guards: Vec::new(), commands: commands.iter().map(owned).collect() }
    }

    /// The same, on condition that `key` holds `seen`.
    #[must_use]
    pub fn guarded(mut self, key: &str, seen: Value) -> Self {
        self.guards.push((key.to_owned(), seen));
        self
    }

    /// The keys it names: a command's first argument is its only key.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let guarded = self.guards.iter().map(|(key, _)| key.as_str());
        guarded.chain(self.commands.iter().filter_map(|words| Some(words.get(1)?.as_str())))
    }

    /// The reply to each command, out of the reply to all.
    #[must_use]
    pub fn replies<'a>(&self, reply: &'a Value) -> Option<&'a [Value]> {
        match reply {
            _ if self.commands.len() == 1 && self.guards.is_empty() => Some(std::slice::from_ref(reply)),
            Value::List(replies) if replies.len() == self.commands.len() => Some(replies),
            _ => None,
        }
    }
}

/// Why a request with guards failed if one of them did not hold.
pub const GIVEN_UP: &str = "a watched key was changed";

/// What a client knows in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out, with this reply.
    Ok(Value),
    /// It was not, and never will be.
    Fail(String),
    /// Nobody can know: it may have been carried out, or may still be.
    Info(String),
}

/// One request of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub client: u64,
    /// The node that it was sent to.
    pub node: String,
    pub request: Request,
    pub invoked_ns: u64,
    /// Absent if the history ended first, which is as good as [`Outcome::Info`].
    pub returned: Option<Returned>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    pub ns: u64,
    pub outcome: Outcome,
    /// The revision that the reply was computed at, where the server tells.
    pub revision: Option<u64>,
}

impl Operation {
    /// The reply, and when it came, if it was carried out for certain.
    #[must_use]
    pub fn answer(&self) -> Option<(&Value, u64)> {
        match self.returned.as_ref()? {
            Returned { ns, outcome: Outcome::Ok(value), .. } => Some((value, *ns)),
            _ => None,
        }
    }

    /// Whether it was not carried out for certain.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(self.returned, Some(Returned { outcome: Outcome::Fail(_), .. }))
    }

    /// Whether it was not carried out since a guard did not hold.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        matches!(&self.returned, Some(Returned { outcome: Outcome::Fail(why), .. }) if why == GIVEN_UP)
    }

    /// Whether nobody can know.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.answer().is_none() && !self.has_failed()
    }

    /// Whether it was over before the other was thought of. One of unknown outcome is never over.
    #[must_use]
    pub fn is_before(&self, other: &Self) -> bool {
        self.answer().is_some_and(|(_, ns)| ns < other.invoked_ns)
    }

    /// The revision it was computed at.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.returned.as_ref()?.revision
    }
}

/// Something that was done to the servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of thing: `kill`, `partition`. Coverage counts by it.
    pub class: String,
    /// To whom.
    pub target: String,
    pub begin_ns: u64,
    /// Absent if it lasted.
    pub end_ns: Option<u64>,
}

/// What a subscriber's connection met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub ns: u64,
    /// One connection: who connects again is another subscriber.
    pub subscriber: u64,
    pub channel: String,
    /// A message; absent when the subscription to the channel was confirmed.
    pub message: Option<String>,
}

/// Everything that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub operations: Vec<Operation>,
    pub faults: Vec<Fault>,
    /// In the order in which each subscriber met them.
    pub deliveries: Vec<Delivery>,
}

impl History {
    /// A request is about to be sent. Returns its number, for [`Self::complete`].
    pub fn invoke(&mut self, client: u64, node: &str, ns: u64, request: Request) -> usize {
        self.operations.push(Operation {
            client,
            node: node.to_owned(),
            request,
            invoked_ns: ns,
            returned: None,
        });
        self.operations.len() - 1
    }

    /// A request has ended.
    pub fn complete(&mut self, operation: usize, ns: u64, outcome: Outcome) {
        self.complete_at(operation, ns, outcome, None);
    }

    /// A request has ended, and the server told the revision.
    pub fn complete_at(&mut self, operation: usize, ns: u64, outcome: Outcome, revision: Option<u64>) {
        let operation = &mut self.operations[operation];
        assert!(operation.returned.is_none(), "{operation} ended twice");
        operation.returned = Some(Returned { ns, outcome, revision });
    }

    /// A fault begins. Returns its number, for [`Self::end_fault`].
    pub fn begin_fault(&mut self, ns: u64, class: &str, target: &str) -> usize {
        let (class, target) = (class.to_owned(), target.to_owned());
        self.faults.push(Fault { class, target, begin_ns: ns, end_ns: None });
        self.faults.len() - 1
    }

    /// A fault is over.
    pub fn end_fault(&mut self, fault: usize, ns: u64) {
        self.faults[fault].end_ns = Some(ns);
    }

    /// The operations all of whose keys begin with `prefix`, for a checker that understands those.
    #[must_use]
    pub fn on_keys(&self, prefix: &str) -> Vec<Operation> {
        let fits = |operation: &&Operation| operation.request.keys().all(|key| key.starts_with(prefix));
        self.operations.iter().filter(fits).cloned().collect()
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
        }
    }
}

impl fmt::Display for Operation {
    /// `client 3 on n1 [12.345 .. 13.001] SET k v -> OK`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} on {} [{} ..", self.client, self.node, Millis(self.invoked_ns))?;
        match self.returned.as_ref().filter(|_| !self.is_unknown()) {
            Some(returned) => write!(f, " {}]", Millis(returned.ns))?,
            None => f.write_str("]")?,
        }
        for (key, seen) in &self.request.guards {
            write!(f, " if {key}={seen}")?;
        }
        for (i, words) in self.request.commands.iter().enumerate() {
            write!(f, "{} {}", if i == 0 { "" } else { ";" }, words.join(" "))?;
        }
        match self.returned.as_ref().map(|returned| &returned.outcome) {
            Some(Outcome::Ok(value)) => write!(f, " -> {value}")?,
            Some(Outcome::Fail(why)) => write!(f, " -> not applied: {why}")?,
            Some(Outcome::Info(why)) => write!(f, " -> unknown: {why}")?,
            None => f.write_str(" -> unknown")?,
        }
        self.revision().map_or(Ok(()), |revision| write!(f, " at revision {revision}"))
    }
}

/// Nanoseconds as milliseconds with three decimals.
pub struct Millis(pub u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000_000, self.0 / 1_000 % 1_000)
    }
}
