//! What the loop needs of the machine beside the vendor's part: time, interrupts, the console.

use alloc::sync::Arc;

use crate::mem::{Account, OutOfFrames};
use crate::sched::CpuIndex;

/// One physical CPU.
pub trait Platform: 'static {
    /// Registers that no world switch keeps apart: vector registers and debug addresses.
    type Extended: Send;

    /// Nanoseconds of the system clock.
    fn now_ns(&self) -> u64;

    /// The time-stamp counter.
    fn ticks(&self) -> u64;

    /// Makes the timer fire at a time in nanoseconds, or not at all.
    fn arm_timer(&mut self, deadline_ns: Option<u64>);

    /// Ticks of the time-stamp counter until a time in nanoseconds; 0 if it has passed.
    fn ticks_until(&self, deadline_ns: u64) -> u64;

    /// Lets pending interrupts run their handlers. Returns whether the timer was among them.
    fn service_interrupts(&mut self) -> bool;

    /// Halts until an interrupt has been handled.
    fn idle(&mut self);

    /// Has another CPU leave its guest, or wake up.
    fn interrupt(&self, cpu: CpuIndex);

    /// Waits until another CPU, which has been interrupted, has left its guest: as long as `is_there`.
    fn wait_while(&self, cpu: CpuIndex, is_there: &dyn Fn() -> bool);

    /// The extended state of a new vcpu, paid by `account`.
    ///
    /// # Errors
    /// When the account or the machine has no frame left.
    fn new_extended_state(&mut self, account: &Arc<Account>)
        -> Result<Self::Extended, OutOfFrames>;

    /// Saves the extended state of one vcpu, if it still exists, and loads another's.
    fn switch_extended_state(&mut self, from: Option<&mut Self::Extended>, to: &mut Self::Extended);

    /// Saves the extended state of the vcpu that has it loaded, and that leaves this CPU for another one.
    fn save_extended_state(&mut self, extended: &mut Self::Extended);

    /// Sets the CPU's XCR0 for the vcpu whose extended state is loaded; false if the CPU cannot
    /// have it so.
    fn set_extended_features(&mut self, value: u64) -> bool;

    /// The machine's own answer to CPUID.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4];

    /// Shows a line that a domain has written.
    fn console_line(&mut self, domain: &str, line: &str);
}
