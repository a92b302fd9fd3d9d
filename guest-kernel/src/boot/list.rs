//! A list with room for a number of things that is known beforehand: there is no heap yet.
#![forbid(unsafe_code)]

/// Up to `ROOM` things.
#[derive(Clone, Debug)]
pub struct List<T, const ROOM: usize> {
    items: [T; ROOM],
    used: usize,
}

impl<T: Copy, const ROOM: usize> List<T, ROOM> {
    /// An empty list; `filler` stands where nothing is.
    pub const fn new(filler: T) -> Self {
        List {
            items: [filler; ROOM],
            used: 0,
        }
    }

    /// Adds one; `None` if there is no room.
    pub fn push(&mut self, item: T) -> Option<()> {
        *self.items.get_mut(self.used)? = item;
        self.used += 1;
        Some(())
    }

    /// What has been added.
    pub fn as_slice(&self) -> &[T] {
        self.items.get(..self.used).unwrap_or_default()
    }
}
