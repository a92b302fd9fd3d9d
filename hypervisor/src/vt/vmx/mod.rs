//! Intel VT-x (Intel SDM volume 3, chapters 23 to 30).
//!
//! `probe` decides whether the CPU will do and `controls` what guests exit for, `control_block`
//! reaches the fields of a VMCS, `vcpu` is what runs, `start_state` how it starts, `exit` decodes why
//! it stopped, `permission` places registers in the permission map, and `insn` holds the world
//! switch and the other instructions that only VT-x has. Two files have no like in `svm`:
//! `host_state` is what an exit loads, where SVM saves the host by itself, and `moves` does what
//! VT-x leaves to the hypervisor of a guest's MOV to special registers.

mod control_block;
mod controls;
mod exit;
mod explain;
mod host_state;
mod insn;
mod moves;
mod permission;
mod probe;
mod start_state;
mod vcpu;

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use x86::msr::IA32_FEATURE_CONTROL;
use x86_64::registers::control::{Cr4, Cr4Flags};

use crate::cpu::msr;
use crate::cpu::system_registers::LoadedRegisters;
use crate::mem::{Account, Extent, OutOfFrames, PhysicalMemory};
use crate::nested::{EntryFormat, EPT_1G, EPT_2M, EPT_4K};

use super::flush_log::{FlushRecorder, Step};
use super::identifiers::{Flush, IdentifierPool};
use super::permission::refuse_msrs_except;
use super::{Left, StartState, Vendor, VirtualCpu};

pub use probe::{Features, Findings, EXTENSION};
pub use vcpu::VmxVcpu;

use control_block::{self as vmcs, Vmcs};
use permission::{msr_bits, MSR_MAP_ORDER};

/// Identifiers of a CPU that has them.
const VPIDS: u32 = 1 << 16;

/// One physical CPU in VMX operation.
pub struct Vmx {
    physical: &'static dyn PhysicalMemory,
    features: Features,
    vpids: IdentifierPool,
    recorder: Option<FlushRecorder>,
    /// What the CPU holds of the vcpu that was loaded last.
    loaded: LoadedRegisters,
    msr_map: Extent,
    /// The CPU uses it as long as it is in VMX operation.
    _region: Extent,
}

impl Vmx {
    /// Switches VT-x on for this CPU. `passed_msrs` are the registers that guests use without an
    /// exit: control structure and system registers keep each apart.
    ///
    /// # Errors
    /// When the account or the machine has no frame left.
    pub fn enable(
        features: Features,
        physical: &'static dyn PhysicalMemory,
        account: &Arc<Account>,
        passed_msrs: &[u32],
    ) -> Result<Self, OutOfFrames> {
        let region = account.allocate(0)?;
        let msr_map = account.allocate(MSR_MAP_ORDER)?;
        let map = msr_map.first();
        refuse_msrs_except(physical, map, MSR_MAP_ORDER, passed_msrs, msr_bits);
        let vpids = if features.controls.has_vpid() {
            VPIDS
        } else {
            1
        };
        write_revision(physical, &region, features.revision)?;
        switch_on(&features, &region);
        Ok(Vmx {
            physical,
            vpids: IdentifierPool::new(vpids, true),
            recorder: None,
            features,
            loaded: LoadedRegisters::default(),
            msr_map,
            _region: region,
        })
    }

    // UNSAFETY: VMPTRLD.
    #[allow(unsafe_code)]
    fn make_current(vmcs: &Vmcs) {
        // SAFETY: the structure's frame belongs to a vcpu; it was cleared after it got its revision.
        let current = unsafe { insn::vmptrld(vmcs.address()) };
        assert!(current.is_ok(), "VMPTRLD refuses a control structure");
    }

    /// Writes the identifier, flushes what has to go and hands an upcall over.
    #[cold]
    fn attend(&mut self, vcpu: &mut VmxVcpu) {
        vcpu.needs_attention = false;
        let flush = self.vpids.prepare(&mut vcpu.vpid);
        if flush != Flush::Nothing {
            // Who has come from another CPU has no identifier.
            if core::mem::take(&mut vcpu.is_newcomer) {
                self.write_own(&vcpu.vmcs);
            }
            self.flush(flush, vcpu.ept_pointer, vcpu.vpid.number());
            if self.features.controls.has_vpid() {
                vcpu.vmcs.set(vmcs::VPID, u64::from(vcpu.vpid.number()));
            }
        }
        vcpu.prepare_upcall();
    }

    /// Writes what a control structure has of its CPU. The stack is the world switch's affair, which sees
    /// that it is another one.
    #[cold]
    fn write_own(&self, vmcs: &Vmcs) {
        vmcs.set(vmcs::MSR_BITMAP, self.msr_map.first().start().0);
        host_state::write(vmcs);
    }

