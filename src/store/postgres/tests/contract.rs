//! The contract of every ledger.

use super::*;
use crate::domain::decimal::Quantity;
use crate::domain::ids::{LocationId, UnitId};
use crate::domain::ledger::{Break, Chains, Link};
use crate::fixtures::Shop;
use crate::store::contract;
use proptest::test_runner::{Config, TestRunner};
use std::collections::HashMap;
use uuid::Uuid;

/// Calls each function of the contract on an empty ledger of its own.
macro_rules! keep_the_contract {
    ($cluster:expr; $($name:ident),+ $(,)?) => {$(
        println!("{}", stringify!($name));
        let home = $cluster.home().await;
        contract::$name(&home).await;
        home.ledger.close().await;
    )+};
}

#[tokio::test]
async fn the_contract_of_every_ledger_is_kept() {
    let cluster = Cluster::start().await;
    keep_the_contract! {
        cluster;
        a_ledger_without_tenants_can_be_read,
        every_kind_of_event_is_read_back_as_it_was,
        later_versions_of_a_unit_replace_it,
        facts_about_an_erp_are_written_with_its_movements,
        a_batch_applied_again_changes_nothing,
        overlapping_batches_write_each_event_once,
        an_event_twice_in_one_batch_is_written_once,
        a_number_that_was_given_up_is_a_hole_until_it_is_replayed,
        what_arrives_late_only_to_be_given_up_is_kept_too,
        numbers_that_never_arrived_are_holes,
        a_batch_that_fails_leaves_nothing_and_the_store_goes_on,
        a_sale_is_read_back_exactly,
        a_sale_is_taken_back_once,
        a_key_finds_the_sale_of_its_own_tenant_only,
        key_hashes_come_in_pages,
        snapshots_come_to_the_shard_of_their_tenant,
        a_store_that_is_opened_again_knows_what_is_applied,
        readers_see_whole_batches_while_one_is_written,
    }
}

/// As proptest's macro would, but with one server for all cases.
#[test]
fn the_ledger_agrees_with_a_plain_model() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = runtime.block_on(Cluster::start());
    let mut runner = TestRunner::new(Config { cases: 16, ..Config::default() });
    let agreed = runner.run(&contract::batches(), |batches| {
        runtime.block_on(async {
            let home = cluster.home().await;
            let shops = contract::the_projection_agrees_with_a_plain_model(&home, batches).await;
            chains_are_whole(&home, &shops).await;
            home.ledger.close().await;
        });
        Ok(())
    });
    agreed.unwrap();
}

/// Every ledger row begins where the one before it ended, and the last one ends at the projection.
pub async fn chains_are_whole(home: &Database, shops: &[Shop]) {
    let mut connection = home.connect().await;
    for shop in shops {
        let rows: Vec<(Uuid, Uuid, i64, i64, i64)> = sqlx::query_as(
            "SELECT unit_id, location_id, stock_before, delta, stock_after FROM ledger WHERE tenant_id = $1 ORDER BY id",
        )
        .bind(shop.id().0)
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let quantity = |units| Quantity::from_units(units).unwrap();
        let mut chains = Chains::default();
        for (unit, location, before, delta, after) in rows {
            let link = Link { before: quantity(before), delta: quantity(delta), after: quantity(after) };
            let place = (UnitId(unit), LocationId(location));
            match chains.check(place, link) {
                // The model lets stock go below zero; that is the shard's law, not the ledger's.
                Ok(()) | Err(Break::Oversold(_)) => {}
                Err(broken) => panic!("{place:?}: {broken:?}"),
            }
        }
        let snapshot = contract::snapshot(home, shop.id()).await;
        let projected: HashMap<_, _> = snapshot.stock.into_iter().collect();
        assert_eq!(&projected, chains.ends());
    }
}
