//! Who is who: an ERP item is its code, size and colour, exactly, and a balance is one of them at a branch.
//!
//! SQL Server's usual collation takes 'rem-001 ' and 'REM-001' for the same, so blanks around a text do not count and
//! letters are kept in upper case. A missing size is a value like any other, and the same as an empty one.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Longest code, size, colour or branch, in characters; the ERP's own columns are shorter.
const LONGEST: usize = 100;

/// One sellable thing of the ERP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// `CODIGO`
    #[serde(rename = "codigo")]
    pub code: Arc<str>,
    /// `TALLE`
    #[serde(rename = "talle", default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Arc<str>>,
    /// `COLOR`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<Arc<str>>,
}

/// Why texts name nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityProblem {
    /// Nothing but blanks.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// More than [`LONGEST`] characters.
    #[error("{0} has more than {LONGEST} characters")]
    Long(&'static str),
    /// A line break, a null byte.
    #[error("{0} has control characters")]
    Control(&'static str),
}

impl Identity {
    /// From the ERP's columns.
    pub fn new(code: &str, size: Option<&str>, color: Option<&str>) -> Result<Self, IdentityProblem> {
        let optional = |name, text: Option<&str>| text.map_or(Ok(None), |text| canonical(name, text));
        Ok(Self {
            code: canonical("codigo", code)?.ok_or(IdentityProblem::Empty("codigo"))?,
            size: optional("talle", size)?,
            color: optional("color", color)?,
        })
    }

    /// The SKU under which Blend sells it: code, colour, size.
    pub fn sku(&self) -> Arc<str> {
        let mut sku = self.code.to_string();
        for part in [&self.color, &self.size].into_iter().flatten() {
            sku.push('-');
            sku.push_str(part);
        }
        sku.into()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |text: &Option<Arc<str>>| text.clone().unwrap_or_else(|| "-".into());
        write!(f, "{} talle {} color {}", self.code, part(&self.size), part(&self.color))
    }
}

/// A balance of the ERP: an item at a branch. Several rows of the ERP may belong to one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountKey {
    /// The item.
    #[serde(flatten)]
    pub item: Identity,
    /// `SUCURSAL`
    #[serde(rename = "sucursal")]
    pub branch: Arc<str>,
}

impl fmt::Display for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.item, self.branch)
    }
}

/// The name of a branch in its one form.
pub fn branch_name(text: &str) -> Result<Arc<str>, IdentityProblem> {
    canonical("sucursal", text)?.ok_or(IdentityProblem::Empty("sucursal"))
}

/// Without blanks around it, in upper case; `None` when nothing is left.
pub(super) fn canonical(name: &'static str, text: &str) -> Result<Option<Arc<str>>, IdentityProblem> {
    let text = text.trim();
    if text.chars().any(char::is_control) {
        return Err(IdentityProblem::Control(name));
    }
    if text.chars().count() > LONGEST {
        return Err(IdentityProblem::Long(name));
    }
    Ok((!text.is_empty()).then(|| text.to_uppercase().into()))
}
