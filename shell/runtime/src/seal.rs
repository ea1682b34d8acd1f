//! Signatures that only who has the key can write and check: HMAC-SHA256.

use std::fmt;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of a key, and of a signature.
pub const SEAL_LEN: usize = 32;

/// A key.
#[derive(Clone)]
pub struct Seal(hmac::Key);

impl Seal {
    /// Of these bytes.
    #[must_use]
    pub fn new(secret: &[u8; SEAL_LEN]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The signature of a text.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> [u8; SEAL_LEN] {
        let mut tag = [0; SEAL_LEN];
        tag.copy_from_slice(hmac::sign(&self.0, text).as_ref());
        tag
    }

    /// Whether it is that, in a time that says nothing of what it should be.
    #[must_use]
    pub fn is_signed(&self, text: &[u8], tag: &[u8; SEAL_LEN]) -> bool {
        hmac::verify(&self.0, text, tag).is_ok()
    }
}

/// The key is nobody's business.
impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").finish_non_exhaustive()
    }
}

/// Bytes for a new key.
///
/// # Errors
///
/// When the system gives no random bytes.
pub fn secret() -> Result<[u8; SEAL_LEN], String> {
    let mut bytes = [0; SEAL_LEN];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map(|()| bytes).map_err(|_| "the system gives no random bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_with_the_same_key_is_signed() {
        let (own, other) = (Seal::new(&[1; SEAL_LEN]), Seal::new(&secret().unwrap()));
        let tag = own.sign(b"text");
        assert!(own.is_signed(b"text", &tag));
        assert!(!own.is_signed(b"texts", &tag));
        assert!(!other.is_signed(b"text", &tag));
        let mut wrong = tag;
        wrong[31] ^= 1;
        assert!(!own.is_signed(b"text", &wrong));
        assert!(!format!("{own:?}").contains('1'));
    }
}
