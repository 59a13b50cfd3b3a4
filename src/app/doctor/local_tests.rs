use super::*;
use crate::app::data_dir::{Claim, DataDir};
use crate::app::doctor::Check;
use std::time::Duration;

fn found(probe: impl FnOnce(&mut Checks)) -> Vec<Check> {
    let mut checks = Checks::new("x");
    probe(&mut checks);
    checks.into_list()
}

fn verdicts(checks: &[Check]) -> Vec<Verdict> {
    checks.iter().map(|check| check.verdict).collect()
}

#[test]
fn a_clock_that_was_never_set_is_found() {
    let at =
        |secs: i64| verdicts(&found(|checks| judge_clock(Timestamp::from_micros(secs * 1_000_000), checks)));
    assert_eq!(at(CLOCK_AFTER), [Verdict::Ok]);
    assert_eq!((at(CLOCK_AFTER - 1), at(0)), (vec![Verdict::Failed], vec![Verdict::Failed]));
}

#[test]
fn the_limit_of_open_files_is_read_and_held_against_the_connections() {
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                  Max processes             127235               127235               processes \n\
                  Max open files            1024                 524288               files     \n";
    assert_eq!(open_files(limits), Some(1024));
    assert_eq!(open_files("Max open files            unlimited            unlimited            files"), None);
    let judged = |limit, connections| verdicts(&found(|checks| judge_open_files(limit, connections, checks)));
    assert_eq!(judged(Some(1024), 1024 - OTHER_FILES), [Verdict::Ok]);
    assert_eq!(judged(Some(1024), 1024), [Verdict::Warning]);
    assert_eq!(judged(None, u64::MAX), [Verdict::Ok]);
}

#[test]
fn the_file_system_is_that_of_the_longest_mount_point() {
    let mounts = "22 1 0:21 / / rw,relatime shared:1 - overlay overlay rw\n\
                  30 22 8:1 / /var rw - ext4 /dev/sda1 rw\n\
                  31 30 0:40 / /var/lib/blend rw shared:3 - nfs4 nas:/b rw\n\
                  32 22 0:41 / /mnt/a\\040b rw - tmpfs tmpfs rw\n";
    let kind = |place: &str| file_system(mounts, Path::new(place));
    assert_eq!(kind("/var/lib/blend/data").as_deref(), Some("nfs4"));
    assert_eq!(kind("/var/lib/blend2").as_deref(), Some("ext4"));
    assert_eq!((kind("/mnt/a b").as_deref(), kind("/srv").as_deref()), (Some("tmpfs"), Some("overlay")));
    assert_eq!(file_system("", Path::new("/")), None);
}

#[test]
fn room_and_file_system_are_judged() {
    let judged = |free_mib, kind: &str| {
        let facts = Facts {
            exists: true,
            writable: Ok(()),
            free_mib: Ok(free_mib),
            kind: Some(kind.to_owned()),
            in_use: false,
        };
        verdicts(&found(|checks| judge_data_dir(Path::new("/nowhere"), &facts, 8_192, checks)))[1..3].to_vec()
    };
    assert_eq!(judged(8_192, "ext4"), [Verdict::Ok, Verdict::Ok]);
    assert_eq!(judged(8_191, "nfs4"), [Verdict::Warning, Verdict::Warning]);
    assert_eq!(judged(LEAST_MIB - 1, "tmpfs"), [Verdict::Failed, Verdict::Warning]);
}

#[test]
fn looking_leaves_nothing_behind_and_sees_who_has_the_directory() {
    let root = tempfile::tempdir().unwrap();
    let absent = Facts::of(&root.path().join("a/b"));
    assert!(!absent.exists && absent.writable.is_ok() && absent.free_mib.is_ok() && !absent.in_use);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    let Claim::Ours(held) = DataDir::claim(root.path(), "serve").unwrap() else { panic!("it was free") };
    let lock = |facts: &Facts| {
        let list = found(|checks| judge_data_dir(root.path(), facts, 1, checks));
        list.into_iter().find(|check| check.name == "x lock").unwrap()
    };
    let told = lock(&Facts::of(root.path()));
    assert!(told.verdict == Verdict::Ok && told.found.contains("blend serve"), "{told:?}");
    drop(held);
    assert_eq!(lock(&Facts::of(root.path())).found, "free");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "the lock file alone");
}

#[test]
fn a_place_that_cannot_be_written_fails_with_its_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("data");
    let list = found(|checks| judge_data_dir(&below, &Facts::of(&below), 1, checks));
    assert_eq!(list[0].verdict, Verdict::Failed);
    assert!(list[0].found.contains(&below.display().to_string()) && list[0].advice.is_some(), "{list:?}");
}

#[test]
fn a_key_that_others_can_read_or_that_nodes_do_not_share_is_found() {
    let root = tempfile::tempdir().unwrap();
    let mut config = Config::load(None).unwrap();
    config.data_dir = root.path().to_owned();
    let judged = |config: &Config, shared| verdicts(&found(|checks| judge_key(config, shared, checks)))[0];
    assert_eq!((judged(&config, false), judged(&config, true)), (Verdict::Ok, Verdict::Warning));
    crate::app::data_dir::signing_key(root.path()).unwrap();
    assert_eq!((judged(&config, false), judged(&config, true)), (Verdict::Ok, Verdict::Warning));
    fs::set_permissions(root.path().join("jwt.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!((judged(&config, false), judged(&config, true)), (Verdict::Failed, Verdict::Failed));
}

#[tokio::test]
async fn the_directory_is_looked_at_beside_everything_else() {
    let root = tempfile::tempdir().unwrap();
    let mut config = Config::load(None).unwrap();
    config.data_dir = root.path().to_owned();
    let mut checks = Checks::new("x");
    let probe = data_dir(&config, &mut checks);
    tokio::time::timeout(Duration::from_secs(30), probe).await.unwrap();
    assert_eq!(checks.into_list().len(), 4);
}
