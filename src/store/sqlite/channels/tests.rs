//! The contracts of connections and webhooks, on a file.

use super::*;
use crate::store::{channels_contract, hooks_contract};

async fn file() -> (tempfile::TempDir, Channels) {
    let dir = tempfile::tempdir().unwrap();
    let channels = Channels::open(&dir.path().join("channels.db")).await.unwrap();
    (dir, channels)
}

/// Calls a function of a contract on an empty file of its own.
macro_rules! keep {
    ($contract:ident: $($name:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            let (_dir, channels) = file().await;
            $contract::$name(&channels).await;
        }
    )+};
}

keep! {
    channels_contract:
    connections_are_kept_with_their_credentials_and_an_account_is_connected_once,
    credentials_are_changed_by_whoever_got_them_for_those_at_rest,
    what_is_confirmed_is_kept_and_ends_the_failures_about_it,
    news_is_taken_in_once_and_done_once,
    what_is_given_up_is_listed_revived_and_forgotten_with_its_order,
}

keep! {
    hooks_contract:
    who_wants_it_is_told_once_and_in_order,
    what_is_refused_is_a_letter_until_it_is_sent_again_or_forgotten,
    an_alarm_is_told_once_until_it_is_over,
}

#[tokio::test]
async fn a_file_that_is_opened_again_has_everything() {
    let (dir, channels) = file().await;
    let one = channels_contract::connection(TenantId(uuid::Uuid::now_v7()), "a");
    channels_contract::connect(&channels, &one, &channels_contract::sealed(1)).await;
    channels.close().await.unwrap();
    let channels = Channels::open(&dir.path().join("channels.db")).await.unwrap();
    assert_eq!(channels.connections().await.unwrap(), [(one, channels_contract::sealed(1))]);
}
