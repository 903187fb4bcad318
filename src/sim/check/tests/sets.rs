//! Sets with known verdicts.

use super::super::Verdict;
use super::super::sets::check;
use super::{accepted, history, rejected};

#[track_caller]
fn bad(lines: &str, words: &str) {
    rejected(&check(&history(lines).operations), words);
}

#[test]
fn everything_acknowledged_is_there_in_the_end() {
    let adds =
        "1 0..1 SADD s a -> 1\n 2 0..1 SADD s b -> ?\n 3 0..1 SADD s c -> !\n 4 0..9 HSET s d 1 -> 1\n";
    accepted(&check(&history(&format!("{adds} 5 10..11 SMEMBERS s -> [d a]")).operations));
    accepted(&check(&history(&format!("{adds} 5 10..11 HKEYS s -> [a b d]")).operations));
    bad(&format!("{adds} 5 10..11 SMEMBERS s -> [a b]"), "d, known to be there at 9.000, is missing");
    bad(&format!("{adds} 5 10..11 SMEMBERS s -> [a c d]"), "c cannot have been there");
    bad(&format!("{adds} 5 10..11 SMEMBERS s -> [a d e]"), "nobody added e");
}

#[test]
fn what_was_seen_stays() {
    bad(
        "1 0..1 SADD s a -> ?\n 2 2..3 SMEMBERS s -> [a]\n 2 4..5 SMEMBERS s -> []",
        "a, known to be there at 3.000, is missing",
    );
    bad(
        "1 0..9 SADD s a -> 1\n 2 0..9 SADD s b -> 1\n 3 1..9 SMEMBERS s -> [a]\n 4 1..9 SMEMBERS s -> [b]
         3 10..11 SMEMBERS s -> [a b]",
        "each of these has what the other lacks",
    );
    bad(
        "1 0..9 SMEMBERS s -> [a]\n 2 10..11 SADD s a -> 1\n 3 12..13 SMEMBERS s -> [a]",
        "a cannot have been there",
    );
}

#[test]
fn applied_twice() {
    bad("1 0..1 SADD s a -> 0\n 2 2..3 SMEMBERS s -> [a]", "a was there already");
    bad("1 0..1 SADD s a -> 1\n 2 2..3 SMEMBERS s -> [a a]", "a member twice");
}

#[test]
fn without_a_last_read_there_is_no_verdict() {
    for last in ["5..6", "9..10"] {
        let verdict =
            check(&history(&format!("1 0..9 SADD s a -> 1\n 2 {last} SMEMBERS s -> [a]")).operations);
        assert!(matches!(verdict, Verdict::Undecided(_)), "{verdict:?}");
    }
}
