//! Registers, counters and transactions with known verdicts.

use super::super::Verdict;
use super::super::search::STATES_MAX;
use super::super::strings::check;
use super::{accepted, history, rejected};

#[track_caller]
fn good(lines: &str) {
    accepted(&check(&history(lines).operations, STATES_MAX));
}

#[track_caller]
fn bad(lines: &str, words: &str) {
    rejected(&check(&history(lines).operations, STATES_MAX), words);
}

#[test]
fn one_client_after_another() {
    good(
        "1 0..1 GET k -> nil
          1 2..3 SET k a -> OK
          2 4..5 GET k -> a
          2 6..7 DEL k -> 1
          1 8..9 SET k b NX -> OK
          1 10..11 SET k c NX -> nil
          1 12..13 SET k c IFEQ b -> OK
          2 14..15 SET k d IFEQ b -> nil
          2 16..17 GET k -> c
          2 18..19 EXISTS k -> 1",
    );
}

#[test]
fn writes_at_the_same_time_have_either_order() {
    good(
        "1 0..10 SET k a -> OK
          2 0..10 SET k b -> OK
          3 11..12 GET k -> a",
    );
    good(
        "1 0..10 SET k a -> OK
          2 0..10 SET k b -> OK
          3 2..3 GET k -> b
          3 4..5 GET k -> a
          4 6..7 GET k -> a",
    );
    bad(
        "1 0..10 SET k a -> OK
         2 0..10 SET k b -> OK
         3 2..3 GET k -> b
         3 4..5 GET k -> a
         3 6..7 GET k -> b",
        "[6.000 .. 7.000] GET k -> b",
    );
}

#[test]
fn a_stale_read() {
    bad(
        "1 0..1 SET k a -> OK
         1 2..3 SET k b -> OK
         2 4..5 GET k -> a",
        "leads to k=b. Then one of these would have to come next:\n    client 2 on n1 [4.000 .. 5.000] GET k -> a\n",
    );
}

#[test]
fn a_lost_update() {
    bad("1 0..1 SET k a -> OK\n 1 2..3 GET k -> nil", "k=a");
    bad(
        "1 0..1 SET k 0 -> OK
         1 2..9 SET k a IFEQ 0 -> OK
         2 2..9 SET k b IFEQ 0 -> OK",
        "k=",
    );
    bad("1 0..9 INCR n -> 1\n 2 0..9 INCR n -> 1", "n=1");
}

#[test]
fn a_read_of_a_write_that_failed() {
    bad("1 0..1 SET k a -> !\n 2 2..3 GET k -> a", "k=nothing");
    good("1 0..1 SET k a -> !\n 2 2..3 GET k -> nil");
}

#[test]
fn an_unknown_write_happens_once_at_any_time_or_never() {
    for seen in ["a", "nil"] {
        good(&format!("1 0..1 SET k a -> ?\n 2 2..3 GET k -> {seen}"));
    }
    good("1 0..1 SET k a -> ?\n 2 2..3 GET k -> nil\n 2 4..5 GET k -> a");
    bad("1 0..1 SET k a -> ?\n 2 2..3 GET k -> a\n 2 4..5 GET k -> nil", "k=a");
    bad("2 0..1 GET k -> a\n 1 2..3 SET k a -> ?", "k=nothing");
    bad(
        "1 0..1 SET k a -> ?
         2 2..3 SET k b -> OK
         2 4..5 GET k -> a
         2 6..7 SET k c -> OK
         2 8..9 GET k -> a",
        "k=c",
    );
}

#[test]
fn counters_count_what_was_answered_and_perhaps_the_rest() {
    good("1 0..1 INCR n -> 1\n 2 0..1 INCR n -> ?\n 3 2..3 INCR n -> 3\n 3 4..5 GET n -> 3");
    good("1 0..1 INCR n -> 1\n 2 0..1 INCR n -> ?\n 3 2..3 INCR n -> 2\n 3 4..5 GET n -> 2");
    // Applied twice.
    bad("1 0..1 INCR n -> 1\n 2 0..1 INCR n -> ?\n 3 2..3 INCR n -> 4", "n=2");
    bad("1 0..1 INCR n -> 2", "n=nothing");
    bad("1 0..1 INCR n -> 1\n 1 2..3 INCR n -> !\n 1 4..5 GET n -> 2", "n=1");
    good("1 0..1 SET n 41 -> OK\n 1 2..3 INCR n -> 42\n 1 4..5 DECR n -> 41\n 1 6..7 INCRBY n 9 -> 50");
}

