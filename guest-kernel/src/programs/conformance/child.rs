//! Domains that a case makes, loads and lets run.

use alloc::string::String;

use nuncio_abi::{ObjectKind, QueryItem, Rights, StopReason, Verb};

use super::subject::{Arguments, Ends, PAGE};
use super::{equal, Subject, Verdict};

const DOMAIN: u64 = ObjectKind::Domain.number();
const VCPU: u64 = ObjectKind::Vcpu.number();

/// Enough for a child's page tables and its vcpu.
pub(super) const FRAMES: u64 = 24;
/// Enough for its handles and its state.
pub(super) const KERNEL_BYTES: u64 = 48 << 10;

/// The same for one that never runs.
const IDLE_FRAMES: u64 = 8;
const IDLE_KERNEL_BYTES: u64 = 12 << 10;

// Where a child finds what it has: its pages one after the other, what it is lent, the text page.
const VCPU_PAGE: u64 = 0;
const TABLES: u64 = 0x1000;
const CODE: u64 = 0x4000;
const STACK_END: u64 = 0x6000;
/// Where a child that counts does so.
pub(super) const LENT: u64 = 0x8000;
const TEXT: u64 = 0x9000;
const PAGES: u64 = STACK_END / PAGE;

/// With which [`STOPS`] ends.
pub(super) const CODE_OF_STOPS: u64 = 42;

/// Stops the domain whose handle is in RDI.
pub(super) const STOPS: [u64; 8] = words(&[
    0xB8, 9, 0, 0, 0, // mov eax, 9
    0xBE, 42, 0, 0, 0, // mov esi, 42
    0x31, 0xD2, // xor edx, edx
    0x45, 0x31, 0xD2, // xor r10d, r10d
    0x45, 0x31, 0xC0, // xor r8d, r8d
    0xBB, 0x00, 0x90, 0, 0, // mov ebx, TEXT
    0xFF, 0xD3, // call rbx
    0x0F, 0x0B, // ud2
]);

/// Counts in the first word of what it is lent, for ever, with interrupts on: a program that judges
/// any hypervisor does not ask that one stops a guest which takes none.
pub(super) const COUNTS: [u64; 8] = words(&[
    0xFB, // sti
    0x48, 0xFF, 0x04, 0x25, 0x00, 0x80, 0, 0, // inc qword ptr [LENT]
    0xEB, 0xF6, // jmp behind the sti
]);

/// Halts, again and again.
pub(super) const HALTS: [u64; 8] = words(&[0xF4, 0xEB, 0xFD]);

/// Writes to an I/O port, whose number is 0x80.
pub(super) const WRITES_TO_A_PORT: [u64; 8] = words(&[0xE6, 0x80, 0xF4]);

/// Counts in no memory, for ever, with interrupts on.
pub(super) const COMPUTES: [u64; 8] = words(&[0xFB, 0xEB, 0xFE]);

/// Runs the vcpu whose handle is in RDI, then halts for ever.
pub(super) const RUNS: [u64; 8] = makes_a_call(Verb::Run, 0, 0);

/// Sends an empty message to the port whose handle is in RDI, waiting for room, then halts for ever.
pub(super) const SENDS_WAITING: [u64; 8] = makes_a_call(Verb::Send, super::messages::WAIT, -1);

/// Calls the port whose handle is in RDI with an empty message, then halts for ever.
pub(super) const CALLS: [u64; 8] = makes_a_call(Verb::Call, 0, -1);

/// Makes a call with what is in RDI. If that works it halts for ever, else it writes to a port.
const fn makes_a_call(verb: Verb, second: u64, last: i8) -> [u64; 8] {
    let [low, high, ..] = second.to_le_bytes();
    words(&[
        0xB8,
        verb.number() as u8,
        0,
        0,
        0, // mov eax, verb
        0xBE,
        low,
        high,
        0,
        0, // mov esi, second
        0x31,
        0xD2, // xor edx, edx
        0x45,
        0x31,
        0xD2, // xor r10d, r10d
        0x45,
        0x31,
        0xC0, // xor r8d, r8d
        0x49,
        0x83,
        0xC8,
        last as u8, // or r8, last
        0xBB,
        0x00,
        0x90,
        0,
        0, // mov ebx, TEXT
        0xFF,
        0xD3, // call rbx
        0x85,
        0xC0, // test eax, eax
        0x75,
        0x01, // jnz behind the hlt
        0xF4, // hlt
        0xE6,
        0x80, // out 0x80, al
    ])
}

