//! What an actor's refusal is on the wire: the one place where it gets a status and a text a cashier can act on.

use super::super::{ApiError, FieldError};
use crate::actors::channels::NotDone;
use crate::actors::kit::AskError;
use crate::actors::reservation::{Asked, Denied, ShortLine};
use crate::domain::sale::{MAX_LINES, Refusal};
use crate::ports::bus::AppendError;
use hyper::StatusCode;
use serde_json::json;

/// Unwraps both layers of an actor's answer.
pub fn answered<T>(asked: Asked<T>) -> Result<T, ApiError> {
    asked.map_err(ask_error)?.map_err(denied)
}

/// An actor that did not answer.
pub fn ask_error(error: AskError) -> ApiError {
    match error {
        AskError::Full => ApiError::unavailable(
            "sobrecarga",
            "Hay demasiadas operaciones en curso: reintente en un momento",
            1,
        ),
        AskError::Stopped | AskError::Crashed | AskError::TimedOut => unknown_outcome().caused_by(error),
    }
}

/// It may have been done or not.
pub fn unknown_outcome() -> ApiError {
    ApiError::unavailable(
        "resultado_desconocido",
        "No se sabe si la operación se registró: repita el pedido con la misma Idempotency-Key, no se venderá dos veces",
        1,
    )
}

/// A refusal.
pub fn denied(denied: Denied) -> ApiError {
    match denied {
        Denied::UnknownTenant => {
            ApiError::new(StatusCode::FORBIDDEN, "tienda_inexistente", "La tienda no existe")
        }
        Denied::InactiveTenant => {
            ApiError::new(StatusCode::FORBIDDEN, "tienda_inactiva", "La tienda está inactiva")
        }
        Denied::UnknownSale => ApiError::not_found("La venta no existe"),
        Denied::Refused(refusal) => refused(*refusal),
        Denied::Short(lines) => short(&lines),
        Denied::KeyReused => ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reutilizada",
            "La Idempotency-Key ya se usó con otro pedido",
        ),
        Denied::Import(problem) => ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "catalogo_invalido",
            "El catálogo no se puede importar",
        )
        .with_details(json!({ "motivo": problem.to_string() })),
        Denied::Delivery(why) => ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "entrega_invalida",
            "La entrega no se puede registrar",
        )
        .with_details(json!({ "motivo": why })),
        Denied::ChangeUnderWay => ApiError::conflict(
            "cambio_en_curso",
            "Hay otro cambio del catálogo en curso: reintente en un momento",
        )
        .with_retry_after(1),
        Denied::Append(AppendError::NotDurable(why)) => {
            ApiError::unavailable("no_registrada", "La operación no se registró: reintente en un momento", 1)
                .caused_by(why)
        }
        Denied::Append(AppendError::Full(why)) => {
            ApiError::unavailable("almacenamiento_lleno", "No hay espacio para registrar la operación", 30)
                .caused_by(why)
        }
        Denied::Append(AppendError::InDoubt(why)) => unknown_outcome().caused_by(why),
        Denied::Port(error) if error.is_transient() => {
            ApiError::unavailable("no_disponible", "El dato no está disponible: reintente en un momento", 1)
                .caused_by(error)
        }
        Denied::Port(error) => ApiError::internal().caused_by(error),
    }
}

/// What became of a connection's question.
pub fn not_done(error: NotDone) -> ApiError {
    match error {
        NotDone::Unknown => ApiError::not_found("La integración no existe"),
        NotDone::TooMany => {
            ApiError::conflict("demasiadas_integraciones", "La tienda no puede tener más integraciones")
        }
        NotDone::OnItsWay => ApiError::unavailable(
            "no_disponible",
            "La integración está cambiando de nodo: reintente en un momento",
            1,
        ),
        NotDone::Taken => ApiError::conflict("cuenta_ya_conectada", "Esa cuenta ya está conectada"),
        NotDone::Stranger => ApiError::bad_request(
            "estado_invalido",
            "Este retorno no corresponde a una instalación en curso: empiece de nuevo",
        ),
        NotDone::Unsigned => ApiError::unauthorized("firma_invalida", "La firma del aviso no es válida"),
        NotDone::Refused(why) => ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "integracion_invalida",
            "La integración no se puede abrir así",
        )
        .with_details(json!({ "motivo": why })),
        NotDone::Port(error) => denied(Denied::Port(error)),
    }
}

