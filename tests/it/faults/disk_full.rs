//! No room left.

use crate::support::eventually;
use crate::support::process::Blend;
use crate::support::shop::{PLAIN, Shop, catalogue};
use crate::support::tills::Tills;
use std::path::Path;
use std::process::Command;

const STOCK: u32 = 1_000_000;

/// Sells until there is no room: first what many tills sell together, then also what one sells alone, because a small
/// batch still fits where a large one was refused.
async fn fill(shop: &Shop, tills: &Tills) {
    for count in [16, 1] {
        let before = refused(tills);
        let full = async {
            eventually("there is no room", async || (refused(tills) > before + 20).then_some(())).await;
            tills.stop();
        };
        tokio::join!(tills.sell(shop, count), full);
    }
}

/// How often a till was told that its sale cannot be recorded now.
fn refused(tills: &Tills) -> u64 {
    tills.refusals("almacenamiento_lleno") + tills.refusals("no_registrada")
}

/// Full means "not now": nothing is taken, what was sold can be seen, the process lives and says how it is.
async fn assert_full_in_order(shop: &Shop) {
    let before = shop.stock(PLAIN).await;
    // More than any rest of a page holds.
    let basket = vec![(PLAIN, "1"); 200];
    let refusal = shop.till.checkout(shop.basket(&basket), Some("no-room")).await;
    let (status, code) = refusal.outcome();
    assert!(status == 503 && ["almacenamiento_lleno", "no_registrada"].contains(&code), "{}", refusal.json);
    assert!(refusal.header("retry-after").is_some());
    assert_eq!(shop.stock(PLAIN).await, before, "a refused sale holds nothing");
    assert_eq!(shop.till.get("/health").await.status, 200);
    assert_eq!(shop.till.get("/api/v1/productos/scan/P01").await.status, 200);
}

#[tokio::test]
async fn a_full_journal_refuses_sales_and_goes_on_when_there_is_room() {
    let mut shop = Shop::open_with(&catalogue(STOCK), &[("BLEND_JOURNAL__MAX_MIB", "1")]).await;
    let tills = Tills::default();
    fill(&shop, &tills).await;
    assert!(tills.acknowledged() > 100, "{} sales fit into a mebibyte", tills.acknowledged());
    assert!(tills.refusals("almacenamiento_lleno") > 20, "it is said what is full");
    assert_full_in_order(&shop).await;
    let ready = shop.till.get("/ready").await;
    assert_eq!(ready.json["checks"]["journal"]["ok"], true, "the writer lives: {}", ready.json);
    // Whatever was refused is not in the books; whatever was acknowledged is.
    let books = shop.books().await;
    tills.assert_exact(&books, STOCK);
    tills.assert_found(&shop).await;

    shop.server.signal("TERM");
    assert!(shop.server.ended().await.success());
    shop.server = shop.blend.serve().await;
    shop.till = shop.caller(blend::http::Role::Cajero);
    assert_eq!(tills.ask_again(&shop).await, 0, "what was refused was not sold in secret");
    tills.assert_found(&shop).await;
    tills.assert_exact(&shop.close().await, STOCK);
}

/// A file system of its own that is unmounted at the end.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    fn new(at: &'a Path, size: &str) -> Result<Self, String> {
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], at).map(|()| Self(at))
    }

    fn grow(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}")], self.0).unwrap();
    }
}

fn mount(args: &[&str], at: &Path) -> Result<(), String> {
    let output = Command::new("mount").args(args).arg(at).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        // Lazily: the server of a test that failed may still be at it.
        Command::new("umount").arg("-l").arg(self.0).status().ok();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_sales_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let disk = match Mount::new(directory.path(), "6m") {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!(
                "NOT TESTED: a disk that is really full needs the right to mount a tmpfs ({}). Only the journal's \
                 own limit was tested.",
                why.trim()
            );
            return;
        }
    };
    let mut shop = Shop::open_on(Blend::on(&directory.path().join("data")), &catalogue(STOCK), &[]).await;
    let tills = Tills::default();
    fill(&shop, &tills).await;
    assert!(tills.acknowledged() > 100, "{} sales fit on the disk", tills.acknowledged());
    assert_full_in_order(&shop).await;

    // Somebody makes room: it goes on by itself.
    disk.grow("64m");
    tills.ask_again(&shop).await;
    tills.assert_exact(&shop.books().await, STOCK);
    tills.assert_found(&shop).await;

    // Full once more, and the process dies of something else: everything is there after the next start.
    let used = shop.blend.data_dir().join("ballast");
    let write = format!("head -c 64M /dev/zero > '{}' 2>/dev/null; true", used.display());
    assert!(Command::new("sh").arg("-c").arg(write).status().unwrap().success());
    let before = refused(&tills);
    let full = async {
        eventually("the disk is full again", async || (refused(&tills) > before + 20).then_some(())).await;
        shop.server.signal("KILL");
    };
    tokio::join!(tills.sell(&shop, 16), full);
    shop.server.ended().await;
    std::fs::remove_file(&used).unwrap();
    shop.start_again().await;
    tills.ask_again(&shop).await;
    tills.assert_exact(&shop.close().await, STOCK);
}
