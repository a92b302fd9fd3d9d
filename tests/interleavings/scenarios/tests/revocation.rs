//! Taking memory back while others map it.

use hypervisor::mem::GuestPhysical;
use hypervisor::object::Object;
use interleavings::{explore, Guest, Machine};
use nuncio_abi::{Call, Create, Error, Handle, Rights, PAGE_BYTES};
use shuttle::thread::{self, JoinHandle};

const ACCESS: Rights = Rights::READ;

/// Where each of the mapping vcpus maps the memory, one place after the other.
const PLACES: [u64; 2] = [0x10_0000, 0x20_0000];

fn map(guest: &mut Guest, space: Handle, memory: Handle, address: u64) -> Result<(), Error> {
    let call = Call::Map {
        space,
        memory,
        address,
        offset: 0,
        length: PAGE_BYTES,
        access: ACCESS,
    };
    guest.call(call).map(|_| ())
}

fn unmap(guest: &mut Guest, space: Handle, address: u64) -> Result<(), Error> {
    let call = Call::Unmap {
        space,
        address,
        length: PAGE_BYTES,
    };
    guest.call(call).map(|_| ())
}

/// A vcpu that maps the memory in its space, takes it out again and maps it elsewhere. Returns the
/// guest and whether something of it was mapped at last, as far as it knows.
fn mapper(
    mut guest: Guest,
    memory: Handle,
    space: Handle,
    places: [u64; 2],
) -> JoinHandle<(Guest, bool)> {
    thread::spawn(move || {
        let [first, second] = places;
        let mapped = map(&mut guest, space, memory, first);
        let unmapped = unmap(&mut guest, space, first);
        let again = map(&mut guest, space, memory, second);
        let is_gone = |result| matches!(result, Ok(()) | Err(Error::PeerGone));
        assert!(is_gone(mapped) && is_gone(again), "{mapped:?} {again:?}");
        assert!(mapped.is_ok() || again.is_err(), "it came back");
        assert!(matches!(unmapped, Ok(()) | Err(Error::NotMapped)));
        (guest, again.is_ok())
    })
}

#[test]
fn memory_that_is_taken_back_is_mapped_nowhere_and_every_space_is_flushed() {
    explore(600, || {
        let machine = Machine::new(4);
        let free_frames = machine.free_frames();
        let mut maker = machine.guest();
        let (memory, _) = maker.create(Create::Memory { bytes: PAGE_BYTES });
        // Two vcpus in spaces of their own, and a third one that maps into the space of the second.
        let guests = [(); 3].map(|()| machine.guest());
        let spaces = [0, 1, 1].map(|index| guests[index].domain.space.clone());
        let [first, second] = PLACES;
        let places = [PLACES, PLACES, [first + 0x1000, second + 0x1000]];
        let mut jobs = guests.into_iter().zip(spaces.clone()).zip(places);
        let mappers = [(); 3].map(|()| {
            let ((guest, space), places) = jobs.next().unwrap();
            let own = maker.give(memory, ACCESS, &guest);
            let space = guest.hold(Object::Space(space), Rights::MAP);
            mapper(guest, own, space, places)
        });
        maker.close(memory).unwrap();
        let mapped = mappers.map(|mapper| mapper.join().unwrap());
        for ((_guest, was_mapped), (space, places)) in mapped.iter().zip(spaces.iter().zip(places))
        {
            for address in places {
                let found = space.with_page(GuestPhysical(address), ACCESS, |_| ());
                assert!(found.is_none(), "{address:#x} is still mapped");
            }
            assert_eq!(space.mapped_bytes(), 0);
            // Once for what the mapper has taken out itself, if anything; and once for this.
            assert!(!was_mapped || space.flushes() >= 2);
        }
        drop((maker, mapped, spaces));
        assert_eq!(machine.free_frames(), free_frames, "frames are missing");
    });
}
