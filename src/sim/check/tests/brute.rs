//! The search beside one that tries every order, on thousands of small histories of a real object: with all answers
//! as they were, with one falsified, and with unknown outcomes among them.

use proptest::prelude::*;

use super::super::Verdict;
use super::super::history::{History, Operation, Outcome, Request, Value};
use super::super::object::Object;
use super::super::revisions::{self, Log, Logged};
use super::super::search::STATES_MAX;
use super::super::{appends, sets, strings};
use super::Dice;

/// Whether any order of the operations that are `left` explains their answers, from `object` on.
fn explained(operations: &[Operation], left: &mut Vec<usize>, object: &Object) -> bool {
    if left.iter().all(|&at| operations[at].is_unknown()) {
        return true;
    }
    for place in 0..left.len() {
        let operation = &operations[left[place]];
        if left.iter().any(|&other| operations[other].is_before(operation)) {
            continue;
        }
        let mut after = object.clone();
        let reply = after.serve(&operation.request);
        if operation.answer().is_none_or(|(answer, _)| reply.as_ref() == Ok(answer)) {
            let taken = left.remove(place);
            let is_explained = explained(operations, left, &after);
            left.insert(place, taken);
            if is_explained {
                return true;
            }
        }
    }
    false
}

fn brute(history: &History) -> bool {
    let mut left = (0..history.operations.len()).filter(|&at| !history.operations[at].has_failed()).collect();
    explained(&history.operations, &mut left, &Object::default())
}

/// What the clients do to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Register,
    Counter,
    Transactions,
    Set,
    Lists,
}

const KINDS: [Kind; 5] = [Kind::Register, Kind::Counter, Kind::Transactions, Kind::Set, Kind::Lists];

impl Kind {
    fn check(self, history: &History) -> Verdict {
        match self {
            Self::Set => sets::check(&history.operations),
            Self::Lists => appends::check(&history.operations),
            _ => strings::check(&history.operations, STATES_MAX),
        }
    }

    /// A request, the `number`th.
    fn request(self, dice: &mut Dice, object: &mut Object, number: usize) -> Request {
        let register = |dice: &mut Dice, key: &str| {
            let (new, old) = (dice.below(3).to_string(), dice.below(3).to_string());
            match dice.below(6) {
                0 | 1 => Request::of(&["GET", key]),
                2 => Request::of(&["SET", key, &new, "IFEQ", &old]),
                3 => Request::of(&["SET", key, &new, "NX"]),
                4 => Request::of(&["DEL", key]),
                _ => Request::of(&["SET", key, &new]),
            }
        };
        let list = |dice: &mut Dice, step: u64| {
            let key = ["a", "b"][dice.below(2) as usize];
            if dice.one_in(2) {
                Request::of(&["LRANGE", key, "0", "-1"])
            } else {
                Request::of(&["RPUSH", key, &format!("{number}.{step}")])
            }
        };
        let steps = 1 + dice.below(2);
        let all = |requests: Vec<Request>| Request {
            commands: requests.into_iter().flat_map(|request| request.commands).collect(),
            guards: Vec::new(),
        };
        match self {
            Self::Register => register(dice, "k"),
            Self::Counter => Request::of(&[if dice.one_in(3) { "GET" } else { "INCR" }, "n"]),
            Self::Transactions => {
                let on_either = |_| {
                    let key = ["a", "b"][dice.below(2) as usize];
                    register(dice, key)
                };
                let several = all((0..steps).map(on_either).collect());
                match object.serve(&Request::of(&["GET", "a"])) {
                    Ok(held) if dice.one_in(3) => several.guarded("a", held),
                    _ => several,
                }
            }
            Self::Set if dice.one_in(2) => Request::of(&["SMEMBERS", "s"]),
            Self::Set => Request::of(&["SADD", "s", &number.to_string()]),
            Self::Lists => all((0..steps).map(|step| list(dice, step)).collect()),
        }
    }
}

