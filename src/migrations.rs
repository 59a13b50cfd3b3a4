//! Steps of a schema, and what may be wrong with the schema they meet; the same for every kind of database.

use crate::ports::PortError;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

/// Number, name and SQL of each step, in order.
pub type Steps = [(i64, &'static str, &'static str)];

/// What applies the steps.
pub fn migrator(steps: &Steps) -> Migrator {
    let migration = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(steps.iter().map(migration).collect())
}

/// The number of the last step.
pub fn newest(steps: &Steps) -> i64 {
    steps.last().map_or(0, |step| step.0)
}

/// Why the schema at `place` could not be brought up to date; `error_of` knows the database's own errors.
pub fn refusal(
    error: MigrateError,
    place: &str,
    steps: &Steps,
    error_of: impl Fn(&sqlx::Error) -> PortError,
) -> PortError {
    match error {
        MigrateError::VersionMissing(found) => newer(place, found, steps),
        MigrateError::VersionMismatch(version) => PortError::Permanent(format!(
            "{place}: migration {version} is not the one that was applied to it"
        )),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => match error_of(&error) {
            PortError::Transient(why) => PortError::Transient(format!("{place}: {why}")),
            PortError::Permanent(why) => PortError::Permanent(format!("{place}: {why}")),
        },
        other => PortError::Permanent(format!("{place}: {other}")),
    }
}

/// The schema has a step that this build does not know.
pub fn newer(place: &str, found: i64, steps: &Steps) -> PortError {
    PortError::Permanent(format!(
        "{place} was written by a newer Blend (schema {found}, this one knows up to {}): \
         run that version, or restore a backup made before the upgrade",
        newest(steps)
    ))
}
