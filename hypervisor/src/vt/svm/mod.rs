//! AMD SVM (AMD APM volume 2, chapter 15).
//!
//! `probe` decides whether the CPU will do, `vmcb` names the fields of a control block, `vcpu` is
//! what runs, `exit` decodes why it stopped, `asid` says what to flush, `permission` fills the
//! permission maps, and `insn` holds the world switch, the only code here that is not plain Rust.

mod asid;
mod exit;
mod explain;
mod insn;
mod permission;
mod probe;
mod vcpu;
mod vmcb;

use alloc::sync::Arc;

use crate::cpu::msr;
use crate::mem::{Account, Extent, Frame, HostPhysical, OutOfFrames, PhysicalMemory};
use crate::nested::{EntryFormat, NPT, NPT_1G};

use super::{Left, StartState, Vendor};

pub use probe::{Features, Findings, Unsupported};
pub use vcpu::SvmVcpu;

use asid::{AsidPool, Flush};

/// VM_HSAVE_PA: where VMRUN keeps the host's state.
const VM_HSAVE_PA: u32 = 0xC001_0117;
const EFER: u32 = 0xC000_0080;
const EFER_SVME: u64 = 1 << 12;
/// What RDTSCP and RDPID read: guests may execute both without an exit.
const TSC_AUX: u32 = 0xC000_0103;

/// Exceptions that are caught on their way to the guest. #DB (1) and #AC (17) can be made to
/// loop inside the CPU without end; #MC (18) is the machine's, not the guest's.
const EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;

/// Writes to DR7, and to DR5, which is another name for it while CR4.DE is off. Guests have no
/// hardware breakpoints: QEMU forgets to disarm them at an exit (APM volume 2, section 15.6), so
/// that they would stop the hypervisor, even in its handler of #DB.
const REGISTERS: u64 = (1 << 7 | 1 << 5) << 48;

/// Instruction intercepts, vector 3 (APM volume 2, appendix B, offset 00Ch): INTR, NMI, RDPMC,
/// CPUID, RSM, INVD, HLT, INVLPGA, I/O and MSR permission maps, task switches, FERR freeze,
/// shutdown.
const VECTOR_3: u32 = 1 << 0
    | 1 << 1
    | 1 << 15
    | 1 << 18
    | 1 << 19
    | 1 << 22
    | 1 << 24
    | 1 << 26
    | 1 << 27
    | 1 << 28
    | 1 << 29
    | 1 << 30
    | 1 << 31;

/// Vector 4 (offset 010h): VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, WBINVD, MONITOR,
/// MWAIT in both forms, RDPRU, which reads performance counters of the whole CPU.
const VECTOR_4: u32 = 0x7F | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14;

/// The largest identifier pool that is worth having; real CPUs offer 32,768.
const MAX_ASIDS: u32 = 1 << 15;

/// One physical CPU with SVM switched on.
pub struct Svm {
    physical: &'static dyn PhysicalMemory,
    features: Features,
    asids: AsidPool,
    format: &'static dyn EntryFormat,
    host_block: Extent,
    host_block_address: HostPhysical,
    io_map: Extent,
    msr_map: Extent,
    /// The CPU writes here at every VMRUN.
    host_save: Extent,
}

impl Svm {
    /// Switches SVM on for this CPU. `passed_msrs` are the registers that guests use without an
    /// exit; the switch saves and restores each of them.
    ///
    /// # Errors
    /// When the account or the machine has no frame left.
    pub fn enable(
        features: Features,
        gigabyte_pages: bool,
        physical: &'static dyn PhysicalMemory,
        account: &Arc<Account>,
        passed_msrs: &[u32],
    ) -> Result<Self, OutOfFrames> {
        let host_block = account.allocate(0)?;
        let svm = Svm {
            physical,
            features,
            asids: AsidPool::new(features.asids.min(MAX_ASIDS), features.flush_by_asid),
            format: if gigabyte_pages { &NPT_1G } else { &NPT },
            host_block_address: host_block.first().start(),
            host_block,
            io_map: account.allocate(permission::IO_MAP_ORDER)?,
            msr_map: account.allocate(permission::MSR_MAP_ORDER)?,
            host_save: account.allocate(0)?,
        };
        permission::refuse_all_ports(physical, svm.io_map.first());
        permission::refuse_msrs_except(physical, svm.msr_map.first(), passed_msrs);
        svm.switch_on();
        Ok(svm)
    }

