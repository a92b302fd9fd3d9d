//! What follows the hardware bring-up: choose the vendor, launch the plan, run, report.

mod other_cpus;
mod platform;
mod self_test;
mod traces;

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use nuncio_abi::VERSION;
use raw_cpuid::CpuId;

use crate::boot::{BroughtUp, Handover};
use crate::cpu::startup::{CpuReport, Work};
use crate::cpu::{
    self, clock_entry, machine_exit, serial, DirectMap, ExitCode, OtherCpus, Platform, Refusal,
};
use crate::launch::{launch, LaunchError, LoadedModule, Machine};
use crate::lock;
use crate::mem::{
    Account, ByteSource, FrameBytes, FramePool, OutOfFrames, PhysicalMemory, PAGE_BYTES,
};
use crate::object::Memory;
use crate::plan::{Plan, PlanError, MAX_PLAN_BYTES, MODULE_NAME};
use crate::policy::msr;
use crate::run::{CpuIndex, Cpus, DomainReport, Runner, Verdict};
use crate::vt::entry_rules::self_test::Subject;
use crate::vt::svm::{self, Svm};
use crate::vt::vmx::{self, Vmx};
use crate::vt::{Unsupported, Vendor};

use other_cpus::Shared;
use platform::HardwarePlatform;
use traces::Traces;

/// What the nested page tables reach, as a number of address bits.
const NESTED_ADDRESS_BITS: u8 = 47;

/// The hardware virtualization that this CPU has.
#[derive(Clone, Copy, Debug)]
pub enum Virtualization {
    /// Intel VT-x.
    Vmx(vmx::Features),
    /// AMD SVM.
    Svm(svm::Features),
}

/// Looks for hardware virtualization with all that is needed of it. The vendor is the one whose
/// instructions the CPU has.
///
/// Reads registers that old CPUs lack: the traps must be set up.
///
/// # Errors
/// What is missing.
pub fn find_virtualization() -> Result<Virtualization, Refusal> {
    choose(
        vmx::Findings::read().features(),
        svm::Findings::read().features(),
    )
}

fn choose(
    vmx: Result<vmx::Features, Unsupported>,
    svm: Result<svm::Features, Unsupported>,
) -> Result<Virtualization, Refusal> {
    match (vmx, svm) {
        (Ok(features), _) => Ok(Virtualization::Vmx(features)),
        (Err(Unsupported::Absent(_)), Ok(features)) => Ok(Virtualization::Svm(features)),
        (Err(Unsupported::Absent(_)), Err(Unsupported::Absent(_))) => Err(Refusal::new(
            "no-virtualization",
            "this CPU has neither Intel VT-x nor AMD SVM; use a CPU or CPU model that has one of \
             them (QEMU: -cpu max)",
        )),
        (Err(Unsupported::Absent(_)), Err(unsupported)) => Err(unsupported.into()),
        (Err(unsupported), _) => Err(unsupported.into()),
    }
}

/// Runs what the boot loader brought, and ends the machine. `heap_bytes_used` asks the allocator.
pub fn start(found: Virtualization, machine: BroughtUp, heap_bytes_used: fn() -> u64) -> ! {
    let BroughtUp {
        mut handover,
        platform,
        memory,
        mut other_cpus,
    } = machine;
    lock::keep_in(cpu::per_cpu::held_locks);
    let work = self_test::work_of_other_cpus(&mut handover, memory, &mut other_cpus);
    start_other_cpus(other_cpus, &platform, work);
    self_test::cpus(&handover.command_line, &platform);
    let code = match run(found, handover, platform, memory, heap_bytes_used) {
        Ok(Verdict::Good) => {
            serial::print(format_args!("@end result=ok\n"));
            ExitCode::Ok
        }
        Ok(Verdict::Failed) => {
            serial::print(format_args!("@end result=failed\n"));
            ExitCode::Failed
        }
        Err(Refusal { code, text }) => {
            serial::print(format_args!("@refused code={code} text={text}\n"));
            ExitCode::Refused
        }
    };
    machine_exit(code)
}

/// Starts the other CPUs and says which are left out.
fn start_other_cpus(other_cpus: OtherCpus, platform: &Platform, work: Work) -> CpuReport {
    let report = other_cpus.start(platform, work);
    for left_out in &report.left_out {
        serial::print(format_args!("{left_out}\n"));
    }
    if report.beyond > 0 {
        log::warn!(
            "{} CPUs more than can be used are left alone",
            report.beyond
        );
    }
    report
}

