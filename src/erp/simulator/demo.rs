//! The goods of the demo shop: 8 products with 21 balances, as such a shop has them.

/// Code, description, category, price, cost, brand, supplier.
pub type DemoProduct = (&'static str, &'static str, &'static str, i64, i64, &'static str, &'static str);

/// The products.
pub const DEMO_PRODUCTS: &[DemoProduct] = &[
    ("REM-001", "REMERA BASICA ALGODON", "REMERAS", 15_000, 9_000, "GENERICA", "PROVEEDOR ABC"),
    ("REM-002", "REMERA OVERSIZE ACID WASH", "REMERAS", 25_000, 15_000, "URBANA", "PROVEEDOR ABC"),
    ("JEAN-505", "JEAN CLASICO RECTO", "PANTALONES", 45_000, 28_000, "LEVI'S", "PROVEEDOR XYZ"),
    ("JEAN-511", "JEAN SLIM FIT", "PANTALONES", 48_000, 30_000, "LEVI'S", "PROVEEDOR XYZ"),
    ("BUZO-HOOD", "BUZO CON CAPUCHA", "BUZOS", 38_000, 22_000, "NIKE", "DISTRIBUIDORA DEL SUR"),
    ("CAMP-BOMBER", "CAMPERA BOMBER", "CAMPERAS", 65_000, 40_000, "ADIDAS", "DISTRIBUIDORA DEL SUR"),
    ("ZAP-RUN", "ZAPATILLAS RUNNING", "CALZADO", 85_000, 55_000, "PUMA", "CALZADOS SA"),
    ("GORRA-SNAP", "GORRA SNAPBACK", "ACCESORIOS", 8_500, 5_000, "NEW ERA", "IMPORTADORA NORTE"),
];

/// Code, size (or none), colour and quantity, all of one branch.
pub const DEMO_BALANCES: &[(&str, &str, &str, i64)] = &[
    ("REM-001", "S", "NEGRO", 10),
    ("REM-001", "M", "NEGRO", 15),
    ("REM-001", "L", "NEGRO", 12),
    ("REM-001", "M", "BLANCO", 8),
    ("REM-001", "L", "BLANCO", 5),
    ("REM-002", "M", "NEGRO", 6),
    ("REM-002", "L", "GRIS", 4),
    ("JEAN-505", "38", "AZUL", 8),
    ("JEAN-505", "40", "AZUL", 10),
    ("JEAN-505", "42", "AZUL", 7),
    ("JEAN-511", "38", "NEGRO", 5),
    ("JEAN-511", "40", "NEGRO", 9),
    ("BUZO-HOOD", "M", "NEGRO", 12),
    ("BUZO-HOOD", "L", "GRIS", 8),
    ("CAMP-BOMBER", "M", "VERDE", 4),
    ("CAMP-BOMBER", "L", "NEGRO", 6),
    ("ZAP-RUN", "39", "BLANCO", 3),
    ("ZAP-RUN", "40", "BLANCO", 5),
    ("ZAP-RUN", "41", "NEGRO", 4),
    ("GORRA-SNAP", "", "ROJO", 20),
    ("GORRA-SNAP", "", "AZUL", 15),
];
