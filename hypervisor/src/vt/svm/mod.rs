//! AMD SVM (AMD APM volume 2, chapter 15).
//!
//! `probe` decides whether the CPU will do and `controls` what guests exit for, `control_block`
//! reaches the fields of a VMCB, `vcpu` is what runs, `start_state` how it starts, `exit` decodes why
//! it stopped, `permission` places registers in the permission maps, and `insn` holds the world
//! switch and the other instructions that only SVM has.

mod control_block;
mod controls;
mod exit;
mod explain;
mod insn;
mod permission;
mod probe;
mod start_state;
mod vcpu;

use alloc::sync::Arc;

use x86::msr::{IA32_EFER, IA32_TSC_AUX};

use crate::cpu::msr;
use crate::mem::{Account, Extent, HostPhysical, OutOfFrames, PhysicalMemory};
use crate::nested::{EntryFormat, NPT, NPT_1G};

use super::flush_log::{FlushRecorder, Step};
use super::identifiers::{Flush, IdentifierPool};
use super::permission::{refuse_all, refuse_msrs_except};
use super::{Left, StartState, Vendor};

pub use probe::{Features, Findings, EXTENSION};
pub use vcpu::SvmVcpu;

use control_block as vmcb;
use permission::{msr_bits, IO_MAP_ORDER, MSR_MAP_ORDER};
use vcpu::EFER_SVME;

/// VM_HSAVE_PA: where VMRUN keeps the host's state.
const VM_HSAVE_PA: u32 = 0xC001_0117;

/// The largest identifier pool that is worth having; real CPUs offer 32,768.
const MAX_ASIDS: u32 = 1 << 15;

/// One physical CPU with SVM switched on.
pub struct Svm {
    physical: &'static dyn PhysicalMemory,
    features: Features,
    asids: IdentifierPool,
    recorder: Option<FlushRecorder>,
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
            asids: IdentifierPool::new(features.asids.min(MAX_ASIDS), features.flush_by_asid),
            recorder: None,
            format: if gigabyte_pages { &NPT_1G } else { &NPT },
            host_block_address: host_block.first().start(),
            host_block,
            io_map: account.allocate(IO_MAP_ORDER)?,
            msr_map: account.allocate(MSR_MAP_ORDER)?,
            host_save: account.allocate(0)?,
        };
        refuse_all(physical, svm.io_map.first(), IO_MAP_ORDER);
        let map = svm.msr_map.first();
        refuse_msrs_except(physical, map, MSR_MAP_ORDER, passed_msrs, msr_bits);
        svm.switch_on();
        Ok(svm)
    }

    // UNSAFETY: enabling SVM and saving the host's state are instructions and MSR writes.
    #[allow(unsafe_code)]
    fn switch_on(&self) {
        let efer = msr::read(IA32_EFER).unwrap_or_default();
        // SAFETY: the CPU has SVM (the caller holds its features), and both frames belong to
        // this object, which lives as long as guests run on this CPU. TSC_AUX is only a number.
        unsafe {
            let on = msr::write(IA32_EFER, efer | EFER_SVME);
            let saved = msr::write(VM_HSAVE_PA, self.host_save.first().start().0);
            assert!(on.and(saved).is_some(), "the CPU refuses to switch SVM on");
            // Guests may execute RDTSCP and RDPID, which read it, without an exit; whatever the
            // firmware left there is none of their business. A CPU without it has neither.
            let _ = msr::write(IA32_TSC_AUX, 0);
            insn::save_host_state(self.host_block.first().start());
        }
    }

    /// Writes the identifier and what is to be flushed. The entry that flushes is followed by one
    /// more look, which clears the flush again, and so is one that meets new state, which is forgotten
    /// then.
    #[cold]
    fn prepare_asid(&mut self, vcpu: &mut SvmVcpu) {
        let flush = self.asids.prepare(&mut vcpu.asid);
        let word = u64::from(vcpu.asid.number()) | tlb_control(flush) << 32;
        vcpu.vmcb.set(vmcb::ASID_AND_TLB_CONTROL, word);
        let is_remembered = vcpu.remember_new_state();
        vcpu.asid_is_stale = tlb_control(flush) != 0 || is_remembered;
    }

    /// Does so, and writes down what the control block says then.
    #[cold]
    #[inline(never)]
    fn prepare_and_record(&mut self, vcpu: &mut SvmVcpu) {
        let before = vcpu.asid.number();
        self.prepare_asid(vcpu);
        let word = vcpu.vmcb.get(vmcb::ASID_AND_TLB_CONTROL);
        let identifier = word as u32;
        let how = match word >> 32 {
            0 if identifier == before => return,
            0 => "new-asid",
            1 => "tlb-control-all",
            _ => "tlb-control-this",
        };
        if let Some(recorder) = &self.recorder {
            recorder.record(Step::Done { how, identifier });
        }
    }
}

/// What the CPU forgets on the next entry (TLB_CONTROL, AMD APM volume 2, section 15.16.1).
const fn tlb_control(flush: Flush) -> u64 {
    match flush {
        // All that is cached stands under an identifier, and a new one has nothing.
        Flush::Nothing | Flush::NewIdentifier => 0,
        Flush::Everything => 1,
        Flush::ThisVcpu => 3,
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
        let words = self.physical.words(frame.first());
        let words = words.ok_or(OutOfFrames::Memory)?;
        let vcpu = SvmVcpu::new(frame, words, start, &self.features);
        let [io_map, msr_map] = [&self.io_map, &self.msr_map].map(|map| map.first().start());
        controls::write(vcpu.vmcb, io_map, msr_map);
        Ok(vcpu)
    }

    fn record_flushes(&mut self, recorder: FlushRecorder) {
        self.recorder = Some(recorder);
    }

    fn load(&mut self, vcpu: &mut SvmVcpu) {
        vcpu.asid_is_stale = true;
    }

    /// What the CPU has had of the guest was stored when the guest left it.
    fn release(&mut self, _vcpu: &mut SvmVcpu) {}

    fn adopt(&mut self, vcpu: &mut SvmVcpu) {
        let [io_map, msr_map] = [&self.io_map, &self.msr_map].map(|map| map.first().start());
        controls::write_maps(vcpu.vmcb, io_map, msr_map);
        vcpu.come();
    }

    // UNSAFETY: the world switch.
    #[allow(unsafe_code)]
    #[inline(always)]
    fn run(&mut self, vcpu: &mut SvmVcpu) -> Left {
        if vcpu.asid_is_stale {
            if self.recorder.is_some() {
                self.prepare_and_record(vcpu);
            } else {
                self.prepare_asid(vcpu);
            }
        }
        // SAFETY: SVM is on as long as `self` exists; both blocks are frames owned by `self` and
        // `vcpu`, and the host's was filled when SVM was switched on.
        unsafe { insn::enter_guest(&mut vcpu.registers, vcpu.block(), self.host_block_address) };
        vcpu.left()
    }
}
