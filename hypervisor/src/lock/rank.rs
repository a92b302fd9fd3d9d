//! The order of locks. Who holds one takes only locks of a higher level; of those that share a level nobody
//! holds two.
//!
//! ARCHITECTURE.md has the same table; a test compares them.

/// What a lock guards.
pub trait Rank {
    /// Its place in [`ALL`].
    const PLACE: usize;
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Where it stands in the order.
    pub level: u8,
    /// What it guards, in a few words.
    pub name: &'static str,
}

macro_rules! ranks {
    ($($level:literal $rank:ident $name:literal)*) => {
        #[allow(clippy::enum_variant_names, reason = "the names of the ranks")]
        enum Place {
            $($rank,)*
        }

        $(
            #[doc = concat!("The rank of the lock of ", $name, ".")]
            pub struct $rank;

            impl Rank for $rank {
                const PLACE: usize = Place::$rank as usize;
            }
        )*

        /// All ranks, in their order.
        pub const ALL: &[Row] = &[$(Row { level: $level, name: $name },)*];
    };
}

ranks! {
    1 HandleTable "a handle table"
    // From a maker's table to that of what it has made: no two domains lock each other's.
    2 MadeHandleTable "the handle table of a domain whose maker's is locked"
    3 Domains "the domains by number"
    4 Vcpus "the vcpus of a domain"
    5 VcpuNumbers "the numbers of vcpus"
    6 Port "a port"
    6 Event "an event"
    6 Monitor "a monitor"
    7 Sleeper "what a vcpu waits for"
    8 Space "a space"
    9 Lending "the list of where a memory is mapped"
    10 Console "a line of a console"
    10 Timers "the timers of a CPU"
    10 Requests "the requests to a CPU"
    10 Orphans "the orphans of a CPU"
    10 Launched "what a CPU is given before the run"
    10 Reports "the reports"
    10 Idle "the count of idle CPUs"
    10 FlushLog "the log of flushes"
    11 Frames "the free frames"
}

const _: () = assert!(ALL.len() <= 64);
