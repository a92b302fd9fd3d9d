use super::rank::{self, Rank};
use super::{held, Mutex};

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use std::thread;

fn lock<R: Rank>() -> Mutex<u32, R> {
    Mutex::new(0)
}

#[test]
fn levels_never_fall_in_the_table() {
    let levels = rank::ALL.iter().map(|row| row.level);
    assert!(levels.is_sorted());
}

#[test]
fn the_table_is_the_written_one() {
    let text = include_str!("../../../ARCHITECTURE.md");
    let section = text.split("\n## Locks\n").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
    let written: Vec<_> = rows.skip(2).collect();
    let row = |row: &rank::Row| format!("{} | {} |", row.level, row.name);
    let own: Vec<_> = rank::ALL.iter().map(row).collect();
    assert_eq!(written, own);
}

#[test]
fn what_is_held_is_known_and_forgotten() {
    let (table, port) = (lock::<rank::HandleTable>(), lock::<rank::Port>());
    assert!(held().is_empty());
    let first = table.lock();
    let second = port.lock();
    assert_eq!(held().to_string(), "a handle table, a port");
    // Not the reverse of the order in which they were taken.
    drop(first);
    assert_eq!(held().to_string(), "a port");
    drop(second);
    assert!(held().is_empty());
}

#[test]
fn each_cpu_holds_its_own() {
    let port = lock::<rank::Port>();
    let _guard = port.lock();
    let other = thread::spawn(|| {
        let table = lock::<rank::HandleTable>();
        let _guard = table.lock();
        held().to_string()
    });
    assert_eq!(other.join().unwrap(), "a handle table");
}

#[test]
#[should_panic(expected = "this CPU holds the lock of a port and takes that of a handle table")]
fn a_lower_one_is_out_of_order() {
    let (table, port) = (lock::<rank::HandleTable>(), lock::<rank::Port>());
    let _port = port.lock();
    let _table = table.lock();
}

#[test]
#[should_panic(expected = "this CPU holds the lock of a port and takes that of a port")]
fn two_of_a_rank_are_out_of_order() {
    let ports = [lock::<rank::Port>(), lock::<rank::Port>()];
    let _first = ports[0].lock();
    let _second = ports[1].lock();
}

#[test]
#[should_panic(expected = "this CPU holds the lock of a port and takes that of an event")]
fn two_of_a_level_are_out_of_order() {
    let (port, event) = (lock::<rank::Port>(), lock::<rank::Event>());
    let _port = port.lock();
    let _event = event.lock();
}

#[test]
#[should_panic(expected = "held in a guest: a space, the free frames")]
fn nothing_is_held_in_a_guest() {
    super::assert_none_is_held();
    let (space, frames) = (lock::<rank::Space>(), lock::<rank::Frames>());
    let _guards = (space.lock(), frames.lock());
    super::assert_none_is_held();
}

#[test]
fn two_tables_are_in_order_where_that_is_said() {
    let [maker, made] = [lock::<rank::HandleTable>(), lock::<rank::HandleTable>()];
    let _maker = maker.lock();
    *made.lock_as::<rank::MadeHandleTable>() += 1;
}
