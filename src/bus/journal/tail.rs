//! The newest events, in memory, for consumers that keep up.

use crate::domain::event::Event;
use std::collections::VecDeque;
use std::sync::Arc;

struct Entry {
    event: Arc<Event>,
    bytes: usize,
}

/// A window over the end of the journal. Positions in it are dense.
pub struct Tail {
    entries: VecDeque<Entry>,
    /// The position of the newest entry, or of the newest event on file when the window is empty.
    last: u64,
    bytes: usize,
    max_events: usize,
    max_bytes: usize,
    /// Everything up to here can be read from the file too.
    filed: u64,
}

/// What the window knows about the events after a position.
pub enum Window {
    /// These come next; empty when there is nothing newer.
    Next(Vec<(u64, Arc<Event>)>),
    /// They are older than the window: read the file.
    Older {
        /// The window's first position.
        oldest: u64,
    },
}

impl Tail {
    pub fn new(max_events: usize, max_bytes: usize, last: u64) -> Self {
        Self { entries: VecDeque::new(), last, bytes: 0, max_events, max_bytes, filed: last }
    }

    pub fn push(&mut self, position: u64, event: Arc<Event>, bytes: usize) {
        if position != self.last + 1 {
            self.entries.clear();
            self.bytes = 0;
        }
        self.last = position;
        self.bytes += bytes;
        self.entries.push_back(Entry { event, bytes });
        self.shrink();
    }

    /// Everything up to here is in the file now.
    pub fn filed(&mut self, position: u64) {
        self.filed = self.filed.max(position);
        self.shrink();
    }

    /// Lets go of the oldest, when there are too many and they are filed.
    fn shrink(&mut self) {
        while (self.entries.len() > self.max_events || self.bytes > self.max_bytes)
            && self.oldest() <= self.filed
        {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
    }

    /// The position of the first in the window, or of the next event when it is empty.
    fn oldest(&self) -> u64 {
        self.last + 1 - self.entries.len() as u64
    }

    /// All of the window.
    pub fn all(&self) -> Vec<(u64, Arc<Event>)> {
        (self.oldest()..).zip(self.entries.iter().map(|entry| entry.event.clone())).collect()
    }

    /// The file ends here, further on than the window: what lies between is read from the file.
    pub fn skip_to(&mut self, last: u64) {
        if last > self.last {
            self.entries.clear();
            self.bytes = 0;
            self.last = last;
        }
    }

    pub fn after(&self, position: u64, max: usize) -> Window {
        let oldest = self.oldest();
        if position >= self.last {
            return Window::Next(Vec::new());
        }
        if position + 1 < oldest {
            return Window::Older { oldest };
        }
        let skip = usize::try_from(position + 1 - oldest).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(skip).take(max);
        Window::Next((position + 1..).zip(entries.map(|entry| entry.event.clone())).collect())
    }
}
