//! Which versions of etcd may hold records.
//!
//! 3.5.0 to 3.5.2 can come to disagree among members after a crash, silently; their makers
//! withdrew them for production. Before 3.4 there are no watch fragments.

/// The oldest that is spoken to.
const OLDEST: (u32, u32, u32) = (3, 4, 0);
/// The first and the last of those that lose data.
const WITHDRAWN: [(u32, u32, u32); 2] = [(3, 5, 0), (3, 5, 2)];

/// Accepts a version, or says why not and what to do.
pub(super) fn admit(version: &str) -> Result<(), String> {
    let Some(number) = parse(version) else {
        return Err(format!("its version {version:?} cannot be read"));
    };
    if number < OLDEST {
        return Err(format!(
            "it runs etcd {version}; 3.4 is the oldest that is supported"
        ));
    }
    let [first, last] = WITHDRAWN;
    if (first..=last).contains(&number) {
        return Err(format!(
            "it runs etcd {version}, whose members can come to disagree after a crash; \
             upgrade it to 3.5.9 or later, or to 3.4"
        ));
    }
    Ok(())
}

/// Three numbers; what follows the last, such as `-rc.1`, does not count.
fn parse(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.splitn(3, '.');
    let mut next = || {
        let part = parts.next()?;
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        part.get(..digits)?.parse().ok()
    };
    Some((next()?, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_lose_data_are_refused_with_the_way_out() {
        for version in ["3.5.0", "3.5.1", "3.5.2", "3.5.0-rc.1"] {
            let reason = admit(version).unwrap_err();
            assert!(reason.contains("3.5.9 or later"), "{version}: {reason}");
        }
        for version in ["3.4.0", "3.4.23", "3.5.3", "3.5.9", "3.6.0", "4.0.0"] {
            assert_eq!(admit(version), Ok(()), "{version}");
        }
        for version in ["3.3.27", "2.3.8", "", "3", "3.5", "x.y.z", "99999999999.1.1"] {
            assert!(admit(version).is_err(), "{version}");
        }
    }
}
