//! Which generation a change is meant for. Whoever makes the change looks in its own turn, so that nothing comes between the look
//! and the change: of two who have seen the same, the second is told.

/// The generations that a change is meant for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Meant {
    /// Whichever is in force.
    #[default]
    ForAny,
    /// One of these, and else for nothing.
    For(Vec<u64>),
}

/// The generation in force is none of those that a change is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the generation in force is \"{0}\": look again at what is to be changed")]
pub struct Outdated(pub u64);

impl Meant {
    /// To be asked where no other change can come in between.
    ///
    /// # Errors
    /// It is meant for another generation than the one in force; 0 is before the first.
    pub fn check(&self, in_force: u64) -> Result<(), Outdated> {
        match self {
            Self::ForAny => Ok(()),
            Self::For(seen) if seen.contains(&in_force) => Ok(()),
            Self::For(_) => Err(Outdated(in_force)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_made_where_it_is_meant() {
        assert_eq!(Meant::default().check(3), Ok(()));
        assert_eq!(Meant::For(vec![2, 3]).check(3), Ok(()));
        assert_eq!(Meant::For(vec![2, 4]).check(3), Err(Outdated(3)));
        assert_eq!(
            Meant::For(Vec::new()).check(0),
            Err(Outdated(0)),
            "what names nothing that is known is for nothing"
        );
    }
}
