//! W3C trace context (<https://www.w3.org/TR/trace-context/>): which trace a request, and the event that came of it,
//! belong to.
//!
//! What a caller sent is carried along. Where none did, the request itself begins the trace, and its id follows from
//! the request's; so nothing need be carried, and whoever has the one has the other.

use sha2::{Digest as _, Sha256};
use std::fmt;
use uuid::Uuid;

/// Longest `tracestate` that is carried; the recommendation asks for no more.
const MAX_STATE: usize = 512;
/// Most entries of one.
const MAX_MEMBERS: usize = 32;
/// The flags whose meaning is known: sampled, and (level 2) that the id is random.
const KNOWN_FLAGS: u8 = 0b11;
/// Somebody records it.
const SAMPLED: u8 = 0b01;

/// The id of a trace; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl TraceId {
    /// Of a trace that a request begins: the request's id if that is a UUID, else a hash of it.
    pub fn begun_by(request_id: &str) -> Self {
        let id = Uuid::try_parse(request_id).map_or_else(
            |_| {
                let hash: [u8; 32] = Sha256::digest(request_id).into();
                hash.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte))
            },
            |uuid| uuid.as_u128(),
        );
        Self(id.max(1))
    }

    /// Its 128 bits.
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A trace, and the step of it under which others continue: the caller's, or what a request became here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    id: TraceId,
    span: u64,
    flags: u8,
    state: Option<Box<str>>,
}

impl TraceContext {
    /// Reads the two headers. `None` where `traceparent` is not valid: a new trace begins then. A `tracestate` that
    /// is not valid is left out.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let text = traceparent.as_bytes();
        let dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
        let version = hex(text.get(..2)?)?;
        // Later versions may say more behind it, after another dash.
        let ends = match version {
            0 => text.len() == 55,
            0xff => false,
            _ => text.len() == 55 || text.get(55) == Some(&b'-'),
        };
        let (id, span, flags) = (hex(text.get(3..35)?)?, hex(text.get(36..52)?)?, hex(text.get(53..55)?)?);
        if !dashes || !ends || id == 0 || span == 0 {
            return None;
        }
        let state = tracestate.map(str::trim).filter(|state| is_state(state)).map(Into::into);
        let (span, flags) = (u64::try_from(span).ok()?, u8::try_from(flags).ok()? & KNOWN_FLAGS);
        Some(Self { id: TraceId(id), span, flags, state })
    }

    /// A trace that begins with this step, and that is recorded.
    pub const fn recorded(id: TraceId, span: u64) -> Self {
        Self { id, span, flags: SAMPLED, state: None }
    }

    /// The same trace, going on under this step.
    pub fn under(&self, span: u64) -> Self {
        Self { span, ..self.clone() }
    }

    /// Which trace.
    pub const fn id(&self) -> TraceId {
        self.id
    }

    /// The step under which others continue.
    pub const fn span(&self) -> u64 {
        self.span
    }

    /// `traceparent` for whoever goes on under that step.
    pub fn header(&self) -> String {
        format!("00-{}-{:016x}-{:02x}", self.id, self.span, self.flags)
    }

    /// Whether whoever began it wants its steps recorded.
    pub const fn is_recorded(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// `tracestate`, as it came.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

/// `traceparent` of something that was done for a request: `span` is its own id, under which others continue.
pub fn traceparent(context: Option<&TraceContext>, request_id: &str, span: Uuid) -> String {
    let (id, flags) = match context {
        Some(context) => (context.id, context.flags),
        None => (TraceId::begun_by(request_id), 0),
    };
    TraceContext { id, span: span_of(span), flags, state: None }.header()
}

/// The step that something with this id is: the second half of a UUID is its random one.
pub fn span_of(id: Uuid) -> u64 {
    id.as_u64_pair().1.max(1)
}

/// The id of a step that has no other.
pub fn new_span() -> u64 {
    span_of(Uuid::now_v7())
}

/// Lower-case digits alone, as the recommendation has it.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// `key=value,key=value`, each key once. What may stand in them is not looked at closer than that it is printable.
fn is_state(state: &str) -> bool {
    let fits = !state.is_empty() && state.len() <= MAX_STATE;
    let printable = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let mut keys = Vec::new();
    for member in state.split(',').map(str::trim).filter(|member| !member.is_empty()) {
        match member.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() && !keys.contains(&key) => {
                keys.push(key)
            }
            _ => return false,
        }
    }
    fits && printable(state) && (1..=MAX_MEMBERS).contains(&keys.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_valid_traceparent_is_taken_over_and_another_begins_a_new_trace() {
        let later = [
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-is-yet-to-come",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        for valid in later.into_iter().chain([GIVEN]) {
            let context = TraceContext::parse(valid, None).unwrap();
            assert_eq!((context.id().to_string().as_str(), context.flags), (TRACE, 1), "{valid}");
        }
        let invalid = [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-001",
            "00-4bf92f3577b34da6a3ce929d0e0e473ñ-0f067aa0ba902b7-01",
        ];
        for text in invalid {
            assert_eq!(TraceContext::parse(text, None), None, "{text}");
        }
    }

    #[test]
    fn a_tracestate_is_carried_as_it_came_or_not_at_all() {
        let state =
            |text: &str| TraceContext::parse(GIVEN, Some(text)).unwrap().state().map(ToOwned::to_owned);
        for valid in ["rojo=00f067aa0ba902b7", "a=1, b=2", "a=1,,b@c=x y"] {
            assert_eq!(state(valid).as_deref(), Some(valid));
        }
        let many: Vec<_> = (0..33).map(|n| format!("k{n}=1")).collect();
        for invalid in
            ["", "a", "a=", "=1", "a=1,a=2", "a=ñ", &many.join(","), &format!("a={}", "x".repeat(512))]
        {
            assert_eq!(state(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn what_is_sent_on_continues_the_trace_under_an_id_of_its_own() {
        let event = Uuid::from_u128(0x0193_a5b2_7c1e_7d00_8a11_0123_4567_89ab);
        let context = TraceContext::parse(GIVEN, Some("a=1")).unwrap();
        let sent = traceparent(Some(&context), "req-1", event);
        assert_eq!(sent, "00-4bf92f3577b34da6a3ce929d0e0e4736-8a110123456789ab-01");
        let continued = context.under(span_of(event));
        assert_eq!(TraceContext::parse(&sent, Some("a=1")), Some(continued));
        assert_eq!(context.span(), 0x00f0_67aa_0ba9_02b7);
        let begun = TraceContext::recorded(TraceId::begun_by("caja-7:42"), 7);
        let sent = traceparent(Some(&begun), "caja-7:42", event);
        assert!(sent.ends_with("-8a110123456789ab-01"), "whoever goes on with it records it too: {sent}");
        assert!(context.is_recorded() && begun.is_recorded());
    }

    #[test]
    fn a_request_without_a_trace_begins_one_that_its_id_tells() {
        let request = "0193a5b2-7c1e-7d00-8a11-0123456789ab";
        assert_eq!(TraceId::begun_by(request).to_string(), "0193a5b27c1e7d008a110123456789ab");
        let (one, other) = (TraceId::begun_by("caja-7:42"), TraceId::begun_by("caja-7:43"));
        assert_ne!(one, other);
        assert_eq!(one, TraceId::begun_by("caja-7:42"));
        let sent = traceparent(None, "caja-7:42", Uuid::now_v7());
        assert_eq!(TraceContext::parse(&sent, None).unwrap().id(), one);
        assert!(sent.ends_with("-00"), "nobody asked for it to be recorded: {sent}");
    }
}
