//! CLIENT TRACKING and its relatives: copies that a client keeps, and how it hears that they are old. See
//! [`crate::tracking`] for the mechanism.

use bytes::Bytes;

use super::{Args, Command, Flags, Group, Session, Spec};
use crate::error::{ClientError, Result, text};
use crate::resp::Reply;
use crate::session::{Caching, Session as Connection, Tracking as Tracks};
use crate::tracking::Overlap;

pub(super) const COMMANDS: &[Command] = &[
    Command::session::<Tracking>(),
    Command::session::<TrackingInfo>(),
    Command::session::<CachingOf>(),
    Command::session::<GetRedir>(),
];

const OWN: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);

/// Begins or ends to remember what the connection reads.
pub struct Tracking {
    on: bool,
    redirect: Option<i64>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    noloop: bool,
    prefixes: Vec<Bytes>,
}

impl Session for Tracking {
    const SPEC: Spec = Spec {
        name: "CLIENT|TRACKING",
        syntax: "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] \
                 [NOLOOP]",
        summary: "Enable or disable server assisted client side caching support",
        complexity: "O(1). Some options may introduce additional complexity.",
        since: "6.0.0",
        flags: OWN,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        const REDIRECTED: ClientError =
            ClientError::fixed("ERR A client can only redirect to a single other client");
        let on = args.bytes()?;
        let mut tracking = Self {
            on: on.eq_ignore_ascii_case(b"ON"),
            redirect: None,
            broadcast: false,
            opt_in: false,
            opt_out: false,
            noloop: false,
            prefixes: Vec::new(),
        };
        while !args.is_empty() {
            if args.take("REDIRECT") {
                let id = args.bytes()?;
                if tracking.redirect.is_some() {
                    return Err(REDIRECTED.into());
                }
                tracking.redirect = Some(crate::resp::number::parse_int(&id).ok_or(text::NOT_AN_INTEGER)?);
            } else if args.take("PREFIX") {
                tracking.prefixes.push(Bytes::copy_from_slice(&args.bytes()?));
            } else if args.take("BCAST") {
                tracking.broadcast = true;
            } else if args.take("OPTIN") {
                tracking.opt_in = true;
            } else if args.take("OPTOUT") {
                tracking.opt_out = true;
            } else if args.take("NOLOOP") {
                tracking.noloop = true;
            } else {
                return Err(text::SYNTAX.into());
            }
        }
        if tracking.on || on.eq_ignore_ascii_case(b"OFF") { Ok(tracking) } else { Err(text::SYNTAX.into()) }
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        const NO_SUCH_CLIENT: ClientError =
            ClientError::fixed("ERR The client ID you want redirect to does not exist");
        let redirect = match self.redirect {
            None => 0,
            Some(id) => u64::try_from(id)
                .ok()
                .filter(|id| connection.registry().get(*id).is_some())
                .ok_or(NO_SUCH_CLIENT)?,
        };
        if !self.on {
            connection.stop_tracking();
            return Ok(Reply::Ok);
        }
        let caching = self.caching(connection.tracking().map(|tracking| tracking.caching))?;
        let tracking = Tracks { caching, noloop: self.noloop, said: false };
        connection.start_tracking(redirect, tracking, self.prefixes).map_err(overlap)?;
        Ok(Reply::Ok)
    }
}

impl Tracking {
    /// Which keys are remembered, if the options agree with each other and with what was so far.
    fn caching(&self, before: Option<Caching>) -> std::result::Result<Caching, ClientError> {
        const PREFIX: ClientError = ClientError::fixed("ERR PREFIX option requires BCAST mode to be enabled");
        const SWITCHES_BROADCAST: ClientError = ClientError::fixed(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then \
             re-enabling it with a different mode.",
        );
        const OPTIONS_IN_BROADCAST: ClientError =
            ClientError::fixed("ERR OPTIN and OPTOUT are not compatible with BCAST");
        const BOTH: ClientError = ClientError::fixed("ERR You can't specify both OPTIN mode and OPTOUT mode");
        const SWITCHES_OPTIONS: ClientError = ClientError::fixed(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then \
             re-enabling it with a different mode.",
        );
        if !self.broadcast && !self.prefixes.is_empty() {
            return Err(PREFIX);
        }
        if before.is_some_and(|before| (before == Caching::Broadcast) != self.broadcast) {
            return Err(SWITCHES_BROADCAST);
        }
        if self.broadcast && (self.opt_in || self.opt_out) {
            return Err(OPTIONS_IN_BROADCAST);
        }
        if self.opt_in && self.opt_out {
            return Err(BOTH);
        }
        match before {
            Some(Caching::OptOut) if self.opt_in => Err(SWITCHES_OPTIONS),
            Some(Caching::OptIn) if self.opt_out => Err(SWITCHES_OPTIONS),
            _ if self.broadcast => Ok(Caching::Broadcast),
            _ if self.opt_in => Ok(Caching::OptIn),
            _ if self.opt_out => Ok(Caching::OptOut),
            _ => Ok(Caching::All),
        }
    }
}