/// Code as the words of a message.
const fn words(code: &[u8]) -> [u64; 8] {
    let mut words = [0; 8];
    let mut index = 0;
    while index < code.len() {
        words[index / 8] |= (code[index] as u64) << (index % 8 * 8);
        index += 1;
    }
    words
}

/// A domain that this one has made.
#[derive(Clone, Copy)]
pub(super) struct Child {
    pub(super) domain: u64,
    pub(super) space: u64,
}

/// A child with everything that it needs to run.
#[derive(Clone, Copy)]
pub(super) struct Loaded {
    pub(super) child: Child,
    pub(super) memory: u64,
    pub(super) vcpu: u64,
}

/// The arguments of `create` for a domain whose end nobody is told.
pub(super) const fn of_size(frames: u64, kernel_bytes: u64) -> Arguments {
    [DOMAIN, frames, kernel_bytes, 0, 0]
}

impl Subject<'_> {
    /// A child that is never to run; there is room for several.
    pub(super) fn child(&self) -> Result<Child, String> {
        self.make_child(of_size(IDLE_FRAMES, IDLE_KERNEL_BYTES))
    }

    /// A child at whose end those bits of the event are set.
    pub(super) fn watched_child(&self, event: u64, bits: u64) -> Result<Child, String> {
        self.make_child([DOMAIN, FRAMES, KERNEL_BYTES, event, bits])
    }

    fn make_child(&self, arguments: Arguments) -> Result<Child, String> {
        let [domain, space, ..] = self.works(Verb::Create, arguments)?;
        Ok(Child {
            domain: self.keep(domain),
            space: self.keep(space),
        })
    }

    pub(super) fn vcpu(&self, child: Child, memory: u64) -> Result<u64, String> {
        let arguments = [VCPU, child.domain, memory, 0, 0];
        let [vcpu, second, ..] = self.works(Verb::Create, arguments)?;
        equal("the second handle", second, 0)?;
        Ok(self.keep(vcpu))
    }

    /// Fills a child's memory with page tables that map the first 2 MiB to themselves, and code.
    pub(super) fn load(&self, child: Child, code: &[u64; 8]) -> Result<Loaded, String> {
        let memory = self.load_memory(child, code)?;
        let vcpu = self.vcpu(child, memory)?;
        Ok(Loaded {
            child,
            memory,
            vcpu,
        })
    }

    /// A child whose vcpu has a monitor, the port or whoever runs it, and has been started. Its state
    /// page says nothing.
    pub(super) fn monitored(&self, port: u64, code: &[u64; 8]) -> Result<Loaded, String> {
        let loaded = self.unstarted(port, code)?;
        self.start(loaded, 0)?;
        Ok(loaded)
    }

    /// The same, before it is started.
    pub(super) fn unstarted(&self, port: u64, code: &[u64; 8]) -> Result<Loaded, String> {
        let child = self.watched_child(0, 0)?;
        let memory = self.load_memory(child, code)?;
        let state = self.memory(1)?;
        let arguments = [VCPU, child.domain, memory, port, state];
        let [vcpu, second, ..] = self.works(Verb::Create, arguments)?;
        equal("the second handle", second, 0)?;
        Ok(Loaded {
            child,
            memory,
            vcpu: self.keep(vcpu),
        })
    }

    pub(super) fn load_memory(&self, child: Child, code: &[u64; 8]) -> Result<u64, String> {
        const PRESENT_AND_WRITABLE: u64 = 0b11;
        const LARGE: u64 = 1 << 7;
        let memory = self.memory(PAGES)?;
        let (port, window) = (self.port(1)?, self.child_window()?);
        self.map(
            memory,
            window,
            0,
            PAGES * PAGE,
            Rights::READ | Rights::WRITE,
        )?;
        for (place, entry) in [
            (TABLES, TABLES + PAGE),
            (TABLES + PAGE, TABLES + 2 * PAGE),
            (TABLES + 2 * PAGE, LARGE),
        ] {
            let entries = [entry | PRESENT_AND_WRITABLE, 0, 0, 0, 0, 0, 0, 0];
            self.poke(port, window + place, &entries)?;
        }
        self.poke(port, window + CODE, code)?;
        self.unmap(window, PAGES * PAGE)?;
        for handle in [port.near, port.far] {
            self.close(handle)?;
        }
        let all = (PAGES * PAGE) | Rights::ACCESS.bits();
        self.works(Verb::Map, [child.space, memory, VCPU_PAGE, 0, all])?;
        let text = self.given("text-page", Rights::EXECUTE)?;
        let access = Rights::READ | Rights::EXECUTE;
        self.works(
            Verb::Map,
            [child.space, text, TEXT, 0, PAGE | access.bits()],
        )?;
        Ok(memory)
    }

    /// Memory that the child counts in.
    pub(super) fn lend(&self, child: Child) -> Result<u64, String> {
        let lent = self.memory(1)?;
        let last = PAGE | (Rights::READ | Rights::WRITE).bits();
        self.works(Verb::Map, [child.space, lent, LENT, 0, last])?;
        Ok(lent)
    }

    pub(super) fn start(&self, loaded: Loaded, argument: u64) -> Verdict {
        self.works(Verb::Start, starts(loaded.vcpu, argument))
            .map(drop)
    }

    /// A child that counts, and runs.
    pub(super) fn counting_child(&self) -> Result<(Loaded, u64), String> {
        let child = self.watched_child(0, 0)?;
        let loaded = self.load(child, &COUNTS)?;
        let lent = self.lend(child)?;
        self.start(loaded, 0)?;
        Ok((loaded, lent))
    }

    /// Puts a copy of a handle into the child's table.
    pub(super) fn give(&self, child: Child, handle: u64, rights: Rights) -> Result<u64, String> {
        let arguments = [handle, rights.bits(), 0, child.domain, 0];
        let [copy, second, ..] = self.works(Verb::Grant, arguments)?;
        equal("the second value of grant", second, 0)?;
        Ok(copy)
    }

    /// Waits until the bits of the event are set, and takes them.
    pub(super) fn awaits(&self, slot: usize, bits: u64) -> Verdict {
        self.works(Verb::Wait, [self.far_off(), 0, 0, 0, 0])?;
        equal("the bits of the end", self.word(slot)?.take(), bits)
    }

    /// The child has ended in that way.
    pub(super) fn ended(&self, domain: u64, reason: StopReason, detail: u64) -> Verdict {
        let found = self.query(domain, QueryItem::Status.number())?;
        equal("the end", found, (reason.number(), detail))
    }

    /// Waits until the child ends, in that way.
    pub(super) fn awaits_end(&self, domain: u64, reason: StopReason, detail: u64) -> Verdict {
        let deadline = self.far_off();
        while self.ground.now_ns() < deadline {
            let (found, _) = self.query(domain, QueryItem::Status.number())?;
            if found != StopReason::Running.number() {
                break;
            }
            // Nothing is enabled: this only lets others run.
            let _ = self.call(Verb::Wait, [self.in_ms(1), 0, 0, 0, 0]);
        }
        self.ended(domain, reason, detail)
    }

    /// A child that runs that code with a copy of the handle in RDI.
    pub(super) fn child_with(
        &self,
        code: &[u64; 8],
        handle: u64,
        rights: Rights,
    ) -> Result<Child, String> {
        let child = self.watched_child(0, 0)?;
        let loaded = self.load(child, code)?;
        let copy = self.give(child, handle, rights)?;
        self.start(loaded, copy)?;
        Ok(child)
    }

    /// A handle of a domain that was destroyed, with the rights of a copy.
    pub(super) fn of_the_destroyed(&self) -> Result<u64, String> {
        let child = self.child()?;
        let copy = self.grant(child.domain, Rights::STOP | Rights::GRANT, 0)?;
        self.close(child.domain)?;
        Ok(copy)
    }

    /// Waits until the count at an address of this domain has changed.
    pub(super) fn counts(&self, port: Ends, address: u64) -> Verdict {
        let [before, ..] = self.peek(port, address)?;
        let deadline = self.far_off();
        while self.ground.now_ns() < deadline {
            let [count, ..] = self.peek(port, address)?;
            if count != before {
                return Ok(());
            }
            // Nothing is enabled: this only lets others run.
            let _ = self.call(Verb::Wait, [self.in_ms(1), 0, 0, 0, 0]);
        }
        Err("the child does not count".into())
    }
}

/// The arguments of `start` for a child that was loaded.
pub(super) const fn starts(vcpu: u64, argument: u64) -> Arguments {
    [vcpu, CODE, STACK_END, argument, TABLES]
}
