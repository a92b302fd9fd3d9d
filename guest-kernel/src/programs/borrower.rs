//! `program=borrower`: maps the page that comes in a message and counts in a word of it for ever,
//! without another call.
//!
//! Needs a port to receive from; the message is one word, the number of its own word, with a handle of
//! the memory. See `program=lender`. What ends it is a write to memory that has been taken back.

use core::sync::atomic::Ordering;

use nuncio_abi::{Deadline, Error, ObjectKind, Rights};

use super::loan::FILLED;
use super::{Context, ExitCode, FAILED};
use crate::hv::{Client, Memory, Object, Port};
use crate::instructions::enable_interrupts;
use crate::machine::{Native, WindowView};
use crate::println;

/// Runs the program.
pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
    let (view, index) = match borrow(&context.client()) {
        Ok(borrowed) => borrowed,
        Err(error) => {
            println!("borrower: nothing is lent: {error}");
            return FAILED;
        }
    };
    let Some(word) = view.words(0).and_then(|words| words.get(index)) else {
        println!("borrower: the page has no word {index}");
        return FAILED;
    };
    let address = core::ptr::from_ref(word).addr();
    println!("borrower: writes to {address}");
    // On some test bed nothing stops a guest that takes no interrupts.
    enable_interrupts();
    let mut count = FILLED;
    loop {
        count += 1;
        word.store(count, Ordering::Relaxed);
    }
}

/// The page that is lent, and the number of the word in it.
fn borrow(client: &Client<'_, Native>) -> Result<(WindowView, usize), Error> {
    let machine = client.machine();
    let entry = client.all(ObjectKind::Port, Rights::RECEIVE).next();
    let entry = entry.ok_or(Error::BadHandle)?;
    let handle = entry.handle().ok_or(Error::BadHandle)?;
    let port = Port::new(Object::new(machine, handle), entry.slot());
    let received = port.receive(Deadline::NEVER)?;
    let handle = received.handles.iter().next().ok_or(Error::BadHandle)?;
    let memory = Memory::new(Object::new(machine, handle));
    let view = memory.attach(&client.space()?, Rights::READ | Rights::WRITE)?;
    // The mapping stays; with a handle left, the frame would not become free when it is taken back.
    memory.object().close()?;
    let [index, ..] = received.message.words;
    Ok((view, index as usize))
}