fn overlap(overlap: Overlap) -> ClientError {
    let (one, which, other) = match &overlap {
        Overlap::Existing(one, other) => (one, "an existing", other),
        Overlap::Provided(one, other) => (one, "another provided", other),
    };
    let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    ClientError::new(format!(
        "ERR Prefix '{one}' overlaps with {which} prefix '{other}'. Prefixes for a single client must not overlap."
    ))
}

/// Tells how the connection tracks.
pub struct TrackingInfo;

impl Session for TrackingInfo {
    const SPEC: Spec = Spec {
        name: "CLIENT|TRACKINGINFO",
        summary: "Return information about server assisted client side caching for the current connection",
        since: "6.2.0",
        flags: OWN,
        ..Spec::of(Group::Connection)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        let mut flags = Vec::new();
        match connection.tracking() {
            None => flags.push("off"),
            Some(tracking) => {
                flags.push("on");
                match (tracking.caching, tracking.said) {
                    (Caching::All, _) => {}
                    (Caching::Broadcast, _) => flags.push("bcast"),
                    (Caching::OptIn, false) => flags.push("optin"),
                    (Caching::OptIn, true) => flags.extend(["optin", "caching-yes"]),
                    (Caching::OptOut, false) => flags.push("optout"),
                    (Caching::OptOut, true) => flags.extend(["optout", "caching-no"]),
                }
                if tracking.noloop {
                    flags.push("noloop");
                }
            }
        }
        if connection.client().face().tracks.is_some_and(|tracks| tracks.broken) {
            flags.push("broken_redirect");
        }
        let prefixes = connection.registry().tracking().prefixes(connection.id());
        Ok(Reply::Map(vec![
            (Reply::text("flags"), Reply::Set(flags.into_iter().map(Reply::text).collect())),
            (Reply::text("redirect"), redirect(connection)),
            (Reply::text("prefixes"), Reply::Array(prefixes.into_iter().map(Reply::Bulk).collect())),
        ]))
    }
}

/// The client that is told instead: 0 for none, -1 if the connection does not track.
fn redirect(connection: &Connection) -> Reply {
    Reply::Int(connection.client().face().tracks.map_or(-1, |tracks| tracks.redirect.cast_signed()))
}

/// Makes an exception of the next command.
pub struct CachingOf {
    /// Neither word: Redis asks first whether there is anything to say it about.
    yes: Option<bool>,
}

impl Session for CachingOf {
    const SPEC: Spec = Spec {
        name: "CLIENT|CACHING",
        syntax: "<YES | NO>",
        summary: "Instruct the server about tracking or not keys in the next request",
        since: "6.0.0",
        flags: OWN,
        ..Spec::of(Group::Connection)
    };

    fn parse(args: &mut Args) -> Result<Self> {
        let yes = args.take("YES").then_some(true).or_else(|| args.take("NO").then_some(false));
        Ok(Self { yes })
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        const NOT_TRACKING: ClientError = ClientError::fixed(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT \
             mode enabled",
        );
        const NOT_OPT_IN: ClientError = ClientError::fixed(
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
        );
        const NOT_OPT_OUT: ClientError = ClientError::fixed(
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
        );
        let caching = connection.tracking().ok_or(NOT_TRACKING)?.caching;
        match (self.yes, caching) {
            (Some(true), Caching::OptIn) | (Some(false), Caching::OptOut) => {
                connection.say_caching();
                Ok(Reply::Ok)
            }
            (Some(true), _) => Err(NOT_OPT_IN.into()),
            (Some(false), _) => Err(NOT_OPT_OUT.into()),
            (None, _) => Err(text::SYNTAX.into()),
        }
    }
}

/// Tells which client is told instead.
pub struct GetRedir;

impl Session for GetRedir {
    const SPEC: Spec = Spec {
        name: "CLIENT|GETREDIR",
        summary: "Get tracking notifications redirection client ID if any",
        since: "6.0.0",
        flags: OWN,
        ..Spec::of(Group::Connection)
    };

    fn parse(_: &mut Args) -> Result<Self> {
        Ok(Self)
    }

    fn execute(self, connection: &mut Connection) -> Result<Reply> {
        Ok(redirect(connection))
    }
}