    // UNSAFETY: enabling SVM and saving the host's state are instructions and MSR writes.
    #[allow(unsafe_code)]
    fn switch_on(&self) {
        let efer = msr::read(EFER).unwrap_or_default();
        // SAFETY: the CPU has SVM (the caller holds its features), and both frames belong to
        // this object, which lives as long as guests run on this CPU. TSC_AUX is only a number.
        unsafe {
            let on = msr::write(EFER, efer | EFER_SVME);
            let saved = msr::write(VM_HSAVE_PA, self.host_save.first().start().0);
            assert!(on.and(saved).is_some(), "the CPU refuses to switch SVM on");
            // Whatever the firmware left there is none of the guests' business. A CPU without the
            // register has neither instruction.
            let _ = msr::write(TSC_AUX, 0);
            insn::save_host_state(self.host_block.first().start());
        }
    }

    /// Writes the identifier and what is to be flushed. The entry that flushes is followed by one
    /// more look, which clears the flush again.
    #[cold]
    fn prepare_asid(&mut self, vcpu: &mut SvmVcpu) {
        let flush = self.asids.prepare(&mut vcpu.asid);
        let word = u64::from(vcpu.asid.number()) | (flush as u64) << 32;
        vcpu.vmcb.set(vmcb::ASID_AND_TLB_CONTROL, word);
        vcpu.asid_is_stale = flush != Flush::Nothing;
    }

    fn control(&self, vmcb: vmcb::Vmcb) {
        vmcb.intercept(EXCEPTIONS, [VECTOR_3, VECTOR_4]);
        vmcb.set(vmcb::INTERCEPT_REGISTERS, REGISTERS);
        vmcb.set(vmcb::IOPM_BASE, self.io_map.first().start().0);
        vmcb.set(vmcb::MSRPM_BASE, self.msr_map.first().start().0);
    }
}

impl Vendor for Svm {
    const NAME: &'static str = "svm";
    /// VMMCALL.
    const CALL_INSTRUCTION: [u8; 3] = [0x0F, 0x01, 0xD9];
    type Vcpu = SvmVcpu;

    fn entry_format(&self) -> &'static dyn EntryFormat {
        self.format
    }

    fn create_vcpu(
        &mut self,
        account: &Arc<Account>,
        start: &StartState,
    ) -> Result<SvmVcpu, OutOfFrames> {
        let frame = account.allocate(0)?;
        let words = words_of(self.physical, frame.first())?;
        let vcpu = SvmVcpu::new(frame, words, start, self.features.next_rip);
        self.control(vcpu.vmcb);
        Ok(vcpu)
    }

    fn load(&mut self, vcpu: &mut SvmVcpu) {
        vcpu.asid_is_stale = true;
        vcpu.remember_start();
    }

    // UNSAFETY: the world switch.
    #[allow(unsafe_code)]
    #[inline(always)]
    fn run(&mut self, vcpu: &mut SvmVcpu) -> Left {
        if vcpu.asid_is_stale {
            self.prepare_asid(vcpu);
        }
        // SAFETY: SVM is on as long as `self` exists; both blocks are frames owned by `self` and
        // `vcpu`, and the host's was filled when SVM was switched on.
        unsafe { insn::enter_guest(&mut vcpu.registers, vcpu.block(), self.host_block_address) };
        vcpu.left()
    }
}

fn words_of(
    physical: &'static dyn PhysicalMemory,
    frame: Frame,
) -> Result<&'static crate::mem::Words, OutOfFrames> {
    physical.words(frame).ok_or(OutOfFrames::Memory)
}
