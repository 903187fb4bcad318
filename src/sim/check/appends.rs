//! Lists that are only appended to, by transactions on several keys: is there one order of the transactions, in real
//! time, too?
//!
//! RPUSH of one element and LRANGE key 0 -1, alone or several as a transaction. Each element is appended once, so that a
//! list tells in which order its elements came: the method of Elle (Kingsbury and Alvaro 2020). Transactions are nodes
//! of a graph; an edge says that one must have come before another:
//!
//! - *ww*: the other appended behind it, *wr*: the other read what it appended, *rw*: it read before the other appended;
//! - *rt*: it was over before the other was sent.
//!
//! A cycle cannot be put in order. It is named as in the literature (Adya 1999): G0 of ww only, G1c of ww and wr,
//! G-single with one rw, G2 with several; `-realtime` with rt among them, which is a serializable history that is stale. What
//! needs no graph is found first: elements that nobody appended, G1a (an element whose transaction failed), G1b
//! (only some of the elements that another transaction appended), lists that are not prefixes of one another, a
//! transaction that does not see what it did itself.
//!
//! Where no outcome is unknown, the check is exact. Elements of unknown outcome that nobody ever saw are taken to be in no
//! order, so it is lenient with them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::Verdict;
use super::cycles::Graph;
use super::history::{Operation, Value};

/// Whether the transactions are strictly serializable. A command that is not of this model, or an element that is
/// appended twice, leads to no verdict.
#[must_use]
pub fn check(operations: &[Operation]) -> Verdict {
    let mut transactions = Vec::new();
    for operation in operations {
        match steps(operation) {
            Some(steps) => transactions.push(Transaction { operation, steps }),
            None => return Verdict::Undecided(format!("not appends and reads of lists: {operation}")),
        }
    }
    let mut lists = Lists { transactions: &transactions, keys: HashMap::new() };
    if let Err(twice) = lists.find_writers() {
        return Verdict::Undecided(twice);
    }
    let checked = lists.find_places().and_then(|()| lists.find_intermediate());
    Verdict::from(checked.and_then(|()| lists.find_holes()).and_then(|()| lists.find_cycle()))
}

/// What a transaction does to one key. What it saw is known if its outcome is.
enum Step<'a> {
    /// It appended an element, after which the list had so many.
    Append(&'a str, &'a str, Option<i64>),
    Read(&'a str, Option<Vec<&'a str>>),
}

struct Transaction<'a> {
    operation: &'a Operation,
    steps: Vec<Step<'a>>,
}

fn steps(operation: &Operation) -> Option<Vec<Step<'_>>> {
    let request = &operation.request;
    let replies = match operation.answer() {
        Some((reply, _)) => Some(request.replies(reply)?),
        None => None,
    };
    let step = |(i, words): (usize, &'_ Vec<String>)| {
        let reply = replies.map(|replies| &replies[i]);
        let words =
            operation.request.commands[i].iter().map(String::as_str).take(words.len()).collect::<Vec<_>>();
        match (words.as_slice(), reply) {
            (["RPUSH", key, element], None) => Some(Step::Append(key, element, None)),
            (["RPUSH", key, element], Some(Value::Int(length))) => {
                Some(Step::Append(key, element, Some(*length)))
            }
            (["LRANGE", key, "0", "-1"], None) => Some(Step::Read(key, None)),
            (["LRANGE", key, "0", "-1"], Some(reply)) => Some(Step::Read(key, Some(reply.texts()?))),
            _ => None,
        }
    };
    request.commands.iter().enumerate().map(step).collect::<Option<_>>().filter(|_| request.guards.is_empty())
}

/// Why one transaction comes before another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge<'a> {
    Ww(&'a str),
    Wr(&'a str),
    Rw(&'a str),
    Rt,
}

/// What is known of a key.
#[derive(Default)]
struct Key<'a> {
    /// Who appends each element, and whether it appends another one later.
    writers: HashMap<&'a str, (usize, bool)>,
    /// The element at each place, and who saw it there first.
    places: Vec<Option<(&'a str, usize)>>,
    place_of: HashMap<&'a str, usize>,
}

struct Lists<'a> {
    transactions: &'a [Transaction<'a>],
    keys: HashMap<&'a str, Key<'a>>,
}

impl<'a> Lists<'a> {
    fn find_writers(&mut self) -> Result<(), String> {
        for (number, transaction) in self.transactions.iter().enumerate() {
            let mut last: HashMap<&str, &str> = HashMap::new();
            for step in &transaction.steps {
                let Step::Append(name, element, _) = step else { continue };
                let key = self.keys.entry(name).or_default();
                match key.writers.entry(element) {
                    Entry::Occupied(_) => return Err(format!("{element} is appended to {name} twice")),
                    Entry::Vacant(entry) => entry.insert((number, false)),
                };
                if let Some(before) = last.insert(name, element)
                    && let Some(writer) = key.writers.get_mut(before)
                {
                    writer.1 = true;
                }
            }
        }
        Ok(())
    }

