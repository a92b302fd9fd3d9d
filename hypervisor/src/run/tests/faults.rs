//! What ends a domain, what is handed back to the guest, and what its neighbour notices: nothing.

use alloc::vec;

use nuncio_abi::StopReason;

use super::machine::{image, script, try_run};
use super::talking::{receive, send, PAIR};
use super::{run, stop, Outcome};
use crate::mem::GuestPhysical;
use crate::vt::{Access, ControlRegisters, Exit, GuestException};

/// The first domain causes the exit, the second must not notice.
fn beside_a_healthy_domain(exit: Exit) -> Outcome {
    run(
        "nuncio-plan 1\n\
         domain bad image=image memory=4194304 vcpus=1 background=no\n\
         domain good image=image memory=4194304 vcpus=1 background=no\n",
        vec![
            script(move |guest| guest.exit(exit).map(|_| ())),
            script(|guest| {
                guest.compute(20_000_000)?;
                stop(guest, 0)
            }),
        ],
    )
}

#[test]
fn broken_guests_end_with_their_reason_and_their_neighbours_go_on() {
    let cases = [
        (Exit::Shutdown, StopReason::TripleFault, 0),
        (Exit::BadState, StopReason::BadState, 0),
        (
            Exit::port(0x3F8 << 16, 1, [0; 3]),
            StopReason::PortIo,
            0x3F8,
        ),
        (Exit::Other { code: 0x65 }, StopReason::Unsupported, 0x65),
        (
            Exit::Memory {
                address: GuestPhysical(0xFEE0_0000),
                access: Access::Write,
            },
            StopReason::BadMemory,
            0xFEE0_0000,
        ),
    ];
    for (exit, reason, detail) in cases {
        let outcome = beside_a_healthy_domain(exit);
        assert_eq!(outcome.ending(0), (reason, detail));
        assert_eq!(outcome.ending(1), (StopReason::Exited, 0));
    }
}

#[test]
fn what_a_guest_may_not_do_is_an_exception_in_the_guest() {
    let cases = [
        (Exit::Call { privilege: 3 }, GuestException::InvalidOpcode),
        (Exit::ForbiddenInstruction, GuestException::InvalidOpcode),
        (Exit::RefusedInstruction, GuestException::GeneralProtection),
        (
            Exit::MsrRead { index: 0x1B },
            GuestException::GeneralProtection,
        ),
        (
            Exit::MsrWrite {
                index: 0x1B,
                value: 0,
            },
            GuestException::GeneralProtection,
        ),
        (
            Exit::Exception {
                vector: 17,
                error_code: Some(0),
            },
            GuestException::Reflected {
                vector: 17,
                error_code: Some(0),
            },
        ),
    ];
    for (exit, exception) in cases {
        run(
            "nuncio-plan 1\ndomain a image=image memory=4194304 vcpus=1 background=no\n",
            vec![script(move |guest| {
                assert_eq!(guest.exit(exit)?.injected, [exception]);
                stop(guest, 0)
            })],
        );
    }
}

#[test]
fn efer_is_read_and_written_by_the_rules() {
    const EFER: u32 = 0xC000_0080;
    run(
        "nuncio-plan 1\ndomain a image=image memory=4194304 vcpus=1 background=no\n",
        vec![script(|guest| {
            guest.set_control(ControlRegisters {
                cr0: 1 << 31,
                cr4: 0,
                efer: 0xD01,
                ..ControlRegisters::default()
            });
            let read = guest.exit(Exit::MsrRead { index: EFER })?;
            assert_eq!(read.answer, Some(0xD01));
            guest.exit(Exit::MsrWrite {
                index: EFER,
                value: 0xD00,
            })?;
            let read = guest.exit(Exit::MsrRead { index: EFER })?;
            assert_eq!(read.answer, Some(0xD00));
            stop(guest, 0)
        })],
    );
}

#[test]
fn a_dead_senders_mail_is_still_delivered_and_then_the_receiver_is_told() {
    let outcome = run(
        PAIR,
        vec![
            script(|guest| {
                send(guest, "mail", b"last words")?.unwrap();
                guest.exit(Exit::Shutdown).map(|_| ())
            }),
            script(|guest| {
                guest.compute(1_000_000)?;
                receive(guest, nuncio_abi::Deadline::NEVER)?.unwrap();
                let gone = receive(guest, nuncio_abi::Deadline::NEVER)?;
                assert_eq!(gone, Err(nuncio_abi::Error::PeerGone));
                stop(guest, 0)
            }),
        ],
    );
    assert_eq!(outcome.ending(0).0, StopReason::TripleFault);
    assert_eq!(outcome.ending(1), (StopReason::Exited, 0));
}

#[test]
fn what_cannot_be_launched_is_refused_by_name() {
    let plan = |memory: u64, image: &str| {
        alloc::format!(
            "nuncio-plan 1\ndomain a image={image} memory={memory} vcpus=1 background=no\n"
        )
    };
    let refused = |plan: &str, image: &[u8]| {
        let error = try_run(plan, vec![], image).err().expect("a refusal");
        (error.code(), alloc::string::ToString::to_string(&error))
    };
    let (code, text) = refused(&plan(4 << 20, "none"), &image());
    assert_eq!(code, "bad-domain");
    assert!(
        text.starts_with("domain a: ") && text.contains("none"),
        "{text}"
    );
    assert_eq!(
        refused(&plan(1 << 40, "image"), &image()).0,
        "too-little-memory"
    );
    assert_eq!(
        refused(&plan(0x10_1000, "image"), &image()).0,
        "too-little-memory"
    );
    assert_eq!(
        refused(&plan(4 << 20, "image"), &image()[..100]).0,
        "bad-image"
    );
    let mut old = image();
    let version = old.len() - 16;
    old[version] ^= 0x40;
    assert_eq!(refused(&plan(4 << 20, "image"), &old).0, "bad-image");
}
