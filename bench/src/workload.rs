//! What is asked of the servers: the table of workloads.

use std::fmt;

/// What keys and values are like. All keys exist before the first run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub keys: u64,
    pub value_bytes: usize,
    pub popularity: Popularity,
}

/// Which keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Popularity {
    /// All alike.
    Even,
    /// A few most of the time: the n-th in proportion to 1/n^0.99, as in YCSB.
    Zipf,
}

/// Unless it is varied.
pub const USUAL: Shape = Shape { keys: 100_000, value_bytes: 256, popularity: Popularity::Even };

/// Keys that one MSET sets.
pub const MSET_KEYS: usize = 10;

/// In a mixed workload, one command in so many is a SET; the others are GETs.
const MIXED_SET_EVERY: u64 = 5;

/// A load that is put on each server in turn.
#[derive(Clone, Debug)]
pub struct Workload {
    pub name: &'static str,
    pub connections: usize,
    /// Commands that a connection sends at once; it waits for all their replies before it sends more.
    pub pipeline: usize,
    pub mix: Mix,
    pub shape: Shape,
    /// Part of `--quick`.
    pub quick: bool,
}

/// Which commands a workload consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    Only(Command),
    /// GETs, and every so often a SET.
    Mixed,
}

/// A command of a workload, on keys chosen by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Set,
    Get,
    Mset,
    Incr,
    /// A lock is taken (SET NX PX), or the one that was taken is released by a script, in turns.
    Lock,
    /// A script that increments a counter.
    Script,
}

/// All workloads, in the order in which they run.
pub const WORKLOADS: [Workload; 16] = [
    workload("set-c1-p1", 1, 1, Mix::Only(Command::Set), true),
    workload("set-c50-p1", 50, 1, Mix::Only(Command::Set), true),
    workload("set-c256-p1", 256, 1, Mix::Only(Command::Set), false),
    workload("set-c50-p16", 50, 16, Mix::Only(Command::Set), true),
    workload("set-c256-p16", 256, 16, Mix::Only(Command::Set), false),
    workload("get-c50-p1", 50, 1, Mix::Only(Command::Get), true),
    workload("get-c256-p1", 256, 1, Mix::Only(Command::Get), false),
    workload("get-c50-p16", 50, 16, Mix::Only(Command::Get), true),
    workload("get-c256-p16", 256, 16, Mix::Only(Command::Get), false),
    workload("mixed-c50-p1", 50, 1, Mix::Mixed, false),
    workload("mixed-c50-p16", 50, 16, Mix::Mixed, false),
    workload("mset-c50-p1", 50, 1, Mix::Only(Command::Mset), false),
    workload("incr-c50-p1", 50, 1, Mix::Only(Command::Incr), false),
    workload("lock-c50-p1", 50, 1, Mix::Only(Command::Lock), false),
    workload("script-c50-p1", 50, 1, Mix::Only(Command::Script), false),
    Workload {
        shape: Shape { popularity: Popularity::Zipf, ..USUAL },
        ..workload("zipf-c50-p1", 50, 1, Mix::Mixed, false)
    },
];

const fn workload(
    name: &'static str,
    connections: usize,
    pipeline: usize,
    mix: Mix,
    quick: bool,
) -> Workload {
    Workload { name, connections, pipeline, mix, shape: USUAL, quick }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mix {
            Mix::Only(Command::Set) => write!(f, "SET")?,
            Mix::Only(Command::Get) => write!(f, "GET")?,
            Mix::Only(Command::Mset) => write!(f, "MSET of {MSET_KEYS} keys")?,
            Mix::Only(Command::Incr) => write!(f, "INCR")?,
            Mix::Only(Command::Lock) => write!(f, "locks taken and released")?,
            Mix::Only(Command::Script) => write!(f, "EVAL of an INCR")?,
            Mix::Mixed => write!(f, "1 SET to {} GETs", MIXED_SET_EVERY - 1)?,
        }
        if self.shape.popularity == Popularity::Zipf {
            write!(f, " of popular keys")?;
        }
        let plural = if self.connections == 1 { "" } else { "s" };
        write!(f, ", {} connection{plural}, pipeline of {}", self.connections, self.pipeline)
    }
}

impl Mix {
    /// The next command.
    pub fn pick(self, chance: &mut Chance) -> Command {
        match self {
            Self::Only(command) => command,
            Self::Mixed if chance.below(MIXED_SET_EVERY) == 0 => Command::Set,
            Self::Mixed => Command::Get,
        }
    }

    /// Whether it has a counterpart in a store of plain keys and values.
    #[must_use]
    pub const fn is_plain(self) -> bool {
        matches!(self, Self::Mixed | Self::Only(Command::Set | Command::Get))
    }
}

/// Cheap pseudo-random numbers (xorshift64*): the load generator competes with the servers for the cores.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same numbers.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed | 1 << 63)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        u64::try_from((u128::from(number) * u128::from(bound)) >> 64).expect("it is below a u64")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_what_they_are() {
        for (i, workload) in WORKLOADS.iter().enumerate() {
            assert!(WORKLOADS[..i].iter().all(|other| other.name != workload.name), "{}", workload.name);
            let size = format!("-c{}-p{}", workload.connections, workload.pipeline);
            assert!(workload.name.ends_with(&size), "{}", workload.name);
        }
    }

    #[test]
    fn chance_reaches_every_number_about_equally_often() {
        let mut chance = Chance::new(7);
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            seen[usize::try_from(chance.below(10)).expect("below ten")] += 1;
        }
        assert!(seen.iter().all(|&count| (850..1150).contains(&count)), "{seen:?}");
    }

    #[test]
    fn a_mix_is_mostly_reads() {
        let mut chance = Chance::new(1);
        let sets = (0..1_000).filter(|_| Mix::Mixed.pick(&mut chance) == Command::Set).count();
        assert!((150..250).contains(&sets), "{sets}");
    }
}
