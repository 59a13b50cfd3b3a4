//! The checkout as a saga: its steps, and the undo of each.
//!
//! | step    | does                                   | undo                                  |
//! |---------|----------------------------------------|---------------------------------------|
//! | reserve | holds every unit, binds the key        | void: units back, key free            |
//! | record  | makes the sale's event durable         | none: a durable sale is sold          |
//! | settle  | turns the hold into a movement, answer | none: it only repeats what is durable |
//!
//! The one thing that must never happen is to undo a step whose successor may have happened. A record step whose
//! outcome is unknown is therefore not undone: the state is thrown away and rebuilt from what turns out durable.

/// How the attempt to make an event durable ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is durable.
    Durable,
    /// It certainly is not.
    NotDurable,
    /// It may be either.
    InDoubt,
}

/// What the owner of the reservation does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Settle and answer with the sale.
    Settle,
    /// Void (the undo of reserve) and answer that nothing was sold.
    Void,
    /// Touch nothing, answer that the outcome is unknown and the request may be repeated with its key, and rebuild
    /// from what is durable.
    Rebuild,
}

/// The step after record.
pub const fn after_record(recorded: Recorded) -> Next {
    match recorded {
        Recorded::Durable => Next::Settle,
        Recorded::NotDurable => Next::Void,
        Recorded::InDoubt => Next::Rebuild,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_certain_failure_is_undone() {
        assert_eq!(after_record(Recorded::Durable), Next::Settle);
        assert_eq!(after_record(Recorded::NotDurable), Next::Void);
        assert_eq!(after_record(Recorded::InDoubt), Next::Rebuild);
    }
}
