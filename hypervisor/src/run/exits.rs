//! What each exit means.

use nuncio_abi::{Deadline, StopReason, MAX_VALUES};

use crate::call::{dispatch, resume, Answer, Caller, Outcome, Submission, Then};
use crate::mem::GuestPhysical;
use crate::object::Waiting;
use crate::policy::{cpuid, msr};
use crate::vt::{Exit, GuestException, Registers, Vendor, VirtualCpu};

use super::{Flow, Platform, Runner, World};

/// CR4, bit 18: the guest has switched XSAVE on.
const CR4_OSXSAVE: u64 = 1 << 18;

impl<V: Vendor, P: Platform> Runner<V, P> {
    /// One line an exit.
    pub(super) fn handle(&mut self, world: &mut World<V, P>, slice_end_ns: u64) -> Flow {
        let exit = world.vcpu.exit();
        world.counters.count_exit(exit.kind());
        if world.monitoring.is_some() {
            if let Some(flow) = self.leave_to_monitor(world, exit) {
                return flow;
            }
        }
        match exit {
            // Its monitor has gone: the instruction is executed once more, as a call of its own.
            Exit::Call { privilege: 0 } => Flow::Continue,
            Exit::Call { .. } => inject(world, GuestException::InvalidOpcode),
            Exit::Interrupt | Exit::Nmi => self.interrupt(world, slice_end_ns),
            Exit::Cpuid { leaf, subleaf } => self.cpuid(world, leaf, subleaf),
            Exit::MsrRead { index } => self.read_msr(world, index),
            Exit::MsrWrite { index, value } => write_msr(world, index, value),
            Exit::Halt { interrupts_enabled } => self.halt(world, interrupts_enabled),
            Exit::Exception { vector, error_code } => reflect(world, vector, error_code),
            Exit::ForbiddenInstruction => inject(world, GuestException::InvalidOpcode),
            Exit::RefusedInstruction => inject(world, GuestException::GeneralProtection),
            Exit::CacheFlush => skip(world),
            Exit::ExtendedControlWrite { index, value } => self.write_xcr(world, index, value),
            Exit::Internal => Flow::Continue,
            Exit::Io { port, .. } => Flow::End(StopReason::PortIo, u64::from(port)),
            Exit::Memory { address, .. } => Flow::End(StopReason::BadMemory, address.0),
            Exit::Shutdown => Flow::End(StopReason::TripleFault, 0),
            Exit::BadState => Flow::End(StopReason::BadState, 0),
            Exit::Other { code } => Flow::End(StopReason::Unsupported, code),
            Exit::MachineCheck => machine_check(),
            Exit::BrokenTables { address } => broken_tables(address),
        }
    }

    /// Makes the call that the guest's kernel asks for in the vcpu's registers.
    #[inline(always)]
    pub(super) fn call(&mut self, world: &mut World<V, P>) -> Flow {
        world.counters.count_call(world.vcpu.call().verb);
        let caller = Caller {
            domain: &world.domain,
            vcpu: &world.object,
        };
        let raw = world.vcpu.call();
        let answer = world.vcpu.registers_mut();
        let outcome = dispatch(caller, &raw, answer, &mut self.context);
        self.conclude(world, outcome)
    }

    /// Goes on with what has put the vcpu to sleep, if something has.
    #[inline(always)]
    pub(super) fn resume(&mut self, world: &mut World<V, P>) -> Flow {
        if world.monitoring.is_some() {
            return self.resume_monitored(world);
        }
        self.resume_call(world)
    }

    /// Goes on with the call that has put the vcpu to sleep, if one has.
    #[inline(always)]
    pub(super) fn resume_call(&mut self, world: &mut World<V, P>) -> Flow {
        if world.submission.is_some() {
            return self.resume_submission(world);
        }
        let caller = Caller {
            domain: &world.domain,
            vcpu: &world.object,
        };
        let answer = world.vcpu.registers_mut();
        match resume(caller, answer, &mut self.context) {
            Some(outcome) => self.conclude(world, outcome),
            None => Flow::Continue,
        }
    }

    /// Puts the reply into the registers, if the call has come to its end.
    #[inline(always)]
    fn conclude(&mut self, world: &mut World<V, P>, outcome: Outcome) -> Flow {
        match outcome {
            Outcome::Done => world.vcpu.complete_call(0),
            Outcome::Error(error) => world.vcpu.complete_call(error.number()),
            Outcome::Block(deadline) => return Flow::Block(deadline),
            outcome => return self.conclude_rare(world, outcome),
        }
        Flow::Continue
    }

    #[cold]
    fn conclude_rare(&mut self, world: &mut World<V, P>, outcome: Outcome) -> Flow {
        match self.submission(world, outcome) {
            Ok(submission) => self.submit(world, submission),
            Err(outcome) => match self.carry_out(world, outcome) {
                Ok(reply) => self.reply(world, reply),
                Err(flow) => flow,
            },
        }
    }

