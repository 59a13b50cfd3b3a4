//! The decision of a sale: price, reserve, settle, in memory; against the bare work of taking units from a map.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on stops")]

mod common;

use blend::domain::catalogue::Catalogue;
use blend::domain::decimal::Quantity;
use blend::domain::idempotency::{Fingerprint, IdempotencyKey};
use blend::domain::ids::SaleId;
use blend::domain::reservation::{Keyed, Outcome, Reserve};
use blend::domain::sale::{PaymentMethod, RequestedLine, SaleRequest, price};
use blend::ports::stock::HotStock;
use blend::stock::memory::MemoryStock;
use common::Shop;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt;
use std::collections::HashMap;
use std::hint::black_box;
use uuid::Uuid;

fn reserve(criterion: &mut Criterion) {
    let shop = Shop::new();
    let (tenant, location) = (shop.tenant.id, shop.location.clone());
    let mut catalogue = Catalogue::default();
    shop.units.iter().for_each(|unit| catalogue.upsert(unit.clone()));
    let plenty = Quantity::from_whole(1_000_000_000_000).unwrap();
    let max = Quantity::from_whole(10_000).unwrap();
    let mut group = criterion.benchmark_group("reserve");
    for lines in [1, 10, 100] {
        group.throughput(Throughput::Elements(1));
        let line = |n: usize| RequestedLine {
            product: shop.units[n * 7].id.0,
            quantity: Quantity::from_whole(1).unwrap(),
            seen_price: None,
        };
        let request = SaleRequest {
            lines: (0..lines).map(line).collect(),
            payment: PaymentMethod::Efectivo,
            location: None,
            seen_total: None,
        };
        let places = [location.clone()];
        let mut stock = MemoryStock::new(1_000);
        let levels = shop.units.iter().map(|unit| ((unit.id, location.id), plenty)).collect();
        stock.load(tenant, levels).now_or_never().unwrap().unwrap();
        group.bench_function(BenchmarkId::new("price, reserve and settle, with a key", lines), |bench| {
            bench.iter(|| {
                let id = SaleId(Uuid::now_v7());
                let sale = price(black_box(&request), id, &catalogue, &places, max).unwrap();
                let key = IdempotencyKey::parse("0199a2b4-7d1e-7c3a-9d5e-2f1b6c8a4e00").unwrap();
                let mut key = key.hash(tenant);
                key.0 ^= id.0.as_u128();
                let keyed = Some(Keyed { key, fingerprint: Fingerprint::of(&request) });
                let command = Reserve { sale: id, location: sale.location, demand: sale.demand(), keyed };
                let outcome = stock.reserve(tenant, &command).now_or_never().unwrap().unwrap();
                assert_eq!(outcome, Outcome::Reserved);
                stock.settle(&[(tenant, id)]).now_or_never().unwrap().unwrap();
                stock.forget_keys(tenant, &|_| true).now_or_never().unwrap().unwrap();
            });
        });
        let mut bare: HashMap<_, i64> = shop.units.iter().map(|unit| (unit.id, i64::MAX)).collect();
        group.bench_function(BenchmarkId::new("baseline: decrements in a map", lines), |bench| {
            bench.iter(|| {
                for line in &black_box(&request).lines {
                    *bare.get_mut(&line.product.into()).unwrap() -= line.quantity.units();
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, reserve);
criterion_main!(benches);
