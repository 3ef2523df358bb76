//! What leaves this process to come back unread and unchanged: AES-256-GCM, the nonce before it.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

pub(crate) type SecretKey = [u8; 32];

pub(crate) fn new_key(random: &SystemRandom) -> Option<SecretKey> {
    let mut key = [0; 32];
    random.fill(&mut key).ok()?;
    Some(key)
}

/// `about` must be told again to open it.
pub(crate) fn seal(
    random: &SystemRandom,
    key: &SecretKey,
    about: &[u8],
    mut plain: Vec<u8>,
) -> Option<Vec<u8>> {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce).ok()?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(about), &mut plain).ok()?;
    Some([&nonce[..], &plain].concat())
}

pub(crate) fn open(key: &SecretKey, about: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    let mut plain = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let open = key.open_in_place(nonce, Aad::from(about), &mut plain).ok()?;
    Some(open.to_vec())
}
