//! A history as text: one JSON object a line, one line an event, in the order of time.
//!
//! ```text
//! {"ns":1000,"invoke":0,"client":1,"node":"n1","guards":[["a",null]],"commands":[["SET","a","1"],["INCR","b"]]}
//! {"ns":2000,"return":0,"ok":["OK",3],"revision":17}
//! {"ns":2000,"return":1,"fail":"CLUSTERDOWN no leader"}
//! {"ns":2000,"return":2,"info":"connection reset"}
//! {"ns":3000,"fault":0,"class":"kill","target":"n2"}
//! {"ns":4000,"end":0}
//! {"ns":5000,"subscriber":4,"channel":"c","message":null}
//! ```
//!
//! Each fault and each invocation has a number, by which its end refers to it. A message of null is the confirmed
//! subscription. Objects are never nested.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};

use super::history::{Delivery, Fault, History, Operation, Outcome, Request, Returned, Value};

impl History {
    /// Writes all events.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        let mut lines = Vec::new();
        for (number, operation) in self.operations.iter().enumerate() {
            lines.push((operation.invoked_ns, invocation(number, operation)));
            if let Some(returned) = &operation.returned {
                lines.push((returned.ns, end(number, returned)));
            }
        }
        for (number, fault) in self.faults.iter().enumerate() {
            let mut line = Line::new(fault.begin_ns);
            line.field("fault", &int(number as u64));
            line.field("class", &Value::text(&fault.class));
            line.field("target", &Value::text(&fault.target));
            lines.push((fault.begin_ns, line.end()));
            if let Some(ns) = fault.end_ns {
                let mut line = Line::new(ns);
                line.field("end", &int(number as u64));
                lines.push((ns, line.end()));
            }
        }
        for delivery in &self.deliveries {
            let mut line = Line::new(delivery.ns);
            line.field("subscriber", &int(delivery.subscriber));
            line.field("channel", &Value::text(&delivery.channel));
            line.field("message", &delivery.message.as_ref().map_or(Value::Nil, Value::text));
            lines.push((delivery.ns, line.end()));
        }
        // Stable: what stands under one time keeps its order.
        lines.sort_by_key(|(ns, _)| *ns);
        lines.iter().try_for_each(|(_, line)| to.write_all(line.as_bytes()))
    }

    /// Reads what [`Self::write`] wrote. Operations and faults come in the order of their numbers.
    pub fn read(from: impl BufRead) -> io::Result<Self> {
        let mut operations: Vec<Option<Operation>> = Vec::new();
        let mut faults: Vec<Option<Fault>> = Vec::new();
        let mut deliveries = Vec::new();
        for (number, line) in from.lines().enumerate() {
            let line = line?;
            let read = Fields::parse(&line).and_then(|fields| {
                fields.event(&mut operations, &mut faults, &mut deliveries).ok_or("an event without sense")
            });
            let at = |what: &str| {
                io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {what}", number + 1))
            };
            read.map_err(at)?;
        }
        let operations = operations.into_iter().flatten().collect();
        let faults = faults.into_iter().flatten().collect();
        Ok(Self { operations, faults, deliveries })
    }
}

fn invocation(number: usize, operation: &Operation) -> String {
    let mut line = Line::new(operation.invoked_ns);
    line.field("invoke", &int(number as u64));
    line.field("client", &int(operation.client));
    line.field("node", &Value::text(&operation.node));
    let guard = |(key, seen): &(String, Value)| Value::List(vec![Value::text(key), seen.clone()]);
    let guards: Vec<_> = operation.request.guards.iter().map(guard).collect();
    if !guards.is_empty() {
        line.field("guards", &Value::List(guards));
    }
    let words = |words: &Vec<String>| Value::List(words.iter().map(Value::text).collect());
    line.field("commands", &Value::List(operation.request.commands.iter().map(words).collect()));
    line.end()
}

fn end(number: usize, returned: &Returned) -> String {
    let mut line = Line::new(returned.ns);
    line.field("return", &int(number as u64));
    match &returned.outcome {
        Outcome::Ok(value) => line.field("ok", value),
        Outcome::Fail(why) => line.field("fail", &Value::text(why)),
        Outcome::Info(why) => line.field("info", &Value::text(why)),
    }
    if let Some(revision) = returned.revision {
        line.field("revision", &int(revision));
    }
    line.end()
}

fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).expect("numbers and nanoseconds fit into 63 bits"))
}

/// A line that is being written.
struct Line(String);

impl Line {
    fn new(ns: u64) -> Self {
        Self(format!("{{\"ns\":{ns}"))
    }

    fn field(&mut self, name: &str, value: &Value) {
        let _ = write!(self.0, ",\"{name}\":");
        write_value(&mut self.0, value);
    }

    fn end(self) -> String {
        self.0 + "}\n"
    }
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Nil => text.push_str("null"),
        Value::Int(number) => text.push_str(&number.to_string()),
        Value::Text(string) => {
            text.push('"');
            for c in string.chars() {
                match c {
                    '"' | '\\' => text.extend(['\\', c]),
                    '\0'..' ' => {
                        let _ = write!(text, "\\u{:04x}", u32::from(c));
                    }
                    _ => text.push(c),
                }
            }
            text.push('"');
        }
        Value::List(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write_value(text, item);
            }
            text.push(']');
        }
    }
}

