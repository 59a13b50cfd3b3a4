//! Fields as they stand on the wire.

use super::super::ApiError;
use crate::domain::decimal::{Decimal, DecimalError};
use serde_json::value::RawValue;

/// Reads a decimal from a JSON number, or from a string that holds one; the error names the field and the rule.
pub fn decimal<const SCALE: u32>(
    raw: &RawValue,
    field: impl FnOnce() -> String,
) -> Result<Decimal<SCALE>, ApiError> {
    let text = raw.get();
    let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    Decimal::parse(text).map_err(|error| {
        let (kind, message) = match error {
            DecimalError::Malformed => ("numero", "Debe ser un número decimal".to_owned()),
            DecimalError::TooPrecise => ("decimales", format!("Admite hasta {SCALE} decimales")),
            DecimalError::OutOfRange => ("fuera_de_rango", "Está fuera de rango".to_owned()),
        };
        ApiError::field(field(), kind, message)
    })
}
