//! A shop's catalogue as a CSV file. Columns are found by their names, in any order:
//! `sku,nombre,precio` are needed, `categoria,rubro,marca,codigo_barras,tipo,stock,base_sku,talle,color,costo` known.
//!
//! Every bad row is reported with its line, so that a person mends the file once instead of once per mistake.
//! Texts are kept as they are, also those a spreadsheet would take for a formula: what is dangerous about them is
//! decided by whoever writes a spreadsheet, not by the shop's catalogue.

pub use super::table::{BadRow, TableError};
use super::table::{Row, Table, shown};
use crate::domain::decimal::Decimal;
use std::{collections::HashMap, io::Read};

/// What a product can be.
pub const TIPOS: [&str; 6] = ["general", "ropa", "pesable", "servicio", "alimento", "bebida"];
const PESABLE: &str = "pesable";

/// One sellable unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueRow {
    /// Line of the file; 0 when it comes from no file.
    pub line: u64,
    /// Code of the unit, unique in the file.
    pub sku: String,
    /// What the receipt says; the sku where the file says nothing.
    pub nombre: String,
    /// Category.
    pub categoria: Option<String>,
    /// Line of business within the category.
    pub rubro: Option<String>,
    /// Brand.
    pub marca: Option<String>,
    /// Selling price, more than nothing.
    pub precio: Decimal<2>,
    /// What the shop pays for it.
    pub costo: Option<Decimal<2>>,
    /// Barcode, unique in the file.
    pub codigo_barras: Option<String>,
    /// One of [`TIPOS`].
    pub tipo: String,
    /// Opening stock.
    pub stock: Option<Decimal<3>>,
    /// Code of the product whose variant this is.
    pub base_sku: Option<String>,
    /// Size of the variant.
    pub talle: Option<String>,
    /// Colour of the variant.
    pub color: Option<String>,
}

/// All that a file says.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// The good rows, in the order of the file.
    pub rows: Vec<CatalogueRow>,
    /// The others.
    pub bad: Vec<BadRow>,
    /// Rows without a name, which got their sku as one.
    pub unnamed: u64,
    /// Columns nobody knows.
    pub ignored_columns: Vec<String>,
}

/// Reads a catalogue. Only a file that cannot be read at all is an error; bad rows are part of the answer.
pub fn read<R: Read>(reader: R) -> Result<Catalogue, TableError> {
    let mut table = Table::new(reader)?;
    let columns = Columns::of(&table)?;
    let mut catalogue = Catalogue { ignored_columns: ignored(&table), ..Catalogue::default() };
    let mut seen = Seen::default();
    while let Some(row) = table.next_row()? {
        match row.and_then(|row| columns.read(&row)).and_then(|row| seen.check(row)) {
            Ok((row, named)) => {
                catalogue.unnamed += u64::from(!named);
                catalogue.rows.push(row);
            }
            Err(bad) => catalogue.bad.push(bad),
        }
    }
    Ok(catalogue)
}

struct Columns {
    sku: Option<usize>,
    nombre: Option<usize>,
    precio: Option<usize>,
    categoria: Option<usize>,
    rubro: Option<usize>,
    marca: Option<usize>,
    costo: Option<usize>,
    codigo_barras: Option<usize>,
    tipo: Option<usize>,
    stock: Option<usize>,
    base_sku: Option<usize>,
    talle: Option<usize>,
    color: Option<usize>,
}

const KNOWN: [&str; 13] = [
    "sku",
    "nombre",
    "precio",
    "categoria",
    "rubro",
    "marca",
    "costo",
    "codigo_barras",
    "tipo",
    "stock",
    "base_sku",
    "talle",
    "color",
];

fn ignored<R: Read>(table: &Table<R>) -> Vec<String> {
    let unknown = |name: &&String| !KNOWN.contains(&name.as_str());
    table.columns().iter().filter(unknown).map(|name| shown(name)).collect()
}

