//! Strings. Reading order: `read`, `set` (with the ways to say when a key ends), `compare` (what acts only on a
//! certain value), `number`, `part`, `lcs`.

mod compare;
mod lcs;
mod number;
mod part;
mod read;
mod set;

use super::Command;

pub(super) const COMMANDS: &[Command] = &[
    Command::read::<read::Get>(),
    Command::read::<read::MGet>(),
    Command::read::<read::StrLen>(),
    Command::read::<read::GetRange>(),
    Command::read::<read::Substr>(),
    Command::write::<set::Set>(),
    Command::write::<set::SetNx>(),
    Command::write::<set::SetEx>(),
    Command::write::<set::PSetEx>(),
    Command::write::<set::GetSet>(),
    Command::write::<set::GetDel>(),
    Command::write::<set::GetEx>(),
    Command::write::<set::MSet>(),
    Command::write::<set::MSetNx>(),
    Command::write::<compare::DelEx>(),
    Command::write::<compare::DelIfEq>(),
    Command::read::<compare::Digest>(),
    Command::write::<number::Incr>(),
    Command::write::<number::Decr>(),
    Command::write::<number::IncrBy>(),
    Command::write::<number::DecrBy>(),
    Command::write::<number::IncrByFloat>(),
    Command::write::<part::Append>(),
    Command::write::<part::SetRange>(),
    Command::read::<lcs::Lcs>(),
];
