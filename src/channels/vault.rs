//! Credentials at rest: AES-256-GCM, with the name of the key beside the ciphertext, so that keys can be changed.

use crate::domain::ids::ConnectionId;
use crate::ports::PortError;
use crate::ports::channel::{Credentials, Sealed, Vault};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::fmt;

/// The keys of an installation, the newest first.
pub struct Keyring {
    keys: Vec<(String, RandomizedNonceKey)>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl Keyring {
    /// Reads `id:base64,id:base64,...`: 32 bytes each, the newest first. Nothing at all is a keyring that seals nothing.
    ///
    /// # Errors
    ///
    /// Permanent, naming the key and never showing it.
    pub fn parse(text: &str) -> Result<Self, PortError> {
        let mut keys: Vec<(String, RandomizedNonceKey)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (id, encoded) = part.split_once(':').unwrap_or(("", part));
            let refuse = |why: &str| Err(PortError::Permanent(format!("channels.keys: key {id:?} {why}")));
            if id.is_empty() || id.len() > 32 {
                return refuse("has no id of 1 to 32 characters before its colon");
            }
            if keys.iter().any(|(known, _)| known == id) {
                return refuse("is there twice");
            }
            let Ok(bytes) = BASE64_STANDARD.decode(encoded) else { return refuse("is not base64") };
            let Ok(key) = RandomizedNonceKey::new(&AES_256_GCM, &bytes) else {
                return refuse("has not 32 bytes");
            };
            keys.push((id.to_owned(), key));
        }
        Ok(Self { keys })
    }
}

fn unusable(why: &str) -> PortError {
    PortError::Permanent(why.to_owned())
}

impl Vault for Keyring {
    fn seal(&self, connection: ConnectionId, credentials: &Credentials) -> Result<Sealed, PortError> {
        let (id, key) = self
            .keys
            .first()
            .ok_or_else(|| unusable("channels.keys is empty: credentials cannot be kept"))?;
        let mut text = serde_json::to_vec(credentials).map_err(|error| unusable(&error.to_string()))?;
        let nonce = key
            .seal_in_place_append_tag(Aad::from(connection.as_bytes()), &mut text)
            .map_err(|_| unusable("credentials cannot be sealed"))?;
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut text);
        Ok(Sealed { key_id: id.clone(), bytes })
    }

    fn open(&self, connection: ConnectionId, sealed: &Sealed) -> Result<Credentials, PortError> {
        let key = self.keys.iter().find(|(id, _)| *id == sealed.key_id).ok_or_else(|| {
            unusable(&format!("channels.keys lacks key {:?}, which sealed the credentials", sealed.key_id))
        })?;
        let broken = || unusable("the credentials were not sealed for this connection, or are damaged");
        let (nonce, text) = sealed.bytes.split_at_checked(NONCE_LEN).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut text = text.to_vec();
        let open = key.1.open_in_place(nonce, Aad::from(connection.as_bytes()), &mut text);
        let open = open.map_err(|_| broken())?;
        serde_json::from_slice(open).map_err(|_| broken())
    }

    fn is_outdated(&self, sealed: &Sealed) -> bool {
        self.keys.first().is_some_and(|(id, _)| *id != sealed.key_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const ONE: &str = "2026:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const TWO: &str = "2027:/wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn secret() -> Credentials {
        Credentials {
            client_id: Some("app".into()),
            client_secret: Some("hush".into()),
            access_token: "shpat_1".into(),
            refresh_token: None,
        }
    }

    #[test]
    fn opens_for_its_connection_only_and_after_the_keys_have_changed() {
        let (one, other) = (ConnectionId(Uuid::from_u128(1)), ConnectionId(Uuid::from_u128(2)));
        let old = Keyring::parse(ONE).unwrap();
        let sealed = old.seal(one, &secret()).unwrap();
        assert!(!String::from_utf8_lossy(&sealed.bytes).contains("shpat"));
        assert_ne!(sealed, old.seal(one, &secret()).unwrap(), "a nonce is used once");
        assert_eq!(old.open(one, &sealed).unwrap(), secret());
        assert!(old.open(other, &sealed).is_err());
        for at in 0..sealed.bytes.len() {
            let mut tampered = sealed.clone();
            tampered.bytes[at] ^= 1;
            assert!(old.open(one, &tampered).is_err(), "byte {at}");
        }
        let both = Keyring::parse(&format!("{TWO}, {ONE}")).unwrap();
        assert_eq!(both.open(one, &sealed).unwrap(), secret());
        assert!(both.is_outdated(&sealed) && !both.is_outdated(&both.seal(one, &secret()).unwrap()));
        let lacking = Keyring::parse(TWO).unwrap().open(one, &sealed).unwrap_err().to_string();
        assert!(lacking.contains("\"2026\""), "{lacking}");
    }

    #[test]
    fn bad_keys_are_named_and_never_shown() {
        for (keys, why) in [
            ("x:AAEC", "32 bytes"),
            ("x:!!!", "base64"),
            ("AAEC", "no id"),
            (&format!("{ONE},{ONE}"), "twice"),
        ] {
            let error = Keyring::parse(keys).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("AAEC"), "{error}");
        }
        let none = Keyring::parse("").unwrap();
        let error = none.seal(ConnectionId(Uuid::nil()), &secret()).unwrap_err().to_string();
        assert!(error.contains("channels.keys is empty"), "{error}");
        assert_eq!(
            format!("{:?} {:?}", Keyring::parse(ONE).unwrap(), secret()),
            "[\"2026\"] Credentials(***)"
        );
    }
}
