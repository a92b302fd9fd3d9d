//! Whether this host's KVM can run a hypervisor as its guest.
//!
//! `/dev/kvm` alone does not say so: inside many virtual machines there is one that works, without
//! any virtualization for its guests. The CPU's flags are what tells.

use std::fs::{self, File};

/// What is known of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The flags of the first CPU, as in `/proc/cpuinfo`.
    pub cpu_flags: String,
    /// Whether `/dev/kvm` can be opened for reading and writing, or why not.
    pub device: Result<(), String>,
    /// The parameter `nested` of KVM's module for this CPU, if it can be read.
    pub nested: Option<String>,
}

/// A flag of the CPU, and where KVM's module for it says whether guests get it, too.
const VENDORS: [(&str, &str, &str); 2] = [
    (
        "vmx",
        "kvm_intel",
        "/sys/module/kvm_intel/parameters/nested",
    ),
    ("svm", "kvm_amd", "/sys/module/kvm_amd/parameters/nested"),
];

impl Host {
    /// Looks at this host.
    pub fn read() -> Self {
        let cpu_flags = flags(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()).to_owned();
        let vendor = vendor(&cpu_flags);
        let device = File::options().read(true).write(true).open("/dev/kvm");
        Host {
            device: device.map(drop).map_err(|error| error.to_string()),
            nested: vendor.and_then(|(_, _, path)| fs::read_to_string(path).ok()),
            cpu_flags,
        }
    }

    /// What stands in the way of nested guests, and what to do about it.
    pub fn obstacle(&self) -> Option<String> {
        let Some((flag, module, _)) = vendor(&self.cpu_flags) else {
            return Some(
                "the CPU of this host has neither of the flags vmx and svm; \
                 use another bed, or a host with hardware virtualization"
                    .to_owned(),
            );
        };
        if let Err(error) = &self.device {
            return Some(format!(
                "this host's CPU has {flag}, but /dev/kvm cannot be opened: {error}; load {module}, \
                 and become a member of the group kvm"
            ));
        }
        // Y or 1; without the parameter the flag has to do.
        match self.nested.as_deref().map(str::trim) {
            None | Some("Y" | "y" | "1") => None,
            Some(_) => Some(format!(
                "this host's KVM keeps {flag} from its guests; load {module} with nested=1"
            )),
        }
    }
}

fn vendor(cpu_flags: &str) -> Option<(&'static str, &'static str, &'static str)> {
    let has = |flag: &str| cpu_flags.split_whitespace().any(|word| word == flag);
    VENDORS.into_iter().find(|(flag, ..)| has(flag))
}

/// The flags of the first CPU. A line `vmx flags` has other ones.
fn flags(cpuinfo: &str) -> &str {
    let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.trim() == "flags");
    found.map_or("", |(_, flags)| flags.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obstacle(cpu_flags: &str, device: Result<(), &str>, nested: Option<&str>) -> String {
        let host = Host {
            cpu_flags: cpu_flags.to_owned(),
            device: device.map_err(str::to_owned),
            nested: nested.map(str::to_owned),
        };
        host.obstacle().unwrap_or_default()
    }

    #[test]
    fn both_the_flag_and_the_device_are_needed() {
        for flags in ["fpu vmx lm", "svm", "fpu svm"] {
            assert_eq!(obstacle(flags, Ok(()), None), "");
        }
        // A device without the flag is that of a machine whose KVM has no nested guests.
        for flags in ["", "fpu lm hypervisor", "svm_lock vmx_x xsvm"] {
            assert!(obstacle(flags, Ok(()), None).contains("neither"), "{flags}");
        }
        let denied = obstacle("fpu svm", Err("Permission denied"), None);
        assert!(denied.contains("Permission denied") && denied.contains("kvm_amd"));
    }

    #[test]
    fn the_parameter_of_the_module_decides_where_it_can_be_read() {
        for nested in ["Y\n", "1\n", "1"] {
            assert_eq!(obstacle("vmx", Ok(()), Some(nested)), "");
        }
        for nested in ["N\n", "0\n", ""] {
            let text = obstacle("vmx", Ok(()), Some(nested));
            assert!(text.contains("kvm_intel with nested=1"), "{text}");
        }
    }

    #[test]
    fn the_flags_are_those_of_the_first_cpu() {
        let cpuinfo = "processor\t: 0\nvmx flags\t: vnmi ept\nflags\t\t: fpu vme\nbugs\t: x\n\n\
                       processor\t: 1\nflags\t\t: svm\n";
        assert_eq!(flags(cpuinfo), "fpu vme");
        assert_eq!(flags(""), "");
    }
}