    /// What is cached stands under the root of the nested tables, and what comes from a guest's own
    /// tables under root and identifier (28.3.2); roots are frames, which are used again.
    fn flush(&self, flush: Flush, ept_pointer: u64, identifier: u32) {
        let is_all = flush == Flush::Everything;
        let root = (!is_all && self.features.flush_by_tables).then_some(ept_pointer);
        let mut result = insn::invept(root);
        self.record(root.map_or("invept-all", |_| "invept-single"), identifier);
        if is_all && self.features.controls.has_vpid() {
            result = result.and(insn::invvpid_all());
            self.record("invvpid-all", identifier);
        }
        assert!(result.is_ok(), "the CPU refuses to flush translations");
    }

    fn record(&self, how: &'static str, identifier: u32) {
        if let Some(recorder) = &self.recorder {
            recorder.record(Step::Done { how, identifier });
        }
    }
}

// UNSAFETY: entering VMX operation.
#[allow(unsafe_code)]
fn switch_on(features: &Features, region: &Extent) {
    if features.must_unlock {
        let control = msr::read(IA32_FEATURE_CONTROL).unwrap_or_default();
        let control = control | probe::FEATURE_LOCKED | probe::FEATURE_VMXON;
        // SAFETY: the register decides whether VMXON works, and nothing else that is in use.
        let locked = unsafe { msr::write(IA32_FEATURE_CONTROL, control) };
        assert!(locked.is_some(), "the CPU refuses to unlock VT-x");
    }
    // SAFETY: VMXE changes nothing but that VMXON works and that INIT is blocked after it. The
    // region has the revision and belongs to the object that is made of it, which is never dropped
    // while guests run.
    let on = unsafe {
        Cr4::update(|cr4| cr4.insert(Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS));
        insn::vmxon(region.first().start())
    };
    assert!(on.is_ok(), "the CPU refuses to switch VT-x on");
}

fn write_revision(
    physical: &'static dyn PhysicalMemory,
    region: &Extent,
    revision: u32,
) -> Result<(), OutOfFrames> {
    let words = physical.words(region.first()).ok_or(OutOfFrames::Memory)?;
    words[0].store(u64::from(revision), Relaxed);
    Ok(())
}

impl Vendor for Vmx {
    const NAME: &'static str = "vmx";
    /// VMCALL.
    const CALL_INSTRUCTION: [u8; 3] = [0x0F, 0x01, 0xC1];
    type Vcpu = VmxVcpu;

    fn entry_format(&self) -> &'static dyn EntryFormat {
        match (self.features.gigabyte_pages, self.features.large_pages) {
            (true, _) => &EPT_1G,
            (false, true) => &EPT_2M,
            (false, false) => &EPT_4K,
        }
    }

    // UNSAFETY: VMCLEAR.
    #[allow(unsafe_code)]
    fn create_vcpu(
        &mut self,
        account: &Arc<Account>,
        start: &StartState,
    ) -> Result<VmxVcpu, OutOfFrames> {
        let frames = [account.allocate(0)?, account.allocate(0)?];
        let [structure, virtual_apic] = &frames;
        write_revision(self.physical, structure, self.features.revision)?;
        let task_priority = self.physical.words(virtual_apic.first());
        let task_priority = task_priority.ok_or(OutOfFrames::Memory)?;
        self.loaded.unload();
        let vmcs = Vmcs::new(structure.first().start());
        // SAFETY: the frame was just allocated and has the CPU's revision.
        let cleared = unsafe { insn::vmclear(vmcs.address()) };
        assert!(cleared.is_ok(), "VMCLEAR refuses a control structure");
        Self::make_current(&vmcs);
        vmcs.set_all(vmcs::ZERO_AT_THE_START.map(|field| (field, 0)));
        let [msr_map, apic] = [&self.msr_map, virtual_apic].map(|page| page.first().start());
        self.features.controls.write(&vmcs, msr_map, apic);
        host_state::write(&vmcs);
        let mut vcpu = VmxVcpu::new(vmcs, frames, task_priority, start, &self.features);
        start_state::write(&vcpu.vmcs, start, &self.features, vcpu.ept_pointer);
        vcpu.limit_run(None);
        Ok(vcpu)
    }

    fn record_flushes(&mut self, recorder: FlushRecorder) {
        self.recorder = Some(recorder);
    }

    fn load(&mut self, vcpu: &mut VmxVcpu) {
        if self.loaded.load(&vcpu.system) {
            Self::make_current(&vcpu.vmcs);
            // The identifier may be one of a generation that has gone.
            vcpu.needs_attention = true;
        }
    }

    fn release(&mut self, vcpu: &mut VmxVcpu) {
        self.loaded.release(&vcpu.system);
        vcpu.leave();
    }

    fn adopt(&mut self, vcpu: &mut VmxVcpu) {
        vcpu.come();
    }

    // UNSAFETY: the world switch.
    #[allow(unsafe_code)]
    #[inline(always)]
    fn run(&mut self, vcpu: &mut VmxVcpu) -> Left {
        if vcpu.needs_attention {
            self.attend(vcpu);
        }
        // SAFETY: `load` made the vcpu's structure current, `create_vcpu` has filled it, and the
        // frame is the vcpu's own.
        let has_run = unsafe { insn::enter_guest(&raw mut *vcpu.frame, vcpu.launched) };
        vcpu.left(has_run)
    }
}
