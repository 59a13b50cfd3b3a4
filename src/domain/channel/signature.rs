//! Who a notice is from.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Whether a body was signed with the app's secret the way Shopify does: HMAC-SHA256 over the bytes as they came, in
/// base64. Compared in constant time.
pub fn is_shopifys(secret: &str, body: &[u8], signature: &str) -> bool {
    let Ok(tag) = BASE64_STANDARD.decode(signature) else { return false };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, body, &tag).is_ok()
}

/// How Shopify signs a body.
pub fn of_shopify(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    BASE64_STANDARD.encode(hmac::sign(&key, body).as_ref())
}

/// Whether a query was signed the way Shopify does when it sends somebody back: HMAC-SHA256 in hex over the other
/// parameters, sorted by name. Compared in constant time.
pub fn is_shopifys_query(secret: &str, query: &str) -> bool {
    let mut pairs = pairs(query);
    let Some(at) = pairs.iter().position(|(name, _)| name == "hmac") else { return false };
    let Some(tag) = bytes_of(&pairs.remove(at).1) else { return false };
    pairs.sort();
    let message: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, message.join("&").as_bytes(), &tag).is_ok()
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The parameters of a query, decoded, in their order.
pub fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (bytes[at], byte) {
            (_, Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', None) => out.push(b' '),
            (other, None) => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// As a query or a form has it.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[test]
fn a_query_is_genuine_in_any_order_and_not_with_anything_changed() {
    // The example of Shopify's documentation.
    let tag = "4712bf92ffc2917d15a2f5a273e39f0116667419aa4b6ac0b3baaf26fa3c4d20";
    let [code, shop, time] =
        ["code=0907a61c0c8d55e99db179b68161bc00", "shop=some-shop.myshopify.com", "timestamp=1337178173"];
    let genuine = |query: String| is_shopifys_query("hush", &query);
    assert!(genuine(format!("{code}&hmac={tag}&{shop}&{time}")));
    assert!(genuine(format!("{time}&{shop}&{code}&hmac={tag}")));
    for query in [
        format!("{code}&{shop}&{time}"),
        format!("{code}&{shop}&{time}&hmac=4712"),
        format!("{code}&{shop}&{time}&hmac=xyz{tag}"),
        format!("{code}&{shop}&{time}&extra=1&hmac={tag}"),
        format!("{code}&shop=evil.myshopify.com&{time}&hmac={tag}"),
        String::new(),
    ] {
        assert!(!genuine(query.clone()), "{query}");
    }
    assert_eq!(
        pairs("a=%C3%B1+1&b&c=%zz"),
        [("a".into(), "ñ 1".into()), ("b".into(), String::new()), ("c".into(), "%zz".into())]
    );
    assert_eq!(encoded("TG-1 &=ñ"), "TG-1%20%26%3D%C3%B1");
}

#[test]
fn the_published_example_is_recognised_and_nothing_near_it_is() {
    let body = include_bytes!("../../../tests/support/shopify/inventory_levels_update.json");
    let signature = "Lli5dAdCvpuf6+nqoM1kQwv6Tr/AuiRUYfbPO4oJbYY=";
    assert!(is_shopifys("hush", body, signature) && of_shopify("hush", body) == signature);
    assert!(!is_shopifys("hush!", body, signature));
    assert!(!is_shopifys("hush", &body[..body.len() - 1], signature));
    for other in ["", "Lli5dAdCvpuf6+nqoM1kQwv6Tr/AuiRUYfbPO4oJbYY", "TGxpNWRBZEN2cHVmNg==", "=", "ñ"] {
        assert!(!is_shopifys("hush", body, other), "{other}");
    }
}
