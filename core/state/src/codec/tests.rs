//! Numbers and byte strings against postcard.

use proptest::prelude::*;

use super::{DecodeError, Source, put_bytes, put_number, put_wide};
use crate::bytes::Bytes;

proptest! {
    #[test]
    fn numbers_are_written_as_postcard_writes_them(bits in any::<u128>(), shift in 0..128_u32) {
        let wide = bits >> shift;
        let mut ours = Vec::new();
        put_wide(&mut ours, wide);
        prop_assert_eq!(&ours, &postcard::to_allocvec(&wide).unwrap());
        prop_assert_eq!(Source::new(&ours).wide().unwrap(), wide);
        let Ok(number) = u64::try_from(wide) else {
            prop_assert!(Source::new(&ours).number().is_err());
            return Ok(());
        };
        let mut ours = Vec::new();
        put_number(&mut ours, number);
        prop_assert_eq!(&ours, &postcard::to_allocvec(&number).unwrap());
        prop_assert_eq!(Source::new(&ours).number().unwrap(), number);
    }

    #[test]
    fn byte_strings_are_written_as_postcard_writes_them(text in any::<Vec<u8>>()) {
        let bytes = Bytes::from(text);
        let mut ours = Vec::new();
        put_bytes(&mut ours, &bytes);
        prop_assert_eq!(&ours, &postcard::to_allocvec(&bytes).unwrap());
        prop_assert_eq!(Source::new(&ours).bytes(1 << 20).unwrap(), bytes);
    }

    #[test]
    fn a_number_has_one_form(bytes in prop::collection::vec(any::<u8>(), 1..20)) {
        let mut from = Source::new(&bytes);
        if let Ok(number) = from.wide() {
            let mut again = Vec::new();
            put_wide(&mut again, number);
            prop_assert!(bytes.starts_with(&again));
            prop_assert_eq!(from.rest, &bytes[again.len()..]);
        }
    }
}

#[test]
fn a_length_beyond_what_is_left_is_refused_before_anything_is_taken() {
    let mut huge = Vec::new();
    put_number(&mut huge, u64::MAX);
    assert_eq!(Source::new(&huge).len(1), Err(DecodeError::Truncated));
    assert_eq!(Source::new(&huge).bytes(usize::MAX), Err(DecodeError::Truncated));
    assert_eq!(Source::new(&[3, 0, 0, 0]).len(2), Err(DecodeError::Truncated));
    assert_eq!(Source::new(&[3, 0, 0, 0]).len(1), Ok(3));
}

#[test]
fn longer_forms_of_a_number_are_refused() {
    for bytes in [&[0x80, 0x00][..], &[0x81, 0x80, 0x00], &[0xff; 19], &[0x80]] {
        assert!(Source::new(bytes).number().is_err(), "{bytes:?}");
    }
}
