//! A round: some children at random, all that is due from them, and their ends.

use alloc::vec::Vec;
use core::fmt;

use nuncio_abi::{Error, StopReason, PAGE_BYTES};

use super::chance::Chance;
use super::children::{self, Due, Running, ENDED, NOTIFIED};
use super::neighbours::{Neighbours, News};
use super::stage::Place;
use crate::hv::{Client, Received, Timer};
use crate::machine::Native;

/// Children of a round, at most.
const MOST_CHILDREN: usize = 6;
/// Set when the timer is due.
const TIMER: u64 = 1 << 32;
/// A timer is due, and a child is killed, within so many nanoseconds.
const SHORT_NS: u64 = 2_000_000;
/// Where a running child gets memory for a moment.
const FOR_A_MOMENT: u64 = 0x1_0000;

/// What went wrong.
#[derive(Debug)]
#[expect(dead_code, reason = "read by people, through Debug")]
pub enum Miss {
    Refused(Error),
    /// A deadline has passed for which something was due.
    LostWakeUp {
        round: u64,
        due: &'static str,
    },
    /// A child has ended otherwise than it should.
    Ended {
        round: u64,
        reason: StopReason,
        detail: u64,
    },
    /// A message has another content than its sender has given it.
    Content {
        round: u64,
        found: u64,
        expected: u64,
    },
    /// More is paid than after the first rounds: at most, and found.
    Leak {
        frames: [u64; 2],
        bytes: [u64; 2],
    },
}

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Miss::Refused(error)
    }
}

/// What was done so far.
#[derive(Default)]
pub struct Counts {
    answered: u64,
    received: u64,
    notified: u64,
    killed: u64,
    taken_back: u64,
    moved: u64,
    timers: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} answered, {} received, {} notified, {} killed, {} taken back, {} moved, {} timers",
            self.answered,
            self.received,
            self.notified,
            self.killed,
            self.taken_back,
            self.moved,
            self.timers
        )
    }
}

/// All that a domain of this program has.
pub struct Soak<'m> {
    client: Client<'m, Native>,
    neighbours: Neighbours<'m>,
    places: Vec<Place<'m>>,
    running: Vec<Running<'m>>,
    timer: Timer<'m, Native>,
    timer_is_due: bool,
    chance: Chance,
    round: u64,
    children: u64,
    handles: u64,
    counts: Counts,
}

impl<'m> Soak<'m> {
    /// Makes what stays for all rounds.
    pub fn new(
        client: Client<'m, Native>,
        neighbours: Neighbours<'m>,
        seed: u64,
    ) -> Result<Self, Miss> {
        let places = (0..MOST_CHILDREN).map(|_| Place::new(&client));
        Ok(Soak {
            places: places.collect::<Result<_, _>>()?,
            running: Vec::with_capacity(MOST_CHILDREN),
            timer: client.create_timer(&neighbours.bell, TIMER)?,
            timer_is_due: false,
            client,
            chance: Chance::new(seed, neighbours.number),
            neighbours,
            round: 0,
            children: 0,
            handles: 0,
            counts: Counts::default(),
        })
    }

    /// Whether this is the domain that speaks for all.
    pub const fn is_first(&self) -> bool {
        self.neighbours.number == 0
    }

    /// Rounds and children so far.
    pub const fn so_far(&self) -> (u64, u64) {
        (self.round, self.children)
    }

    /// Handles that this domain was given so far.
    pub const fn handles_made(&self) -> u64 {
        self.handles
    }

    /// What was done so far.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// One round; whether it was the last.
    pub fn round(&mut self, is_over: bool) -> Result<bool, Miss> {
        self.round += 1;
        let count = 1 + self.chance.below(MOST_CHILDREN as u64) as usize;
        for place in 0..count {
            self.make(place)?;
        }
        if self.chance.below(2) == 0 {
            self.timer
                .arm(self.neighbours.soon(self.chance.below(SHORT_NS)))?;
            self.timer_is_due = true;
        }
        while !self.is_settled() {
            self.disturb()?;
            self.wait()?;
        }
        while let Some(child) = self.running.pop() {
            child.destroy()?;
        }
        self.neighbours.round_is_done(self.round, is_over)?;
        while !self.neighbours.have_all_done(self.round) {
            self.wait()?;
        }
        // Nobody is left who could set more.
        self.neighbours.forget_bits()?;
        Ok(self.neighbours.is_last(self.round))
    }

