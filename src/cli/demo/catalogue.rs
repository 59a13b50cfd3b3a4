//! The demonstration shop: clothes in sizes and colours, groceries, and goods by weight, at prices of Argentina in
//! 2026. It uses every kind of unit the engine knows, so that looking at it is also a test.

use crate::{cli::catalogue_csv::CatalogueRow, domain::decimal::Decimal};

/// A place of the demonstration shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoLocation {
    /// Code, as basket files name it.
    pub codigo: &'static str,
    /// Name.
    pub name: &'static str,
    /// `STORE` or `WAREHOUSE`.
    pub kind: &'static str,
    /// Where a sale without a location is made.
    pub is_default: bool,
}

/// Where the demonstration shop sells.
pub const STORE: DemoLocation =
    DemoLocation { codigo: "CENTRO", name: "Local Centro", kind: "STORE", is_default: true };
/// Where it keeps what is not on the shelves.
pub const WAREHOUSE: DemoLocation =
    DemoLocation { codigo: "DEPOSITO", name: "Depósito Central", kind: "WAREHOUSE", is_default: false };

/// Opening stock of one unit at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The unit.
    pub sku: String,
    /// The place.
    pub location: DemoLocation,
    /// How much.
    pub quantity: Decimal<3>,
}

/// A garment: base sku, name, line, brand, price in pesos, sizes, colours.
type Garment = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    i64,
    &'static [&'static str],
    &'static [&'static str],
);

const LETTERS: &[&str] = &["S", "M", "L", "XL"];
const WAISTS: &[&str] = &["38", "40", "42", "44"];

#[rustfmt::skip]
const CLOTHES: [Garment; 12] = [
    ("REM-BAS", "Remera básica de algodón", "Remeras", "Sur Austral", 18_900, LETTERS, &["Negro", "Blanco", "Gris"]),
    ("REM-EST", "Remera estampada", "Remeras", "Sur Austral", 24_500, LETTERS, &["Negro", "Crudo"]),
    ("CHO-PIQ", "Chomba piqué", "Remeras", "Belgrano & Cía", 36_900, LETTERS, &["Azul", "Blanco"]),
    ("CAM-LIN", "Camisa de lino", "Camisas", "Belgrano & Cía", 58_900, LETTERS, &["Blanco", "Celeste"]),
    ("CAM-ESC", "Camisa escocesa", "Camisas", "Belgrano & Cía", 52_500, LETTERS, &["Rojo", "Verde"]),
    ("BUZ-CAN", "Buzo canguro", "Abrigo", "Sur Austral", 54_900, LETTERS, &["Negro", "Gris", "Bordó"]),
    ("SWE-LAN", "Sweater de lana", "Abrigo", "Telar Andino", 72_900, LETTERS, &["Crudo", "Marrón"]),
    ("CAM-INF", "Campera inflable", "Abrigo", "Telar Andino", 139_900, LETTERS, &["Negro", "Azul"]),
    ("JEA-REC", "Jean recto", "Pantalones", "Rivadavia Denim", 64_900, WAISTS, &["Azul", "Negro"]),
    ("JEA-CHU", "Jean chupín", "Pantalones", "Rivadavia Denim", 61_900, WAISTS, &["Azul", "Negro"]),
    ("PAN-CAR", "Pantalón cargo", "Pantalones", "Rivadavia Denim", 57_900, WAISTS, &["Verde", "Beige"]),
    ("BER-GAB", "Bermuda de gabardina", "Pantalones", "Rivadavia Denim", 42_900, WAISTS, &["Beige", "Azul"]),
];

