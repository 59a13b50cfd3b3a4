//! What a receiver's messages are signed with: its secret and, for a day after each change, those before it, so that
//! its people can take the new one over in their own time.

use super::Secret;
use crate::domain::time::Timestamp;

/// How long a secret signs beside the one that took its place, in microseconds.
const OVERLAP: i64 = 24 * 3_600 * 1_000_000;

/// Secrets that sign beside the newest at most.
const MOST: usize = 8;

/// The secrets of one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signing {
    newest: Secret,
    /// The newer ones first, each with the moment at which it is over.
    before: Vec<(Secret, Timestamp)>,
}

impl Signing {
    /// One that never was another.
    pub const fn of(secret: Secret) -> Self {
        Self { newest: secret, before: Vec::new() }
    }

    /// With another secret from now on, and the moment until which the one before signs too. Nothing when too many sign
    /// already.
    pub fn rotated(&self, secret: Secret, now: Timestamp) -> Option<(Self, Timestamp)> {
        let until = Timestamp::from_micros(now.micros().saturating_add(OVERLAP));
        let before = self.before.iter().filter(|(_, until)| now < *until).cloned();
        let before: Vec<_> = std::iter::once((self.newest.clone(), until)).chain(before).collect();
        (before.len() <= MOST).then_some((Self { newest: secret, before }, until))
    }

    /// `webhook-signature` of a body that is sent at a moment (in seconds) as the message of that id: one for each
    /// secret, separated by spaces. Whoever knows any of them finds its own.
    pub fn sign(&self, id: &str, moment: i64, body: &[u8]) -> String {
        let now = Timestamp::from_micros(moment.saturating_mul(1_000_000));
        let before = self.before.iter().filter(|(_, until)| now < *until).map(|(secret, _)| secret);
        let signed = std::iter::once(&self.newest).chain(before).map(|secret| secret.sign(id, moment, body));
        signed.collect::<Vec<_>>().join(" ")
    }

    /// As it is kept, sealed: the secret, then each one before it with its moment.
    pub fn reveal(&self) -> String {
        let before =
            self.before.iter().map(|(secret, until)| format!(" {} {}", secret.reveal(), until.micros()));
        std::iter::once(self.newest.reveal()).chain(before).collect()
    }

    /// Reads what was kept.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let newest = Secret::parse(words.next()?)?;
        let mut before = Vec::new();
        while let Some(secret) = words.next() {
            let until = Timestamp::from_micros(words.next()?.parse().ok()?);
            before.push((Secret::parse(secret)?, until));
        }
        Some(Self { newest, before })
    }
}

#[test]
fn a_secret_signs_for_a_day_beside_those_that_took_its_place() {
    let [one, two, three] = [(); 3].map(|()| Secret::random().unwrap());
    let at = |hours: i64| Timestamp::from_micros(hours * 3_600_000_000);
    let signed = |signing: &Signing, hours: i64| signing.sign("m1", at(hours).seconds(), b"{}");
    let each = |secrets: &[&Secret], hours: i64| {
        let signed = secrets.iter().map(|secret| secret.sign("m1", at(hours).seconds(), b"{}"));
        signed.collect::<Vec<_>>().join(" ")
    };
    let first = Signing::of(one.clone());
    assert_eq!(signed(&first, 0), each(&[&one], 0));
    let (second, until) = first.rotated(two.clone(), at(10)).unwrap();
    assert_eq!(until, at(34));
    let (third, _) = second.rotated(three.clone(), at(20)).unwrap();
    assert_eq!(signed(&third, 21), each(&[&three, &two, &one], 21));
    assert_eq!(signed(&third, 33), each(&[&three, &two, &one], 33));
    assert_eq!(signed(&third, 34), each(&[&three, &two], 34));
    assert_eq!(signed(&third, 44), each(&[&three], 44));
    for signing in [&first, &second, &third] {
        assert_eq!(Signing::parse(&signing.reveal()).as_ref(), Some(signing));
    }
    assert!(!format!("{third:?}").contains("whsec_"));
    for text in ["", "whsec_!", "  ", &format!("{} {}", one.reveal(), two.reveal())] {
        assert_eq!(Signing::parse(text), None, "{text}");
    }
    // What is over is forgotten with the next change, and too many at once are refused.
    let mut signing = third;
    for round in 0..20 {
        signing = signing.rotated(Secret::random().unwrap(), at(100 + round * 4)).unwrap().0;
        assert!(signing.before.len() <= 6);
    }
    let more = (0..MOST).try_fold(signing, |signing, _| {
        signing.rotated(Secret::random().unwrap(), at(300)).map(|(signing, _)| signing)
    });
    assert_eq!(more.unwrap().rotated(one, at(300)), None);
}