    fn make(&mut self, number: usize) -> Result<(), Miss> {
        let Some(place) = self.places.get(number) else {
            return Ok(());
        };
        let (client, neighbours) = (&self.client, &self.neighbours);
        let child = children::make(
            client,
            neighbours,
            place,
            &mut self.chance,
            (self.round, number),
        )?;
        self.running.push(child);
        self.children += 1;
        // The domain, its space, its vcpu, and what it is lent.
        self.handles += 4;
        Ok(())
    }

    /// Whether all that is due has come, and all that are to be killed have been.
    fn is_settled(&self) -> bool {
        !self.timer_is_due && self.running.iter().all(Running::is_settled)
    }

    /// Does something to a child while it runs.
    fn disturb(&mut self) -> Result<(), Miss> {
        let alive = self.running.iter().filter(|child| !child.has_ended).count();
        let number = self.chance.below(alive as u64) as usize;
        let mut running = self.running.iter_mut().filter(|child| !child.has_ended);
        let Some(child) = running.nth(number) else {
            return Ok(());
        };
        match self.chance.below(5) {
            0 if child.dies => {
                child.has_ended = true;
                child.kill()?;
                self.counts.killed += 1;
            }
            1 => {
                if let Some(lent) = child.lent.take() {
                    lent.object().close()?;
                    self.counts.taken_back += 1;
                }
            }
            2 => {
                let memory = self.client.create_memory(PAGE_BYTES)?;
                self.handles += 1;
                child.map_for_a_moment(&memory, FOR_A_MOMENT)?;
                memory.object().close()?;
            }
            3 => {
                let cpu = self.chance.below(self.neighbours.count);
                child.move_to(cpu as u8)?;
                self.counts.moved += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits for the next news: not long if there is something to do meanwhile.
    fn wait(&mut self) -> Result<(), Miss> {
        let is_busy = self.running.iter().any(Running::is_to_be_disturbed);
        let deadline = match is_busy {
            true => self.neighbours.soon(self.chance.below(SHORT_NS)),
            false => self.neighbours.patience(),
        };
        match self.neighbours.news(deadline)? {
            News::Bits(bits) => self.take_bits(bits),
            News::Message(received) => self.take_message(&received),
            News::Nothing if is_busy => Ok(()),
            News::Nothing => Err(self.lost()),
        }
    }

    fn lost(&self) -> Miss {
        let due = self.running.iter().find_map(Running::due);
        let due = match due {
            _ if self.timer_is_due => "a timer",
            Some(due) => due,
            None => "the neighbour",
        };
        let round = self.round;
        Miss::LostWakeUp { round, due }
    }

    fn take_bits(&mut self, bits: u64) -> Result<(), Miss> {
        if bits & TIMER != 0 && self.timer_is_due {
            self.timer_is_due = false;
            self.counts.timers += 1;
        }
        for (number, child) in self.running.iter_mut().enumerate() {
            if bits & NOTIFIED << number != 0 && child.notified() {
                self.counts.notified += 1;
            }
            if bits & ENDED << number != 0 {
                child.ended(self.round)?;
            }
        }
        Ok(())
    }

    fn take_message(&mut self, received: &Received) -> Result<(), Miss> {
        if self.neighbours.is_from_previous(received) {
            return Ok(());
        }
        let mut running = self.running.iter_mut();
        let child = running.find(|child| child.badge == received.badge);
        let answers = match child
            .map(|child| child.takes(received, self.round))
            .transpose()?
        {
            // A child of a neighbour's, or of a round that is over.
            None | Some(Due::Answer) => true,
            Some(Due::Nothing) => {
                self.counts.received += 1;
                false
            }
            Some(Due::Whatever) => self.chance.below(2) == 0,
        };
        if answers {
            self.counts.answered += 1;
            self.neighbours.answer(received);
        }
        Ok(())
    }
}