    #[inline(never)]
    pub(super) fn interrupt(&mut self, world: &mut World<V, P>, slice_end_ns: u64) -> Flow {
        if !self.context.platform.service_interrupts() {
            return Flow::Continue;
        }
        self.armed_ns = u64::MAX;
        let now_ns = self.context.platform.now_ns();
        self.context.expire(now_ns);
        self.renew_terms();
        self.note_rival();
        let limit_reached = self.limit_ns.is_some_and(|limit_ns| limit_ns <= now_ns);
        let scheduler = &self.context.scheduler;
        let slice_is_over = now_ns >= slice_end_ns && scheduler.has_rival();
        if limit_reached || slice_is_over || scheduler.is_outranked() || scheduler.is_used_up() {
            return Flow::Yield;
        }
        self.limit_run(world, slice_end_ns);
        Flow::Continue
    }

    fn cpuid(&mut self, world: &mut World<V, P>, leaf: u32, subleaf: u32) -> Flow {
        let xsave_enabled = world.vcpu.cr4() & CR4_OSXSAVE != 0;
        let host = self.context.platform.cpuid(leaf, subleaf);
        let answer = cpuid::answer(leaf, subleaf, host, xsave_enabled);
        world.vcpu.complete_cpuid(answer);
        Flow::Continue
    }

    fn read_msr(&mut self, world: &mut World<V, P>, index: u32) -> Flow {
        let control = world.vcpu.control_registers();
        match msr::read(index, &control, self.context.platform.ticks()) {
            Some(value) => world.vcpu.complete_msr_read(value),
            None => world.vcpu.inject(GuestException::GeneralProtection),
        }
        Flow::Continue
    }

    /// XSETBV, on CPUs that report it: XCR0 is the guest's as long as it runs.
    fn write_xcr(&mut self, world: &mut World<V, P>, index: u32, value: u64) -> Flow {
        if index == 0 && self.context.platform.set_extended_features(value) {
            world.vcpu.skip_instruction();
        } else {
            world.vcpu.inject(GuestException::GeneralProtection);
        }
        Flow::Continue
    }

    /// HLT sleeps until the next upcall, and not at all if one is due.
    ///
    /// A guest may have enabled bits that were pending already, or chosen its vector after an
    /// event came; neither makes an exit, so the ready word is looked at here once more.
    fn halt(&mut self, world: &mut World<V, P>, interrupts_enabled: bool) -> Flow {
        if !interrupts_enabled {
            return Flow::End(StopReason::HaltedForEver, 0);
        }
        world.vcpu.skip_instruction();
        let caller = Caller {
            domain: &world.domain,
            vcpu: &world.object,
        };
        match Submission::before_sleep(caller, Then::Halt) {
            Some(submission) => self.submit(world, submission),
            None => self.sleep_in_halt(world),
        }
    }

    pub(super) fn sleep_in_halt(&mut self, world: &mut World<V, P>) -> Flow {
        let flow = self.halt_if_recalled(world);
        if flow != Flow::Continue {
            return flow;
        }
        let id = world.object.id();
        if world.object.page().ready() != 0 {
            self.context.scheduler.signal(id);
        }
        if world.vcpu.upcall_is_pending() || self.context.scheduler.has_upcall(id) {
            Flow::Continue
        } else {
            world.object.sleeper().wait_for(Waiting::Upcall);
            Flow::Block(Deadline::NEVER)
        }
    }
}

impl Answer for Registers {
    #[inline(always)]
    fn pair(&mut self, first: u64, second: u64) {
        self.set_pair(first, second);
    }

    fn full(&mut self, values: &[u64; MAX_VALUES]) {
        self.set_values(values);
    }
}

fn write_msr<V: Vendor, P: Platform>(world: &mut World<V, P>, index: u32, value: u64) -> Flow {
    match msr::write(index, value, &world.vcpu.control_registers()) {
        msr::Write::Efer(value) => {
            world.vcpu.set_efer(value);
            world.vcpu.skip_instruction();
        }
        msr::Write::PageAttributes(value) => {
            world.vcpu.set_page_attributes(value);
            world.vcpu.skip_instruction();
        }
        msr::Write::Refused => world.vcpu.inject(GuestException::GeneralProtection),
    }
    Flow::Continue
}

fn reflect<V: Vendor, P: Platform>(
    world: &mut World<V, P>,
    vector: u8,
    error_code: Option<u32>,
) -> Flow {
    inject(world, GuestException::Reflected { vector, error_code })
}

fn inject<V: Vendor, P: Platform>(world: &mut World<V, P>, exception: GuestException) -> Flow {
    world.vcpu.inject(exception);
    Flow::Continue
}

fn skip<V: Vendor, P: Platform>(world: &mut World<V, P>) -> Flow {
    world.vcpu.skip_instruction();
    Flow::Continue
}

/// The machine's memory or caches are broken; no guest can cause this and none can be trusted to
/// go on.
fn machine_check() -> ! {
    panic!("the machine reported a hardware error (machine check) while a guest ran");
}

/// The hypervisor has written what the CPU does not understand.
fn broken_tables(address: GuestPhysical) -> ! {
    panic!(
        "the nested page tables are wrong at the guest's address {:#x}",
        address.0
    )
}