/// A line that was read.
struct Fields(Vec<(String, Value)>);

impl Fields {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let mut rest = Rest(line);
        let mut fields = Vec::new();
        rest.expect('{')?;
        loop {
            let Value::Text(name) = rest.value()? else { return Err("a name that is no text") };
            rest.expect(':')?;
            fields.push((name, rest.value()?));
            if !rest.take(',') {
                break;
            }
        }
        rest.expect('}')?;
        if rest.0.is_empty() { Ok(Self(fields)) } else { Err("more than one object") }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// Puts the event where it belongs. Nothing if it says too little, or refers to what is not there.
    fn event(
        &self,
        operations: &mut Vec<Option<Operation>>,
        faults: &mut Vec<Option<Fault>>,
        deliveries: &mut Vec<Delivery>,
    ) -> Option<()> {
        let ns = self.number("ns")?;
        if let Some(number) = self.number("invoke") {
            *slot(operations, number)? = Some(Operation {
                client: self.number("client")?,
                node: self.text("node")?,
                request: self.request()?,
                invoked_ns: ns,
                returned: None,
            });
        } else if let Some(number) = self.number("return") {
            let operation = slot(operations, number)?.as_mut()?;
            let outcome = match (self.get("ok"), self.text("fail"), self.text("info")) {
                (Some(value), None, None) => Outcome::Ok(value.clone()),
                (None, Some(why), None) => Outcome::Fail(why),
                (None, None, Some(why)) => Outcome::Info(why),
                _ => return None,
            };
            operation.returned = Some(Returned { ns, outcome, revision: self.number("revision") });
        } else if let Some(number) = self.number("fault") {
            let (class, target) = (self.text("class")?, self.text("target")?);
            *slot(faults, number)? = Some(Fault { class, target, begin_ns: ns, end_ns: None });
        } else if let Some(number) = self.number("end") {
            slot(faults, number)?.as_mut()?.end_ns = Some(ns);
        } else {
            let (subscriber, channel) = (self.number("subscriber")?, self.text("channel")?);
            let message = match self.get("message")? {
                Value::Nil => None,
                Value::Text(message) => Some(message.clone()),
                _ => return None,
            };
            deliveries.push(Delivery { ns, subscriber, channel, message });
        }
        Some(())
    }

    fn request(&self) -> Option<Request> {
        let mut request = Request::default();
        if let Some(guards) = self.get("guards") {
            let Value::List(guards) = guards else { return None };
            for guard in guards {
                let Value::List(guard) = guard else { return None };
                let [Value::Text(key), seen] = guard.as_slice() else { return None };
                request.guards.push((key.clone(), seen.clone()));
            }
        }
        let Value::List(commands) = self.get("commands")? else { return None };
        for words in commands {
            request.commands.push(words.texts()?.into_iter().map(str::to_owned).collect());
        }
        Some(request)
    }
}

/// The most lines that are read: a damaged number must not take all memory.
const NUMBER_MAX: u64 = 1 << 28;

fn slot<T: Clone>(slots: &mut Vec<Option<T>>, number: u64) -> Option<&mut Option<T>> {
    let number = usize::try_from(number).ok().filter(|_| number < NUMBER_MAX)?;
    if slots.len() <= number {
        slots.resize(number + 1, None);
    }
    slots.get_mut(number)
}

/// What is left of a line.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn take(&mut self, c: char) -> bool {
        self.0.strip_prefix(c).map(|rest| self.0 = rest).is_some()
    }

    fn expect(&mut self, c: char) -> Result<(), &'static str> {
        if self.take(c) { Ok(()) } else { Err("not JSON as it is written here") }
    }

    /// Lists are nested as deep as replies are: not very.
    fn value(&mut self) -> Result<Value, &'static str> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Result<Value, &'static str> {
        if let Some(rest) = self.0.strip_prefix("null") {
            self.0 = rest;
            return Ok(Value::Nil);
        }
        if self.take('"') {
            return self.text().map(Value::Text);
        }
        if self.take('[') {
            if depth > 16 {
                return Err("lists nested too deep");
            }
            let mut items = Vec::new();
            while !self.take(']') {
                if !items.is_empty() {
                    self.expect(',')?;
                }
                items.push(self.value_at(depth + 1)?);
            }
            return Ok(Value::List(items));
        }
        let is_digit = |c: char| c.is_ascii_digit() || c == '-';
        let (number, rest) = self.0.split_at(self.0.find(|c| !is_digit(c)).unwrap_or(self.0.len()));
        self.0 = rest;
        number.parse().map(Value::Int).map_err(|_| "not a number")
    }

    fn text(&mut self) -> Result<String, &'static str> {
        let mut text = String::new();
        let mut chars = self.0.chars();
        loop {
            match chars.next().ok_or("a text that does not end")? {
                '"' => break,
                '\\' => match chars.next() {
                    Some(c @ ('"' | '\\')) => text.push(c),
                    Some('u') => {
                        let digits = chars.by_ref().take(4).collect::<String>();
                        let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                        text.push(code.ok_or("not an escaped character")?);
                    }
                    _ => return Err("an escape that is not written here"),
                },
                c => text.push(c),
            }
        }
        self.0 = chars.as_str();
        Ok(text)
    }
}