#[test]
fn a_failed_compare_may_be_followed_by_anything_but_success() {
    good("1 0..1 SET k 1 -> OK\n 1 2..9 SET k 2 IFEQ 7 -> nil\n 2 2..9 SET k 7 -> OK");
    bad("1 0..1 SET k 7 -> OK\n 1 2..3 SET k 2 IFEQ 7 -> nil", "k=7");
    good("1 0..1 SET k 7 -> OK\n 1 2..3 SET k 2 IFEQ 7 -> ?\n 1 4..5 GET k -> 2");
    bad("1 0..1 SET k 6 -> OK\n 1 2..3 SET k 2 IFEQ 7 -> ?\n 1 4..5 GET k -> 2", "k=6");
    good("1 0..1 SET k 6 IFNE 6 -> OK\n 1 2..3 SET k 7 IFNE 6 -> nil\n 1 4..5 DELIFEQ k 6 -> 1");
    bad("1 0..1 SET k 6 XX -> OK", "k=nothing");
}

#[test]
fn keys_are_judged_by_themselves() {
    bad("1 0..1 SET a 1 -> OK\n 1 0..1 SET b 1 -> OK\n 2 2..3 GET b -> nil", "b: no order");
}

#[test]
fn transactions_are_seen_whole() {
    good("1 0..9 SET a 1; SET b 1 -> OK; OK\n 2 1..2 GET a; GET b -> nil; nil\n 2 3..4 GET a; GET b -> 1; 1");
    bad("1 0..9 SET a 1; SET b 1 -> OK; OK\n 2 1..2 GET a; GET b -> 1; nil", "a b: no order");
    good("1 0..1 SET a 1; SET b 1 -> ?\n 2 1..2 GET a -> nil\n 2 3..4 GET b -> 1\n 2 5..6 GET a -> 1");
    bad("1 0..1 SET a 1; SET b 1 -> ?\n 2 1..2 GET a -> 1\n 2 3..4 GET b -> nil", "a=1 b=1");
    good("1 0..1 INCR n; INCR n; GET n -> 1; 2; 2");
    bad("1 0..1 INCR n; INCR n; GET n -> 1; 3; 3", "n=nothing");
}

#[test]
fn a_guarded_transaction_needs_what_was_watched() {
    let withdraw = "1 0..1 SET a 5 -> OK\n 1 2..3 a=5 SET a 4; INCR b -> OK; 1\n";
    good(withdraw);
    good(&format!("{withdraw} 2 2..9 a=5 SET a 3; INCR b -> !"));
    bad(&format!("{withdraw} 2 2..9 a=5 SET a 3; INCR b -> OK; 2"), "a=");
    // One of unknown outcome does nothing, if its guard is broken.
    bad(&format!("{withdraw} 2 4..5 a=5 SET a 3; INCR b -> ?\n 3 6..7 GET a -> 3"), "a=4 b=1");
    good("1 0..1 a=5 SET a 3 -> ?\n 2 2..3 SET a 5 -> OK\n 2 4..5 GET a -> 3");
}

#[test]
fn what_it_does_not_know_it_does_not_judge() {
    for lines in ["1 0..1 SET k a PX 100 -> OK", "1 0..1 LPUSH k a -> 1", "1 0..1 GET k -> [a]"] {
        let verdict = check(&history(lines).operations, STATES_MAX);
        assert!(matches!(verdict, Verdict::Undecided(_)), "{verdict:?}");
    }
}

#[test]
fn too_much_at_once_is_no_verdict() {
    let mut lines = String::new();
    for client in 0..20 {
        lines += &format!("{client} 0..9 SET k v{client} -> OK\n");
    }
    lines += "1 10..11 GET k -> nil";
    let verdict = check(&history(&lines).operations, 10_000);
    assert_eq!(verdict, Verdict::Undecided("k: gave up after 10001 positions".into()));
}

/// Subsets of unknown writes would be exponentially many.
#[test]
fn many_unknown_outcomes_are_no_obstacle() {
    let mut lines = String::new();
    for i in 0..60 {
        lines += &format!("1 {0}..{1} SET k lost{i} -> ?\n 2 {0}..{1} INCR n -> ?\n", 2 * i, 2 * i + 1);
        lines += &format!("3 {0}..{1} SET k v{i} -> OK\n 3 {0}..{1} GET n -> {i}\n", 2 * i, 2 * i + 1);
    }
    good(&lines.replace("GET n -> 0", "GET n -> nil"));
    bad(&format!("{lines} 4 200..201 GET k -> v58"), "k: no order");
    bad(&format!("{lines} 4 200..201 GET n -> 58"), "n: no order");
}
