//! Keys of any type. Reading order: `look`, `list`, `remove`, `rename`, `expire`, `object`, `usage`.

mod expire;
mod list;
mod look;
pub(super) mod object;
mod remove;
mod rename;
mod usage;

use super::Command;

pub(super) const COMMANDS: &[Command] = &[
    Command::read::<usage::Usage>(),
    Command::read::<look::Exists>(),
    Command::read::<look::Touch>(),
    Command::read::<look::Type>(),
    Command::read::<look::DbSize>(),
    Command::read::<list::Keys>(),
    Command::read::<list::Scan>(),
    Command::read::<list::RandomKey>(),
    Command::write::<remove::Del>(),
    Command::write::<remove::Unlink>(),
    Command::write::<remove::FlushDb>(),
    Command::write::<remove::FlushAll>(),
    Command::write::<rename::Rename>(),
    Command::write::<rename::RenameNx>(),
    Command::write::<rename::Copy>(),
    Command::write::<rename::Move>(),
    Command::write::<rename::SwapDb>(),
    Command::write::<expire::Expire>(),
    Command::write::<expire::PExpire>(),
    Command::write::<expire::ExpireAt>(),
    Command::write::<expire::PExpireAt>(),
    Command::write::<expire::Persist>(),
    Command::read::<expire::Ttl>(),
    Command::read::<expire::PTtl>(),
    Command::read::<expire::ExpireTime>(),
    Command::read::<expire::PExpireTime>(),
    Command::read::<object::Encoding>(),
    Command::read::<object::RefCount>(),
    Command::read::<object::IdleTime>(),
    Command::read::<object::Freq>(),
    Command::session::<object::Help>(),
];
