//! Long histories: as many positions as operations, or a few times that.

use super::super::model::{Call, Model};
use super::super::search::{Found, STATES_MAX, search};
use super::Dice;

/// A register of which each value is written once.
struct Register;

#[derive(PartialEq)]
enum Op {
    Write(u64),
    Read(u64),
}

impl Model for Register {
    type Op = Op;
    type State = u64;

    fn start(&self) -> u64 {
        0
    }

    fn step(&self, state: &u64, op: &Op) -> Option<u64> {
        match op {
            Op::Write(value) => Some(*value),
            Op::Read(value) => (state == value).then_some(*state),
        }
    }

    fn is_read(&self, op: &Op) -> bool {
        matches!(op, Op::Read(_))
    }

    fn describe(&self, state: &u64) -> String {
        state.to_string()
    }
}

/// `count` operations of `clients`, one in `unknown` of unknown outcome, each at once at some time inside its span.
fn calls(clients: u64, count: usize, unknown: u64) -> Vec<Call<Op>> {
    let mut dice = Dice(7);
    let mut calls = Vec::new();
    let mut state = 0;
    let mut waiting: Vec<Option<(usize, bool)>> = vec![None; clients as usize];
    for ns in 0.. {
        if calls.len() >= count && waiting.iter().all(Option::is_none) {
            break;
        }
        let client = dice.below(clients) as usize;
        waiting[client] = match waiting[client] {
            None if calls.len() >= count => None,
            None => {
                let op = if dice.one_in(2) { Op::Read(0) } else { Op::Write(ns + 1) };
                calls.push(Call { op, invoked_ns: ns, returned_ns: None });
                Some((calls.len() - 1, false))
            }
            Some((call, false)) => {
                match &mut calls[call].op {
                    Op::Write(value) => state = *value,
                    Op::Read(value) => *value = state,
                }
                Some((call, true))
            }
            Some((call, true)) => {
                if !dice.one_in(unknown) {
                    calls[call].returned_ns = Some(ns);
                }
                None
            }
        };
    }
    calls
}

#[test]
fn a_hundred_thousand_operations_on_one_key() {
    let calls = calls(5, 100_000, u64::MAX);
    let (found, states) = search(&Register, &calls, STATES_MAX);
    assert_eq!(found, Found::Order);
    assert!(states < 3 * calls.len(), "{states} positions");
}

#[test]
fn one_lie_among_a_hundred_thousand_answers() {
    let mut calls = calls(5, 100_000, u64::MAX);
    let middle = calls.iter().skip(50_000).position(|call| matches!(call.op, Op::Read(_)));
    let lie = middle.expect("half of them are") + 50_000;
    calls[lie].op = Op::Read(1);
    let (found, states) = search(&Register, &calls, STATES_MAX);
    let Found::Nothing(stuck) = found else { panic!("{found:?}") };
    assert!(stuck.unplaced.contains(&lie), "{stuck:?}");
    assert!(states < 3 * calls.len(), "{states} positions");
}

#[test]
fn one_outcome_in_a_hundred_is_unknown() {
    let calls = calls(5, 10_000, 100);
    let (found, states) = search(&Register, &calls, STATES_MAX);
    assert_eq!(found, Found::Order);
    assert!(states < 20 * calls.len(), "{states} positions");
}

#[test]
fn eight_clients_on_one_key() {
    let calls = calls(8, 10_000, 200);
    let (found, states) = search(&Register, &calls, STATES_MAX);
    assert_eq!(found, Found::Order);
    assert!(states < 50 * calls.len(), "{states} positions");
}
