//! What a vcpu takes along from the scheduler of one CPU to that of another.

use nuncio_abi::Deadline;

use super::slot::{Payer, Slot, State};
use super::{Allowance, Priority, Refused, Scheduler, VcpuId};

/// How a vcpu is scheduled, and what it does while it is on its way.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    priority: Priority,
    ceiling: Priority,
    /// What is left of its budget, in the period that has begun: all CPUs have one clock.
    allowance: Option<Allowance>,
    activity: Activity,
    has_upcall: bool,
    /// What it has overdrawn its slices by; not more than 0.
    overdrawn_ns: i32,
}

/// What a vcpu does that has not got the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// It has not been started.
    None,
    /// It waits for the CPU, or for its budget.
    Ready,
    Asleep(Deadline),
}

impl Scheduler {
    /// Whether a vcpu can go to another CPU: its budget is its own, and nobody else's.
    ///
    /// # Errors
    /// If it is not: who pays, and whoever is paid for, are on one CPU.
    pub fn can_depart(&self, id: VcpuId) -> Result<(), Refused> {
        let slot = self.slot(id).copied().unwrap_or(Slot::ABSENT);
        let is_others = |payer: Payer| payer.vcpu != id || payer.life != slot.life;
        let dependants = self.ledgers.get(id.0 as usize);
        let has_dependants = dependants.is_some_and(|ledger| ledger.dependants != 0);
        if slot.payer.is_some_and(is_others) || has_dependants {
            return Err(Refused);
        }
        Ok(())
    }

    /// A vcpu that has not got the CPU is not this one's any more. What it has lent or was lent is over.
    pub fn depart(&mut self, id: VcpuId, now_ns: u64) -> Standing {
        // What others have used of its budget is charged before it is looked at.
        self.end_lending(id);
        // Whoever runs may do so on its budget.
        let somebody_runs = self.is_running(self.turn.id);
        if somebody_runs {
            self.settle(now_ns);
        }
        let slot = self.slot(id).copied().unwrap_or(Slot::ABSENT);
        let standing = Standing {
            priority: slot.priority,
            ceiling: slot.ceiling,
            allowance: slot.payer.and_then(|payer| self.allowance(payer)).copied(),
            activity: match slot.state {
                State::Retired => Activity::None,
                State::Ready | State::Running | State::Parked => Activity::Ready,
                State::Blocked => {
                    let deadline = self.deadlines.get(id).map_or(Deadline::NEVER, Deadline);
                    Activity::Asleep(deadline)
                }
            },
            has_upcall: slot.upcall,
            overdrawn_ns: slot.slice_left_ns.min(0),
        };
        self.retire(id);
        if somebody_runs {
            self.settle(now_ns);
        }
        standing
    }

    /// A vcpu that has departed elsewhere is this CPU's, and goes on with what it did there.
    pub fn arrive(&mut self, id: VcpuId, standing: Standing) {
        self.reserve(id);
        // One of that number may have been here, and never run.
        self.retire(id);
        if let Some(slot) = self.slot_mut(id) {
            slot.priority = standing.priority;
            slot.ceiling = standing.ceiling;
            slot.upcall = standing.has_upcall;
            slot.slice_left_ns = standing.overdrawn_ns;
            let life = slot.life;
            slot.payer = standing.allowance.map(|_| Payer { vcpu: id, life });
        }
        if let Some(ledger) = self.ledger_mut(id) {
            ledger.allowance = standing.allowance;
        }
        self.publish(id);
        match standing.activity {
            Activity::None => {}
            Activity::Ready => self.queue_up(id),
            Activity::Asleep(deadline) => self.block(id, deadline),
        }
        self.attend_again();
    }
}

#[cfg(test)]
mod tests;