/// What some clients of the object see, each operation taking effect somewhere between its beginning and its end; and
/// what took effect.
fn execution(dice: &mut Dice, kind: Kind, clients: u64, operations: usize) -> (History, Log) {
    let mut history = History::default();
    let mut object = Object::default();
    let mut log = Log::new();
    let mut revision = 0;
    let mut serve = |object: &mut Object, request: &Request| {
        let reply = object.serve(request);
        if reply.as_ref().is_ok_and(|reply| revisions::has_effect(request, reply)) {
            revision += 1;
            log.insert(revision, Logged { request: Some(request.clone()), ..Logged::default() });
        }
        (reply, revision)
    };
    // What each client waits for: an operation, and its reply once it took effect.
    let mut waiting = vec![None; clients as usize];
    // Those of unknown outcome, which take effect later or never.
    let mut lost: Vec<usize> = Vec::new();
    let mut ns = 0;
    while history.operations.len() < operations || waiting.iter().any(Option::is_some) {
        ns += dice.below(2);
        if dice.one_in(3)
            && let Some(operation) = lost.pop()
        {
            let _ = serve(&mut object, &history.operations[operation].request);
        }
        let client = dice.below(clients);
        match waiting[client as usize].take() {
            None if history.operations.len() < operations => {
                let request = kind.request(dice, &mut object, history.operations.len());
                waiting[client as usize] = Some((history.invoke(client, "n1", ns, request), None));
            }
            None => {}
            Some((operation, None)) if dice.one_in(8) => {
                history.complete(operation, ns, Outcome::Info("broken".into()));
                lost.push(operation);
            }
            Some((operation, None)) => {
                let reply = serve(&mut object, &history.operations[operation].request);
                waiting[client as usize] = Some((operation, Some(reply)));
            }
            Some((operation, Some((Ok(reply), revision)))) => {
                history.complete_at(operation, ns, Outcome::Ok(reply), Some(revision));
            }
            Some((operation, Some((Err(_), _)))) => {
                history.complete(operation, ns, Outcome::Fail("no".into()))
            }
        }
    }
    if kind == Kind::Set {
        let request = Request::of(&["SMEMBERS", "s"]);
        let last = history.invoke(1, "n1", ns + 1, request.clone());
        let (reply, revision) = serve(&mut object, &request);
        history.complete_at(last, ns + 2, Outcome::Ok(reply.expect("it is a set")), Some(revision));
    }
    (history, log)
}

/// Another reply than the one it had.
fn falsify(dice: &mut Dice, kind: Kind, history: &mut History) {
    let at = dice.below(history.operations.len() as u64) as usize;
    let is_single = history.operations[at].request.commands.len() == 1;
    let returned = history.operations[at].returned.as_mut().expect("all of them have ended");
    let lie = |dice: &mut Dice, value: &Value| match value {
        Value::List(items) => {
            let mut items = items.clone();
            match (kind, dice.below(3)) {
                (_, 0) => drop(items.pop()),
                (Kind::Set, _) => {
                    items.push(Value::text(dice.below(7).to_string()));
                    items.sort();
                }
                (_, 1) => items.reverse(),
                _ => items.push(Value::text(format!("{}.0", dice.below(7)))),
            }
            Value::List(items)
        }
        Value::Text(text) if text == "OK" => Value::Nil,
        Value::Int(number) => Value::Int(number + 1 - 2 * dice.below(2) as i64),
        Value::Nil => Value::text(["OK", "0", "1"][dice.below(3) as usize]),
        Value::Text(_) if dice.one_in(3) => Value::Nil,
        Value::Text(_) => Value::text(dice.below(3).to_string()),
    };
    returned.outcome = match &returned.outcome {
        Outcome::Ok(Value::List(replies)) if !is_single => {
            let mut replies = replies.clone();
            let place = dice.below(replies.len() as u64) as usize;
            replies[place] = lie(dice, &replies[place]);
            Outcome::Ok(Value::List(replies))
        }
        Outcome::Ok(Value::List(replies)) if kind == Kind::Transactions => {
            Outcome::Ok(Value::List(replies.iter().map(|reply| lie(dice, reply)).collect()))
        }
        Outcome::Ok(value) => Outcome::Ok(lie(dice, value)),
        // It was carried out after all, or may have been.
        Outcome::Info(why) => Outcome::Fail(why.clone()),
        Outcome::Fail(why) => Outcome::Info(why.clone()),
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_an_object_did_is_accepted_and_falsehoods_as_brute_force_finds(seed in 1..u64::MAX, kind in 0..KINDS.len()) {
        let (mut dice, kind) = (Dice(seed), KINDS[kind]);
        let (mut history, log) = execution(&mut dice, kind, 4, 7);
        prop_assert_eq!(kind.check(&history), Verdict::Accepted, "{:?}", history);
        prop_assert_eq!(revisions::check(&history.operations, Some(&log)), Verdict::Accepted, "{:?}", history);
        falsify(&mut dice, kind, &mut history);
        let expected = brute(&history);
        let verdict = kind.check(&history);
        // Lists of which nobody saw all are judged leniently.
        let is_lenient = kind == Kind::Lists && history.operations.iter().any(Operation::is_unknown);
        if !is_lenient || verdict != Verdict::Accepted {
            prop_assert_eq!(verdict == Verdict::Accepted, expected, "{:?}\n{:?}", verdict, history);
            prop_assert_eq!(verdict.is_violation(), !expected, "{:?}\n{:?}", verdict, history);
        }
        // What no order explains, the order of revisions does not explain either.
        let verdict = revisions::check(&history.operations, Some(&log));
        prop_assert!(expected || verdict.is_violation(), "{:?}", history);
    }
}

/// A property that nearly always accepts, or nearly always rejects, would show little.
#[test]
fn falsehoods_are_of_both_kinds() {
    for kind in KINDS {
        let mut counts = [0; 2];
        for seed in 1..=300 {
            let mut dice = Dice(seed * 0x9e37_79b9);
            let (mut history, _) = execution(&mut dice, kind, 4, 7);
            falsify(&mut dice, kind, &mut history);
            counts[usize::from(kind.check(&history) == Verdict::Accepted)] += 1;
        }
        assert!(counts.iter().all(|count| *count >= 10), "{kind:?}: {counts:?}");
    }
}
