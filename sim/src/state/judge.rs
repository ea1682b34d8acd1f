//! A reading of a key, against all that was ever asked of it.
//!
//! This is where a kind meets its oracle; which updates have to show and which only may is
//! decided by whoever asks.

use super::history::{Operation, Wish};
use super::keys::Seen;
use super::oracle::{Change, Standing, Update, counter, latest, set};
use super::world::World;

/// Explains what was seen of a key. `standing` says of each update whether it has to show, only
/// may, or may not.
///
/// # Errors
///
/// What no selection of the updates explains.
pub(super) fn explain(
    world: &World,
    key: usize,
    seen: &Seen,
    standing: impl Fn(&Operation) -> Option<Standing>,
) -> Result<(), String> {
    let updates = |change_of: fn(&Wish) -> Option<Change>| -> Vec<Update> {
        let of_key = world.history.of_key(key);
        let updates = of_key.filter_map(|operation| {
            let change = change_of(&operation.wish)?;
            let standing = standing(operation)?;
            Some(Update { number: operation.number, change, standing })
        });
        updates.collect()
    };
    let told = match seen {
        Seen::Sum(sum) => counter::explain(&updates(changes), *sum),
        Seen::Rights { minted, used } => counter::explain(&updates(mints), *minted)
            .and_then(|()| counter::explain(&updates(uses), *used)),
        Seen::Values(values) => {
            let updates = updates(changes);
            match world.keys[key].kind {
                dwcp_state::Kind::Lww => {
                    latest::explain(&updates, &world.history, values)
                }
                // Which write a register shows is judged with the whole history.
                dwcp_state::Kind::Register => set::known(&updates, values),
                dwcp_state::Kind::GCounter
                | dwcp_state::Kind::PnCounter
                | dwcp_state::Kind::GSet
                | dwcp_state::Kind::OrSet
                | dwcp_state::Kind::Mv
                | dwcp_state::Kind::OrMap
                | dwcp_state::Kind::Bounded => {
                    set::explain(&updates, &world.history, values)
                }
            }
        }
    };
    told.map_err(|why| {
        let name = &world.keys[key].name;
        format!("{name} reads {seen:?}: {why}")
    })
}

const fn changes(wish: &Wish) -> Option<Change> {
    if let Wish::Change(change) = wish { Some(*change) } else { None }
}

fn mints(wish: &Wish) -> Option<Change> {
    if let Wish::Mint(amount) = wish { Some(add(*amount, false)) } else { None }
}

fn uses(wish: &Wish) -> Option<Change> {
    match wish {
        Wish::Spend(amount) => Some(add(*amount, false)),
        Wish::Release(amount) => Some(add(*amount, true)),
        Wish::Read | Wish::Change(_) | Wish::Mint(_) | Wish::Transfer(_) => None,
    }
}

fn add(amount: u64, back: bool) -> Change {
    let amount = i64::try_from(amount).unwrap_or(i64::MAX);
    Change::Add(if back { -amount } else { amount })
}
