//! Idempotency keys: the same key with the same request is answered again, never done again.

use super::ids::TenantId;
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};

/// Longest key accepted, in bytes.
pub const MAX_KEY_BYTES: usize = 255;

/// A key a client chose for one sale: 1 to 255 visible ASCII characters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// Checks and takes a key; the error says the rule.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let fits = (1..=MAX_KEY_BYTES).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err("must be 1 to 255 visible ASCII characters")
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands for the key in indexes: 128 bits of SHA-256 over tenant and key, so that two tenants' equal keys
    /// never meet.
    pub fn hash(&self, tenant: TenantId) -> KeyHash {
        let digest = Sha256::new().chain_update(tenant.as_bytes()).chain_update(self.0.as_bytes()).finalize();
        KeyHash(first_16(&digest))
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 128 bits that stand for (tenant, key).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyHash(pub u128);

impl KeyHash {
    /// The part that databases index.
    pub const fn indexed(self) -> i64 {
        (self.0 >> 64) as i64
    }
}

/// 128 bits of SHA-256 over a request in canonical form: what "the same body" means. White space and the order of
/// JSON fields do not count; order and content of the lines do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    /// Of a sale request.
    pub fn of(request: &super::sale::SaleRequest) -> Self {
        let mut sha = Sha256::new();
        let option = |units: Option<i64>| units.map_or([0xFF; 8], i64::to_be_bytes);
        sha.update(request.payment.as_str());
        sha.update(request.location.map_or([0; 16], |location| *location.as_bytes()));
        sha.update(option(request.seen_total.map(|money| money.units())));
        for line in &request.lines {
            sha.update(line.product.as_bytes());
            sha.update(line.quantity.units().to_be_bytes());
            sha.update(option(line.seen_price.map(|money| money.units())));
        }
        Self(first_16(&sha.finalize()).to_be_bytes())
    }
}

fn first_16(digest: &[u8]) -> u128 {
    digest.iter().take(16).fold(0, |acc, byte| (acc << 8) | u128::from(*byte))
}

/// A Bloom filter over key hashes: says for certain that a key was never seen, so that a new key, the normal case,
/// needs no look-up in the database.
///
/// Bloom, "Space/Time Trade-offs in Hash Coding with Allowable Errors", 1970. With 16 bits a key and 4 probes about
/// one new key in four hundred is looked up in vain when the filter is as full as it was sized for; beyond that it
/// only costs more look-ups, never a wrong answer.
pub struct KeyFilter {
    words: Vec<u64>,
    mask: u64,
}

impl KeyFilter {
    /// Sized for so many keys, at 16 bits each, rounded up to a power of two.
    pub fn for_keys(keys: usize) -> Self {
        let words = (keys / 4).next_power_of_two().max(16);
        Self { words: vec![0; words], mask: words as u64 * 64 - 1 }
    }

    /// Remembers the indexed half of a key's hash.
    pub fn insert(&mut self, indexed: i64) {
        for bit in self.probes(indexed) {
            self.words[(bit / 64) as usize] |= 1 << (bit % 64);
        }
    }

    /// `false` means: certainly never inserted.
    pub fn may_contain(&self, indexed: i64) -> bool {
        self.probes(indexed).into_iter().all(|bit| self.words[(bit / 64) as usize] & (1 << (bit % 64)) != 0)
    }

    /// Kirsch and Mitzenmacher: two halves of one hash make all probes. The hash is already uniform.
    fn probes(&self, indexed: i64) -> [u64; 4] {
        let hash = indexed as u64;
        let step = (hash >> 32) | 1;
        [0, 1, 2, 3].map(|i| hash.wrapping_add(step.wrapping_mul(i)) & self.mask)
    }
}

impl fmt::Debug for KeyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFilter({} KiB)", self.words.len() / 128)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked_and_kept_apart_by_tenant() {
        let long = "k".repeat(256);
        for bad in ["", "con espacio", "ñ", "tab\t", long.as_str()] {
            assert!(IdempotencyKey::parse(bad).is_err(), "{bad:?}");
        }
        let key = IdempotencyKey::parse("till-7:42").unwrap();
        let tenants = [0, 1].map(|_| TenantId(uuid::Uuid::now_v7()));
        assert_ne!(key.hash(tenants[0]), key.hash(tenants[1]));
        assert_eq!(key.hash(tenants[0]), IdempotencyKey::parse("till-7:42").unwrap().hash(tenants[0]));
    }

    #[test]
    fn the_filter_forgets_nothing_and_is_rarely_wrong() {
        let hash = |n: u32| {
            let key = IdempotencyKey::parse(&format!("k{n}")).unwrap();
            key.hash(TenantId(uuid::Uuid::nil())).indexed()
        };
        let mut filter = KeyFilter::for_keys(10_000);
        (0..10_000).for_each(|n| filter.insert(hash(n)));
        assert!((0..10_000).all(|n| filter.may_contain(hash(n))));
        let wrong = (10_000..30_000).filter(|&n| filter.may_contain(hash(n))).count();
        assert!(wrong < 200, "{wrong} of 20000 unseen keys look seen");
    }
}
