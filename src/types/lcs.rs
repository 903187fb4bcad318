//! The longest common subsequence of two strings, by the table that everybody knows: `cell(i, j)` is the length
//! for the first `i` bytes of one and the first `j` of the other.
//!
//! There may be several that are equally long. Redis walks the table back from its end, along equal bytes where
//! there are any, else up if that cell is larger, else to the left; so do we. For that walk one bit a cell is
//! enough, and of the lengths only a row has to be kept: a thirty-second of the memory Redis takes.

use super::string;

/// What Redis keeps for a cell; its limit is on the memory of the whole table.
const REDIS_CELL_BYTES: usize = 4;

/// A stretch of equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where it begins in the one.
    pub a: usize,
    /// Where it begins in the other.
    pub b: usize,
    pub length: usize,
}

/// Whether Redis would look at strings of these lengths. It bounds our time, which it is linear in.
#[must_use]
pub fn is_feasible(a: usize, b: usize) -> bool {
    let cells = (a + 1).checked_mul(b + 1);
    cells
        .and_then(|cells| cells.checked_mul(REDIS_CELL_BYTES))
        .is_some_and(|bytes| bytes <= string::BYTES_MAX)
}

/// How long the longest common subsequence is.
#[must_use]
pub fn length(a: &[u8], b: &[u8]) -> usize {
    fill(a, b, |_, _| {}) as usize
}

/// The stretches that make up the longest common subsequence, the last one first.
#[must_use]
pub fn runs(a: &[u8], b: &[u8]) -> Vec<Run> {
    let width = b.len();
    let mut ups = vec![0_u64; (a.len() * width).div_ceil(64)];
    fill(a, b, |i, j| {
        let cell = i * width + j;
        ups[cell / 64] |= 1 << (cell % 64);
    });
    let mut runs: Vec<Run> = Vec::new();
    let (mut i, mut j) = (a.len(), b.len());
    let mut in_run = false;
    while i > 0 && j > 0 {
        let equal = a[i - 1] == b[j - 1];
        if equal {
            (i, j) = (i - 1, j - 1);
            match runs.last_mut().filter(|_| in_run) {
                Some(run) => *run = Run { a: i, b: j, length: run.length + 1 },
                None => runs.push(Run { a: i, b: j, length: 1 }),
            }
        } else {
            let cell = (i - 1) * width + (j - 1);
            let up = ups[cell / 64] >> (cell % 64) & 1 == 1;
            if up { i -= 1 } else { j -= 1 }
        }
        in_run = equal;
    }
    runs
}

/// Goes through the table row by row and answers its last cell. Calls `up` with the places of the two bytes
/// wherever they differ and the cell above is larger than the one to the left.
fn fill(a: &[u8], b: &[u8], mut up: impl FnMut(usize, usize)) -> u32 {
    let mut row = vec![0_u32; b.len() + 1];
    for (i, one) in a.iter().enumerate() {
        let mut diagonal = 0;
        for (j, other) in b.iter().enumerate() {
            let (above, left) = (row[j + 1], row[j]);
            row[j + 1] = if one == other { diagonal + 1 } else { above.max(left) };
            if one != other && above > left {
                up(i, j);
            }
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, b: &str, expect: &str, expect_runs: &[(usize, usize, usize)]) {
        let found = runs(a.as_bytes(), b.as_bytes());
        let text: String = found.iter().rev().map(|run| &a[run.a..run.a + run.length]).collect();
        let found: Vec<_> = found.iter().map(|run| (run.a, run.b, run.length)).collect();
        assert_eq!((&*text, &found[..]), (expect, expect_runs), "{a} {b}");
        assert_eq!(length(a.as_bytes(), b.as_bytes()), expect.len(), "{a} {b}");
    }

    #[test]
    fn subsequences_are_those_of_redis() {
        check("ohmytext", "mynewtext", "mytext", &[(4, 5, 4), (2, 0, 2)]);
        check("", "abc", "", &[]);
        check("abc", "abc", "abc", &[(0, 0, 3)]);
        check("abcbdab", "bdcaba", "bdab", &[(5, 3, 2), (3, 0, 2)]);
    }

    #[test]
    fn what_redis_would_refuse_is_refused() {
        assert!(is_feasible(11_000, 12_000));
        assert!(!is_feasible(12_000, 12_000));
        assert!(!is_feasible(usize::MAX - 1, 2));
    }
}
