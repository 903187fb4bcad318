//! Numbers that must not fall while time goes on: revisions, fencing tokens.

/// A number, and the time in which it was handed out.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub number: u64,
    pub invoked_ns: u64,
    pub returned_ns: u64,
    /// Whether it must be above all that were handed out before; otherwise it may be equal to the highest.
    pub is_new: bool,
}

/// The first two, by their places, of which the one that was over before the other began has too high a number.
#[must_use]
pub fn first_fall(stamps: &[Stamp]) -> Option<(usize, usize)> {
    let mut events = Vec::new();
    for (place, stamp) in stamps.iter().enumerate() {
        events.push((stamp.invoked_ns, false, place));
        events.push((stamp.returned_ns, true, place));
    }
    events.sort_unstable();
    let mut highest: Option<usize> = None;
    for (_, is_end, place) in events {
        let stamp = stamps[place];
        let most = highest.map(|place| stamps[place].number);
        if is_end {
            if most.is_none_or(|most| stamp.number > most) {
                highest = Some(place);
            }
        } else if let Some(most) = most.filter(|most| stamp.number < *most + u64::from(stamp.is_new)) {
            debug_assert!(most >= stamp.number);
            return highest.map(|highest| (highest, place));
        }
    }
    None
}