fn run(
    found: Virtualization,
    handover: Handover,
    platform: Platform,
    memory: &'static DirectMap,
    heap_bytes_used: fn() -> u64,
) -> Result<Verdict, Refusal> {
    let pool = pool(&handover, memory);
    let account = Account::new(pool.clone(), u64::MAX);
    match found {
        Virtualization::Vmx(features) => {
            let vmx = Vmx::enable(features, memory, &account, &msr::PASSED)?;
            run_on(
                vmx,
                handover,
                platform,
                memory,
                account,
                &pool,
                heap_bytes_used,
            )
        }
        Virtualization::Svm(features) => {
            let svm = Svm::enable(features, gigabyte_pages(), memory, &account, &msr::PASSED)?;
            run_on(
                svm,
                handover,
                platform,
                memory,
                account,
                &pool,
                heap_bytes_used,
            )
        }
    }
}

fn gigabyte_pages() -> bool {
    CpuId::new()
        .get_extended_processor_and_feature_identifiers()
        .is_some_and(|features| features.has_1gib_pages())
}

/// Everything from here on is the same for all vendors.
fn run_on<V: Vendor<Vcpu: Subject>>(
    mut vendor: V,
    handover: Handover,
    platform: Platform,
    memory: &'static DirectMap,
    account: Arc<Account>,
    pool: &Arc<FramePool>,
    heap_bytes_used: fn() -> u64,
) -> Result<Verdict, Refusal> {
    report_boot::<V>(&handover, &platform, pool);
    self_test::entry_rules(&handover.command_line, &mut vendor, memory, &account)?;
    self_test::state(&handover.command_line, &mut vendor, memory, &account)?;
    let modules = loaded_modules(&handover);
    let plan = read_plan(&modules, memory)?;
    let time_page = time_page(&platform, memory, &account)?;
    let limit_ns = plan
        .limit_ms
        .map(|limit_ms| limit_ms.saturating_mul(1_000_000));
    let cpus = Cpus::new(count_for_guests(&handover.command_line));
    let traces = Traces::asked_for(&handover.command_line)?;
    let shared = Shared {
        cpus: cpus.clone(),
        memory,
        account: account.clone(),
        limit_ns,
        traces: traces.clone(),
    };
    other_cpus::join(shared);
    let platform = HardwarePlatform::new::<V>(platform);
    let mut runner = Runner::new(cpus, CpuIndex::BOOT, vendor, platform, limit_ns);
    traces.begin(&mut runner);
    let machine = Machine {
        physical: memory,
        pool: pool.clone(),
        account,
        modules,
        time_page,
        clock_entry: clock_entry(),
        address_limit: address_limit(),
    };
    let before = pool.free_frames() + frames_of_given_modules(&machine.modules, &plan);
    let heap_bytes_before = heap_bytes_used();
    launch(&mut runner, &machine, &plan)?;
    self_test::entry_refused(&handover.command_line, &mut runner);
    let frames = before.saturating_sub(pool.free_frames());
    let given = frames_of_given_modules(&machine.modules, &plan) + plan.memory_frames();
    serial::print(format_args!(
        "@ready domains={} heap_bytes={} frames={}\n",
        plan.domains.len(),
        heap_bytes_used().saturating_sub(heap_bytes_before),
        frames.saturating_sub(given),
    ));
    let reports = runner.run();
    let after = pool.free_frames();
    traces.report();
    Ok(report(&reports, before, after))
}

fn report(reports: &[DomainReport], before: u64, after: u64) -> Verdict {
    for report in reports {
        serial::print(format_args!("{report}\n"));
    }
    let timer = cpu::timer_interrupts();
    serial::print(format_args!("@interrupts timer={timer}\n"));
    serial::print(format_args!("@frames before={before} after={after}\n"));
    if before != after {
        log::error!(
            "{before} frames were free before the first domain and {after} are after the last; \
             the hypervisor has lost track of some, so the run counts as failed"
        );
    }
    let all_good = reports.iter().all(|report| report.verdict == Verdict::Good);
    if all_good && before == after {
        Verdict::Good
    } else {
        Verdict::Failed
    }
}

/// CPUs on which domains run: all, unless the self test has had the others do something else.
fn count_for_guests(command_line: &str) -> usize {
    if self_test::keeps_other_cpus(command_line) {
        1
    } else {
        cpu::count()
    }
}

fn report_boot<V: Vendor>(handover: &Handover, platform: &Platform, pool: &FramePool) {
    let (timer, reference) = platform.time_sources();
    serial::print(format_args!(
        "@boot vendor={} abi={VERSION} cpus={} tsc_hz={} reference={reference} timer={timer} \
         ram_bytes={} frames_free={}\n",
        V::NAME,
        cpu::count(),
        platform.time_page().frequency_hz,
        handover.ram_bytes,
        pool.free_frames(),
    ));
}

