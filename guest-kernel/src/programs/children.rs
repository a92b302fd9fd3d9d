//! `program=children rounds=N`: makes domains, lets them run, and destroys them.
//!
//! In each round one child exits with a code, one writes to memory until that is taken back, and one
//! is destroyed while it runs. Prints `children <what> ok` or says what went wrong; at the end the
//! domain's account must be as it was at the beginning.

use nuncio_abi::{Deadline, Error, QueryItem, Rights, StopReason, PAGE_BYTES};

use super::{Context, ExitCode, FAILED, GOOD};
use crate::hv::{Child, Client, Ends, Event, Machine, Memory, SharedView, Start};
use crate::machine::{Native, WindowView};
use crate::println;

/// A slot of the vcpu page that manifests do not use.
const SLOT: usize = 50;
/// Set when a child ends.
const ENDED: u64 = 1;

/// Windows through which a round looks at memory; each may need a page table, which stays for what is
/// mapped there next.
const WINDOWS: u64 = 5;
/// The most that the lists of handles and of what is mapped grow by.
const LISTS_BYTES: u64 = 8192;

/// Frames for a child's page tables and its vcpu, and bytes for its handles and its state.
const CHILD_FRAMES: u64 = 24;
const CHILD_KERNEL_BYTES: u64 = 48 << 10;

// Where a child finds what it has: its pages one after the other, what it is lent, the text page.
const VCPU_PAGE: u64 = 0;
const TABLES: u64 = 0x1000;
const CODE: u64 = 0x4000;
const STACK_END: u64 = 0x6000;
const LENT: u64 = 0x8000;
const TEXT: u64 = 0x9000;
const CHILD_BYTES: u64 = STACK_END;

/// Stops the domain whose handle is in RDI with code 42.
const STOPS: &[u8] = &[
    0xB8, 9, 0, 0, 0, // mov eax, 9
    0xBE, 42, 0, 0, 0, // mov esi, 42
    0x31, 0xD2, // xor edx, edx
    0x45, 0x31, 0xD2, // xor r10d, r10d
    0x45, 0x31, 0xC0, // xor r8d, r8d
    0xBB, 0x00, 0x90, 0, 0, // mov ebx, TEXT
    0xFF, 0xD3, // call rbx
    0x0F, 0x0B, // ud2
];

/// Counts in the first word of what it is lent, for ever. It takes interrupts, of which none is ever
/// for it: on some test bed nothing stops a guest that does not.
const COUNTS: &[u8] = &[
    0xFB, // sti
    0x48, 0xFF, 0x04, 0x25, 0x00, 0x80, 0, 0, // inc qword ptr [LENT]
    0xEB, 0xF6, // jmp behind the sti
];

/// Runs the program.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let rounds = match context.number("rounds", 10) {
        Ok(rounds) => rounds,
        Err(code) => return code,
    };
    match try_run(&context.client(), rounds) {
        Ok(()) => GOOD,
        Err(why) => {
            println!("children FAILED: {why:?}");
            FAILED
        }
    }
}

/// What went wrong.
#[derive(Debug)]
#[expect(dead_code, reason = "read by people, through Debug")]
enum Miss {
    Refused(Error),
    Ended(StopReason, u64),
    Account { frames: u64, bytes: u64 },
    NotCounted,
}

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Miss::Refused(error)
    }
}

fn try_run(client: &Client<'_, Native>, rounds: u64) -> Result<(), Miss> {
    let watch = client.create_event(SLOT)?;
    let [frames_before, bytes_before] = used(client)?;
    for round in 1..=rounds {
        exits(client, &watch)?;
        counts_until_revoked(client, &watch)?;
        is_destroyed(client)?;
        let [frames, bytes] = used(client)?;
        if frames > frames_before + WINDOWS * round || bytes > bytes_before + LISTS_BYTES {
            return Err(Miss::Account { frames, bytes });
        }
    }
    println!("children: {rounds} rounds ok");
    Ok(())
}

fn used(client: &Client<'_, Native>) -> Result<[u64; 2], Error> {
    let domain = client.domain()?;
    let (frames, _) = domain.object().query(QueryItem::Usage)?;
    let (bytes, _) = domain.object().query(QueryItem::KernelUsage)?;
    Ok([frames, bytes])
}

fn exits<'m>(client: &Client<'m, Native>, watch: &Ends<Event<'m, Native>>) -> Result<(), Miss> {
    let child =
        client.create_domain(CHILD_FRAMES, CHILD_KERNEL_BYTES, Some((&watch.far, ENDED)))?;
    let memory = load(client, &child, STOPS)?;
    let itself = child.give_itself()?;
    child.start(&memory, start(itself.raw()))?;
    watch.near.wait(ENDED, Deadline::NEVER)?;
    expect(&child, StopReason::Exited, 42)?;
    child.destroy()?;
    Ok(memory.object().close()?)
}

