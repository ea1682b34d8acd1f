//! Moments as they are typed.

use dwcp_types::Timestamp;

/// Reads `2026-03-01T12:00:00Z`, or the same with an offset.
///
/// # Errors
///
/// How to write it.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    let how = || {
        "write a moment with its zone: 2026-03-01T12:00:00Z, or +01:00 in place of Z"
            .to_owned()
    };
    let read: jiff::Timestamp = text.parse().map_err(|_| how())?;
    let millis = u64::try_from(read.as_millisecond()).map_err(|_| how())?;
    Ok(Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_a_zone() {
        let millis = |text| moment(text).map(Timestamp::as_millis);
        assert_eq!(millis("1970-01-01T00:00:02Z"), Ok(2_000));
        assert_eq!(millis("1970-01-01T01:00:02+01:00"), Ok(2_000));
        for wrong in ["", "12:00", "2026-03-01T12:00:00", "1960-01-01T00:00:00Z", "now"] {
            assert!(moment(wrong).unwrap_err().contains("+01:00"), "{wrong}");
        }
    }
}
