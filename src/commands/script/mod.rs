//! Lua scripts: running them (`eval`), what they may call (`call`), keeping them (`library`).

pub(super) mod call;
mod eval;
mod library;

pub(super) use eval::only_reads;

#[cfg(test)]
mod tests;

use super::Command;

pub(super) const COMMANDS: &[Command] = &[
    Command::write::<eval::Eval>(),
    Command::write::<eval::EvalSha>(),
    Command::read::<eval::EvalRo>(),
    Command::read::<eval::EvalShaRo>(),
    Command::write::<library::Load>(),
    Command::read::<library::Exists>(),
    Command::write::<library::Flush>(),
    Command::session::<library::Kill>(),
    Command::session::<library::Debug>(),
    Command::session::<library::Help>(),
];
