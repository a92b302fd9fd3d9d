//! Events and timers, who can run because of them, and what is due next.

use nuncio_abi::Error;

use super::state::*;

impl Model {
    /// A message was queued, or the last sender has gone.
    pub fn announce(&mut self, port: Id) {
        let port = self.port(port);
        let Some((receiver, slot)) = port.receiver else {
            return;
        };
        if port.is_waited_for {
            port.is_waited_for = false;
        } else {
            self.post(receiver, slot, 1);
        }
    }

    pub fn post(&mut self, to: usize, slot: u64, bits: u64) {
        let domain = &mut self.domains[to];
        domain.upcall_due |= domain.page.post(slot as usize, bits);
    }

    pub fn notify(&mut self, event: Id, bits: u64) -> Result<(), Error> {
        match &mut self.objects[event] {
            Object::Event {
                waiter: Some((to, slot)),
                throttle,
                ..
            } => {
                if throttle.interval == 0 {
                    let (to, slot) = (*to, *slot);
                    self.post(to, slot, bits);
                } else {
                    throttle.held |= bits;
                    self.let_go(event);
                }
                Ok(())
            }
            _ => Err(Error::PeerGone),
        }
    }

    /// Posts what an event holds, if its interval is over.
    fn let_go(&mut self, event: Id) {
        let now = self.now;
        if let Object::Event {
            waiter: Some((to, slot)),
            throttle,
            ..
        } = &mut self.objects[event]
        {
            if throttle.due().is_some_and(|due| due <= now) {
                let (to, slot) = (*to, *slot);
                let bits = core::mem::take(&mut throttle.held);
                throttle.posted = Some(now);
                self.post(to, slot, bits);
            }
        }
    }

    /// Sets the bits of every timer that is due, and of every event whose interval is over.
    pub fn fire_timers(&mut self) {
        for id in 0..self.objects.len() {
            self.let_go(id);
            if let Object::Timer(timer) = &mut self.objects[id] {
                if timer.due.is_some_and(|due| due <= self.now) {
                    timer.due = None;
                    let (event, bits) = (timer.event, timer.bits);
                    let _ = self.notify(event, bits);
                }
            }
        }
    }

    /// Whether the vcpu has something to go on with.
    pub fn can_run(&self, who: usize) -> bool {
        let domain = &self.domains[who];
        let passed = |deadline: u64| deadline != NEVER && deadline <= self.now;
        let is_ready = domain.page.ready != 0;
        domain.is_alive()
            && domain.vcpu == Vcpu::Started
            && match &domain.sleeps {
                None => true,
                Some(Sleep::Halt) => domain.upcall_due,
                Some(Sleep::Wait { deadline }) => is_ready || passed(*deadline),
                Some(Sleep::Receive { port, deadline, .. }) => match &self.objects[*port] {
                    Object::Port(port) => {
                        let has_end = !port.queue.is_empty() || port.senders == 0;
                        let has_come = domain.arrived.is_some();
                        has_come || has_end || is_ready || passed(*deadline)
                    }
                    _ => false,
                },
                Some(Sleep::Send { port, deadline, .. }) => match &self.objects[*port] {
                    Object::Port(port) => {
                        let is_turn = port.has_room() && port.line.front() == Some(&who);
                        port.receiver.is_none() || is_turn || is_ready || passed(*deadline)
                    }
                    _ => false,
                },
                Some(Sleep::Call { deadline, .. }) => {
                    !matches!(domain.answer, Some(Answer::Awaited)) || passed(*deadline)
                }
            }
    }

    /// The next point in time at which something happens by itself.
    pub fn next_deadline(&self) -> Option<u64> {
        let asleep = (0..self.domains.len()).filter(|who| !self.can_run(*who));
        let sleepers = asleep
            .map(|who| &self.domains[who])
            .filter(|domain| domain.is_alive());
        let sleepers = sleepers.filter_map(|domain| match &domain.sleeps {
            // An event does not end its wait, but its vcpu may run for a moment to find that out,
            // and is told late then.
            Some(Sleep::Call { .. }) if domain.upcall_due => None,
            Some(Sleep::Wait { deadline })
            | Some(Sleep::Receive { deadline, .. })
            | Some(Sleep::Send { deadline, .. })
            | Some(Sleep::Call { deadline, .. }) => Some(*deadline),
            _ => None,
        });
        let timers = self.objects.iter().filter_map(|object| match object {
            Object::Timer(timer) => timer.due,
            Object::Event { throttle, .. } => throttle.due(),
            _ => None,
        });
        sleepers
            .chain(timers)
            .filter(|deadline| *deadline != NEVER)
            .min()
    }
}