fn pool(handover: &Handover, memory: &'static DirectMap) -> Arc<FramePool> {
    let pool = FramePool::new(memory);
    for range in &handover.usable {
        pool.add(range.first_frame(), range.frame_count());
    }
    pool
}

fn loaded_modules(handover: &Handover) -> Vec<LoadedModule> {
    let modules = handover.modules.iter().map(|module| LoadedModule {
        name: module.name.clone(),
        start: module.start,
        length: module.length,
    });
    modules.collect()
}

fn read_plan(modules: &[LoadedModule], memory: &'static DirectMap) -> Result<Plan, Refusal> {
    let module = modules
        .iter()
        .find(|module| module.name == MODULE_NAME)
        .ok_or_else(|| {
            Refusal::new(
                "no-plan",
                "the boot loader has loaded no module named nuncio-plan; \
                 make one from a manifest with the host tool",
            )
        })?;
    let length = module.length as usize;
    let mut text = vec![0; length.min(MAX_PLAN_BYTES)];
    let bytes = FrameBytes::new(memory, module.start, length);
    if !bytes.read(0, &mut text) {
        let problem = "the plan lies outside usable memory; give the machine more memory";
        return Err(Refusal::new("bad-plan", problem));
    }
    Ok(Plan::parse(&text)?)
}

fn time_page(
    platform: &Platform,
    memory: &'static DirectMap,
    account: &Arc<Account>,
) -> Result<Arc<Memory>, Refusal> {
    let page = Memory::allocate(account, 1)?;
    let words = page
        .frame(0)
        .and_then(|frame| memory.words(frame))
        .ok_or(OutOfFrames::Memory)?;
    platform.time_page().publish(words);
    Ok(Arc::new(page))
}

fn address_limit() -> u64 {
    let physical_bits = CpuId::new()
        .get_processor_capacity_feature_info()
        .map_or(36, |info| info.physical_address_bits());
    1 << physical_bits.min(NESTED_ADDRESS_BITS)
}

/// Frames of modules that domains get; they come back as free frames when the domains end.
fn frames_of_given_modules(modules: &[LoadedModule], plan: &Plan) -> u64 {
    let given: Vec<&str> = plan
        .domains
        .iter()
        .flat_map(|domain| &domain.modules)
        .map(|module| module.boot_module.as_str())
        .collect();
    modules
        .iter()
        .filter(|module| given.contains(&module.name.as_str()))
        .map(|module| module.length.div_ceil(PAGE_BYTES))
        .sum()
}

impl From<Unsupported> for Refusal {
    fn from(unsupported: Unsupported) -> Self {
        Refusal {
            code: unsupported.code(),
            text: unsupported.to_string(),
        }
    }
}

impl From<OutOfFrames> for Refusal {
    fn from(_: OutOfFrames) -> Self {
        let text = "the machine has too little memory for the hypervisor; give it more";
        Refusal::new("too-little-memory", text)
    }
}

impl From<PlanError> for Refusal {
    fn from(error: PlanError) -> Self {
        Refusal {
            code: "bad-plan",
            text: format!("the plan: {error}"),
        }
    }
}

impl From<LaunchError> for Refusal {
    fn from(error: LaunchError) -> Self {
        Refusal {
            code: error.code(),
            text: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vt::RegisterLimits;

    const SVM: svm::Features = svm::Features {
        next_rip: false,
        flush_by_asid: false,
        asids: 16,
        limits: RegisterLimits {
            cr4: 0x7FF,
            linear_bits: 48,
        },
    };

    const NO_VMX: Unsupported = Unsupported::Absent(&vmx::EXTENSION);
    const NO_SVM: Unsupported = Unsupported::Absent(&svm::EXTENSION);

    fn refused(vmx: Unsupported, svm: Unsupported) -> Refusal {
        choose(Err(vmx), Err(svm)).unwrap_err()
    }

    #[test]
    fn what_the_vendor_of_this_cpu_lacks_is_named() {
        let plain = refused(NO_VMX, NO_SVM);
        assert!(plain.text.contains("neither Intel VT-x nor AMD SVM"));
        let amd = refused(NO_VMX, Unsupported::Lacks(&svm::EXTENSION, "nested paging"));
        assert!(amd.text.contains("nested paging"), "{}", amd.text);
        let lacks = Unsupported::Lacks(&vmx::EXTENSION, "unrestricted guests");
        let intel = refused(lacks, NO_SVM);
        assert!(intel.text.contains("unrestricted"), "{}", intel.text);
    }

    #[test]
    fn svm_is_found_where_vmx_is_not() {
        let found = choose(Err(NO_VMX), Ok(SVM));
        assert!(matches!(found, Ok(Virtualization::Svm(features)) if features == SVM));
    }
}
