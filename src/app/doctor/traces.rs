//! The collector of traces: nobody needs it to sell.

use super::report::Checks;

/// Sends it nothing: no bytes are a message of OTLP without spans.
pub(super) async fn probe(url: &str, checks: &mut Checks) {
    let advice = "steps of traces are lost until it takes OTLP over HTTP there (Jaeger and the OpenTelemetry Collector: port \
                  4318); correct traces.endpoint, or leave it empty";
    let request = reqwest::Client::new().post(url).header("content-type", "application/x-protobuf");
    match request.body(Vec::new()).send().await {
        Ok(answer) if answer.status().is_success() => {
            checks.ok("collector", format!("{url} takes OTLP"));
        }
        Ok(answer) => checks.warn("collector", format!("{url} answers {}", answer.status()), advice),
        Err(error) => checks.warn("collector", format!("{url} cannot be reached: {error}"), advice),
    }
}
