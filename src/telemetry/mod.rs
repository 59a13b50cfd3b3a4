//! Logs to stderr, metrics in Prometheus' text form, traces to a collector.

pub mod traces;

use crate::config::{Log, LogFormat};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Seconds; from what a sale takes when all is well to what makes a cashier look up.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02, 0.03, 0.05, 0.08, 0.12, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
];

/// Events in a group.
const EVENTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// Starts logging. A second call in one process changes nothing.
pub fn init_logs(settings: &Log) -> Result<(), String> {
    // The driver calls every channel that the broker closes an error, those that only asked whether a queue exists
    // too. What matters comes back as an error and is told by whoever asked.
    let filter = format!("lapin=off,{}", settings.level);
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("log.level: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    // An error means that somebody (a test) started logging already.
    started.ok();
    Ok(())
}

/// Starts metrics. The answer renders them.
pub fn init_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_group_events".into()), EVENTS)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

/// What each metric means: its help text on `/metrics`.
fn describe() {
    describe_counter!("sales_processed_total", "Sales that are durable and were answered");
    describe_histogram!(
        "sale_processing_seconds",
        Unit::Seconds,
        "From a checkout's arrival to its durable answer"
    );
    describe_counter!("blend_sales_refused_total", "Checkouts refused, by reason");
    describe_counter!("blend_sales_replayed_total", "Checkouts answered again under a key used before");
    describe_counter!("blend_journal_events_total", "Events made durable");
    describe_counter!("blend_journal_failures_total", "Commits of the journal that failed");
    describe_histogram!("blend_journal_group_events", "Events in one commit of the journal");
    describe_histogram!(
        "blend_journal_commit_seconds",
        Unit::Seconds,
        "One commit of the journal, sync included"
    );
    describe_histogram!(
        "blend_rebuild_seconds",
        Unit::Seconds,
        "One rebuild of a shard's hot stock from the ledger and what the ledger lacks"
    );
    describe_gauge!("blend_circuit_open", "1 while calls to what it stands for are held back, by circuit");
    describe_counter!("blend_ledger_events_total", "Events written to the ledger");
    describe_counter!("blend_ledger_failures_total", "Ledger batches that failed and will be tried again");
    describe_counter!("blend_ledger_dead_letters_total", "Events given up by the ledger");
    describe_histogram!("blend_ledger_batch_seconds", Unit::Seconds, "One ledger transaction");
    describe_gauge!("blend_ledger_lag_events", "Durable events that the ledger does not have yet");
    describe_counter!("blend_spans_lost_total", "Steps of traces that no collector took");
    describe_gauge!("blend_journal_findings", "Damages found when the journal was opened");
}
