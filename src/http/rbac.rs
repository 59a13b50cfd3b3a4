//! Who may do what: roles, permissions and the one table between them.

use super::reply::ApiError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A user's role, `rol` in the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the installation; the only role that may have no tenant.
    SuperAdmin,
    /// Owns the shop.
    Owner,
    /// Runs the shop.
    Admin,
    /// Runs a branch: never less than a cajero.
    Encargado,
    /// Works a till.
    Cajero,
    /// Sells on the floor.
    Vendedor,
    /// Stocks the shelves.
    Repositor,
    /// Looks and touches nothing.
    Auditor,
}

impl Role {
    /// Every role, in the order of the table's columns.
    pub const ALL: [Self; 8] = [
        Self::SuperAdmin,
        Self::Owner,
        Self::Admin,
        Self::Encargado,
        Self::Cajero,
        Self::Vendedor,
        Self::Repositor,
        Self::Auditor,
    ];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of roles, one bit each, so that a row of the table is one byte and a check is one `and`.
type Roles = u8;

const BOSSES: Roles = Role::SuperAdmin.bit() | Role::Owner.bit();
const MANAGERS: Roles = BOSSES | Role::Admin.bit();
const HEADS: Roles = MANAGERS | Role::Encargado.bit();
const SELLERS: Roles = HEADS | Role::Cajero.bit() | Role::Vendedor.bit();
const EVERYONE: Roles = SELLERS | Role::Repositor.bit() | Role::Auditor.bit();

macro_rules! permissions {
    ($($variant:ident $wire:literal = $roles:expr;)+) => {
        /// Something a role may do. The wire name is `resource:action`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Permission {
            $(#[doc = concat!("`", $wire, "`")] $variant,)+
        }

        impl Permission {
            /// Every permission, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $wire),+ }
            }

            const fn roles(self) -> Roles {
                match self { $(Self::$variant => $roles),+ }
            }
        }
    };
}

permissions! {
    ProductosRead "productos:read" = EVERYONE;
    InventarioRead "inventario:read" = EVERYONE;
    ProductosCreate "productos:create" = HEADS;
    ProductosUpdate "productos:update" = HEADS;
    InventarioAjuste "inventario:ajuste" = HEADS | Role::Repositor.bit();
    VentasRead "ventas:read" = SELLERS | Role::Auditor.bit();
    VentasCreate "ventas:create" = SELLERS;
    VentasUpdate "ventas:update" = MANAGERS;
    VentasExport "ventas:export" = BOSSES | Role::Encargado.bit();
    PagosProcess "pagos:process" = HEADS | Role::Cajero.bit();
    ReportesBasicos "reportes:basicos" = HEADS | Role::Auditor.bit();
    TiendaRead "tienda:read" = MANAGERS | Role::Auditor.bit();
    InsightsRead "insights:read" = MANAGERS | Role::Auditor.bit();
    ReportesFinancieros "reportes:financieros" = BOSSES | Role::Auditor.bit();
    ReportesExport "reportes:export" = BOSSES | Role::Auditor.bit();
    UsersRead "users:read" = BOSSES | Role::Auditor.bit();
    ProductosDelete "productos:delete" = BOSSES;
    ProductosExport "productos:export" = BOSSES;
    VentasDelete "ventas:delete" = BOSSES;
    PagosRefund "pagos:refund" = BOSSES;
    TiendaUpdate "tienda:update" = BOSSES;
    InsightsGenerate "insights:generate" = BOSSES;
    UsersCreate "users:create" = BOSSES;
    UsersUpdate "users:update" = BOSSES;
    UsersDelete "users:delete" = Role::SuperAdmin.bit();
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a role has a permission.
pub const fn allows(role: Role, permission: Permission) -> bool {
    permission.roles() & role.bit() != 0
}

/// 403 `permiso_denegado`, naming the permission, unless the role has it.
pub fn require(role: Role, permission: Permission) -> Result<(), ApiError> {
    if allows(role, permission) { Ok(()) } else { Err(ApiError::forbidden(permission)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The matrix as people read it, kept apart from the bit sets so that a slip in one of them shows.
    /// Columns: super_admin owner admin encargado cajero vendedor repositor auditor.
    const MATRIX: &str = "
        productos:read       y y y y y y y y
        inventario:read      y y y y y y y y
        productos:create     y y y y . . . .
        productos:update     y y y y . . . .
        inventario:ajuste    y y y y . . y .
        ventas:read          y y y y y y . y
        ventas:create        y y y y y y . .
        ventas:update        y y y . . . . .
        ventas:export        y y . y . . . .
        pagos:process        y y y y y . . .
        reportes:basicos     y y y y . . . y
        tienda:read          y y y . . . . y
        insights:read        y y y . . . . y
        reportes:financieros y y . . . . . y
        reportes:export      y y . . . . . y
        users:read           y y . . . . . y
        productos:delete     y y . . . . . .
        productos:export     y y . . . . . .
        ventas:delete        y y . . . . . .
        pagos:refund         y y . . . . . .
        tienda:update        y y . . . . . .
        insights:generate    y y . . . . . .
        users:create         y y . . . . . .
        users:update         y y . . . . . .
        users:delete         y . . . . . . .";

    #[test]
    fn the_table_is_the_matrix() {
        let rows: Vec<Vec<&str>> = MATRIX
            .lines()
            .map(|l| l.split_whitespace().collect())
            .filter(|r: &Vec<_>| !r.is_empty())
            .collect();
        assert_eq!(rows.len(), Permission::ALL.len());
        for (row, permission) in rows.iter().zip(Permission::ALL) {
            assert_eq!(row[0], permission.name());
            assert_eq!(row.len(), 1 + Role::ALL.len());
            for (cell, role) in row[1..].iter().zip(Role::ALL) {
                assert_eq!(*cell == "y", allows(role, *permission), "{role:?} {permission}");
            }
        }
    }

    #[test]
    fn an_encargado_is_never_less_than_a_cajero() {
        for permission in Permission::ALL {
            assert!(
                !allows(Role::Cajero, *permission) || allows(Role::Encargado, *permission),
                "{permission}"
            );
        }
    }

    #[test]
    fn a_refusal_names_the_permission() {
        let error = require(Role::Cajero, Permission::VentasDelete).unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (403, "permiso_denegado"));
        assert!(error.to_string().contains("ventas:delete"));
    }

    #[test]
    fn roles_are_snake_case_on_the_wire() {
        assert_eq!(serde_json::to_string(&Role::SuperAdmin).unwrap(), "\"super_admin\"");
        assert!(serde_json::from_str::<Role>("\"gerente\"").is_err());
    }
}