/// Something packed or by weight: sku, name, line, brand, price in pesos (a kilogram's for goods by weight), tipo,
/// opening stock in the store.
type Packed = (&'static str, &'static str, &'static str, &'static str, i64, &'static str, i64);

#[rustfmt::skip]
const GROCERIES: [Packed; 37] = [
    ("YER-1K", "Yerba mate suave 1 kg", "Infusiones", "Monte Verde", 4_650, "alimento", 80),
    ("YER-500", "Yerba mate con palo 500 g", "Infusiones", "Monte Verde", 2_590, "alimento", 60),
    ("CAF-250", "Café molido 250 g", "Infusiones", "La Esquina", 6_890, "alimento", 36),
    ("TE-25", "Té en saquitos x 25", "Infusiones", "La Esquina", 1_450, "alimento", 48),
    ("AZU-1K", "Azúcar 1 kg", "Almacén", "Tucumana", 1_390, "alimento", 90),
    ("HAR-000", "Harina 000 1 kg", "Almacén", "Molino Pampa", 1_150, "alimento", 90),
    ("FID-500", "Fideos tallarín 500 g", "Almacén", "Molino Pampa", 1_790, "alimento", 80),
    ("ARR-1K", "Arroz largo fino 1 kg", "Almacén", "Paraná", 2_190, "alimento", 70),
    ("POL-500", "Polenta 500 g", "Almacén", "Molino Pampa", 1_290, "alimento", 40),
    ("ACE-GIR", "Aceite de girasol 1,5 l", "Almacén", "Solcito", 4_990, "alimento", 45),
    ("TOM-PUR", "Puré de tomate 520 g", "Almacén", "Huerta Cuyana", 1_090, "alimento", 72),
    ("ATU-170", "Atún al natural 170 g", "Almacén", "Mar Adentro", 3_290, "alimento", 40),
    ("DUL-400", "Dulce de leche 400 g", "Lácteos", "Tambo Viejo", 3_150, "alimento", 42),
    ("LEC-1L", "Leche entera 1 l", "Lácteos", "Tambo Viejo", 1_790, "alimento", 96),
    ("MAN-200", "Manteca 200 g", "Lácteos", "Tambo Viejo", 3_390, "alimento", 40),
    ("YOG-1K", "Yogur bebible 1 kg", "Lácteos", "Tambo Viejo", 2_990, "alimento", 36),
    ("GAL-AGU", "Galletitas de agua x 3", "Almacén", "Del Puerto", 2_250, "alimento", 60),
    ("ALF-CHO", "Alfajor de chocolate", "Golosinas", "Costa Atlántica", 1_250, "alimento", 120),
    ("COL-225", "Gaseosa cola 2,25 l", "Bebidas", "Refrescola", 4_290, "bebida", 72),
    ("LIM-150", "Gaseosa lima limón 1,5 l", "Bebidas", "Refrescola", 3_150, "bebida", 60),
    ("AGU-2L", "Agua mineral 2 l", "Bebidas", "Cerro Claro", 1_690, "bebida", 84),
    ("SOD-175", "Soda 1,75 l", "Bebidas", "Cerro Claro", 1_390, "bebida", 60),
    ("CER-1L", "Cerveza rubia 1 l", "Bebidas", "Cruz del Norte", 3_490, "bebida", 60),
    ("VIN-MAL", "Vino malbec 750 ml", "Bebidas", "Finca Los Álamos", 7_900, "bebida", 48),
    ("FER-750", "Fernet 750 ml", "Bebidas", "Bottega", 14_900, "bebida", 30),
    ("QUE-CRE", "Queso cremoso", "Fiambrería", "Tambo Viejo", 11_900, "pesable", 18),
    ("QUE-BAR", "Queso en barra", "Fiambrería", "Tambo Viejo", 13_500, "pesable", 14),
    ("JAM-COC", "Jamón cocido", "Fiambrería", "El Criollo", 15_900, "pesable", 12),
    ("SAL-MIL", "Salame milán", "Fiambrería", "El Criollo", 17_500, "pesable", 10),
    ("PAN-FRA", "Pan francés", "Panadería", "La Esquina", 3_200, "pesable", 35),
    ("FAC-SUR", "Facturas surtidas", "Panadería", "La Esquina", 9_800, "pesable", 12),
    ("TOM-PER", "Tomate perita", "Verdulería", "Huerta Cuyana", 2_900, "pesable", 40),
    ("PAP-BLA", "Papa blanca", "Verdulería", "Huerta Cuyana", 1_350, "pesable", 80),
    ("CEB-MOR", "Cebolla", "Verdulería", "Huerta Cuyana", 1_290, "pesable", 50),
    ("BAN-ECU", "Banana", "Verdulería", "Huerta Cuyana", 2_890, "pesable", 40),
    ("ASA-TIR", "Asado de tira", "Carnicería", "El Criollo", 13_900, "pesable", 30),
    ("CAR-PIC", "Carne picada especial", "Carnicería", "El Criollo", 10_900, "pesable", 25),
];

/// Everything the shop sells. `stock` is what the store opens with.
pub fn rows() -> Vec<CatalogueRow> {
    let clothes = CLOTHES.iter().flat_map(garment);
    let groceries = GROCERIES.iter().map(packed);
    let mut rows: Vec<_> = clothes.chain(groceries).collect();
    for (number, row) in (1..).zip(&mut rows) {
        row.codigo_barras = Some(barcode(number));
    }
    rows
}

/// What there is of it: the store's shelves, and in the warehouse twice that of everything that keeps.
pub fn opening() -> Vec<Opening> {
    let mut opening = Vec::new();
    for row in rows() {
        let quantity = row.stock.unwrap_or_default();
        if row.tipo != "pesable" {
            let reserve = quantity.checked_add(quantity).unwrap_or(quantity);
            opening.push(Opening { sku: row.sku.clone(), location: WAREHOUSE, quantity: reserve });
        }
        opening.push(Opening { sku: row.sku, location: STORE, quantity });
    }
    opening
}

fn garment((base, name, line, brand, price, sizes, colours): &Garment) -> impl Iterator<Item = CatalogueRow> {
    colours.iter().zip(1_i64..).flat_map(move |(colour, nth)| {
        sizes.iter().zip(0_i64..).map(move |(size, place)| {
            // The middle sizes sell most, so a shop has more of them; the first colour is the usual one.
            let pieces = if (1..=2).contains(&place) { 24 } else { 12 } / nth;
            CatalogueRow {
                sku: format!("{base}-{}-{size}", code(colour)),
                nombre: (*name).to_owned(),
                base_sku: Some((*base).to_owned()),
                talle: Some((*size).to_owned()),
                color: Some((*colour).to_owned()),
                ..row(line, brand, *price, "ropa", "Indumentaria", pieces)
            }
        })
    })
}

fn packed((sku, name, line, brand, price, tipo, stock): &Packed) -> CatalogueRow {
    let category = if *tipo == "bebida" { "Bebidas" } else { "Alimentos" };
    CatalogueRow {
        sku: (*sku).to_owned(),
        nombre: (*name).to_owned(),
        ..row(line, brand, *price, tipo, category, *stock)
    }
}

fn row(line: &str, brand: &str, price: i64, tipo: &str, category: &str, stock: i64) -> CatalogueRow {
    // What the shop pays: three fifths of what it asks, in whole pesos.
    let (precio, costo) = (Decimal::from_whole(price), Decimal::from_whole(price * 3 / 5));
    CatalogueRow {
        line: 0,
        sku: String::new(),
        nombre: String::new(),
        categoria: Some(category.to_owned()),
        rubro: Some(line.to_owned()),
        marca: Some(brand.to_owned()),
        // Only a constant above ninety million million would not fit, which the test below rules out.
        precio: precio.unwrap_or_default(),
        costo,
        codigo_barras: None,
        tipo: tipo.to_owned(),
        stock: Decimal::from_whole(stock),
        base_sku: None,
        talle: None,
        color: None,
    }
}

/// A colour in a sku: its first three letters without accents, in capitals.
fn code(colour: &str) -> String {
    let plain = |letter: char| match letter {
        'á' => 'a',
        'é' => 'e',
        'í' => 'i',
        'ó' => 'o',
        'ú' => 'u',
        other => other,
    };
    colour.chars().take(3).map(|letter| plain(letter).to_ascii_uppercase()).collect()
}

/// An EAN-13 of Argentina (779) of a made-up company, with its check digit.
fn barcode(number: u32) -> String {
    let body = format!("7799001{number:05}");
    let digit = check_digit(&body);
    format!("{body}{digit}")
}

/// The thirteenth digit of an EAN-13: weights 1 and 3 from the left, filled up to a multiple of ten.
fn check_digit(body: &str) -> u32 {
    let weighted =
        body.bytes().zip([1, 3].into_iter().cycle()).map(|(digit, weight)| u32::from(digit - b'0') * weight);
    (10 - weighted.sum::<u32>() % 10) % 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn check_digits_are_those_of_the_standard() {
        assert_eq!(check_digit("400638133393"), 1); // the example of the EAN-13 literature
        assert_eq!(check_digit("779123456789"), 8);
        assert_eq!(check_digit("000000000000"), 0);
    }

    #[test]
    fn the_shop_obeys_the_rules_of_an_imported_catalogue() {
        let rows = rows();
        let mut file = "sku;nombre;precio;codigo_barras;tipo;stock;base_sku;talle;color;costo\n".to_owned();
        for row in &rows {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let (code, base, size, colour) =
                (text(&row.codigo_barras), text(&row.base_sku), text(&row.talle), text(&row.color));
            let (stock, cost) = (row.stock.unwrap(), row.costo.unwrap());
            let CatalogueRow { sku, nombre, precio, tipo, .. } = row;
            file += &format!("{sku};{nombre};{precio};{code};{tipo};{stock};{base};{size};{colour};{cost}\n");
        }
        let read = crate::cli::catalogue_csv::read(file.as_bytes()).unwrap();
        assert_eq!((read.rows.len(), read.bad), (rows.len(), vec![]));
        assert!(rows.iter().all(|row| row.precio > Decimal::ZERO && row.costo.unwrap() < row.precio));
    }

    #[test]
    fn it_has_clothes_groceries_and_goods_by_weight() {
        let rows = rows();
        let of = |tipo: &str| rows.iter().filter(|row| row.tipo == tipo).count();
        let garments: HashSet<_> = rows.iter().filter_map(|row| row.base_sku.as_deref()).collect();
        assert_eq!((garments.len(), of("pesable"), of("alimento") + of("bebida")), (12, 12, 25));
        assert_eq!(
            of("ropa"),
            CLOTHES.iter().map(|garment| garment.5.len() * garment.6.len()).sum::<usize>()
        );
        assert!(rows.iter().all(|row| row.codigo_barras.as_ref().unwrap().len() == 13));
    }

    #[test]
    fn every_unit_has_something_in_the_store() {
        let opening = opening();
        let stocked = |place: DemoLocation| {
            opening.iter().filter(|o| o.location == place && o.quantity > Decimal::ZERO).count()
        };
        assert_eq!((stocked(STORE), stocked(WAREHOUSE)), (rows().len(), rows().len() - 12));
    }
}
