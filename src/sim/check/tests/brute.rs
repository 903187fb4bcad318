//! The search beside one that tries every order, on thousands of small histories of a real object: with all answers
//! as they were, with one falsified, and with unknown outcomes among them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::Verdict;
use super::super::history::{History, Operation, Outcome, Request, Value};
use super::super::search::STATES_MAX;
use super::super::strings::check;
use super::Dice;

/// The object: keys and their texts, as Redis has them.
type Object = BTreeMap<String, String>;

/// Written apart from the checker's model on purpose.
fn execute(object: &mut Object, words: &[String]) -> Value {
    let key = words[1].clone();
    let held = object.get(&key).cloned();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["GET", _] => held.map_or(Value::Nil, Value::Text),
        ["DEL", _] => Value::Int(i64::from(object.remove(&key).is_some())),
        ["INCR", _] => {
            let number = held.map_or(0, |text| text.parse::<i64>().expect("a number")) + 1;
            object.insert(key, number.to_string());
            Value::Int(number)
        }
        ["SET", _, new, condition @ ..] => {
            let met = match condition {
                [] => true,
                ["NX"] => held.is_none(),
                ["IFEQ", old] => held.as_deref() == Some(old),
                other => panic!("{other:?}"),
            };
            if met {
                object.insert(key, (*new).to_owned());
            }
            if met { Value::text("OK") } else { Value::Nil }
        }
        other => panic!("{other:?}"),
    }
}

/// The reply to a request; nothing if its guards do not hold.
fn serve(object: &mut Object, request: &Request) -> Option<Value> {
    let seen = |key: &String| object.get(key).map_or(Value::Nil, |text| Value::text(text.as_str()));
    if request.guards.iter().any(|(key, wanted)| seen(key) != *wanted) {
        return None;
    }
    let mut replies = request.commands.iter().map(|words| execute(object, words)).collect::<Vec<_>>();
    Some(if replies.len() == 1 && request.guards.is_empty() {
        replies.remove(0)
    } else {
        Value::List(replies)
    })
}

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
        let reply = serve(&mut after, &operation.request);
        if operation.answer().is_none_or(|(answer, _)| reply.as_ref() == Some(answer)) {
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
    explained(&history.operations, &mut left, &Object::new())
}

/// A request of a kind.
fn request(dice: &mut Dice, kind: u64, object: &Object) -> Request {
    let register = |dice: &mut Dice, key: &str| {
        let (new, old) = (dice.below(3).to_string(), dice.below(3).to_string());
        match dice.below(6) {
            0 | 1 => vec!["GET".into(), key.into()],
            2 => vec!["SET".into(), key.into(), new, "IFEQ".into(), old],
            3 => vec!["SET".into(), key.into(), new, "NX".into()],
            4 => vec!["DEL".into(), key.into()],
            _ => vec!["SET".into(), key.into(), new],
        }
    };
    let mut request = Request::default();
    match kind {
        0 => request.commands.push(register(dice, "k")),
        1 if dice.one_in(3) => return Request::of(&["GET", "n"]),
        1 => return Request::of(&["INCR", "n"]),
        _ => {
            for _ in 0..1 + dice.below(2) {
                let key = ["a", "b"][dice.below(2) as usize];
                request.commands.push(register(dice, key));
            }
            if dice.one_in(3) {
                let held = object.get("a").map_or(Value::Nil, |text| Value::text(text.as_str()));
                request = request.guarded("a", held);
            }
        }
    }
    request
}

/// What some clients of the object see, each operation taking effect somewhere between its beginning and its end.
fn execution(dice: &mut Dice, kind: u64, clients: u64, operations: usize) -> History {
    let mut history = History::default();
    let mut object = Object::new();
    // What each client waits for: an operation, and its reply once it took effect.
    let mut waiting: Vec<Option<(usize, Option<Option<Value>>)>> = vec![None; clients as usize];
    // Those of unknown outcome, which take effect later or never.
    let mut lost: Vec<usize> = Vec::new();
    let mut ns = 0;
    while history.operations.len() < operations || waiting.iter().any(Option::is_some) {
        ns += dice.below(2);
        if dice.one_in(3)
            && let Some(operation) = lost.pop()
        {
            serve(&mut object, &history.operations[operation].request);
        }
        let client = dice.below(clients);
        match waiting[client as usize].take() {
            None if history.operations.len() < operations => {
                let request = request(dice, kind, &object);
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
            Some((operation, Some(reply))) => {
                let broken = Outcome::Fail("aborted".into());
                history.complete(operation, ns, reply.map_or(broken, Outcome::Ok));
            }
        }
    }
    history
}

/// Another reply than the one it had.
fn falsify(dice: &mut Dice, history: &mut History) {
    let at = dice.below(history.operations.len() as u64) as usize;
    let returned = history.operations[at].returned.as_mut().expect("all of them have ended");
    let lie = |dice: &mut Dice, value: &Value| match value {
        Value::Text(text) if text == "OK" => Value::Nil,
        Value::Int(number) => Value::Int(number + 1 - 2 * dice.below(2) as i64),
        Value::Nil => Value::text(["OK", "0", "1"][dice.below(3) as usize]),
        _ if dice.one_in(3) => Value::Nil,
        _ => Value::text(dice.below(3).to_string()),
    };
    returned.outcome = match &returned.outcome {
        Outcome::Ok(Value::List(replies)) => {
            let mut replies = replies.clone();
            let place = dice.below(replies.len() as u64) as usize;
            replies[place] = lie(dice, &replies[place]);
            Outcome::Ok(Value::List(replies))
        }
        Outcome::Ok(value) => Outcome::Ok(lie(dice, value)),
        // It was carried out after all, or may have been.
        Outcome::Info(why) => Outcome::Fail(why.clone()),
        Outcome::Fail(why) => Outcome::Info(why.clone()),
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_an_object_did_is_accepted_and_falsehoods_as_brute_force_finds(seed in 1..u64::MAX, kind in 0..3_u64) {
        let mut dice = Dice(seed);
        let mut history = execution(&mut dice, kind, 4, 7);
        prop_assert_eq!(check(&history.operations, STATES_MAX), Verdict::Accepted);
        falsify(&mut dice, &mut history);
        let expected = brute(&history);
        let verdict = check(&history.operations, STATES_MAX);
        prop_assert_eq!(verdict == Verdict::Accepted, expected, "{:?}\n{:?}", verdict, history);
        prop_assert_eq!(verdict.is_violation(), !expected);
    }
}

/// A property that nearly always accepts, or nearly always rejects, would show little.
#[test]
fn falsehoods_are_of_both_kinds() {
    let mut counts = [0; 2];
    for seed in 1..=300 {
        let mut dice = Dice(seed * 0x9e37_79b9);
        let mut history = execution(&mut dice, seed % 3, 4, 7);
        falsify(&mut dice, &mut history);
        counts[usize::from(check(&history.operations, STATES_MAX) == Verdict::Accepted)] += 1;
    }
    assert!(counts.iter().all(|count| *count >= 50), "{counts:?}");
}
