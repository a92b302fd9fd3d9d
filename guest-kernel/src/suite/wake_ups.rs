//! No wake-up is lost: two threads, on two CPUs if there are, wake each other in turn.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::{spawn_on, Judgement, PATIENCE_NS};
use crate::{system, task};

const ROUNDS: u64 = 2000;

pub(super) fn judge() -> Judgement {
    let Some(me) = task::current() else {
        return Err(String::from("no thread runs this"));
    };
    let ball = Arc::new(AtomicU64::new(0));
    let other_cpu = system::online_cpus() - 1;
    let other = {
        let ball = ball.clone();
        spawn_on(other_cpu, "partner", move || {
            for round in 0..ROUNDS {
                // It plays when the number is odd.
                while ball.load(SeqCst) != 2 * round + 1 {
                    task::park();
                }
                ball.store(2 * round + 2, SeqCst);
                task::unpark(&me);
            }
        })?
    };
    let give_up_ns = system::now_ns() + PATIENCE_NS;
    for round in 0..ROUNDS {
        ball.store(2 * round + 1, SeqCst);
        task::unpark(&other);
        while ball.load(SeqCst) != 2 * round + 2 {
            task::park_until(give_up_ns);
            if system::now_ns() > give_up_ns {
                return Err(format!("round {round} did not come back"));
            }
        }
    }
    task::join(&other);
    Ok(format!("{ROUNDS} rounds with CPU {other_cpu}"))
}