impl Columns {
    fn of<R: Read>(table: &Table<R>) -> Result<Self, TableError> {
        Ok(Self {
            sku: Some(table.require("sku")?),
            nombre: Some(table.require("nombre")?),
            precio: Some(table.require("precio")?),
            categoria: table.find("categoria")?,
            rubro: table.find("rubro")?,
            marca: table.find("marca")?,
            costo: table.find("costo")?,
            codigo_barras: table.find("codigo_barras")?,
            tipo: table.find("tipo")?,
            stock: table.find("stock")?,
            base_sku: table.find("base_sku")?,
            talle: table.find("talle")?,
            color: table.find("color")?,
        })
    }

    /// One row by its own rules, and whether it had a name.
    fn read(&self, row: &Row<'_>) -> Result<(CatalogueRow, bool), BadRow> {
        let sku = row.text(self.sku, "sku")?;
        check_code(row, "sku", sku, 100)?;
        if sku.is_empty() {
            return Err(BadRow::new(row.line, "sku", "is empty"));
        }
        let nombre = optional(row, self.nombre, "nombre", 255)?;
        let tipo = self.tipo(row)?;
        let stock = self.stock(row, &tipo)?;
        let precio = match row.decimal::<2>(self.precio, "precio")? {
            Some(precio) if precio > Decimal::ZERO => precio,
            Some(_) => return Err(BadRow::new(row.line, "precio", "must be more than 0")),
            None => return Err(BadRow::new(row.line, "precio", "is empty")),
        };
        let costo = row.decimal::<2>(self.costo, "costo")?;
        if costo.is_some_and(|costo| costo < Decimal::ZERO) {
            return Err(BadRow::new(row.line, "costo", "is negative"));
        }
        let codigo_barras = row.text(self.codigo_barras, "codigo_barras")?;
        check_code(row, "codigo_barras", codigo_barras, 50)?;
        let base_sku = row.text(self.base_sku, "base_sku")?;
        check_code(row, "base_sku", base_sku, 50)?;
        let named = nombre.is_some();
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let unit = CatalogueRow {
            line: row.line,
            sku: sku.to_owned(),
            nombre: nombre.unwrap_or_else(|| sku.to_owned()),
            categoria: optional(row, self.categoria, "categoria", 100)?,
            rubro: optional(row, self.rubro, "rubro", 100)?,
            marca: optional(row, self.marca, "marca", 100)?,
            precio,
            costo,
            codigo_barras: filled(codigo_barras),
            tipo,
            stock,
            base_sku: filled(base_sku),
            talle: optional(row, self.talle, "talle", 50)?,
            color: optional(row, self.color, "color", 50)?,
        };
        Ok((unit, named))
    }

    fn tipo(&self, row: &Row<'_>) -> Result<String, BadRow> {
        let text = row.text(self.tipo, "tipo")?.trim().to_lowercase();
        match text.as_str() {
            "" => Ok("general".to_owned()),
            known if TIPOS.contains(&known) => Ok(text),
            other => {
                let reason = format!("`{}` is none of {}", shown(other), TIPOS.join(", "));
                Err(BadRow::new(row.line, "tipo", reason))
            }
        }
    }

    fn stock(&self, row: &Row<'_>, tipo: &str) -> Result<Option<Decimal<3>>, BadRow> {
        let stock = row.decimal::<3>(self.stock, "stock")?;
        match stock {
            Some(stock) if stock < Decimal::ZERO => Err(BadRow::new(row.line, "stock", "is negative")),
            Some(stock) if stock.is_fractional() && tipo != PESABLE => {
                let reason = format!("`{stock}` is fractional, which only tipo pesable may be");
                Err(BadRow::new(row.line, "stock", reason))
            }
            stock => Ok(stock),
        }
    }
}

/// A code is compared and scanned, so it must be exactly what it looks like.
fn check_code(row: &Row<'_>, name: &'static str, code: &str, longest: usize) -> Result<(), BadRow> {
    let bad = |reason: String| Err(BadRow::new(row.line, name, reason));
    if code.trim() != code {
        return bad(format!("`{}` begins or ends with a space", shown(code)));
    }
    if code.chars().any(char::is_control) {
        return bad(format!("`{}` has characters that cannot be printed", shown(code)));
    }
    if code.chars().nth(longest).is_some() {
        return bad(format!("is longer than {longest} characters"));
    }
    Ok(())
}