    /// Puts every element that was seen at its place.
    fn find_places(&mut self) -> Result<(), String> {
        for (number, transaction) in self.transactions.iter().enumerate() {
            // How long the lists are for the transaction, as far as it knows.
            let mut lengths: HashMap<&str, usize> = HashMap::new();
            for step in &transaction.steps {
                let (name, length) = match step {
                    Step::Append(name, element, Some(length)) => {
                        let Some(before) =
                            usize::try_from(*length).ok().and_then(|length| length.checked_sub(1))
                        else {
                            return Err(format!("{name}: no length:\n    {}\n", transaction.operation));
                        };
                        self.place(name, before, element, number)?;
                        let known = lengths.insert(name, before + 1);
                        (name, known.is_none_or(|known| known == before))
                    }
                    Step::Read(name, Some(elements)) => {
                        for (place, element) in elements.iter().enumerate() {
                            self.place(name, place, element, number)?;
                        }
                        let before = lengths.insert(name, elements.len());
                        (name, before.is_none_or(|before| before == elements.len()))
                    }
                    Step::Append(_, _, None) | Step::Read(_, None) => continue,
                };
                if !length {
                    return Err(format!(
                        "{name}: a transaction does not see what it did itself:\n    {}\n",
                        transaction.operation
                    ));
                }
            }
        }
        Ok(())
    }

    fn place(&mut self, name: &'a str, place: usize, element: &'a str, by: usize) -> Result<(), String> {
        let reader = self.transactions[by].operation;
        let key = self.keys.entry(name).or_default();
        let Some((writer, _)) = key.writers.get(element) else {
            return Err(format!("{name}: {element} was read, which nobody appended:\n    {reader}\n"));
        };
        let writer = self.transactions[*writer].operation;
        if writer.has_failed() {
            return Err(format!("{name}: G1a, an aborted read:\n    {writer}\n    {reader}\n"));
        }
        if key.places.len() <= place {
            key.places.resize(place + 1, None);
        }
        let other = *key.places[place].get_or_insert((element, by));
        let known = *key.place_of.entry(element).or_insert(place);
        if other.0 == element && known == place {
            return Ok(());
        }
        // Whoever saw something else there, or saw the element elsewhere.
        let witness = if other.0 == element { key.places[known].map_or(by, |(_, by)| by) } else { other.1 };
        let witness = self.transactions[witness].operation;
        Err(format!(
            "{name}: two lists of which none is the other's beginning:\n    {witness}\n    {reader}\n"
        ))
    }

    /// Places that nobody saw are those of unknown outcomes, of which there must be enough.
    fn find_holes(&self) -> Result<(), String> {
        for (name, key) in &self.keys {
            let holes = key.places.iter().filter(|place| place.is_none()).count();
            let unknown = key.writers.iter().filter(|(element, (writer, _))| {
                self.transactions[*writer].operation.is_unknown() && !key.place_of.contains_key(*element)
            });
            if unknown.count() < holes {
                let last = key.places.iter().flatten().next_back().map_or(0, |(_, by)| *by);
                let witness = self.transactions[last].operation;
                return Err(format!(
                    "{name}: the list is longer than what was appended to it:\n    {witness}\n"
                ));
            }
        }
        Ok(())
    }

    /// Nobody sees a transaction half done.
    fn find_intermediate(&self) -> Result<(), String> {
        for (number, transaction) in self.transactions.iter().enumerate() {
            for step in &transaction.steps {
                let Step::Read(name, Some(elements)) = step else { continue };
                let Some(last) = elements.last() else { continue };
                let (writer, more) = self.keys[name].writers[last];
                if more && writer != number {
                    let writer = self.transactions[writer].operation;
                    let reader = transaction.operation;
                    return Err(format!("{name}: G1b, an intermediate read:\n    {writer}\n    {reader}\n"));
                }
            }
        }
        Ok(())
    }

