//! Strict JSON in: 400 for what is not JSON, 422 naming the field for JSON of the wrong shape.
//!
//! The common case costs one UTF-8 check, one scan for depth and one parse. Only a refused body is read again, to
//! find out which of the two it is and where.

use super::reply::{ApiError, FieldError};
use hyper::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use serde::{Deserialize, de::IgnoredAny};

/// Deepest nesting of arrays and objects taken.
pub const MAX_DEPTH: usize = 32;

/// Reads a request body.
///
/// - 415 unless `Content-Type` is `application/json` or absent (old tills send none);
/// - 422 for an empty body;
/// - 400 `json_invalido` for text that is not JSON, is not UTF-8 or nests deeper than [`MAX_DEPTH`];
/// - 422 `validacion` with the field's path for a wrong type, a missing, unknown or repeated field.
pub fn read<'a, T: Deserialize<'a>>(headers: &HeaderMap, body: &'a [u8]) -> Result<T, ApiError> {
    check_content_type(headers)?;
    if body.is_empty() {
        return Err(ApiError::field("body", "requerido", "El cuerpo es obligatorio"));
    }
    let text = std::str::from_utf8(body).map_err(|_| malformed("El cuerpo no es UTF-8 válido"))?;
    if is_deeper_than(body, MAX_DEPTH) {
        return Err(malformed("El JSON tiene demasiados niveles"));
    }
    serde_json::from_str(text).map_err(|error| refuse::<T>(text, &error))
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let essence = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
    if essence.trim_ascii().eq_ignore_ascii_case(b"application/json") {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "tipo_no_soportado",
        "El Content-Type debe ser application/json",
    ))
}

fn malformed(message: &'static str) -> ApiError {
    ApiError::bad_request("json_invalido", message)
}

/// Whether arrays and objects nest deeper than `limit`. Looks at brackets outside strings and at nothing else: what
/// is no JSON at all is the parser's business.
fn is_deeper_than(text: &[u8], limit: usize) -> bool {
    let mut depth = 0_usize;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            bytes.next();
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

/// Says what is wrong with a text that is no `T`.
fn refuse<'a, T: Deserialize<'a>>(text: &'a str, error: &serde_json::Error) -> ApiError {
    // serde stops at the first wrong field and has not seen the rest, and calls 1e400 in an integer a syntax error.
    // Whether the text is JSON is therefore asked of a reader that wants nothing of it.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return malformed("El cuerpo no es JSON válido")
            .with_details(serde_json::json!({ "linea": error.line(), "columna": error.column() }));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let (path, message) = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => (error.path().to_string(), error.inner().to_string()),
        Ok(_) => (String::from("."), error.to_string()),
    };
    ApiError::validation(vec![explain(&path, &message)])
}

/// Turns serde's English into a field, a Spanish message and a type.
fn explain(path: &str, message: &str) -> FieldError {
    // serde_json ends in " at line 1 column 2", which helps nobody who has the path.
    let message = message.rfind(" at line ").map_or(message, |end| &message[..end]);
    let parent = if path == "." { "" } else { path };
    let quoted = message.split('`').nth(1).unwrap_or_default();
    let child = || match parent {
        "" => quoted.to_owned(),
        // The path of a repeated or unknown field may or may not already end in it.
        parent if parent == quoted || parent.ends_with(&format!(".{quoted}")) => parent.to_owned(),
        parent => format!("{parent}.{quoted}"),
    };
    let here = || if parent.is_empty() { "body".to_owned() } else { parent.to_owned() };
    let make = |field: String, kind: &'static str, message: String| FieldError {
        field,
        kind: kind.into(),
        message: message.into(),
    };
    if message.starts_with("missing field") {
        make(child(), "requerido", "Es obligatorio".into())
    } else if message.starts_with("unknown field") {
        make(child(), "desconocido", "Campo desconocido".into())
    } else if message.starts_with("duplicate field") {
        make(child(), "repetido", "Está repetido".into())
    } else if message.starts_with("unknown variant") {
        make(here(), "opcion", format!("`{quoted}` no es una de las opciones"))
    } else if message.starts_with("number out of range") {
        make(here(), "fuera_de_rango", "Está fuera de rango".into())
    } else if let Some(wanted) =
        message.strip_prefix("invalid ").and_then(|m| m.split_once(", expected ")).map(|(_, wanted)| wanted)
    {
        let kind = if message.starts_with("invalid type") { "tipo" } else { "valor" };
        make(here(), kind, format!("Se esperaba {}", in_spanish(wanted)))
    } else {
        // A domain type's own words.
        make(here(), "valor", message.to_owned())
    }
}