/// A text for people: trimmed, `None` when empty.
fn optional(
    row: &Row<'_>,
    column: Option<usize>,
    name: &'static str,
    longest: usize,
) -> Result<Option<String>, BadRow> {
    let text = row.text(column, name)?.trim();
    if text.chars().nth(longest).is_some() {
        return Err(BadRow::new(row.line, name, format!("is longer than {longest} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(BadRow::new(row.line, name, "has a line break or another control character"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// What the file has had so far: skus and barcodes with the line they were first on.
#[derive(Default)]
struct Seen {
    skus: HashMap<String, u64>,
    barcodes: HashMap<String, u64>,
}

impl Seen {
    fn check(&mut self, (row, named): (CatalogueRow, bool)) -> Result<(CatalogueRow, bool), BadRow> {
        let twice = |first: u64, field, value: &str| {
            Err(BadRow::new(row.line, field, format!("`{}` is already on line {first}", shown(value))))
        };
        if let Some(first) = self.skus.get(&row.sku) {
            return twice(*first, "sku", &row.sku);
        }
        if let Some(code) = &row.codigo_barras {
            if let Some(first) = self.barcodes.get(code) {
                return twice(*first, "codigo_barras", code);
            }
            self.barcodes.insert(code.clone(), row.line);
        }
        self.skus.insert(row.sku.clone(), row.line);
        Ok((row, named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bad(text: &str) -> Vec<String> {
        read(text.as_bytes()).unwrap().bad.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_column_is_read() {
        let text = "color,talle,base_sku,stock,tipo,codigo_barras,costo,precio,marca,rubro,categoria,nombre,sku\n\
                    Azul,M,JEAN,12,Ropa,7791234567898,100.5,250,Levis,Jeans,Ropa,Jean recto,JEAN-AZUL-M\n";
        let catalogue = read(text.as_bytes()).unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            catalogue.rows,
            [CatalogueRow {
                line: 2,
                sku: "JEAN-AZUL-M".into(),
                nombre: "Jean recto".into(),
                categoria: text("Ropa"),
                rubro: text("Jeans"),
                marca: text("Levis"),
                precio: Decimal::parse("250").unwrap(),
                costo: Some(Decimal::parse("100.50").unwrap()),
                codigo_barras: text("7791234567898"),
                tipo: "ropa".into(),
                stock: Some(Decimal::parse("12").unwrap()),
                base_sku: text("JEAN"),
                talle: text("M"),
                color: text("Azul"),
            }]
        );
        assert!(catalogue.bad.is_empty() && catalogue.ignored_columns.is_empty());
    }

    #[test]
    fn few_columns_are_enough_and_unknown_ones_are_named_once() {
        let catalogue =
            read("precio,proveedor,nombre,sku\n1.50,x,Yerba,Y1\n2,y,Mate,M1\n".as_bytes()).unwrap();
        assert_eq!(catalogue.ignored_columns, ["proveedor"]);
        let row = &catalogue.rows[1];
        assert_eq!((row.tipo.as_str(), row.stock, &row.marca, row.line), ("general", None, &None, 3));
    }

    #[test]
    fn spreadsheets_of_argentina_are_read() {
        let catalogue =
            read("\u{feff}SKU;Nombre;Precio;Tipo;Stock\r\nQ1;Queso; 12500,50 ;pesable;3,125\r\n".as_bytes());
        let row = &catalogue.unwrap().rows[0];
        assert_eq!((row.precio.units(), row.stock.unwrap().units()), (1_250_050, 3_125));
    }

    #[test]
    fn an_empty_name_is_a_warning_and_the_sku_is_used() {
        let catalogue = read("sku,nombre,precio\nA,,1\nB,  ,1\nC,c,1\n".as_bytes()).unwrap();
        assert_eq!((catalogue.unnamed, catalogue.rows[0].nombre.as_str()), (2, "A"));
    }

    #[test]
    fn formulas_stay_what_they_are() {
        let catalogue = read("sku,nombre,precio\n=1+1,@SUM(A1),1\n-5,+x,1\n".as_bytes()).unwrap();
        assert_eq!((catalogue.rows[0].sku.as_str(), catalogue.rows[0].nombre.as_str()), ("=1+1", "@SUM(A1)"));
        assert_eq!(catalogue.rows[1].nombre, "+x");
    }

    #[test]
    fn each_rule_is_reported_with_line_and_column() {
        let long = "x".repeat(256);
        let text = format!(
            "sku,nombre,precio,codigo_barras,tipo,stock,costo\n\
             ,a,1,,,,\n\"A \",a,1,,,,\n\"A\tB\",a,1,,,,\n{long},a,1,,,,\nB,{long},1,,,,\n\
             C,a,,,,,\nC,a,0,,,,\nC,a,-1,,,,\nC,a,1.005,,,,\nC,a,gratis,,,,\nC,a,1,{long},,,\nC,a,1,,zapato,,\n\
             C,a,1,,,-1,\nC,a,1,,,1.5,\nC,a,1,,pesable,1.2345,\nC,a,1,,,,-1\nC,a,1234,50,,,,\nC,a\n\
             C,a,1,779,,,\nC,a,1,,,,\nD,a,1,779,,,\n"
        );
        let expected = [
            "line 2, sku: is empty",
            "line 3, sku: `A ` begins or ends with a space",
            "line 4, sku: `A\u{fffd}B` has characters that cannot be printed",
            "line 5, sku: is longer than 100 characters",
            "line 6, nombre: is longer than 255 characters",
            "line 7, precio: is empty",
            "line 8, precio: must be more than 0",
            "line 9, precio: must be more than 0",
            "line 10, precio: `1.005` has more than 2 decimal places",
            "line 11, precio: `gratis` is not a decimal number",
            "line 12, codigo_barras: is longer than 50 characters",
            "line 13, tipo: `zapato` is none of general, ropa, pesable, servicio, alimento, bebida",
            "line 14, stock: is negative",
            "line 15, stock: `1.500` is fractional, which only tipo pesable may be",
            "line 16, stock: `1.2345` has more than 3 decimal places",
            "line 17, costo: is negative",
            "line 18: has 8 fields, the header has 7",
            "line 19: has 2 fields, the header has 7",
            "line 21, sku: `C` is already on line 20",
            "line 22, codigo_barras: `779` is already on line 20",
        ];
        assert_eq!(bad(&text), expected);
        assert_eq!(read(text.as_bytes()).unwrap().rows.len(), 1);
    }

    #[test]
    fn text_in_another_encoding_is_a_bad_row() {
        let bytes = b"sku,nombre,precio\nA,Jam\xf3n,1\nB,Pan,1\n";
        let catalogue = read(&bytes[..]).unwrap();
        assert_eq!(catalogue.bad[0].to_string(), "line 2, nombre: is not UTF-8 text; save the file as UTF-8");
        assert_eq!(catalogue.rows.len(), 1);
    }

    #[test]
    fn a_file_without_the_needed_columns_is_refused() {
        assert!(matches!(read(&b""[..]), Err(TableError::Missing("sku"))));
        assert!(matches!(read("sku,precio\n".as_bytes()), Err(TableError::Missing("nombre"))));
        assert!(matches!(read("sku,nombre,precio,sku\n".as_bytes()), Err(TableError::Twice("sku"))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_it(bytes in prop::collection::vec(any::<u8>(), 0..300), with_header: bool) {
            let header: &[u8] = if with_header { b"sku,nombre,precio,stock,tipo\n" } else { b"" };
            let _unused = read(&[header, &bytes].concat()[..]);
        }

        #[test]
        fn csv_like_text_never_yields_a_row_that_breaks_the_rules(
            text in r#"([ABx =@"'\t;,.0-9áñ\n-]{0,12},){4}[0-9.]{0,5}\n"#,
        ) {
            let catalogue = read(format!("sku,nombre,stock,tipo,precio\n{text}").as_bytes()).unwrap();
            for row in catalogue.rows {
                prop_assert!(!row.sku.is_empty() && row.sku.trim() == row.sku);
                prop_assert!(!row.nombre.is_empty() && row.precio > Decimal::ZERO);
            }
        }
    }
}
