//! Text for people.

/// Where text goes, and comes from.
pub trait Console: Sync {
    /// Writes text. It may wait for a while; what cannot be written then is lost.
    fn write(&self, text: &[u8]);

    /// Writes what has been kept back until its line ends.
    fn flush(&self) {}

    /// Takes a byte that somebody has typed.
    fn read(&self) -> Option<u8> {
        None
    }
}
