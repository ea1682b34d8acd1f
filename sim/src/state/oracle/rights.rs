//! Whether what was used of a bounded counter stays within what was minted, at every moment
//! (F38).
//!
//! A use counts from when its client was told, a mint from when it was first asked for: whatever
//! the truth is, it lies on the other side of both, so an overdraft that is found is one.

/// What happens to a bounded counter, in the order of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A mint of so much was asked for.
    Minted(u64),
    /// A client was told that so much is its own.
    Used(u64),
    /// A client asked for so much to be given back.
    Returned(u64),
}

/// The account of one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    minted: u128,
    used: u128,
}

impl Account {
    /// Books what happened.
    ///
    /// # Errors
    ///
    /// By how much more is used than there ever was.
    pub fn book(&mut self, happening: Happening) -> Result<(), u128> {
        match happening {
            Happening::Minted(amount) | Happening::Returned(amount) => {
                self.minted += u128::from(amount);
            }
            Happening::Used(amount) => self.used += u128::from(amount),
        }
        match self.used.checked_sub(self.minted) {
            None | Some(0) => Ok(()),
            Some(overdraft) => Err(overdraft),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(happenings: &[Happening]) -> Result<(), u128> {
        let mut account = Account::default();
        happenings.iter().try_for_each(|happening| account.book(*happening))
    }

    #[test]
    fn all_that_was_minted_may_be_used() {
        let happenings = [Happening::Minted(5), Happening::Used(2), Happening::Used(3)];
        assert_eq!(book(&happenings), Ok(()));
    }

    #[test]
    fn an_overdraft_is_found_also_when_a_later_mint_would_cover_it() {
        let happenings = [Happening::Minted(5), Happening::Used(6), Happening::Minted(5)];
        assert_eq!(book(&happenings), Err(1));
        let little_by_little =
            [Happening::Minted(5), Happening::Used(3), Happening::Used(3)];
        assert_eq!(book(&little_by_little), Err(1));
    }

    #[test]
    fn what_is_given_back_may_be_used_again() {
        let happenings = [
            Happening::Minted(5),
            Happening::Used(5),
            Happening::Returned(2),
            Happening::Used(2),
        ];
        assert_eq!(book(&happenings), Ok(()));
    }
}
