//! A monitor that is a machine: ports, CPUID, model-specific registers, memory of a device.

use alloc::string::String;

use nuncio_abi::{
    Error, ExitKind, Resume, Rights, StateGroups, StatePage, StateWord, StopReason, VcpuExit,
};

use super::code;
use super::stage::{expect, Miss, Stage, Way};
use crate::println;

const SERIAL_DATA: u16 = 0x3F8;
const SERIAL_STATUS: u16 = 0x3FD;
const TRANSMITTER_EMPTY: u64 = 0x20;
/// How often the child finds the transmitter busy.
const BUSY_POLLS: u32 = 3;

/// A serial port: what the child prints is collected, and it stops itself.
pub fn serial(stage: &Stage<'_>) -> Result<(), Miss> {
    let guest = stage.child(
        Way::Port,
        code::prints(),
        &[ExitKind::Port],
        StateGroups::NONE,
    )?;
    let mut text = String::new();
    let mut polls = 0;
    let mut resume = Resume::GO;
    loop {
        resume = match guest.go(resume) {
            Ok(VcpuExit::Port {
                port: SERIAL_STATUS,
                bytes: 1,
                is_input: true,
                ..
            }) => {
                polls += 1;
                Resume::complete(match polls {
                    ..=BUSY_POLLS => 0,
                    _ => TRANSMITTER_EMPTY,
                })
            }
            Ok(VcpuExit::Port {
                port: SERIAL_DATA,
                bytes: 1,
                is_input: false,
                value,
                ..
            }) => {
                text.push(char::from(value as u8));
                Resume::complete(0)
            }
            Ok(other) => return Err(Miss::Exit(other)),
            // Its vcpu was the only sender.
            Err(Miss::Refused(Error::PeerGone)) => break,
            Err(miss) => return Err(miss),
        };
    }
    println!("the child says {text}");
    if text != "hello" {
        return Err(Miss::Text);
    }
    match guest.child.status()? {
        (StopReason::Exited, 42) => guest.destroy(),
        (reason, detail) => Err(Miss::Ended(reason, detail)),
    }
}

const MADE_UP_LEAF: u32 = 0x4D6F_6E69;
const MADE_UP_REGISTER: u32 = 0x4000_0123;
const WRITTEN: u64 = 0x1122_3344_5566_7788;

// Numbers of general registers.
const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RSI: usize = 6;
const RDI: usize = 7;

/// CPUID and a register that the monitor makes up.
pub fn made_up(stage: &Stage<'_>, way: Way) -> Result<(), Miss> {
    let exits = [
        ExitKind::Cpuid,
        ExitKind::MsrRead,
        ExitKind::MsrWrite,
        ExitKind::Halt,
    ];
    let guest = stage.child(way, code::asks(), &exits, StateGroups::GENERAL)?;
    let state = stage.state()?;
    match guest.go_until(Resume::GO, ExitKind::Cpuid)? {
        VcpuExit::Cpuid {
            leaf: MADE_UP_LEAF,
            subleaf: 7,
            ..
        } => {}
        other => return Err(Miss::Exit(other)),
    }
    let answer = Resume::complete_with([2 << 32 | 1, 4 << 32 | 3]);
    match guest.go_until(answer, ExitKind::MsrWrite)? {
        VcpuExit::MsrWrite {
            index: MADE_UP_REGISTER,
            value: WRITTEN,
        } => {}
        other => return Err(Miss::Exit(other)),
    }
    match guest.go_until(Resume::complete(0), ExitKind::MsrRead)? {
        VcpuExit::MsrRead {
            index: MADE_UP_REGISTER,
            ..
        } => {}
        other => return Err(Miss::Exit(other)),
    }
    guest.go_until(Resume::complete(WRITTEN + 1), ExitKind::Halt)?;
    for (register, number) in [(RSI, 1), (RDI, 2), (8, 3), (9, 4)] {
        expect("CPUID", state.general(register), number)?;
    }
    expect("RDMSR", state.general(RAX), (WRITTEN + 1) & 0xFFFF_FFFF)?;
    expect("RDMSR", state.general(RDX), WRITTEN >> 32)?;
    guest.destroy()
}

const DEVICE: u64 = 0x10_0000;
const STORED_AT: u64 = DEVICE + 0x10;
const LOADED_FROM: u64 = DEVICE + 0x20;
const STORED: u64 = 0xAB12;
const LOADED: u64 = 0xCD34;

/// Memory of a device: the monitor executes the child's instruction in its stead.
pub fn memory(stage: &Stage<'_>, way: Way) -> Result<(), Miss> {
    let exits = [ExitKind::Memory, ExitKind::Halt];
    let guest = stage.child(
        way,
        code::touches(),
        &exits,
        StateGroups::GENERAL | StateGroups::INSTRUCTION,
    )?;
    let state = stage.state()?;
    let exit = guest.go_until(Resume::GO, ExitKind::Memory)?;
    let stored = emulate(stage, state, exit)?;
    expect("store", stored, STORED)?;
    let exit = guest.go_until(Resume::GO, ExitKind::Memory)?;
    emulate(stage, state, exit)?;
    guest.go_until(Resume::GO, ExitKind::Halt)?;
    expect("load", state.general(RCX), LOADED)?;
    expect("load", state.general(RAX), STORED)?;
    guest.destroy()
}

/// Executes MOV between a 32-bit register and the device, with an address of a register and a byte;
/// returns what was moved.
fn emulate(stage: &Stage<'_>, state: StatePage<'_>, exit: VcpuExit) -> Result<u64, Miss> {
    const STORE: u8 = 0x89;
    const LOAD: u8 = 0x8B;
    const BYTES: u64 = 3;
    let VcpuExit::Memory {
        address,
        access,
        instruction,
    } = exit
    else {
        return Err(Miss::Exit(exit));
    };
    expect("RIP", state.get(StateWord::Rip), instruction)?;
    let [opcode, operands, _] = stage.pages.read(instruction)?;
    let register = usize::from(operands >> 3 & 7);
    let moved = match (opcode, address) {
        (STORE, STORED_AT) if access.contains(Rights::WRITE) => state.general(register),
        (LOAD, LOADED_FROM) if access == Rights::READ => {
            state.set_general(register, LOADED);
            LOADED
        }
        _ => return Err(Miss::Exit(exit)),
    };
    state.set(StateWord::Rip, instruction + BYTES);
    state.set_load(StateGroups::GENERAL | StateGroups::INSTRUCTION);
    Ok(moved)
}
