//! What happened under each number of a tenant's sequence, a few bytes a number.

use std::collections::HashMap;

/// Numbers in one chunk.
const CHUNK: u64 = 256;

/// A number's mark.
#[derive(Clone, Copy)]
pub enum Mark {
    /// A sale carries the number.
    Sale = 0,
    /// Movements that are no sale carry it.
    Moved = 1,
    /// All of its ledger rows were seen: they stand together.
    Closed = 2,
}

struct Chunk {
    /// Fingerprints of movements that should be, minus those of the ones that are; zero when they are the same.
    balance: [u64; CHUNK as usize],
    marks: [[u64; (CHUNK / 64) as usize]; 3],
}

/// The numbers of one tenant. In chunks, so that one absurd number does not take the memory of all below it.
#[derive(Default)]
pub struct Numbers {
    chunks: HashMap<u64, Box<Chunk>>,
}

/// What remains at the end of a number that does not come out even.
pub struct Uneven {
    pub sequence: u64,
    pub sale: bool,
    pub moved: bool,
}

impl Numbers {
    fn chunk(&mut self, sequence: u64) -> &mut Chunk {
        let new = || Box::new(Chunk { balance: [0; CHUNK as usize], marks: [[0; 4]; 3] });
        self.chunks.entry(sequence / CHUNK).or_insert_with(new)
    }

    /// Marks a number; false when it had the mark already.
    pub fn mark(&mut self, sequence: u64, mark: Mark) -> bool {
        let index = sequence % CHUNK;
        let word = &mut self.chunk(sequence).marks[mark as usize][(index / 64) as usize];
        let bit = 1 << (index % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// A movement that should be in the ledger.
    pub fn owe(&mut self, sequence: u64, fingerprint: u64) {
        let slot = &mut self.chunk(sequence).balance[(sequence % CHUNK) as usize];
        *slot = slot.wrapping_add(fingerprint);
    }

    /// A movement that is in the ledger.
    pub fn pay(&mut self, sequence: u64, fingerprint: u64) {
        self.owe(sequence, fingerprint.wrapping_neg());
    }

    /// The numbers whose movements do not come out even, and those that carry a sale and something else, in order.
    pub fn uneven(&self) -> Vec<Uneven> {
        let mut found = Vec::new();
        for (base, chunk) in &self.chunks {
            for (index, balance) in (0_u64..).zip(&chunk.balance) {
                let has =
                    |mark: Mark| chunk.marks[mark as usize][(index / 64) as usize] >> (index % 64) & 1 == 1;
                let (sale, moved) = (has(Mark::Sale), has(Mark::Moved));
                if *balance != 0 || (sale && moved) {
                    found.push(Uneven { sequence: base * CHUNK + index, sale, moved });
                }
            }
        }
        found.sort_unstable_by_key(|uneven| uneven.sequence);
        found
    }
}
