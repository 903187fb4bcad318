//! Hashes. Reading order: `read`, `write`, `number`, `list` (what answers with many fields).

mod list;
mod number;
mod read;
mod write;

use super::Command;

pub(super) const COMMANDS: &[Command] = &[
    Command::read::<read::HGet>(),
    Command::read::<read::HMGet>(),
    Command::read::<read::HExists>(),
    Command::read::<read::HStrLen>(),
    Command::read::<read::HLen>(),
    Command::write::<write::HSet>(),
    Command::write::<write::HMSet>(),
    Command::write::<write::HSetNx>(),
    Command::write::<write::HDel>(),
    Command::write::<number::HIncrBy>(),
    Command::write::<number::HIncrByFloat>(),
    Command::read::<list::HGetAll>(),
    Command::read::<list::HKeys>(),
    Command::read::<list::HVals>(),
    Command::read::<list::HScan>(),
    Command::read::<list::HRandField>(),
];
