//! Which dots an update of a field sends away, and what it makes.

use std::sync::Arc;

use super::{DEPTH_MAX, Dot, Kind, Leaf, NAME_BYTES_MAX, OrMap, Place, Step};
use super::{Update, UpdateError, Writer};
use crate::bytes::Bytes;
use crate::crdt::gset::check_element;
use crate::crdt::mv::check_siblings;
use crate::crdt::pncounter::Tally;

/// One update as the kernel takes it.
pub(super) struct Change {
    pub(super) gone: Vec<Dot>,
    pub(super) made: Option<Place>,
}

impl Change {
    const fn removal(gone: Vec<Dot>) -> Self {
        Self { gone, made: None }
    }
}

impl OrMap {
    /// The change of the field `step` in the map at `path`.
    pub(super) fn change(
        &self,
        path: &[Step],
        step: Step,
        update: &Update,
        by: &Writer,
    ) -> Result<Change, UpdateError> {
        let bytes = step.name.len();
        if bytes > NAME_BYTES_MAX {
            let (what, max) = ("the name of the field", NAME_BYTES_MAX);
            return Err(UpdateError::TooLarge { what, bytes, max });
        }
        let kind = step.kind;
        let path = [path, &[step]].concat();
        match kind {
            Kind::OrMap => self.change_map(&path, update, by),
            Kind::GCounter | Kind::PnCounter => self.change_counter(&path, update, by),
            Kind::OrSet => self.change_set(&path, update),
            Kind::Lww | Kind::Mv => self.change_register(&path, update, by),
            Kind::GSet | Kind::Bounded | Kind::Register => {
                Err(UpdateError::NotAField { kind })
            }
        }
    }

    fn change_map(
        &self,
        path: &[Step],
        update: &Update,
        by: &Writer,
    ) -> Result<Change, UpdateError> {
        // The outermost map is not in the path.
        if path.len() >= DEPTH_MAX {
            return Err(UpdateError::TooDeep { max: DEPTH_MAX });
        }
        if let Update::Field { name, kind, update } = update {
            let step = Step { name: name.clone(), kind: *kind };
            return self.change(path, step, update, by);
        }
        if let Update::RemoveField(name) = update {
            return Ok(Change::removal(self.named(path, name)));
        }
        self.forget(path, update)
    }

    /// An actor's additions are one leaf, which each of them replaces.
    fn change_counter(
        &self,
        path: &[Step],
        update: &Update,
        by: &Writer,
    ) -> Result<Change, UpdateError> {
        let kind = kind_of(path);
        let amount = match (kind, update) {
            (Kind::PnCounter, Update::Add(amount)) => i128::from(*amount),
            (Kind::GCounter, Update::Increment(amount)) => i128::from(*amount),
            _ => return self.forget(path, update),
        };
        if amount == 0 {
            return Ok(Change::removal(Vec::new()));
        }
        let (mut gone, mut own, mut net) = (Vec::new(), Tally::default(), amount);
        for (place, dots) in self.below(path) {
            let Leaf::Tally(tally) = place.leaf else { continue };
            for dot in dots {
                net += tally.net();
                if dot.actor == by.actor {
                    own = tally;
                    gone.push(*dot);
                }
            }
        }
        let overflow = || UpdateError::Overflow { kind };
        let fits = if kind == Kind::GCounter {
            u64::try_from(net).is_ok()
        } else {
            i64::try_from(net).is_ok()
        };
        let tally = own.plus(amount).filter(|_| fits).ok_or_else(overflow)?;
        Ok(Change { gone, made: Some(place(path, Leaf::Tally(tally))) })
    }

    fn change_set(&self, path: &[Step], update: &Update) -> Result<Change, UpdateError> {
        let dots = |element: &Bytes| {
            let place = place(path, Leaf::Element(element.clone()));
            (self.kernel.dots_of(&place).to_vec(), place)
        };
        if let Update::Insert(element) = update {
            check_element(element)?;
            let (gone, place) = dots(element);
            return Ok(Change { gone, made: Some(place) });
        }
        if let Update::Remove(element) = update {
            return Ok(Change::removal(dots(element).0));
        }
        self.forget(path, update)
    }

    fn change_register(
        &self,
        path: &[Step],
        update: &Update,
        by: &Writer,
    ) -> Result<Change, UpdateError> {
        let all = || self.below(path).flat_map(|(_, dots)| dots.iter().copied());
        match (kind_of(path), update) {
            (Kind::Lww, Update::Set(value)) => {
                let made = place(path, Leaf::Written(by.stamp, value.clone()));
                Ok(Change { gone: all().collect(), made: Some(made) })
            }
            (Kind::Mv, Update::Write { value, seen }) => {
                // Only what is known to be of this field: other dots may be of its neighbours.
                let (gone, beside): (Vec<_>, Vec<_>) =
                    all().partition(|dot| seen.covers(*dot));
                let Some(value) = value else { return Ok(Change::removal(gone)) };
                check_siblings(beside.len())?;
                Ok(Change { gone, made: Some(place(path, Leaf::Sibling(value.clone()))) })
            }
            (_, other) => self.forget(path, other),
        }
    }

    /// The removal of everything below a path, which every field has.
    fn forget(&self, path: &[Step], update: &Update) -> Result<Change, UpdateError> {
        if !matches!(update, Update::Delete) {
            let (kind, update) = (kind_of(path), update.name());
            return Err(UpdateError::WrongKind { kind, update });
        }
        let gone = self.below(path).flat_map(|(_, dots)| dots.iter().copied());
        Ok(Change::removal(gone.collect()))
    }
}

fn place(path: &[Step], leaf: Leaf) -> Place {
    Place { path: Arc::from(path), leaf }
}

fn kind_of(path: &[Step]) -> Kind {
    path.last().map_or(Kind::OrMap, |step| step.kind)
}
