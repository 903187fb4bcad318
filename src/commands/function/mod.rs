//! Functions: running them (`run`), keeping libraries of them (`library`), moving these (`transfer`).

mod library;
mod payload;
mod run;
mod transfer;

pub(super) use run::only_reads;

use super::Command;

pub(super) const COMMANDS: &[Command] = &[
    Command::write::<run::Fcall>(),
    Command::read::<run::FcallRo>(),
    Command::write::<library::Load>(),
    Command::write::<library::Delete>(),
    Command::write::<library::Flush>(),
    Command::read::<library::List>(),
    Command::read::<library::Stats>(),
    Command::read::<transfer::Dump>(),
    Command::write::<transfer::Restore>(),
    Command::session::<library::Kill>(),
    Command::session::<library::Help>(),
];
