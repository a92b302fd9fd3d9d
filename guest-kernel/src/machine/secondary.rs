//! The vcpus beside the first: each with stacks, a task state segment, a vcpu page and message buffers of its
//! own, in the same address space.
//!
//! A vcpu that is stopped from outside is stopped between any two instructions, and so keeps the locks that it
//! has. Whoever stops one must know that it holds none then: what runs on it prints nothing and allocates
//! nothing.
#![forbid(unsafe_code)]

use nuncio_abi::Error;
use spin::Once;

use super::Native;
use crate::hv::{Client, Start, Vcpu};
use crate::instructions::{control_registers, halt_for_ever};
use crate::trap::{self, Stacks, VCPUS};

/// What runs on a vcpu. When it returns the vcpu stops itself.
pub type Entry = fn(&'static Native);

static SEATS: [Once<Seat>; VCPUS] = [const { Once::new() }; VCPUS];

/// What a vcpu needs to begin.
struct Seat {
    machine: &'static Native,
    stacks: Stacks,
    entry: Entry,
}

/// A vcpu beside the first, ready to run.
pub struct Secondary {
    seat: &'static Seat,
    vcpu: Vcpu<'static, Native>,
}

impl Secondary {
    /// Gives the vcpu with that number what it needs to run `entry`. That is for good.
    ///
    /// # Errors
    /// `BadArgument` if there is no such vcpu; `WrongState` if it has been prepared; `QuotaExhausted` if
    /// there is no room for its stacks.
    pub fn prepare(number: usize, entry: Entry) -> Result<Secondary, Error> {
        let machine = Native::current().ok_or(Error::WrongState)?;
        let boot = machine.boot_info();
        let vcpu = Client::new(machine, boot).vcpu(number)?;
        let own = machine.install_other(number)?;
        let place = SEATS.get(number).filter(|_| number != 0);
        let place = place.ok_or(Error::BadArgument)?;
        if place.is_completed() {
            return Err(Error::WrongState);
        }
        let stacks = Stacks::allocate().ok_or(Error::QuotaExhausted)?;
        let seat = place.call_once(|| Seat {
            machine: own,
            stacks,
            entry,
        });
        Ok(Secondary { seat, vcpu })
    }

    /// Lets it run, from the beginning.
    ///
    /// # Errors
    /// `WrongState` if it runs; `QuotaExhausted`.
    pub fn start(&self) -> Result<(), Error> {
        let [_, page_table, _] = control_registers();
        self.vcpu.start(Start {
            entry: begin as *const () as u64,
            // As after a call: a multiple of 16 less the return address.
            stack: self.seat.stacks.main.top() - 8,
            argument: self.seat.machine.number as u64,
            page_table,
        })
    }

    /// Takes it from its CPU, wherever it is. Its locks stay locked.
    ///
    /// # Errors
    /// `WrongState` if it does not run.
    pub fn stop(&self) -> Result<(), Error> {
        self.vcpu.stop()
    }
}

/// The first that a vcpu does, with no descriptor tables yet.
extern "C" fn begin(number: u64) -> ! {
    let seat = SEATS.get(number as usize).and_then(Once::get);
    let Some(seat) = seat else { halt_for_ever() };
    let machine = seat.machine;
    trap::load(machine.number, &seat.stacks);
    (seat.entry)(machine);
    let client = Client::new(machine, machine.boot_info());
    // It does not come back from this.
    let _ = client.vcpu(machine.number).map(|own| own.stop());
    halt_for_ever()
}