    fn find_cycle(&self) -> Result<(), String> {
        let graph = self.graph();
        for with_time in [false, true] {
            let timely = |edge| with_time || edge != Edge::Rt;
            let ww = |edge| timely(edge) && matches!(edge, Edge::Ww(_) | Edge::Rt);
            let wr = |edge| timely(edge) && !matches!(edge, Edge::Rw(_));
            let suffix = if with_time { "-realtime" } else { "" };
            self.cycle_of(&graph, &format!("G0{suffix}"), ww)?;
            self.cycle_of(&graph, &format!("G1c{suffix}"), wr)?;
            // One edge rw, and a way back without any.
            for component in graph.components(timely) {
                for &node in &component {
                    for (to, edge) in graph.edges(node).filter(|(_, edge)| matches!(edge, Edge::Rw(_))) {
                        if let Some(back) = graph.path(to, node, wr) {
                            let cycle = std::iter::once((node, edge)).chain(back).collect::<Vec<_>>();
                            return Err(self.describe(&format!("G-single{suffix}"), &cycle));
                        }
                    }
                }
            }
            self.cycle_of(&graph, &format!("G2{suffix}"), timely)?;
        }
        Ok(())
    }

    fn graph(&self) -> Graph<Edge<'a>> {
        let mut graph = Graph::new(self.transactions.len());
        for (name, key) in &self.keys {
            let order =
                key.places.iter().flatten().map(|(element, _)| key.writers[element].0).collect::<Vec<_>>();
            for pair in order.windows(2) {
                graph.add_edge(pair[0], pair[1], Edge::Ww(name));
            }
        }
        for (number, transaction) in self.transactions.iter().enumerate() {
            for step in &transaction.steps {
                let Step::Read(name, Some(elements)) = step else { continue };
                let Some(key) = self.keys.get(name) else { continue };
                if let Some(last) = elements.last() {
                    graph.add_edge(key.writers[last].0, number, Edge::Wr(name));
                }
                let behind = key.places.iter().skip(elements.len()).flatten().next();
                if let Some((element, _)) = behind {
                    graph.add_edge(number, key.writers[element].0, Edge::Rw(name));
                }
            }
        }
        self.add_time(&mut graph);
        graph
    }

    /// Edges by time, through a node for each end: so there are as many as transactions, not their square.
    fn add_time(&self, graph: &mut Graph<Edge<'a>>) {
        let mut events = Vec::new();
        for (number, Transaction { operation, .. }) in self.transactions.iter().enumerate() {
            if !operation.has_failed() {
                events.push((operation.invoked_ns, false, number));
            }
            if let Some((_, ns)) = operation.answer() {
                events.push((ns, true, number));
            }
        }
        // Who was sent when another was answered did not come after it.
        events.sort_unstable();
        let mut barrier = None;
        for (_, is_end, number) in events {
            if is_end {
                let next = graph.add_node();
                graph.add_edge(number, next, Edge::Rt);
                if let Some(barrier) = barrier {
                    graph.add_edge(barrier, next, Edge::Rt);
                }
                barrier = Some(next);
            } else if let Some(barrier) = barrier {
                graph.add_edge(barrier, number, Edge::Rt);
            }
        }
    }

    /// An error that shows a short cycle of such edges, if there is one.
    fn cycle_of(
        &self,
        graph: &Graph<Edge<'a>>,
        name: &str,
        follow: impl Fn(Edge<'a>) -> bool + Copy,
    ) -> Result<(), String> {
        /// From how many places the shortest cycle is looked for.
        const STARTS: usize = 50;
        let Some(component) = graph.components(follow).into_iter().next() else { return Ok(()) };
        let around = |&node: &usize| {
            let out = graph.edges(node).filter(|(_, edge)| follow(*edge));
            let cycle = |(to, edge)| {
                let back = graph.path(to, node, follow)?;
                Some(std::iter::once((node, edge)).chain(back).collect::<Vec<_>>())
            };
            out.filter_map(cycle).min_by_key(Vec::len)
        };
        let cycles = component.iter().take(STARTS).filter_map(around);
        let shortest = cycles.min_by_key(Vec::len).expect("its nodes reach each other");
        Err(self.describe(name, &shortest))
    }

    fn describe(&self, name: &str, cycle: &[(usize, Edge<'a>)]) -> String {
        let mut text =
            format!("{name}: each of these comes before the next one, and the last before the first:\n");
        // The nodes of time are no transactions, and begin nothing that is shown.
        for (node, edge) in cycle.iter().filter(|(node, _)| *node < self.transactions.len()) {
            let why = match edge {
                Edge::Ww(key) => format!("ww, the next one appended to {key} behind it"),
                Edge::Wr(key) => format!("wr, the next one saw what it appended to {key}"),
                Edge::Rw(key) => format!("rw, it did not see what the next one appended to {key}"),
                Edge::Rt => "rt, it was over before the next one was sent".to_owned(),
            };
            text += &format!("    {}\n      {why}\n", self.transactions[*node].operation);
        }
        text
    }
}
