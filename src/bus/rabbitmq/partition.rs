//! One partition as its consumer sees it: what is in hand, what is on its way through a retry, who waits for both.

use super::connection::transient;
use super::message::History;
use crate::domain::ids::EventId;
use crate::ports::PortError;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use std::collections::{BTreeMap, HashSet};

/// Somebody who waits until everything that was published before is settled.
#[derive(Debug)]
pub struct Barrier {
    /// Everything in hand below this delivery tag must be settled or moved.
    pub tag: u64,
    /// Where the answer goes.
    pub reply_to: String,
    pub correlation: String,
    /// What was on its way through a retry when nothing before the barrier was in hand any more.
    waits_for: Option<HashSet<EventId>>,
}

/// Whether messages may be on their way that an earlier feed sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// It was not asked yet.
    Unknown,
    /// Markers must be sent.
    ToAsk,
    /// Markers of these steps are on their way.
    Asked(HashSet<usize>),
    /// No.
    Nothing,
}

/// The state of a partition.
pub struct Partition {
    /// Which of the installation's.
    pub number: usize,
    pub channel: Channel,
    /// Delivered and not settled, by delivery tag.
    pub held: BTreeMap<u64, History>,
    /// Sent to a retry by this feed and not settled since.
    pub moved: HashSet<EventId>,
    pub elsewhere: Elsewhere,
    pub barriers: Vec<Barrier>,
}

impl Partition {
    pub fn new(number: usize, channel: Channel) -> Self {
        Self {
            number,
            channel,
            held: BTreeMap::new(),
            moved: HashSet::new(),
            elsewhere: Elsewhere::Unknown,
            barriers: Vec::new(),
        }
    }

    /// Somebody waits from now on. Asked again by the same, it is one.
    pub fn wait(&mut self, tag: u64, reply_to: String, correlation: String) {
        if self.elsewhere == Elsewhere::Unknown {
            self.elsewhere = Elsewhere::ToAsk;
        }
        if !self.barriers.iter().any(|barrier| barrier.correlation == correlation) {
            self.barriers.push(Barrier { tag, reply_to, correlation, waits_for: None });
        }
    }

    /// A marker is back: nothing that an earlier feed sent is in that step's queue any more.
    pub fn came_back(&mut self, tag: u64, step: usize) {
        let Elsewhere::Asked(steps) = &mut self.elsewhere else { return };
        steps.remove(&step);
        if steps.is_empty() {
            self.elsewhere = Elsewhere::Nothing;
        }
        // What came back before the marker has to be settled too.
        for barrier in &mut self.barriers {
            (barrier.tag, barrier.waits_for) = (tag, None);
        }
    }

    /// Those who need not wait any more.
    pub fn passed(&mut self) -> Vec<Barrier> {
        let oldest = self.held.first_key_value().map(|(tag, _)| *tag);
        let (moved, elsewhere) = (&self.moved, &self.elsewhere);
        let is_over = |barrier: &mut Barrier| {
            if oldest.is_some_and(|oldest| oldest < barrier.tag) || *elsewhere != Elsewhere::Nothing {
                return false;
            }
            let waits_for = barrier.waits_for.get_or_insert_with(|| moved.clone());
            waits_for.retain(|id| moved.contains(id));
            waits_for.is_empty()
        };
        self.barriers.extract_if(.., is_over).collect()
    }

    /// Acknowledges deliveries, as far as possible with one frame.
    pub async fn acknowledge(&mut self, tags: &[u64]) -> Result<(), PortError> {
        acknowledge(&self.channel, &mut self.held, tags).await
    }
}

/// Acknowledges deliveries of those that are held, as far as possible with one frame.
pub async fn acknowledge<T>(
    channel: &Channel,
    held: &mut BTreeMap<u64, T>,
    tags: &[u64],
) -> Result<(), PortError> {
    // The broker closes the channel when it is told the same thing twice.
    let tags: Vec<u64> = tags.iter().copied().filter(|tag| held.remove(tag).is_some()).collect();
    // An acknowledgement of many covers everything below it; all of that was seen and, up to here, settled.
    let oldest = held.first_key_value().map_or(u64::MAX, |(tag, _)| *tag);
    let many = tags.iter().copied().filter(|tag| *tag < oldest).max();
    if let Some(tag) = many {
        let options = BasicAckOptions { multiple: true };
        channel.basic_ack(tag, options).await.map_err(transient)?;
    }
    for tag in tags.into_iter().filter(|tag| *tag > oldest) {
        channel.basic_ack(tag, BasicAckOptions::default()).await.map_err(transient)?;
    }
    Ok(())
}
