//! Intel VT-x (Intel SDM volume 3, chapters 23 to 30).
//!
//! `probe` decides whether the CPU will do and `controls` how guests run on it, `vmcs` names the
//! fields of a control structure, `vcpu` is what runs, `start_state` how it starts, `moves` what
//! of MOV to special registers it does itself, `exit` decodes why it stopped, `asid` says
//! what to flush, `permission` fills the map of model-specific registers, and `insn` holds the
//! world switch and the other instructions that only VT-x has.

mod asid;
mod controls;
mod exit;
mod explain;
mod insn;
mod moves;
mod permission;
mod probe;
mod start_state;
mod vcpu;
mod vmcs;

use alloc::rc::Rc;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use x86::msr::{IA32_EFER, IA32_FEATURE_CONTROL, IA32_PAT};
use x86_64::instructions::tables::sidt;
use x86_64::registers::control::{Cr0, Cr3, Cr4, Cr4Flags};

use crate::cpu::system_registers::SystemRegisters;
use crate::cpu::{msr, segments};
use crate::mem::{Account, Extent, OutOfFrames, PhysicalMemory};
use crate::nested::{EntryFormat, EPT_1G, EPT_2M, EPT_4K};

use super::{Left, StartState, Vendor, VirtualCpu};

pub use probe::{Features, Findings, Unsupported};
pub use vcpu::VmxVcpu;

use asid::{Flush, VpidPool};
use vmcs::Vmcs;

/// Exceptions that are caught on their way to the guest. #DB (1) and #AC (17) can be made to
/// loop inside the CPU without end; #MC (18) is the machine's, not the guest's.
const EXCEPTIONS: u64 = 1 << 1 | 1 << 17 | 1 << 18;

/// Identifiers of a CPU that has them.
const VPIDS: u32 = 1 << 16;

/// One physical CPU in VMX operation.
pub struct Vmx {
    physical: &'static dyn PhysicalMemory,
    features: Features,
    vpids: VpidPool,
    format: &'static dyn EntryFormat,
    /// What the CPU holds of the vcpu that was loaded last.
    loaded: Option<Rc<SystemRegisters>>,
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
        let msr_map = account.allocate(0)?;
        permission::refuse_msrs_except(physical, msr_map.first(), passed_msrs);
        let format: &'static dyn EntryFormat = match (features.gigabyte_pages, features.large_pages)
        {
            (true, _) => &EPT_1G,
            (false, true) => &EPT_2M,
            (false, false) => &EPT_4K,
        };
        write_revision(physical, &region, features.revision)?;
        switch_on(&features, &region);
        Ok(Vmx {
            physical,
            vpids: VpidPool::new(if features.controls.has_vpid() {
                VPIDS
            } else {
                1
            }),
            features,
            format,
            loaded: None,
            msr_map,
            _region: region,
        })
    }

    /// Takes the registers of the loaded vcpu out of the CPU.
    fn unload(&mut self) {
        if let Some(loaded) = self.loaded.take() {
            loaded.save();
        }
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
            self.flush(flush, vcpu.ept_pointer);
            if self.features.controls.has_vpid() {
                vcpu.vmcs.set(vmcs::VPID, u64::from(vcpu.vpid.number()));
            }
        }
        vcpu.prepare_upcall();
    }

    fn flush(&self, flush: Flush, ept_pointer: u64) {
        let root =
            (flush == Flush::ThisRoot && self.features.flush_by_tables).then_some(ept_pointer);
        let mut result = insn::invept(root);
        if flush == Flush::Everything && self.features.controls.has_vpid() {
            result = result.and(insn::invvpid_all());
        }
        assert!(result.is_ok(), "the CPU refuses to flush translations");
    }

    fn set_controls(&self, vmcs: &Vmcs, virtual_apic: &Extent) {
        let controls = &self.features.controls;
        for (field, value) in [
            (vmcs::PIN_CONTROLS, u64::from(controls.pin)),
            (vmcs::PRIMARY_CONTROLS, u64::from(controls.primary)),
            (vmcs::SECONDARY_CONTROLS, u64::from(controls.secondary)),
            (vmcs::EXIT_CONTROLS, u64::from(controls.exit)),
            (vmcs::ENTRY_CONTROLS, u64::from(controls.entry)),
            (vmcs::EXCEPTION_BITMAP, EXCEPTIONS),
            (vmcs::MSR_BITMAP, self.msr_map.first().start().0),
            (vmcs::VIRTUAL_APIC_PAGE, virtual_apic.first().start().0),
        ] {
            vmcs.set(field, value);
        }
    }

    /// What an exit loads (27.5): the state of the hypervisor as it is now, and for good.
    fn set_host_state(&self, vmcs: &Vmcs) {
        let segments = segments::current().expect("the hypervisor's own segments are loaded");
        let data = u64::from(segments.data.0);
        let (table, flags) = Cr3::read_raw();
        for (field, value) in [
            (vmcs::HOST_CS, u64::from(segments.code.0)),
            (vmcs::HOST_SS, data),
            (vmcs::HOST_DS, data),
            (vmcs::HOST_ES, data),
            (vmcs::HOST_TR, u64::from(segments.task.0)),
            (vmcs::HOST_TR_BASE, segments.task_base),
            (vmcs::HOST_GDTR_BASE, segments.gdt_base),
            (vmcs::HOST_IDTR_BASE, sidt().base.as_u64()),
            (vmcs::HOST_CR0, Cr0::read_raw()),
            (
                vmcs::HOST_CR3,
                table.start_address().as_u64() | u64::from(flags),
            ),
            (vmcs::HOST_CR4, Cr4::read_raw()),
            (vmcs::HOST_EFER, msr::read(IA32_EFER).unwrap_or_default()),
            (vmcs::HOST_PAT, msr::read(IA32_PAT).unwrap_or_default()),
            (vmcs::HOST_RIP, insn::exit_point as *const () as u64),
        ] {
            vmcs.set(field, value);
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
        self.format
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
        self.unload();
        let vmcs = Vmcs::new(structure.first().start());
        // SAFETY: the frame was just allocated and has the CPU's revision.
        let cleared = unsafe { insn::vmclear(vmcs.address()) };
        assert!(cleared.is_ok(), "VMCLEAR refuses a control structure");
        Self::make_current(&vmcs);
        vmcs.clear_fields();
        self.set_controls(&vmcs, virtual_apic);
        self.set_host_state(&vmcs);
        let mut vcpu = VmxVcpu::new(vmcs, frames, start, &self.features);
        start_state::write(&vcpu.vmcs, start, &self.features, vcpu.ept_pointer);
        vcpu.limit_run(None);
        Ok(vcpu)
    }

    fn load(&mut self, vcpu: &mut VmxVcpu) {
        let is_loaded = |loaded: &Rc<SystemRegisters>| Rc::ptr_eq(loaded, &vcpu.system);
        if self.loaded.as_ref().is_some_and(is_loaded) {
            return;
        }
        self.unload();
        Self::make_current(&vcpu.vmcs);
        vcpu.system.restore();
        self.loaded = Some(vcpu.system.clone());
        // The identifier may be one of a generation that has gone.
        vcpu.needs_attention = true;
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
