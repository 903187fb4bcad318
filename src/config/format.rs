//! What an option's text may be, and the one text each value has in the end.
//!
//! Options are kept as text, as CONFIG GET shows them; a text is checked and made canonical once, when
//! it is given, and then read by functions that cannot fail on a canonical text. The complaints are
//! Redis' own, since CONFIG SET repeats them to clients.

use super::events::Events;

/// The texts an option accepts.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// Anything.
    Text,
    /// A file or directory.
    Path,
    /// `host:port`.
    Address,
    /// `host:port`, or nothing.
    OptionalAddress,
    /// Addresses separated by commas; possibly none.
    Addresses,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `yes` or `no`.
    YesNo,
    /// A whole number.
    Int { min: i64, max: i64 },
    /// A whole number, of which what is outside becomes the nearest inside.
    Capped { min: i64, max: i64 },
    /// A size, with or without a unit: `512mb`. Canonical in bytes.
    Bytes { min: u64, max: u64 },
    /// A size or a share of the memory for all clients together, where there is no such limit: 0.
    NoLimit,
    /// Classes of keyspace events: `KEA`.
    Events,
    /// Pairs of seconds and changes: `3600 1 300 100`.
    SavePoints,
    /// Per class of clients: class, hard limit, soft limit, seconds.
    OutputLimits,
    /// Percentages separated by spaces.
    Percentiles,
}

impl Format {
    /// The canonical form of `text`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn canonical(self, text: &str) -> Result<String, String> {
        match self {
            Self::Text => Ok(text.to_owned()),
            Self::Path if text.is_empty() => Err("argument must name a file or directory".to_owned()),
            Self::Path => Ok(text.to_owned()),
            Self::Address => address(text),
            Self::OptionalAddress if text.is_empty() => Ok(String::new()),
            Self::OptionalAddress => address(text),
            Self::Addresses => addresses(text),
            Self::OneOf(words) => one_of(words, text),
            Self::YesNo => {
                one_of(&["yes", "no"], text).map_err(|_| "argument must be 'yes' or 'no'".to_owned())
            }
            Self::Int { min, max } => int(text, min, max),
            Self::Capped { min, max } => capped(text, min, max),
            Self::Bytes { min, max } => bytes(text, min, max),
            Self::NoLimit => no_limit(text),
            Self::Events => Ok(Events::parse(text.as_bytes())?.to_string()),
            Self::SavePoints => save_points(text),
            Self::OutputLimits => Ok(OutputLimits::parse(OutputLimits::default(), text)?.to_string()),
            Self::Percentiles => percentiles(text),
        }
    }

    /// What stands for the value in `--help`.
    #[must_use]
    pub fn placeholder(self) -> String {
        match self {
            Self::Text | Self::Percentiles => "TEXT",
            Self::Path => "PATH",
            Self::Address | Self::OptionalAddress => "ADDR",
            Self::Addresses => "A,B,C",
            Self::OneOf(words) => return words.join("|"),
            Self::YesNo => "yes|no",
            Self::Int { .. } | Self::Capped { .. } => "N",
            Self::Bytes { .. } => "BYTES",
            Self::NoLimit => "0",
            Self::Events => "CLASSES",
            Self::SavePoints => "POINTS",
            Self::OutputLimits => "LIMITS",
        }
        .to_owned()
    }
}

fn address(text: &str) -> Result<String, String> {
    let complain = || "argument must be an address, host:port".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(complain)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = !host.contains([':', '[', ']', ',']) && !host.contains(char::is_whitespace);
    if host.is_empty() || !(bracketed || plain) || port.starts_with('+') || port.parse::<u16>().is_err() {
        return Err(complain());
    }
    Ok(text.to_owned())
}

fn addresses(text: &str) -> Result<String, String> {
    let mut list = Vec::new();
    for item in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
        let item = address(item)?;
        if list.contains(&item) {
            return Err(format!("{item} is there twice"));
        }
        list.push(item);
    }
    Ok(list.join(","))
}

fn one_of(words: &[&str], text: &str) -> Result<String, String> {
    let word = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    word.map(|word| (*word).to_owned())
        .ok_or_else(|| format!("argument(s) must be one of the following: {}", words.join(", ")))
}

fn int(text: &str, min: i64, max: i64) -> Result<String, String> {
    let value = Some(text).filter(|text| !text.starts_with('+')).and_then(|text| text.parse::<i64>().ok());
    let value = value.ok_or("argument couldn't be parsed into an integer")?;
    if (min..=max).contains(&value) {
        Ok(value.to_string())
    } else {
        Err(format!("argument must be between {min} and {max} inclusive"))
    }
}