/// Nothing was done: the tenant's shard is at another node. Said to nodes that forward, never to a till.
pub fn elsewhere() -> ApiError {
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, "en_otro_nodo", "La tienda está en otro nodo")
        .with_retry_after(1)
}

fn short(lines: &[ShortLine]) -> ApiError {
    let row = |line: &ShortLine| {
        json!({
            "producto_id": line.unit, "sku": line.sku, "nombre": line.name,
            "solicitado": line.asked, "disponible": line.available,
        })
    };
    let names: Vec<String> =
        lines.iter().take(3).map(|line| format!("{} (hay {})", line.name, trimmed(line.available))).collect();
    let more = if lines.len() > 3 { " y otros" } else { "" };
    ApiError::bad_request("stock_insuficiente", format!("Stock insuficiente: {}{more}", names.join(", ")))
        .with_details(json!({ "faltantes": lines.iter().map(row).collect::<Vec<_>>() }))
}

fn trimmed(quantity: crate::domain::decimal::Quantity) -> String {
    let text = quantity.to_string();
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn refused(refusal: Refusal) -> ApiError {
    let item = |line: usize, field: &str| format!("items[{line}].{field}");
    match refusal {
        Refusal::LineCount(count) => ApiError::field(
            "items",
            "fuera_de_rango",
            format!("Debe tener entre 1 y {MAX_LINES} elementos, tiene {count}"),
        ),
        Refusal::QuantityRange { line, max, .. } => ApiError::field(
            item(line, "cantidad"),
            "fuera_de_rango",
            format!("Debe ser mayor que 0 y hasta {}", trimmed(max)),
        ),
        Refusal::Fractional { line, sku, name, quantity } => {
            ApiError::bad_request("cantidad_fraccionaria", format!("{name} no permite cantidades decimales"))
                .with_details(json!({ "campo": item(line, "cantidad"), "sku": sku, "cantidad": quantity }))
        }
        Refusal::UnknownProduct { line, product } => ApiError::not_found("El producto no existe")
            .with_details(json!({ "campo": item(line, "producto_id"), "producto_id": product })),
        Refusal::SeveralVariants { line, product, variants } => {
            ApiError::bad_request("falta_variante", "El producto tiene variantes: indique cuál").with_details(
                json!({
                    "campo": item(line, "producto_id"), "producto_id": product, "variantes": variants,
                }),
            )
        }
        Refusal::Inactive { line, sku, name } => {
            ApiError::bad_request("producto_inactivo", format!("{name} no está a la venta"))
                .with_details(json!({ "campo": item(line, "producto_id"), "sku": sku }))
        }
        Refusal::UnknownLocation(id) => ApiError::not_found("La ubicación no existe")
            .with_details(json!({ "campo": "ubicacion_id", "ubicacion_id": id })),
        Refusal::InactiveLocation(id) => {
            ApiError::bad_request("ubicacion_inactiva", "La ubicación está inactiva")
                .with_details(json!({ "campo": "ubicacion_id", "ubicacion_id": id }))
        }
        Refusal::PriceMoved { line, sku, seen, current } => {
            ApiError::conflict("precio_cambiado", "El precio cambió desde que se mostró").with_details(
                json!({
                    "campo": item(line, "precio_unitario"), "sku": sku, "visto": seen, "actual": current,
                }),
            )
        }
        Refusal::TotalDiffers { seen, current } => {
            ApiError::conflict("total_distinto", "El total declarado no es la suma de los precios actuales")
                .with_details(json!({ "campo": "total", "visto": seen, "actual": current }))
        }
        Refusal::TooMuch => ApiError::validation(vec![FieldError {
            field: "items".into(),
            message: "El importe es demasiado grande".into(),
            kind: "fuera_de_rango".into(),
        }]),
    }
}
