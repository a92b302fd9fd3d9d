//! What follows the hardware bring-up.

use crate::boot::Handover;
use crate::cpu::{machine_exit, serial, DirectMap, ExitCode, Platform};
use crate::mem::PhysicalMemory;

/// Prints what was handed over, tries the timer, and ends the run.
pub fn start(handover: Handover, platform: Platform, memory: &'static DirectMap) -> ! {
    serial::print(format_args!(
        "@boot abi={} tsc_hz={} ram_bytes={}\n",
        nuncio_abi::VERSION,
        platform.time_page().frequency_hz,
        handover.ram_bytes,
    ));
    log::info!("command line '{}'", handover.command_line);
    for range in &handover.usable {
        log::info!("usable {:#x}..{:#x}", range.start(), range.end());
    }
    for module in &handover.modules {
        let frame = module.start.frame();
        let first = memory
            .words(frame)
            .map(|words| words[0].load(core::sync::atomic::Ordering::Relaxed));
        log::info!(
            "module '{}' at {:#x}, {} bytes, first word {first:x?}",
            module.name,
            module.start,
            module.length,
        );
    }
    let begin_ns = platform.now_ns();
    let deadline_ns = begin_ns.saturating_add(1_000_000);
    platform.arm_timer(Some(deadline_ns));
    while !platform.timer_fired() {
        platform.idle();
    }
    let late_ns = platform.now_ns().saturating_sub(deadline_ns);
    log::info!("timer at {begin_ns} ns for 1 ms fired {late_ns} ns late");
    platform.arm_timer(Some(0));
    platform.service_interrupts();
    log::info!("a past deadline fired at once: {}", platform.timer_fired());
    machine_exit(ExitCode::Ok)
}
