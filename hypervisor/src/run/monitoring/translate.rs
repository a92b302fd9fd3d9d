//! Between what the CPU reports and what a monitor sees and says.

use nuncio_abi::{Arrival, Message, Rights, VcpuExit, EXIT_WORDS};

use crate::vt::{Access, Exit, GuestException, Register, VirtualCpu};

const PAGE_FAULT: u8 = 14;

pub(super) fn message(exit: VcpuExit) -> Message {
    let [first, second, third] = exit.to_words();
    Message {
        length: (EXIT_WORDS * 8) as u8,
        words: [first, second, third, 0, 0, 0, 0, 0],
    }
}

/// An exit as a monitor sees it; `None` for what is no monitor's business.
pub(super) fn describe(exit: Exit, vcpu: &impl VirtualCpu) -> Option<VcpuExit> {
    let instruction = vcpu.instruction_pointer();
    let exit = match exit {
        Exit::Io {
            port,
            bytes,
            is_read,
            is_string,
            repeats,
        } => VcpuExit::Port {
            port,
            bytes,
            is_input: is_read,
            is_string,
            repeats,
            value: match is_read || is_string {
                true => instruction,
                false => vcpu.register(Register::RAX) & low_bytes(bytes),
            },
        },
        Exit::Memory { address, access } => VcpuExit::Memory {
            address: address.0,
            access: match access {
                Access::Read => Rights::READ,
                Access::Write => Rights::WRITE,
                Access::Execute => Rights::EXECUTE,
            },
            instruction,
        },
        Exit::MsrRead { index } => VcpuExit::MsrRead { index, instruction },
        Exit::MsrWrite { index, value } => VcpuExit::MsrWrite { index, value },
        Exit::Cpuid { leaf, subleaf } => VcpuExit::Cpuid {
            leaf,
            subleaf,
            instruction,
        },
        Exit::Halt { interrupts_enabled } => VcpuExit::Halt {
            interrupts_enabled,
            instruction,
        },
        Exit::Call { privilege } => VcpuExit::Call {
            privilege,
            verb: vcpu.register(Register::RAX),
            instruction,
        },
        Exit::Exception { vector, error_code } => VcpuExit::Exception {
            vector,
            error_code,
            address: if vector == PAGE_FAULT {
                vcpu.fault_address()
            } else {
                0
            },
            instruction,
        },
        Exit::Shutdown => VcpuExit::Shutdown { instruction },
        Exit::BadState => VcpuExit::Refused { instruction },
        _ => return None,
    };
    Some(exit)
}

const fn low_bytes(bytes: u8) -> u64 {
    match bytes {
        1 => 0xFF,
        2 => 0xFFFF,
        _ => 0xFFFF_FFFF,
    }
}

/// Writes the results of an instruction and moves past it.
pub(super) fn complete(vcpu: &mut impl VirtualCpu, exit: VcpuExit, results: [u64; 2]) {
    let [first, second] = results;
    match exit {
        VcpuExit::Port {
            bytes,
            is_input: true,
            is_string: false,
            ..
        } => {
            vcpu.set_port_input(bytes, first as u32);
            vcpu.skip_instruction();
        }
        VcpuExit::MsrRead { .. } => vcpu.complete_msr_read(first),
        VcpuExit::Cpuid { .. } => vcpu.complete_cpuid([
            first as u32,
            (first >> 32) as u32,
            second as u32,
            (second >> 32) as u32,
        ]),
        VcpuExit::Call { .. } => vcpu.complete_call(first),
        VcpuExit::Port { .. } | VcpuExit::MsrWrite { .. } | VcpuExit::Halt { .. } => {
            vcpu.skip_instruction();
        }
        // `can_follow` has refused to complete these.
        VcpuExit::Memory { .. }
        | VcpuExit::Exception { .. }
        | VcpuExit::Shutdown { .. }
        | VcpuExit::Refused { .. }
        | VcpuExit::Recalled { .. } => {}
    }
}

pub(super) fn arrive(vcpu: &mut impl VirtualCpu, arrival: Option<Arrival>) {
    match arrival {
        Some(Arrival::Interrupt(vector)) if !vcpu.upcall_is_pending() => {
            vcpu.request_upcall(vector)
        }
        Some(Arrival::Exception { vector, error_code }) => {
            vcpu.inject(GuestException::Raised { vector, error_code });
        }
        Some(Arrival::Interrupt(_)) | None => {}
    }
}
