//! What all objects have in common: a handle, and questions that it answers.

use nuncio_abi::{Call, Error, Handle, ObjectKind, QueryItem, Rights, MAX_VALUES};

use super::Gate;

/// An object of any kind, as far as a handle says.
pub struct Object<'m, M> {
    machine: &'m M,
    handle: Handle,
}

// A derive would ask for `M: Clone`, and there is only one machine.
impl<M> Clone for Object<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Object<'_, M> {}

impl<'m, M: Gate> Object<'m, M> {
    /// The object that a handle names.
    pub const fn new(machine: &'m M, handle: Handle) -> Self {
        Object { machine, handle }
    }

    /// The handle.
    pub const fn handle(&self) -> Handle {
        self.handle
    }

    /// The machine that it lives on.
    pub const fn machine(&self) -> &'m M {
        self.machine
    }

    /// Makes a call.
    #[inline(always)]
    pub fn invoke(&self, call: Call) -> Result<[u64; MAX_VALUES], Error> {
        self.machine.invoke(call)
    }

    /// Asks about the object.
    ///
    /// # Errors
    /// `BadHandle`, or `BadArgument` if an object of this kind does not answer that question.
    pub fn query(&self, item: QueryItem) -> Result<(u64, u64), Error> {
        let handle = self.handle;
        let [first, second, ..] = self.invoke(Call::Query { handle, item })?;
        Ok((first, second))
    }

    /// What the object is and what the holder of the handle may do.
    ///
    /// # Errors
    /// `BadHandle`; `BadArgument` if the answer is outside the tables of this version.
    pub fn kind(&self) -> Result<(ObjectKind, Rights), Error> {
        let (kind, rights) = self.query(QueryItem::Kind)?;
        let kind = ObjectKind::from_number(kind).ok_or(Error::BadArgument)?;
        let rights = Rights::from_bits(rights).ok_or(Error::BadArgument)?;
        Ok((kind, rights))
    }

    /// Drops the handle.
    ///
    /// # Errors
    /// `BadHandle` if it has been dropped before.
    pub fn close(self) -> Result<(), Error> {
        let handle = self.handle;
        self.invoke(Call::Close { handle }).map(|_| ())
    }
}

/// Declares a typed object: an [`Object`], and the slot in the vcpu page if it has one.
macro_rules! typed_object {
    ($(#[$attribute:meta])* $name:ident $($field:ident)?) => {
        $(#[$attribute])*
        pub struct $name<'m, M> {
            object: Object<'m, M>,
            $($field: usize,)?
        }

        impl<'m, M: Machine> $name<'m, M> {
            /// The object that a handle names, whatever it is.
            pub const fn new(object: Object<'m, M> $(, $field: usize)?) -> Self {
                $name { object $(, $field)? }
            }

            /// The object behind it, for what all objects can do.
            pub const fn object(&self) -> &Object<'m, M> {
                &self.object
            }
        }
    };
}

pub(super) use typed_object;
