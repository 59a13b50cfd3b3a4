//! The one place where MercadoLibre's answers become verdicts. A 429 may be plain text, an error's `status` may be
//! missing, and `cause` holds objects or texts.

use super::http::{Answered, shorten};
use crate::domain::channel::{Culprit, Refused, Verdict};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long to wait after a refusal that does not say.
const USUAL_WAIT: Duration = Duration::from_secs(2);

/// The longest.
const LONGEST: Duration = Duration::from_secs(60);

/// What marks an answer to a question about something that is not there.
const GONE: &str = "not_found";

#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    message: String,
    #[serde(default)]
    error: String,
}

fn said(answer: &Answered) -> ErrorBody {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// Whether what was asked for is not there.
pub fn is_gone(refused: &Refused) -> bool {
    matches!(&refused.verdict, Verdict::Rejected(culprits) if culprits.iter().any(|culprit| culprit.code == GONE))
}

/// Something is not there and will not be.
pub fn gone(what: &str) -> Verdict {
    let message = format!("{what} is not there, or closed: map the unit anew");
    Verdict::Rejected(vec![Culprit { index: Some(0), code: GONE.into(), message }])
}

/// The verdict on an answer that is no success.
fn verdict(answer: &Answered) -> (Verdict, String) {
    let ErrorBody { message, error } = said(answer);
    let text = format!("HTTP {} {error}: {message}", answer.status);
    let rejected = |code: &str| {
        let code = if code.is_empty() { "bad_request" } else { code };
        let culprit = Culprit { index: Some(0), code: code.to_owned(), message: message.clone() };
        Verdict::Rejected(vec![culprit])
    };
    let verdict = match answer.status {
        401 => Verdict::Unauthorized,
        403 if message.contains("oken") => Verdict::Unauthorized,
        403 => Verdict::Broken,
        404 => gone("what was asked for"),
        // Somebody else wrote at the same moment.
        409 if message.contains("ersion") => Verdict::Stale,
        409 => Verdict::Again { after: Some(USUAL_WAIT) },
        429 => Verdict::Throttled { after: answer.retry_after().unwrap_or(USUAL_WAIT).min(LONGEST) },
        400 if message.contains("X-Version") => Verdict::Broken,
        status if status >= 500 => Verdict::Again { after: answer.retry_after() },
        _ => rejected(&error),
    };
    (verdict, text)
}

fn refused(answer: &Answered, request: &str) -> Refused {
    let (verdict, cause) = verdict(answer);
    Refused { verdict, cause: shorten(&cause), request: shorten(request), response: answer.shown() }
}

/// The data of an answer, or why there is none.
pub fn data<T: DeserializeOwned>(answer: &Answered, request: &str) -> Result<T, Refused> {
    if answer.status != 200 {
        return Err(refused(answer, request));
    }
    serde_json::from_slice(&answer.body).map_err(|error| Refused {
        verdict: Verdict::Again { after: None },
        cause: format!("the answer is not what it should be: {error}"),
        request: shorten(request),
        response: answer.shown(),
    })
}

/// What became of a write: 200, or 204 for one that is carried out later.
pub fn written(answer: &Answered, request: &str) -> Result<(), Refused> {
    if (200..300).contains(&answer.status) { Ok(()) } else { Err(refused(answer, request)) }
}

/// A new token, or why there is none.
pub fn token<T: DeserializeOwned>(answer: &Answered) -> Result<T, Refused> {
    // The answer may hold a token: it is never shown.
    let refuse = |verdict: Verdict, cause: String| Refused {
        verdict,
        cause,
        request: "a new token".into(),
        response: format!("HTTP {}", answer.status),
    };
    match answer.status {
        200 => serde_json::from_slice(&answer.body)
            .map_err(|_| refuse(Verdict::Again { after: None }, "the answer holds no token".into())),
        429 => {
            let after = answer.retry_after().unwrap_or(USUAL_WAIT).min(LONGEST);
            Err(refuse(Verdict::Throttled { after }, "too many requests for tokens".into()))
        }
        status if status >= 500 => Err(refuse(Verdict::Again { after: None }, format!("HTTP {status}"))),
        _ => {
            let error = said(answer).error;
            let cause = format!(
                "no new token ({error}): the seller has to authorise the app again, and the connection needs the new \
                 credentials"
            );
            Err(refuse(Verdict::Broken, cause))
        }
    }
}
