//! What subscribers are told, with known verdicts.

use super::super::history::{Delivery, History};
use super::super::{Verdict, events, messages};
use super::{accepted, history, rejected};

/// Operations, then what subscribers got: `7 2 c` (7's subscription to c was confirmed at 2 ms), `7 3 c m`.
#[track_caller]
fn told(operations: &str, deliveries: &str) -> History {
    let mut history = history(operations);
    for line in deliveries.lines().filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
        let (subscriber, ms) = (number(), number());
        let channel = words.next().expect("a channel").to_owned();
        let message = words.next().map(str::to_owned);
        history.deliveries.push(Delivery { ns: ms * 1_000_000, subscriber, channel, message });
    }
    history
}

/// Four messages, the second and the third at the same time, the fourth of unknown outcome.
const PUBLISHED: &str = "1 10..11 PUBLISH c a -> 2
    1 20..29 PUBLISH c b -> 2
    2 20..29 PUBLISH c c -> 2
    2 30..31 PUBLISH c d -> ?
    1 40..41 PUBLISH c e -> 2
    1 50..51 PUBLISH c f -> !";

fn judge(deliveries: &str) -> Verdict {
    let history = told(PUBLISHED, deliveries);
    messages::check(&history.operations, &history.deliveries)
}

#[test]
fn each_subscriber_gets_a_piece_of_one_order() {
    accepted(&judge("7 0 c\n 7 12 c a\n 7 30 c c\n 7 31 c b\n 7 45 c e\n 8 20 c\n 8 32 c b\n 8 45 c e"));
    accepted(&judge("7 0 c\n 7 12 c a\n 7 30 c c\n 7 31 c b\n 7 45 c e\n 7 60 c d"));
    accepted(&judge("7 0 c\n 7 12 c a\n 8 30 c"));
}

#[test]
fn another_order() {
    rejected(
        &judge("7 0 c\n 7 12 c a\n 7 30 c c\n 7 31 c b\n 8 0 c\n 8 12 c a\n 8 32 c b\n 8 33 c c"),
        "right after a, subscriber 7 got c, subscriber 8 got b",
    );
    rejected(&judge("7 0 c\n 7 30 c b\n 7 31 c a"), "out of order");
    rejected(&judge("7 15 c\n 7 30 c b\n 7 31 c c\n 8 15 c\n 8 31 c c\n 8 32 c b"), "form a circle");
}

#[test]
fn a_gap() {
    rejected(&judge("7 0 c\n 7 12 c a\n 7 31 c b\n 7 45 c e"), "c never came");
    rejected(
        &judge("7 0 c\n 7 12 c a\n 7 31 c b\n 7 31 c c\n 7 45 c e\n 8 15 c\n 8 31 c c\n 8 45 c d\n 8 46 c e"),
        "b never came",
    );
    // One that the other got in between.
    rejected(
        &judge(
            "7 15 c\n 7 31 c c\n 7 32 c b\n 7 44 c d\n 7 45 c e\n 8 15 c\n 8 31 c c\n 8 32 c b\n 8 45 c e",
        ),
        "right after b, subscriber 7 got d, subscriber 8 got e",
    );
}

#[test]
fn what_must_not_come() {
    rejected(&judge("7 0 c\n 7 12 c a\n 7 13 c a"), "a came twice");
    rejected(&judge("7 0 c\n 7 60 c f"), "f cannot have come");
    rejected(&judge("7 0 c\n 7 9 c a"), "a cannot have come");
    rejected(&judge("7 0 c\n 7 9 c x"), "nobody published x");
    rejected(&judge("7 12 c a"), "before the subscription was confirmed");
}

/// Those of one client that were under way together have the order of their sending.
#[test]
fn a_publishers_order() {
    let history = told("1 0..9 PUBLISH c a -> 1\n 1 0..9 PUBLISH c b -> 1", "7 0 c\n 7 5 c b\n 7 6 c a");
    rejected(&messages::check(&history.operations, &history.deliveries), "out of order");
}