/// Beyond a C int it is none of Redis' numbers.
fn capped(text: &str, min: i64, max: i64) -> Result<String, String> {
    let value = int(text, 0, i32::MAX.into())?.parse::<i64>().expect("it was found to be a number");
    Ok(value.clamp(min, max).to_string())
}

fn no_limit(text: &str) -> Result<String, String> {
    const NEITHER: &str = "argument must be a memory or percent value";
    const LIMITED: &str = "clients are not evicted for what all of them use; each has limits of its own";
    let amount = match text.strip_suffix('%') {
        None => byte_count(text),
        Some(share) => {
            Some(share).filter(|share| !share.starts_with('+')).and_then(|share| share.parse().ok())
        }
    };
    match amount {
        None => Err(NEITHER.to_owned()),
        Some(0) => Ok("0".to_owned()),
        Some(101..) if text.ends_with('%') => {
            Err("percentage argument must be less or equal to 100".to_owned())
        }
        Some(_) => Err(LIMITED.to_owned()),
    }
}

fn bytes(text: &str, min: u64, max: u64) -> Result<String, String> {
    let value = byte_count(text).ok_or("argument must be a memory value")?;
    if (min..=max).contains(&value) {
        Ok(value.to_string())
    } else {
        Err(format!("argument must be between {min} and {max} inclusive"))
    }
}

/// The size that `text` says: digits, and `b`, `k`, `kb`, `m`, `mb`, `g` or `gb` in any case, of which the
/// ones with a `b` count in 1,024s.
#[must_use]
pub fn byte_count(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn save_points(text: &str) -> Result<String, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |word: &&str| word.parse::<u32>().ok();
    let seconds_are_positive = words.iter().step_by(2).all(|word| number(word).is_some_and(|n| n > 0));
    if words.len().is_multiple_of(2)
        && seconds_are_positive
        && words.iter().all(|word| number(word).is_some())
    {
        Ok(words.join(" "))
    } else {
        Err("Invalid save parameters".to_owned())
    }
}

fn percentiles(text: &str) -> Result<String, String> {
    let mut canonical = Vec::new();
    for word in text.split_whitespace() {
        let value: f64 =
            word.parse().map_err(|_| "Invalid latency-tracking-info-percentiles parameters".to_owned())?;
        if !(0.0..=100.0).contains(&value) {
            return Err(
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".to_owned()
            );
        }
        canonical.push(value.to_string());
    }
    Ok(canonical.join(" "))
}

/// How much unread output a client may have; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Disconnected at once above this.
    pub hard_bytes: u64,
    /// Disconnected when above this for `soft_seconds` without a pause.
    pub soft_bytes: u64,
    pub soft_seconds: u64,
}

/// The limits of each class of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimits {
    pub normal: OutputLimit,
    /// Redis' class of replicas. Quorate's followers are no clients; the class is remembered only.
    pub slave: OutputLimit,
    pub pubsub: OutputLimit,
}

impl OutputLimits {
    /// These limits with those that `text` names replaced.
    pub fn parse(mut self, text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.is_empty() || !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
        }
        for quad in words.chunks_exact(4) {
            let place = match quad[0].to_ascii_lowercase().as_str() {
                "normal" => &mut self.normal,
                "slave" | "replica" => &mut self.slave,
                "pubsub" => &mut self.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration.".to_owned()),
            };
            let complain = || "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
            *place = OutputLimit {
                hard_bytes: byte_count(quad[1]).ok_or_else(complain)?,
                soft_bytes: byte_count(quad[2]).ok_or_else(complain)?,
                soft_seconds: quad[3].parse().map_err(|_| complain())?,
            };
        }
        Ok(self)
    }
}