/// What serde expected, for a Spanish reader. Names of structs stay inside.
fn in_spanish(wanted: &str) -> &'static str {
    match wanted {
        "a string" | "a borrowed string" | "str" | "string" => "un texto",
        "a boolean" => "true o false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "un número entero no negativo",
        "i8" | "i16" | "i32" | "i64" | "isize" => "un número entero",
        "a sequence" => "una lista",
        w if w.contains("UUID") => "un UUID",
        w if w.starts_with("struct") || w.contains("map") => "un objeto",
        w if w.contains("option") => "un valor o null",
        _ => "otro tipo de valor",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use uuid::Uuid;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line<'a> {
        #[expect(dead_code, reason = "only its reading matters")]
        producto_id: Uuid,
        #[serde(borrow)]
        cantidad: &'a RawValue,
        #[serde(default)]
        nivel: Option<u8>,
    }
    #[derive(Debug, Deserialize)]
    struct Cart<'a> {
        #[serde(borrow)]
        items: Vec<Line<'a>>,
        metodo_pago: Metodo,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Metodo {
        Efectivo,
    }

    const ID: &str = "0192f5a0-0000-7000-8000-000000000001";

    fn cart(line: &str) -> String {
        format!(r#"{{"items":[{{"producto_id":"{ID}","cantidad":1}},{line}],"metodo_pago":"efectivo"}}"#)
    }

    fn refusal(body: &[u8]) -> (u16, &'static str, String) {
        let error = read::<Cart<'_>>(&HeaderMap::new(), body).unwrap_err();
        let field = error.validation_errors().first().map(|e| format!("{} {}", e.field, e.kind));
        (error.status().as_u16(), error.code(), field.unwrap_or_default())
    }

    #[test]
    fn numbers_stay_as_they_were_written() {
        let body = cart(&format!(r#"{{"producto_id":"{ID}","cantidad":1e400,"nivel":3}}"#));
        let cart: Cart<'_> = read(&HeaderMap::new(), body.as_bytes()).unwrap();
        assert_eq!((cart.items[1].cantidad.get(), cart.items[1].nivel), ("1e400", Some(3)));
        assert_eq!(cart.metodo_pago, Metodo::Efectivo);
    }

    #[test]
    fn wrong_shapes_are_named_by_their_path() {
        let id = |rest: &str| cart(&format!(r#"{{"producto_id":"{ID}",{rest}}}"#));
        let cases = [
            (id(r#""nivel":1"#), "items[1].cantidad requerido"),
            (id(r#""cantidad":1,"nivel":"x""#), "items[1].nivel tipo"),
            (id(r#""cantidad":1,"nivel":300"#), "items[1].nivel valor"),
            (id(r#""cantidad":1,"nivel":1e400"#), "items[1].nivel fuera_de_rango"),
            (id(r#""cantidad":1,"cantidad":2"#), "items[1].cantidad repetido"),
            (id(r#""cantidad":1,"precio":2"#), "items[1].precio desconocido"),
            (cart(r#"{"producto_id":"7","cantidad":1}"#), "items[1].producto_id valor"),
            (cart("7"), "items[1] tipo"),
            (r#"{"items":[],"metodo_pago":"trueque"}"#.into(), "metodo_pago opcion"),
            (r#"{"items":[]}"#.into(), "metodo_pago requerido"),
            ("[1,2,3,4]".into(), "items[0] tipo"),
            ("7".into(), "body tipo"),
        ];
        for (body, expected) in cases {
            let (status, code, field) = refusal(body.as_bytes());
            if expected == "items[0] tipo" {
                // A struct may be read from a list; whatever serde says about it, it is a 422.
                assert_eq!((status, code), (422, "validacion"), "{body}");
                continue;
            }
            assert_eq!((status, code, field.as_str()), (422, "validacion", expected), "{body}");
        }
        assert_eq!(refusal(b"").0, 422);
    }

    #[test]
    fn what_is_not_json_is_400_even_behind_a_wrong_field() {
        let deep = format!("{}1{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        let bomb = "[".repeat(1_000_000);
        let texts: [&[u8]; 12] = [
            b"{",
            b"{}x",
            b"{\"items\":NaN}",
            b"{\"items\":-Infinity}",
            b"{\"items\":01}",
            b"{\"items\":7,",
            b"{\"items\":7 \"a\"}",
            b"{'items':1}",
            b"\xff",
            b"{\"a\":\"\xc3\x28\"}",
            deep.as_bytes(),
            bomb.as_bytes(),
        ];
        for text in texts {
            let (status, code, _) = refusal(text);
            assert_eq!((status, code), (400, "json_invalido"), "{:.40}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn brackets_in_strings_are_not_depth() {
        assert!(!is_deeper_than(br#"{"a":"[[[[\"[[[[","b":[]}"#, 2));
        assert!(is_deeper_than(br#"{"a":[[]]}"#, 2));
        assert!(!is_deeper_than(br#"[[],[],[],[]]"#, 2));
    }

    #[test]
    fn content_type_is_json_or_absent() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            read::<u8>(&headers, b"1").map_err(|e| e.status().as_u16())
        };
        assert_eq!(with("application/json"), Ok(1));
        assert_eq!(with("Application/JSON ; charset=utf-8"), Ok(1));
        assert_eq!(with("text/plain"), Err(415));
        assert_eq!(with("application/jsonp"), Err(415));
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _unused = read::<Cart<'_>>(&HeaderMap::new(), &body);
        }

        #[test]
        fn any_cut_of_a_good_body_is_400_or_422(at in 0_usize..150) {
            let body = cart(&format!(r#"{{"producto_id":"{ID}","cantidad":1}}"#));
            let status = refusal(&body.as_bytes()[..at.min(body.len() - 1)]).0;
            prop_assert_eq!(status, if at == 0 { 422 } else { 400 });
        }
    }
}