/// A key that is set, incremented perhaps, deleted, deleted again, and set to end.
const WRITTEN: &str = "1 10..11 SET k 5 -> OK
    1 20..21 INCR k -> ?
    1 30..31 DEL k -> 1
    1 40..41 DEL k -> 0
    1 50..51 SET k 1 PX 20 -> OK";

fn watch(deliveries: &str, drained: &[u64]) -> Verdict {
    watch_writes(WRITTEN, deliveries, drained)
}

fn watch_writes(written: &str, deliveries: &str, drained: &[u64]) -> Verdict {
    let history = told(written, &deliveries.replace(" k", " __keyspace@0__:k"));
    events::check(&history.operations, &history.deliveries, &drained.iter().copied().collect())
}

#[test]
fn events_tell_the_writes_in_order() {
    accepted(&watch(
        "7 0 k\n 7 12 k set\n 7 22 k incrby\n 7 32 k del\n 7 52 k set\n 7 52 k expire\n 7 80 k expired",
        &[7],
    ));
    accepted(&watch(
        "7 0 k\n 7 12 k set\n 7 32 k del\n 7 52 k set\n 7 52 k expire\n 8 25 k\n 8 32 k del",
        &[7],
    ));
    accepted(&watch("7 11 k\n 7 32 k del", &[]));
}

#[test]
fn events_that_are_wrong() {
    rejected(&watch("7 0 k\n 7 12 k set\n 7 52 k set", &[]), "got ... set set, but the next should tell of");
    rejected(&watch("7 0 k\n 7 32 k del\n 7 33 k set", &[]), "got ... del, but");
    rejected(&watch("7 0 k\n 7 12 k set\n 7 32 k del\n 7 42 k del", &[]), "SET k 1 PX 20");
    rejected(&watch("7 0 k\n 7 12 k set\n 7 13 k del", &[]), "but the next");
    rejected(&watch("7 0 k\n 7 12 k set\n 7 32 k del\n 7 52 k set\n", &[7]), "was never told of");
    rejected(&watch("7 12 k set", &[]), "before its subscription was confirmed");
}

#[test]
fn without_an_order_of_the_writes_there_is_no_verdict() {
    let history = history("1 0..9 SET k 1 -> OK\n 2 0..9 DEL k -> 1");
    let verdict = events::check(&history.operations, &[], &[].into());
    assert!(matches!(verdict, Verdict::Undecided(_)), "{verdict:?}");
}

/// An end that comes by itself comes where there is a deadline, however much later, and once.
#[test]
fn events_of_deadlines() {
    const WITH_DEADLINE: &str = "1 10..11 SET k 5 PX 20 -> OK
        1 20..21 INCR k -> 6
        1 50..51 INCR k -> 1
        1 60..61 SET k 7 -> OK
        1 70..71 SET k 8 PX 90 -> ?";
    let accept = |deliveries: &str| accepted(&watch_writes(WITH_DEADLINE, deliveries, &[7]));
    let reject = |deliveries: &str| rejected(&watch_writes(WITH_DEADLINE, deliveries, &[]), "but the next");
    accept(
        "7 0 k\n 7 12 k set\n 7 12 k expire\n 7 22 k incrby\n 7 32 k expired\n 7 52 k incrby\n 7 62 k set",
    );
    accept(
        "7 25 k\n 7 32 k expired\n 7 52 k incrby\n 7 62 k set\n 7 72 k set\n 7 72 k expire\n 7 99 k expired",
    );
    reject("7 0 k\n 7 12 k set\n 7 12 k expire\n 7 22 k incrby\n 7 32 k expired\n 7 33 k expired");
    reject(
        "7 0 k\n 7 12 k set\n 7 12 k expire\n 7 22 k incrby\n 7 52 k incrby\n 7 62 k set\n 7 63 k expired",
    );
}
