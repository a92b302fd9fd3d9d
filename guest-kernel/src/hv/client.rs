//! Finds the objects that the domain was given.

use nuncio_abi::{BootInfo, Call, Error, Handle, NamedHandle, ObjectKind, Rights, Version};

use super::{Domain, Event, Machine, Memory, Object, Port, Space, Vcpu};

/// The objects of this domain, by name.
pub struct Client<'m, M> {
    machine: &'m M,
    boot: &'m BootInfo,
}

impl<'m, M: Machine> Client<'m, M> {
    /// A client for the objects that the boot info lists.
    pub const fn new(machine: &'m M, boot: &'m BootInfo) -> Self {
        Client { machine, boot }
    }

    /// The machine.
    pub const fn machine(&self) -> &'m M {
        self.machine
    }

    /// Agrees on the ABI version; the answer is the hypervisor's.
    ///
    /// # Errors
    /// `WrongVersion` if the hypervisor does not serve this kernel.
    pub fn hello(&self) -> Result<Version, Error> {
        let [raw, ..] = self.machine.invoke(Call::HELLO)?;
        u32::try_from(raw)
            .map(Version::from_raw)
            .map_err(|_| Error::WrongVersion)
    }

    /// The port of that name on which the domain has these rights.
    ///
    /// # Errors
    /// For this and the following: `BadHandle` if the domain has nothing of that name, `WrongKind`
    /// if it is something else, `MissingRight`.
    pub fn port(&self, name: &str, rights: Rights) -> Result<Port<'m, M>, Error> {
        let entry = self.find(name, ObjectKind::Port, rights)?;
        Ok(Port::new(self.object(entry)?, entry.slot()))
    }

    /// The event of that name.
    pub fn event(&self, name: &str, rights: Rights) -> Result<Event<'m, M>, Error> {
        let entry = self.find(name, ObjectKind::Event, rights)?;
        Ok(Event::new(self.object(entry)?, entry.slot()))
    }

    /// The memory of that name.
    pub fn memory(&self, name: &str, rights: Rights) -> Result<Memory<'m, M>, Error> {
        let entry = self.find(name, ObjectKind::Memory, rights)?;
        Ok(Memory::new(self.object(entry)?))
    }

    /// The domain's own address space.
    pub fn space(&self) -> Result<Space<'m, M>, Error> {
        let entry = self.find("space", ObjectKind::Space, Rights::MAP)?;
        Ok(Space::new(self.object(entry)?))
    }

    /// The domain itself.
    pub fn domain(&self) -> Result<Domain<'m, M>, Error> {
        let entry = self.find("domain", ObjectKind::Domain, Rights::STOP)?;
        Ok(Domain::new(self.object(entry)?))
    }

    /// The vcpu with that number, counted from 0, of those with which the domain began.
    ///
    /// # Errors
    /// `BadArgument` if there is none.
    pub fn vcpu(&self, number: usize) -> Result<Vcpu<'m, M>, Error> {
        let raw = self.boot.vcpus().get(number).ok_or(Error::BadArgument)?;
        let handle = Handle::from_raw(*raw).ok_or(Error::BadHandle)?;
        Ok(Vcpu::new(Object::new(self.machine, handle)))
    }

    /// Every entry of the boot info that names an object of that kind with these rights.
    pub fn all(
        &self,
        kind: ObjectKind,
        rights: Rights,
    ) -> impl Iterator<Item = &'m NamedHandle> + use<'m, M> {
        self.boot.handles().iter().filter(move |entry| {
            entry.kind() == Some(kind) && entry.rights().is_some_and(|held| held.contains(rights))
        })
    }

    /// The entry of that name, kind and rights.
    ///
    /// A name may stand in the table several times: one handle to send by and one to receive by.
    fn find(&self, name: &str, kind: ObjectKind, rights: Rights) -> Result<&'m NamedHandle, Error> {
        let mut problem = Error::BadHandle;
        for entry in self.boot.handles() {
            if entry.name.as_str() != name {
                continue;
            }
            match (entry.kind(), entry.rights()) {
                (Some(found), Some(held)) if found == kind && held.contains(rights) => {
                    return Ok(entry);
                }
                (Some(found), _) if found == kind => problem = Error::MissingRight,
                _ if problem == Error::BadHandle => problem = Error::WrongKind,
                _ => {}
            }
        }
        Err(problem)
    }

    fn object(&self, entry: &NamedHandle) -> Result<Object<'m, M>, Error> {
        let handle = entry.handle().ok_or(Error::BadHandle)?;
        Ok(Object::new(self.machine, handle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hv::fake::{named, Script};

    #[test]
    fn an_object_is_found_by_name_kind_and_right() {
        let machine = Script::new([]);
        let boot = crate::hv::fake::boot_info(&[
            named("link", 1, ObjectKind::Port, Rights::SEND, 0),
            named("link", 2, ObjectKind::Port, Rights::RECEIVE, 4),
            named("free", 3, ObjectKind::Event, Rights::NOTIFY, 0),
        ]);
        let client = Client::new(&machine, &boot);
        assert_eq!(
            client
                .port("link", Rights::SEND)
                .unwrap()
                .object()
                .handle()
                .index(),
            1
        );
        assert_eq!(
            client
                .port("link", Rights::RECEIVE)
                .unwrap()
                .object()
                .handle()
                .index(),
            2
        );
        assert_eq!(
            client.port("free", Rights::SEND).err(),
            Some(Error::WrongKind)
        );
        assert_eq!(
            client.port("none", Rights::SEND).err(),
            Some(Error::BadHandle)
        );
        assert_eq!(
            client.event("free", Rights::WAIT).err(),
            Some(Error::MissingRight)
        );
    }

    #[test]
    fn a_vcpu_is_found_by_number() {
        let machine = Script::new([]);
        let mut boot = crate::hv::fake::boot_info(&[]);
        boot.vcpu_count = 2;
        boot.vcpus[1] = Handle::new(9, 3).raw();
        let client = Client::new(&machine, &boot);
        let second = client.vcpu(1).unwrap();
        assert_eq!(second.object().handle(), Handle::new(9, 3));
        assert_eq!(client.vcpu(2).err(), Some(Error::BadArgument));
    }

    #[test]
    fn hello_tells_the_hypervisors_version() {
        use nuncio_abi::{Reply, VERSION};
        let machine = Script::new([(Call::HELLO, Reply::Pair(VERSION.to_raw().into(), 0))]);
        let boot = BootInfo::EMPTY;
        assert_eq!(Client::new(&machine, &boot).hello(), Ok(VERSION));
    }
}
