use super::*;
use crate::domain::catalogue::{UnitKind, tests::unit};
use crate::domain::erp::{Account, AccountKey, Held, Identity, Row, RowId};
use crate::domain::tenant::LocationKind;
use crate::domain::trace::span_of;

fn event(body: Body) -> Event {
    Event {
        id: EventId(Uuid::now_v7()),
        tenant: TenantId(Uuid::now_v7()),
        sequence: 42,
        at: Timestamp::from_micros(1_767_225_599_000_250),
        user: "cajera \"1\" ñ".into(),
        request_id: "req-1".into(),
        trace: None,
        body,
    }
}

fn sale() -> Body {
    let line = |sku: &str, quantity: &str, has_stock| SaleLine {
        unit: UnitId(Uuid::now_v7()),
        name: "Queso \\ Mar del Plata \"x\"".into(),
        sku: sku.into(),
        quantity: Quantity::parse(quantity).unwrap(),
        unit_price: Money::parse("8750.50").unwrap(),
        subtotal: Money::parse("3018.92").unwrap(),
        has_stock,
    };
    let sale = Sale {
        id: SaleId(Uuid::now_v7()),
        location: LocationId(Uuid::now_v7()),
        payment: PaymentMethod::TarjetaDebito,
        total: Money::parse("6037.84").unwrap(),
        lines: vec![line("Q-1", "0.345", true), line("S-1", "1", false)],
    };
    let key = IdempotencyKey::parse("till-1-77").unwrap();
    Body::SaleCreated { sale, keyed: Some((key, Fingerprint([7; 16]))) }
}

#[test]
fn every_kind_survives_the_wire() {
    let place = Location {
        id: LocationId(Uuid::now_v7()),
        code: "330".into(),
        name: "Sucursal 330".into(),
        kind: LocationKind::Store,
        is_default: true,
        active: true,
    };
    let tenant = Tenant {
        id: TenantId(Uuid::now_v7()),
        name: "Súper".into(),
        trade: "almacen".into(),
        active: true,
        created_at: Timestamp::from_micros(5),
    };
    let movement = Movement {
        unit: UnitId(Uuid::now_v7()),
        location: place.id,
        delta: Quantity::parse("-1.5").unwrap(),
    };
    let bodies = [
        Body::TenantCreated { tenant, locations: vec![place.clone()] },
        Body::LocationsAdded { locations: vec![place] },
        Body::ProductsUpserted { units: vec![Arc::new(unit("A\"1", UnitKind::Pesable, "10.01"))] },
        sale(),
        Body::SaleVoided {
            sale: SaleId(Uuid::now_v7()),
            reason: "se arrepintió \"x\"".into(),
            movements: vec![movement],
        },
        Body::StockMoved {
            kind: MovementKind::InitialStock,
            reference: "x".into(),
            movements: vec![movement],
        },
        Body::ErpFollowed(Arc::new(ErpChange {
            source: "lince".into(),
            reference: "LEGACY_1".into(),
            movements: vec![movement],
            entries: vec![Entry::Account {
                key: AccountKey {
                    item: Identity::new("A\"1", None, Some("ñ")).unwrap(), branch: "P".into()
                },
                account: Account {
                    unit: movement.unit,
                    location: movement.location,
                    applied: Quantity::parse("-1.5").unwrap(),
                    rows: [(RowId::Pushed, Row { quantity: Quantity::ZERO, stamp: None, missing: 1 })].into(),
                    held: Some(Held::Short),
                    confirmed: None,
                },
            }],
        })),
    ];
    for body in bodies {
        let (event, mut json) = (event(body), Vec::new());
        event.encode(&mut json).unwrap();
        let back = Event::decode(event.body.kind().as_str(), &json).unwrap();
        assert_eq!(back, event, "{}", String::from_utf8_lossy(&json));
    }
}

#[test]
fn sales_created_keeps_the_known_fields_and_exact_numbers() {
    let mut json = Vec::new();
    event(sale()).encode(&mut json).unwrap();
    let text = String::from_utf8(json.clone()).unwrap();
    assert!(text.contains("\"total\":6037.84") && text.contains("\"cantidad\":0.345"), "{text}");
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let fields =
        ["tienda_id", "total", "metodo_pago", "items", "timestamp", "event_id", "venta_id", "version"];
    for field in fields.into_iter().chain(["usuario_id", "ubicacion_id", "secuencia", "request_id"]) {
        assert!(value.get(field).is_some(), "{field} is missing");
    }
    let line = ["producto_id", "producto_nombre", "producto_sku", "cantidad", "precio_unitario", "subtotal"];
    assert!(line.iter().all(|field| value["items"][0].get(field).is_some()));
    assert!(value["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn an_event_carries_the_trace_of_its_request() {
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut sold = event(sale());
    sold.trace = TraceContext::parse(given, Some("rojo=1,azul=2")).map(Arc::new);
    let mut json = Vec::new();
    sold.encode(&mut json).unwrap();
    let mut read = sold.clone();
    read.trace = sold.trace.as_ref().map(|trace| Arc::new(trace.under(span_of(sold.id.0))));
    assert_eq!(Event::decode("sales.created", &json).unwrap(), read, "who reads it continues from the event");
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(value["traceparent"], sold.traceparent());
    assert_eq!(value["tracestate"], "rojo=1,azul=2");
    assert_ne!(sold.traceparent(), given, "what follows is not the caller's own span");
    // A broken one is no reason to lose a sale.
    let broken = String::from_utf8(json).unwrap().replace("\"00-4bf9", "\"zz-4bf9");
    assert_eq!(Event::decode("sales.created", broken.as_bytes()).unwrap().trace, None);
}

#[test]
fn newer_and_broken_events_are_refused() {
    let mut json = Vec::new();
    event(sale()).encode(&mut json).unwrap();
    let text = String::from_utf8(json).unwrap();
    let newer = text.replace("\"version\":1", "\"version\":2");
    assert!(matches!(Event::decode("sales.created", newer.as_bytes()), Err(DecodeError::Newer(2))));
    assert!(matches!(Event::decode("sales.created", &text.as_bytes()[..99]), Err(DecodeError::Json(_))));
    assert!(matches!(Event::decode("sales.eaten", text.as_bytes()), Err(DecodeError::Kind(_))));
    let extended = text.replacen('{', "{\"nuevo\":[1],", 1);
    assert!(Event::decode("sales.created", extended.as_bytes()).is_ok());
}