/// A child that will count, once it runs.
pub(super) struct Counting<'m> {
    pub(super) child: Child<'m, Native>,
    /// Its pages, of which the first is its vcpu page.
    pub(super) memory: Memory<'m, Native>,
    /// The page in whose first word it counts, and how its maker looks at it.
    lent: Memory<'m, Native>,
    view: WindowView,
}

impl Counting<'_> {
    /// How far it has counted.
    pub(super) fn count(&self) -> u64 {
        let mut count = [0; 8];
        let _ = self.view.read(0, &mut count);
        u64::from_le_bytes(count)
    }
}

/// Makes a child that counts for ever.
pub(super) fn counting<'m>(
    client: &Client<'m, Native>,
    watch: Option<(&Event<'m, Native>, u64)>,
) -> Result<Counting<'m>, Error> {
    counting_by(COUNTS, client, watch)
}

/// As [`counting`], with code of one's own.
pub(super) fn counting_by<'m>(
    code: &[u8],
    client: &Client<'m, Native>,
    watch: Option<(&Event<'m, Native>, u64)>,
) -> Result<Counting<'m>, Error> {
    let child = client.create_domain(CHILD_FRAMES, CHILD_KERNEL_BYTES, watch)?;
    let memory = load(client, &child, code)?;
    let lent = client.create_memory(PAGE_BYTES)?;
    let access = Rights::READ | Rights::WRITE;
    child.space.map(&lent, LENT, 0, PAGE_BYTES, access)?;
    let view = lent.attach(&client.space()?, Rights::READ)?;
    Ok(Counting {
        child,
        memory,
        lent,
        view,
    })
}

fn counts_until_revoked<'m>(
    client: &Client<'m, Native>,
    watch: &Ends<Event<'m, Native>>,
) -> Result<(), Miss> {
    let counting = counting(client, Some((&watch.far, ENDED)))?;
    counting.child.start(&counting.memory, start(0))?;
    let mut count = 0;
    while count == 0 {
        count = counting.count();
        rest(client, watch)?;
    }
    counting.lent.object().close()?;
    // Its next write finds no memory.
    watch.near.wait(ENDED, Deadline::NEVER)?;
    expect(&counting.child, StopReason::BadMemory, LENT)?;
    counting.child.destroy()?;
    counting.memory.object().close()?;
    if count == 0 {
        return Err(Miss::NotCounted);
    }
    Ok(())
}

fn is_destroyed(client: &Client<'_, Native>) -> Result<(), Miss> {
    let Counting {
        child,
        memory,
        lent,
        ..
    } = counting(client, None)?;
    child.start(&memory, start(0))?;
    child.destroy()?;
    lent.object().close()?;
    Ok(memory.object().close()?)
}

/// Lets others run for a moment.
fn rest(client: &Client<'_, Native>, watch: &Ends<Event<'_, Native>>) -> Result<(), Error> {
    let soon = Deadline(client.machine().now_ns() + 1_000_000);
    match watch.near.wait(0, soon) {
        Err(Error::TimedOut) => Ok(()),
        other => other.map(|_| ()),
    }
}

fn expect(child: &Child<'_, Native>, reason: StopReason, detail: u64) -> Result<(), Miss> {
    match child.status()? {
        (found, number) if found == reason && number == detail => Ok(()),
        (found, number) => Err(Miss::Ended(found, number)),
    }
}

/// Where a child begins, with this in its first register.
pub(super) const fn start(argument: u64) -> Start {
    Start {
        entry: CODE,
        stack: STACK_END,
        argument,
        page_table: TABLES,
    }
}

/// Fills a child's memory: page tables that map the first 2 MiB to themselves, and its code.
fn load<'m>(
    client: &Client<'m, Native>,
    child: &Child<'m, Native>,
    code: &[u8],
) -> Result<Memory<'m, Native>, Error> {
    const PRESENT_AND_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    let memory = client.create_memory(CHILD_BYTES)?;
    let view = memory.attach(&client.space()?, Rights::READ | Rights::WRITE)?;
    let tables = [
        (TABLES, (TABLES + PAGE_BYTES) | PRESENT_AND_WRITABLE),
        (
            TABLES + PAGE_BYTES,
            (TABLES + 2 * PAGE_BYTES) | PRESENT_AND_WRITABLE,
        ),
        (TABLES + 2 * PAGE_BYTES, LARGE | PRESENT_AND_WRITABLE),
    ];
    for (place, entry) in tables {
        if !view.write(place, &entry.to_le_bytes()) {
            return Err(Error::BadAddress);
        }
    }
    if !view.write(CODE, code) {
        return Err(Error::BadAddress);
    }
    child
        .space
        .map(&memory, VCPU_PAGE, 0, CHILD_BYTES, Rights::ACCESS)?;
    let text = client.memory("text-page", Rights::EXECUTE)?;
    let access = Rights::READ | Rights::EXECUTE;
    child.space.map(&text, TEXT, 0, PAGE_BYTES, access)?;
    Ok(memory)
}
