//! What PostgreSQL's errors mean.

use crate::ports::PortError;
use std::time::Duration;

/// Classes of SQLSTATE that blame the data: cardinality, data, integrity, WITH CHECK OPTION, program limits, RAISE. From
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
const OF_THE_DATA: [&str; 6] = ["21", "22", "23", "44", "54", "P0"];

/// Classes that (like a failed handshake of TLS) somebody has to do something about before a start can succeed: refused login, a database, schema or
/// table that does not exist, a right that is missing, a feature that this server does not have.
const OF_THE_INSTALLATION: [&str; 5] = ["28", "3D", "3F", "42", "0A"];

/// What a right that is missing is called: insufficient_privilege.
const NO_RIGHT: &str = "42501";

/// An error of a statement, in the terms of the ports.
///
/// Permanent is what the same data would meet again. All else passes: the server is away, starts, ends, is full, is a
/// standby, has too many connections, gave up a deadlock or a statement that took too long. So does a right or a table
/// that somebody took away meanwhile: no event is to blame, so none may be rejected for it.
pub fn error_of(error: &sqlx::Error) -> PortError {
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let why = format!("{} (SQLSTATE {code})", database.message());
            if OF_THE_DATA.iter().any(|class| code.starts_with(class)) {
                PortError::Permanent(why)
            } else {
                PortError::Transient(why)
            }
        }
        sqlx::Error::Encode(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::TypeNotFound { .. } => PortError::Permanent(error.to_string()),
        _ => PortError::Transient(error.to_string()),
    }
}

/// [`error_of`] for `map_err`.
pub fn port_error(error: sqlx::Error) -> PortError {
    error_of(&error)
}

/// An error while connecting or migrating: permanent when waiting does not help, and then it says what does.
pub fn start_error_of(error: &sqlx::Error) -> PortError {
    let PortError::Transient(why) = error_of(error) else { return error_of(error) };
    let code = error.as_database_error().and_then(|database| database.code()).unwrap_or_default();
    if code == NO_RIGHT {
        return PortError::Permanent(format!(
            "{why}. Migrate once with the url of the tables' owner, who may create roles (or have an administrator \
             create the role blend_app NOLOGIN and grant it to that owner), and GRANT blend_app TO the user of this url"
        ));
    }
    let unusable = match error {
        sqlx::Error::Configuration(_) | sqlx::Error::Tls(_) => true,
        // So a certificate that is refused arrives here.
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => OF_THE_INSTALLATION.iter().any(|class| code.starts_with(class)),
    };
    if unusable {
        return PortError::Permanent(why);
    }
    PortError::Transient(why)
}

/// Does work that may not take longer than `limit`, so that a server which fell silent is not waited for without end.
pub async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, PortError>>,
) -> Result<T, PortError> {
    let late = |_| PortError::Transient(format!("{what} took longer than {limit:?}"));
    tokio::time::timeout(limit, work).await.map_err(late)?
}