impl std::fmt::Display for OutputLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let classes = [("normal", self.normal), (" slave", self.slave), (" pubsub", self.pubsub)];
        for (class, OutputLimit { hard_bytes, soft_bytes, soft_seconds }) in classes {
            write!(f, "{class} {hard_bytes} {soft_bytes} {soft_seconds}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: Format, text: &str, expect: &str) {
        let found = format.canonical(text).unwrap_or_else(|why| format!("! {why}"));
        assert_eq!(found, expect, "{text:?}");
    }

    #[test]
    fn sizes_have_units() {
        let format = Format::Bytes { min: 0, max: i64::MAX as u64 };
        for (text, expect) in
            [("0", "0"), ("10kb", "10240"), ("10K", "10000"), ("1GB", "1073741824"), ("7b", "7")]
        {
            check(format, text, expect);
        }
        for text in ["", "kb", "-1", "1.5gb", "0x10", "1q", "10%", "99999999999999999999", "99999999999gb"] {
            check(format, text, "! argument must be a memory value");
        }
        let long = Format::Bytes { min: 1 << 20, max: i64::MAX as u64 };
        check(long, "5", "! argument must be between 1048576 and 9223372036854775807 inclusive");
    }

    #[test]
    fn there_is_no_limit_for_all_clients() {
        let limited = "! clients are not evicted for what all of them use; each has limits of its own";
        for (text, expect) in [
            ("0", "0"),
            ("0mb", "0"),
            ("0%", "0"),
            ("1mb", limited),
            ("100%", limited),
            ("101%", "! percentage argument must be less or equal to 100"),
            ("%", "! argument must be a memory or percent value"),
            ("-1%", "! argument must be a memory or percent value"),
            ("10x", "! argument must be a memory or percent value"),
        ] {
            check(Format::NoLimit, text, expect);
        }
    }

    #[test]
    fn numbers_have_bounds() {
        let format = Format::Int { min: 1, max: 4_294_967_295 };
        check(format, "007", "7");
        check(format, "0", "! argument must be between 1 and 4294967295 inclusive");
        for text in ["", " 5", "+5", "x", "99999999999999999999"] {
            check(format, text, "! argument couldn't be parsed into an integer");
        }
    }

    /// The right-hand sides are those of redis-server 7.0.15.
    #[test]
    fn some_numbers_are_capped() {
        let format = Format::Capped { min: 1, max: 500 };
        for (text, expect) in [("0", "1"), ("1", "1"), ("100", "100"), ("500", "500"), ("1000", "500")] {
            check(format, text, expect);
        }
        check(format, "-1", "! argument must be between 0 and 2147483647 inclusive");
        check(format, "x", "! argument couldn't be parsed into an integer");
    }

    #[test]
    fn addresses_have_a_port() {
        for text in ["127.0.0.1:6379", "[::1]:6379", "node-1.example:0"] {
            check(Format::Address, text, text);
        }
        for text in ["", "6379", ":6379", "host", "host:", "host:65536", "host:+1", "::1:6379", "a b:1"] {
            check(Format::Address, text, "! argument must be an address, host:port");
        }
        check(Format::OptionalAddress, "", "");
        check(Format::Addresses, "", "");
        check(Format::Addresses, "a:1, b:2", "a:1,b:2");
        check(Format::Addresses, "a:1,a:1", "! a:1 is there twice");
        check(Format::Addresses, "a:1,", "! argument must be an address, host:port");
    }

    /// The right-hand sides are those of redis-server 7.0.15.
    #[test]
    fn event_classes_are_ordered() {
        for (text, expect) in
            [("KEA", "AKE"), ("Kg$lm", "g$lKm"), ("nKExz$hslgtedm", "AKEm"), ("KEgs$", "g$sKE"), ("", "")]
        {
            check(Format::Events, text, expect);
        }
        check(Format::Events, "Q", "! Invalid event class character. Use 'Ag$lshzxeKEtmdn'.");
    }

    #[test]
    fn output_limits_keep_what_is_not_named() {
        let limits = OutputLimits::default().parse("normal 1 2 3 pubsub 32mb 8mb 60").expect("well formed");
        let limits = limits.parse("replica 4 5 6").expect("well formed");
        assert_eq!(limits.to_string(), "normal 1 2 3 slave 4 5 6 pubsub 33554432 8388608 60");
        check(
            Format::OutputLimits,
            "normal 1 2",
            "! Wrong number of arguments in buffer limit configuration.",
        );
        check(
            Format::OutputLimits,
            "foo 1 1 1",
            "! Invalid client class specified in buffer limit configuration.",
        );
        check(
            Format::OutputLimits,
            "normal 1 2 x",
            "! Error in hard, soft or soft_seconds setting in buffer limit configuration.",
        );
    }

    #[test]
    fn words_are_lists() {
        check(Format::SavePoints, "900  1", "900 1");
        check(Format::SavePoints, "", "");
        check(Format::SavePoints, "900 1 x", "! Invalid save parameters");
        check(Format::SavePoints, "0 1", "! Invalid save parameters");
        check(Format::YesNo, "YES", "yes");
        check(Format::YesNo, "maybe", "! argument must be 'yes' or 'no'");
        check(Format::OneOf(&["a", "b"]), "c", "! argument(s) must be one of the following: a, b");
        check(Format::Percentiles, "50 x", "! Invalid latency-tracking-info-percentiles parameters");
    }
}
