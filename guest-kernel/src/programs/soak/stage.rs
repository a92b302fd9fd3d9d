//! Where children run: memory that is made once and filled anew for each of them.

use alloc::vec::Vec;

use nuncio_abi::{Call, Error, Rights, PAGE_BYTES};

use super::script::{self, LENT, SCRIPT, TEXT, WORDS};
use crate::hv::{Child, Client, Event, Memory, SharedView, Start, Vcpu};
use crate::machine::{Native, WindowView};

/// Frames for a child's page tables and its vcpu, and bytes for its handles and its state.
const CHILD_FRAMES: u64 = 24;
const CHILD_KERNEL_BYTES: u64 = 48 << 10;

// A child's pages, one after the other; its vcpu page is the first.
const TABLES: u64 = 0x1000;
const CODE: u64 = 0x4000;
const STACK_END: u64 = 0x6000;
const CHILD_BYTES: u64 = 0x7000;

/// The most calls of a child.
const MOST_CALLS: usize = 64;

/// The pages of one child after the other.
pub struct Place<'m> {
    memory: Memory<'m, Native>,
    view: WindowView,
}

/// What a child is to do.
pub enum Part {
    /// Make these calls, of which some must succeed, again and again.
    Calls(Vec<[u64; WORDS]>),
    /// Count in what it is lent.
    Count,
}

impl<'m> Place<'m> {
    /// Makes it.
    pub fn new(client: &Client<'m, Native>) -> Result<Self, Error> {
        let memory = client.create_memory(CHILD_BYTES)?;
        let view = memory.attach(&client.space()?, Rights::READ | Rights::WRITE)?;
        Ok(Place { memory, view })
    }

    /// Makes a domain that is to run here, and maps its pages.
    pub fn child(
        &self,
        client: &Client<'m, Native>,
        watch: (&Event<'m, Native>, u64),
    ) -> Result<Child<'m, Native>, Error> {
        let child = client.create_domain(CHILD_FRAMES, CHILD_KERNEL_BYTES, Some(watch))?;
        child
            .space
            .map(&self.memory, 0, 0, CHILD_BYTES, Rights::ACCESS)?;
        let text = client.memory("text-page", Rights::EXECUTE)?;
        let access = Rights::READ | Rights::EXECUTE;
        child.space.map(&text, TEXT, 0, PAGE_BYTES, access)?;
        Ok(child)
    }

    /// Lends the child a page.
    pub fn lend(
        &self,
        client: &Client<'m, Native>,
        child: &Child<'m, Native>,
    ) -> Result<Memory<'m, Native>, Error> {
        let lent = client.create_memory(PAGE_BYTES)?;
        let access = Rights::READ | Rights::WRITE;
        child.space.map(&lent, LENT, 0, PAGE_BYTES, access)?;
        Ok(lent)
    }

    /// Fills the pages and lets the child run, by the vcpu that comes back.
    pub fn start(&self, child: &Child<'m, Native>, part: &Part) -> Result<Vcpu<'m, Native>, Error> {
        self.fill(part).then_some(()).ok_or(Error::BadAddress)?;
        let start = Start {
            entry: CODE,
            stack: STACK_END,
            argument: 0,
            page_table: TABLES,
        };
        let vcpu = child.create_vcpu(&self.memory, None, None)?;
        vcpu.start(start)?;
        Ok(vcpu)
    }

    /// Page tables that map the first 2 MiB to themselves, the code, and the calls.
    fn fill(&self, part: &Part) -> bool {
        const PRESENT_AND_WRITABLE: u64 = 0b11;
        const LARGE: u64 = 1 << 7;
        let mut is_filled = true;
        for page in (0..CHILD_BYTES).step_by(PAGE_BYTES as usize) {
            is_filled &= self.view.write(page, &[0; PAGE_BYTES as usize]);
        }
        let next = |table: u64| (table + PAGE_BYTES) | PRESENT_AND_WRITABLE;
        is_filled &= self.write(TABLES, &[next(TABLES)]);
        is_filled &= self.write(TABLES + PAGE_BYTES, &[next(TABLES + PAGE_BYTES)]);
        is_filled &= self.write(TABLES + 2 * PAGE_BYTES, &[LARGE | PRESENT_AND_WRITABLE]);
        match part {
            Part::Count => is_filled & self.view.write(CODE, script::counter()),
            Part::Calls(calls) => {
                let calls = calls.as_flattened();
                is_filled & self.view.write(CODE, script::caller()) & self.write(SCRIPT, calls)
            }
        }
    }

    fn write(&self, place: u64, words: &[u64]) -> bool {
        let mut places = (place..).step_by(8).zip(words);
        places.all(|(place, word)| self.view.write(place, &word.to_le_bytes()))
    }
}

/// Puts calls one after the other.
#[derive(Default)]
pub struct Calls(Vec<[u64; WORDS]>);

impl Calls {
    /// One more, if there is room; the last place is the end's.
    pub fn push(&mut self, call: &Call, must_succeed: bool) {
        self.push_words(script::words(call, must_succeed));
    }

    /// Registers that may be no call at all.
    pub fn push_words(&mut self, words: [u64; WORDS]) {
        if self.0.len() + 1 < MOST_CALLS {
            self.0.push(words);
        }
    }

    /// What a child does with them.
    pub fn part(mut self) -> Part {
        self.0.push(script::END);
        Part::Calls(self.0)
    }
}
