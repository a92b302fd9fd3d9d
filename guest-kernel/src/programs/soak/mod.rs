//! `program=soak number=N count=COUNT seed=SEED seconds=SECONDS in=PORT out=PORT`: makes children at random,
//! answers them, and kills them, for some time.
//!
//! Every domain of this program has the next one's port. In each round it makes some children (`round`),
//! has to do with them until all that is due has come, destroys them, looks whether its account is as
//! before, and waits for the one before it. What is due has a deadline; one that passes is a wake-up that
//! was lost. Domain 0 says now and then how far it is, and after the time ends it for all.

pub mod chance;
#[cfg(feature = "bare-metal")]
mod children;
#[cfg(feature = "bare-metal")]
mod neighbours;
#[cfg(feature = "bare-metal")]
mod round;
#[cfg(feature = "bare-metal")]
mod script;
#[cfg(feature = "bare-metal")]
mod stage;

#[cfg(feature = "bare-metal")]
pub use run::run;

#[cfg(feature = "bare-metal")]
mod run {
    use nuncio_abi::{Error, QueryItem};

    use super::neighbours::Neighbours;
    use super::round::{Miss, Soak};
    use crate::hv::{rest_until, Client, Machine};
    use crate::machine::Native;
    use crate::println;
    use crate::programs::{Context, ExitCode, FAILED, GOOD};

    /// Rounds after which lists and page tables are as large as they get.
    const WARM_UP: u64 = 20;
    /// Handles after which the first places of a table have been used as often as they can, so that the
    /// table may have grown.
    const PLACE_USES: u64 = 65_535;
    /// How long what a child has had may take to come back, and how often that is looked at.
    const PATIENCE_NS: u64 = 5_000_000_000;
    const LOOK_AGAIN_NS: u64 = 100_000;
    /// How often domain 0 says how far it is.
    const HEARTBEAT_NS: u64 = 2_000_000_000;

    /// Runs the program.
    pub fn run(context: &mut Context<'_, Native>) -> ExitCode {
        let mut numbers = [0; 4];
        let names = [("number", 0), ("count", 1), ("seed", 1), ("seconds", 10)];
        for (place, (name, default)) in numbers.iter_mut().zip(names) {
            match context.number(name, default) {
                Ok(number) => *place = number,
                Err(code) => return code,
            }
        }
        let [number, count, seed, seconds] = numbers;
        let client = context.client();
        let ends_ns = context.machine.now_ns() + seconds * 1_000_000_000;
        let outcome = Neighbours::meet(context, number, count)
            .and_then(|neighbours| Soak::new(context.client(), neighbours, seed))
            .and_then(|soak| soak_until(&client, soak, ends_ns));
        match outcome {
            Ok(()) => GOOD,
            Err(why) => {
                println!("soak FAILED: {why:?}");
                FAILED
            }
        }
    }

    fn soak_until<'m>(
        client: &Client<'m, Native>,
        mut soak: Soak<'m>,
        ends_ns: u64,
    ) -> Result<(), Miss> {
        let machine = client.machine();
        let mut most = [0; 2];
        let mut heartbeat_ns = 0;
        loop {
            let now_ns = machine.now_ns();
            if now_ns >= heartbeat_ns && soak.is_first() {
                let (rounds, children) = soak.so_far();
                println!("soak: {rounds} rounds, {children} children");
                heartbeat_ns = now_ns + HEARTBEAT_NS;
            }
            let is_last = soak.round(now_ns >= ends_ns)?;
            let (rounds, _) = soak.so_far();
            if rounds <= WARM_UP {
                let used = used(client)?;
                most = [most[0].max(used[0]), most[1].max(used[1])];
            } else {
                let is_grown = soak.handles_made() / PLACE_USES > 0;
                let most_bytes = if is_grown { 2 * most[1] } else { most[1] };
                look_for_leak(client, [most[0], most_bytes])?;
            }
            if is_last {
                let (rounds, children) = soak.so_far();
                println!(
                    "soak: done, {rounds} rounds, {children} children, {}",
                    soak.counts()
                );
                return Ok(());
            }
        }
    }

    /// No more may be used than at most before. A child that has been on other CPUs is gone when those have left it.
    fn look_for_leak(client: &Client<'_, Native>, most: [u64; 2]) -> Result<(), Miss> {
        let machine = client.machine();
        let give_up_ns = machine.now_ns() + PATIENCE_NS;
        loop {
            let used = used(client)?;
            if used[0] <= most[0] && used[1] <= most[1] {
                return Ok(());
            }
            let now_ns = machine.now_ns();
            if now_ns > give_up_ns {
                return Err(Miss::Leak {
                    frames: [most[0], used[0]],
                    bytes: [most[1], used[1]],
                });
            }
            rest_until(machine, now_ns + LOOK_AGAIN_NS);
        }
    }

    fn used(client: &Client<'_, Native>) -> Result<[u64; 2], Error> {
        let domain = client.domain()?;
        let (frames, _) = domain.object().query(QueryItem::Usage)?;
        let (bytes, _) = domain.object().query(QueryItem::KernelUsage)?;
        Ok([frames, bytes])
    }
}
