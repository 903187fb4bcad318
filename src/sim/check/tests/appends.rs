//! Lists with known verdicts, an anomaly each.

use super::super::Verdict;
use super::super::appends::check;
use super::{accepted, history, rejected};

#[track_caller]
fn bad(lines: &str, words: &str) {
    let lines = lines.replace("READ", "LRANGE").replace("ALL", "0 -1");
    rejected(&check(&history(&lines).operations), words);
}

#[track_caller]
fn good(lines: &str) {
    let lines = lines.replace("READ", "LRANGE").replace("ALL", "0 -1");
    accepted(&check(&history(&lines).operations));
}

#[test]
fn what_one_order_explains() {
    good(
        "1 0..1 RPUSH x 1 -> 1
          2 2..9 RPUSH x 2; RPUSH y 1 -> 2; 1
          3 2..9 READ x ALL; READ y ALL -> [1]; []
          3 10..11 READ x ALL; READ y ALL; RPUSH y 2; READ y ALL -> [1 2]; [1]; 2; [1 2]",
    );
    good("1 0..1 RPUSH x 1 -> ?\n 2 2..3 READ x ALL -> []\n 2 4..5 READ x ALL -> [1]");
    good("1 0..1 RPUSH x 1 -> !\n 2 2..3 READ x ALL -> []");
}

#[test]
fn g0_two_transactions_that_each_overwrote_the_other() {
    bad(
        "1 0..9 RPUSH x 1; RPUSH y 1 -> 1; 2
         2 0..9 RPUSH x 2; RPUSH y 2 -> 2; 1",
        "G0: ",
    );
}

#[test]
fn g1a_an_aborted_read() {
    bad("1 0..1 RPUSH x 1 -> !\n 2 2..3 READ x ALL -> [1]", "G1a");
}

#[test]
fn g1b_an_intermediate_read() {
    bad("1 0..9 RPUSH x 1; RPUSH x 2 -> 1; 2\n 2 0..9 READ x ALL -> [1]", "G1b");
}

#[test]
fn g1c_each_saw_what_the_other_did() {
    bad(
        "1 0..9 RPUSH x 1; READ y ALL -> 1; [1]
         2 0..9 RPUSH y 1; READ x ALL -> 1; [1]",
        "G1c: ",
    );
}

#[test]
fn g_single_a_read_of_half_a_transaction() {
    bad(
        "1 0..9 RPUSH x 1; RPUSH y 1 -> 1; 1
         2 0..9 READ x ALL; READ y ALL -> [1]; []",
        "G-single: ",
    );
}

#[test]
fn g2_neither_saw_the_other() {
    bad(
        "1 0..9 READ x ALL; RPUSH y 1 -> []; 1
         2 0..9 READ y ALL; RPUSH x 1 -> []; 1",
        "G2: ",
    );
}

#[test]
fn a_stale_read() {
    bad(
        "1 0..1 RPUSH x 1 -> 1
         1 2..3 RPUSH x 2 -> 2
         2 4..5 READ x ALL -> [1]",
        "G-single-realtime: ",
    );
    bad("1 0..1 RPUSH x 1 -> 1\n 2 2..3 READ x ALL -> []", "rt, it was over before the next one was sent");
}

#[test]
fn an_order_against_time() {
    bad("1 0..1 RPUSH x 1 -> 2\n 2 2..3 RPUSH x 2 -> 1", "G0-realtime: ");
    bad("1 4..5 RPUSH x 1 -> 1\n 2 2..3 READ x ALL -> [1]", "G1c-realtime: ");
}

#[test]
fn lost_updates_and_split_brain() {
    bad(
        "1 0..1 RPUSH x 1 -> 1\n 1 2..3 RPUSH x 2 -> 2\n 2 4..5 READ x ALL -> [2]",
        "none is the other's beginning",
    );
    bad("1 0..9 RPUSH x 1 -> 1\n 2 0..9 RPUSH x 2 -> 1", "none is the other's beginning");
    bad(
        "1 0..9 RPUSH x 1 -> ?\n 2 0..9 RPUSH x 2 -> ?\n 3 10..11 READ x ALL -> [1 2]\n 4 12..13 READ x ALL -> [2 1]",
        "x: two lists",
    );
}

#[test]
fn applied_twice() {
    bad("1 0..1 RPUSH x 1 -> ?\n 2 2..3 READ x ALL -> [1 1]", "x: two lists");
}

#[test]
fn what_nobody_appended() {
    bad("1 0..1 RPUSH x 1 -> 2", "longer than what was appended");
    good("1 0..1 RPUSH x 1 -> 2\n 2 0..1 RPUSH x 2 -> ?");
    bad("1 0..1 RPUSH x 1 -> 0", "no length");
    bad("1 0..1 RPUSH x 1 -> 1\n 2 2..3 READ x ALL -> [1 7]", "7 was read, which nobody appended");
}

#[test]
fn a_transaction_that_does_not_see_itself() {
    bad("1 0..1 RPUSH x 1; READ x ALL -> 1; []", "what it did itself");
    bad("1 0..1 READ x ALL; RPUSH x 1 -> []; 2", "what it did itself");
}

#[test]
fn what_it_does_not_know_it_does_not_judge() {
    for lines in
        ["1 0..1 RPUSH x 1 -> 1\n 1 2..3 RPUSH x 1 -> 2", "1 0..1 GET x -> 1", "1 0..1 RPUSH x 1 -> OK"]
    {
        let verdict = check(&history(lines).operations);
        assert!(matches!(verdict, Verdict::Undecided(_)), "{verdict:?}");
    }
}

/// Time is a chain of nodes: the edges are not the square of the operations.
#[test]
fn thirty_thousand_transactions() {
    let mut lines = String::new();
    for i in 0..30_000 {
        let (key, length, time) = (i / 30, i % 30 + 1, 2 * i);
        lines += &format!("{} {time}..{} RPUSH x{key} {i} -> {length}\n", i % 5, time + 5);
    }
    let mut history = history(&lines);
    accepted(&check(&history.operations));
    let last = history.operations[29_999].invoked_ns + 10_000_000;
    let read = history.invoke(1, "n1", last, super::Request::of(&["LRANGE", "x0", "0", "-1"]));
    history.complete(read, last + 1, super::Outcome::Ok(super::Value::List(Vec::new())));
    rejected(&check(&history.operations), "G-single-realtime");
}
