//! The one place where Shopify's answers become verdicts. HTTP 200 says nothing: errors come inside it.

use super::LONGEST;
use super::http::{Answered, shorten};
use super::mapping::{Data, SetData, SubscribedData, UserError};
use crate::domain::channel::{Culprit, Refused, Verdict};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// How long to wait when Shopify does not say.
const USUAL_WAIT: Duration = Duration::from_secs(1);

/// The data of an answer, or why there is none.
pub fn data<T: DeserializeOwned>(answer: &Answered, request: &str) -> Result<T, Refused> {
    let refuse = |verdict: Verdict, cause: String| {
        Err(Refused { verdict, cause, request: shorten(request), response: answer.shown() })
    };
    match answer.status {
        200 => {}
        401 => return refuse(Verdict::Unauthorized, "the access token is not accepted".into()),
        402 | 403 | 404 | 423 => {
            let cause = format!("HTTP {}: the shop is closed to us, frozen or gone", answer.status);
            return refuse(Verdict::Broken, cause);
        }
        429 => {
            let after = answer.retry_after().unwrap_or(USUAL_WAIT).min(LONGEST);
            return refuse(Verdict::Throttled { after }, "HTTP 429: too many calls".into());
        }
        status if status >= 500 => {
            return refuse(Verdict::Again { after: answer.retry_after() }, format!("HTTP {status}"));
        }
        status => return refuse(Verdict::Broken, format!("HTTP {status}")),
    }
    let parsed: Data<T> = match serde_json::from_slice(&answer.body) {
        Ok(parsed) => parsed,
        // Half an answer, or a proxy's page: whether the call had an effect is not known.
        Err(error) => {
            return refuse(Verdict::Again { after: None }, format!("the answer is not GraphQL: {error}"));
        }
    };
    if let Some(error) = parsed.errors.first() {
        let code = error.extensions.as_ref().and_then(|extensions| extensions.code.as_deref());
        let cause = format!("{}: {}", code.unwrap_or("error"), error.message);
        let verdict = match code {
            Some("THROTTLED" | "429") => Verdict::Throttled { after: parsed.wait() },
            Some("INTERNAL_SERVER_ERROR" | "SERVICE_UNAVAILABLE" | "TIMEOUT") => {
                Verdict::Again { after: None }
            }
            // Missing scopes, documents that do not fit: the same for every call until somebody does something.
            _ => Verdict::Broken,
        };
        return refuse(verdict, cause);
    }
    match parsed.data {
        Some(data) => Ok(data),
        None => refuse(Verdict::Again { after: None }, "the answer has neither data nor errors".into()),
    }
}

/// What became of a mutation that was answered.
pub fn written(data: SetData, variables: &Value) -> Result<(), Refused> {
    let refuse = |verdict: Verdict, cause: String, response: String| {
        Err(Refused { verdict, cause, request: shorten(&variables.to_string()), response })
    };
    let Some(written) = data.written else {
        return refuse(Verdict::Again { after: None }, "the mutation has no answer".into(), String::new());
    };
    let errors = &written.user_errors;
    let Some(first) = errors.first() else { return Ok(()) };
    let said: Vec<String> =
        errors.iter().map(|error| format!("{}: {}", code_of(error), error.message)).collect();
    let is = |codes: &[&str]| errors.iter().any(|error| codes.contains(&code_of(error)));
    let verdict = if is(&["CHANGE_FROM_QUANTITY_STALE", "COMPARE_QUANTITY_STALE"]) {
        Verdict::Stale
    } else if is(&["IDEMPOTENCY_CONCURRENT_REQUEST", "SERVICE_UNAVAILABLE", "ADJUST_QUANTITIES_FAILED"]) {
        Verdict::Again { after: Some(USUAL_WAIT) }
    } else if is(&["IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED", "IDEMPOTENCY_KEY_PARAMETER_MISMATCH"]) {
        Verdict::NewKey
    } else if is(&["INVALID_REASON", "INVALID_NAME", "INVALID_QUANTITY_NAME", "INVALID_REFERENCE_DOCUMENT"]) {
        Verdict::Broken
    } else {
        Verdict::Rejected(errors.iter().map(culprit).collect())
    };
    refuse(verdict, format!("{}: {}", code_of(first), first.message), shorten(&said.join("; ")))
}

fn code_of(error: &UserError) -> &str {
    error.code.as_deref().unwrap_or("UNKNOWN")
}

/// The line that an error names: `["input", "quantities", "3", "inventoryItemId"]`.
fn culprit(error: &UserError) -> Culprit {
    let field = error.field.iter().flatten();
    Culprit {
        index: field.filter_map(|part| part.parse().ok()).next(),
        code: code_of(error).to_owned(),
        message: error.message.clone(),
    }
}

/// Whether a subscription was taken. What is refused needs a person: the address is not one that Shopify calls.
pub fn subscribed(data: SubscribedData, variables: &Value) -> Result<(), Refused> {
    let errors = data.webhook_subscription_create.map(|written| written.user_errors).unwrap_or_default();
    let Some(error) = errors.first() else { return Ok(()) };
    Err(Refused {
        verdict: Verdict::Rejected(Vec::new()),
        cause: format!("the shop does not tell its news here: {}", error.message),
        request: variables.to_string(),
        response: error.message.clone(),
    })
}

/// A new token, or why there is none.
pub fn token<T: DeserializeOwned>(answer: &Answered) -> Result<T, Refused> {
    // The answer may hold a token: it is never shown.
    let refuse = |verdict: Verdict, cause: String| {
        Err(Refused {
            verdict,
            cause,
            request: "a new token".into(),
            response: format!("HTTP {}", answer.status),
        })
    };
    match answer.status {
        200 => match serde_json::from_slice(&answer.body) {
            Ok(token) => Ok(token),
            Err(_) => refuse(Verdict::Again { after: None }, "the answer holds no token".into()),
        },
        429 => {
            let after = answer.retry_after().unwrap_or(USUAL_WAIT).min(LONGEST);
            refuse(Verdict::Throttled { after }, "too many requests for tokens".into())
        }
        status if status >= 500 => refuse(Verdict::Again { after: None }, format!("HTTP {status}")),
        status => {
            let cause = format!("no new token (HTTP {status}): the shop has to be connected again");
            refuse(Verdict::Broken, cause)
        }
    }
}
