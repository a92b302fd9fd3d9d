//! Starts a bed's process and follows it to its end: every line is handed on as it comes, and
//! whatever happens the process is gone when [`follow`] returns.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::serial::Lines;
use crate::beds::{Machine, TestBed};
use crate::verdict::{Kind, Verdict};

/// How a bed's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this status.
    Exited(i32),
    /// By a signal that did not come from here.
    Signalled(i32),
    /// Killed here: the time was up.
    TimedOut,
    /// Killed here: nothing was heard for so long.
    Silent(Duration),
    /// Killed here: the user interrupted the run.
    Interrupted,
}

impl Ending {
    /// The exit status, if there is one.
    pub fn status(&self) -> Option<i32> {
        match self {
            Ending::Exited(status) => Some(*status),
            _ => None,
        }
    }
}

/// What came of following a bed.
pub struct Followed {
    /// How its process ended.
    pub ending: Ending,
    /// The last thing that it said on its standard error.
    pub bed_error: String,
}

/// How often a bed is started that fails for a reason that passes.
const MOST_STARTS: usize = 5;

/// A line from the process.
pub enum Output {
    /// From the serial line (standard output).
    Serial(String),
    /// From the bed itself (standard error).
    Bed(String),
}

enum Event {
    Line(Output),
    Closed,
    Interrupted,
}

/// Lines on their way; a machine that writes faster than they are shown has to wait.
const QUEUED_LINES: usize = 256;
/// How often the process is looked at when it is silent.
const TICK: Duration = Duration::from_millis(50);
/// How long output may still arrive after the process has ended.
const DRAIN: Duration = Duration::from_millis(500);

/// Where an interrupt by the user is sent: to the process that is followed now, or was last.
static INTERRUPTS: Mutex<Option<SyncSender<Event>>> = Mutex::new(None);

fn interrupts() -> MutexGuard<'static, Option<SyncSender<Event>>> {
    INTERRUPTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a process may take.
pub struct Limits {
    /// All of it.
    pub run: Duration,
    /// Between two lines; for ever if there is none.
    pub silence: Option<Duration>,
    /// To end behind its last line.
    pub stop: Duration,
}

/// Starts `machine` on a bed and follows it; again, if the bed has failed for a reason that passes. `take` is
/// handed every line of the serial output and says whether it was the last.
pub fn follow_bed(
    bed: &dyn TestBed,
    machine: &Machine,
    limits: &Limits,
    mut take: impl FnMut(String) -> bool,
) -> Result<Followed, Verdict> {
    let mut starts = 0;
    loop {
        starts += 1;
        let mut command = bed.command(machine);
        command.current_dir(&machine.run_dir);
        let (mut bed_error, mut is_last) = (String::new(), false);
        let ending = follow(command, limits, |output| {
            match output {
                Output::Serial(text) => is_last = take(text),
                Output::Bed(text) if bed.is_message(&text) => bed_error = text,
                Output::Bed(_) => {}
            }
            is_last
        });
        let ending = ending.map_err(|error| cannot_start(bed, &error))?;
        let mut status = ending.status().into_iter();
        let may_again = status.any(|status| bed.may_start_again(status, &bed_error));
        if !may_again || starts == MOST_STARTS {
            return Ok(Followed { ending, bed_error });
        }
    }
}

fn cannot_start(bed: &dyn TestBed, error: &io::Error) -> Verdict {
    Verdict::new(
        Kind::BedFailed,
        format!(
            "cannot start {}: {error}; check the installation of the test bed {}",
            bed.program().display(),
            bed.name()
        ),
    )
}

/// Runs `command` within these limits; `take` is handed every line and says whether it was the last.
pub fn follow(
    mut command: Command,
    limits: &Limits,
    mut take: impl FnMut(Output) -> bool,
) -> io::Result<Ending> {
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: Ctrl-C reaches only this tool, which then ends the machine itself.
    command.process_group(0);
    let (sender, events) = sync_channel(QUEUED_LINES);
    *interrupts() = Some(sender.clone());
    // Only the first call sets the handler, which serves the later ones too.
    let _ = ctrlc::set_handler(|| {
        // Sending may have to wait, without the lock.
        let sender = interrupts().clone();
        let _ = sender.map(|sender| sender.send(Event::Interrupted));
    });
    let mut child = command.spawn()?;
    read_lines(child.stdout.take(), Output::Serial, sender.clone());
    read_lines(child.stderr.take(), Output::Bed, sender);
    let ending = wait(&mut child, &events, limits, &mut take);
    // The process may be gone already; then both calls have nothing to do.
    let _ = child.kill();
    let _ = child.wait();
    ending
}

fn wait(
    child: &mut Child,
    events: &Receiver<Event>,
    limits: &Limits,
    take: &mut impl FnMut(Output) -> bool,
) -> io::Result<Ending> {
    let mut heard = Instant::now();
    let mut deadline = heard + limits.run;
    let (mut open, mut ended) = (2, None::<(ExitStatus, Instant)>);
    loop {
        if let Some((status, at)) = ended {
            if open == 0 || at.elapsed() > DRAIN {
                return Ok(ending(status));
            }
        }
        if ended.is_none() && Instant::now() >= deadline {
            return Ok(Ending::TimedOut);
        }
        let silence = limits.silence.filter(|silence| heard.elapsed() >= *silence);
        if let (None, Some(silence)) = (ended, silence) {
            return Ok(Ending::Silent(silence));
        }
        match events.recv_timeout(TICK) {
            Ok(Event::Line(line)) => {
                heard = Instant::now();
                if take(line) {
                    deadline = deadline.min(Instant::now() + limits.stop);
                }
            }
            Ok(Event::Closed) => open -= 1,
            Ok(Event::Interrupted) => return Ok(Ending::Interrupted),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK),
        }
        if ended.is_none() {
            ended = child.try_wait()?.map(|status| (status, Instant::now()));
        }
    }
}

fn ending(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exited(code),
        (None, signal) => Ending::Signalled(signal.unwrap_or(0)),
    }
}

/// Reads a stream to its end in a thread of its own.
fn read_lines(
    stream: Option<impl Read + Send + 'static>,
    sort: fn(String) -> Output,
    sender: SyncSender<Event>,
) {
    thread::spawn(move || {
        let Some(mut stream) = stream else { return };
        let (mut lines, mut buffer) = (Lines::default(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let bytes = buffer.get(..count).unwrap_or_default();
            // Sending fails when nobody follows any more; the thread then drains the stream.
            lines.feed(bytes, |line| drop(sender.send(Event::Line(sort(line)))));
        }
        if let Some(line) = lines.rest() {
            let _ = sender.send(Event::Line(sort(line)));
        }
        let _ = sender.send(Event::Closed);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit_ms: u64) -> (Ending, Vec<String>) {
        shell_that_speaks(script, limit_ms, None)
    }

    fn shell_that_speaks(
        script: &str,
        limit_ms: u64,
        silence_ms: Option<u64>,
    ) -> (Ending, Vec<String>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut lines = Vec::new();
        let limits = Limits {
            run: Duration::from_millis(limit_ms),
            silence: silence_ms.map(Duration::from_millis),
            stop: Duration::from_millis(200),
        };
        let ending = follow(command, &limits, |output| {
            let (Output::Serial(line) | Output::Bed(line)) = output;
            let is_last = line == "last";
            lines.push(line);
            is_last
        });
        (ending.unwrap(), lines)
    }

    #[test]
    fn who_says_nothing_for_too_long_is_stopped() {
        let (ending, lines) = shell_that_speaks("echo a; sleep 20", 10_000, Some(300));
        assert_eq!(ending, Ending::Silent(Duration::from_millis(300)));
        assert_eq!(lines, ["a"]);
        let speaks = "for i in 1 2 3 4 5 6; do echo a; sleep 0.1; done";
        let (ending, lines) = shell_that_speaks(speaks, 10_000, Some(400));
        assert_eq!((ending, lines.len()), (Ending::Exited(0), 6));
    }

    #[test]
    fn the_status_and_every_line_arrive() {
        let (ending, lines) = shell("echo a; printf b; exit 33", 10_000);
        assert_eq!(ending, Ending::Exited(33));
        assert_eq!(lines, ["a", "b"]);
        assert_eq!(shell("kill -9 $$", 10_000).0, Ending::Signalled(9));
    }

    #[test]
    fn time_is_limited_even_for_a_chatterbox_and_its_children() {
        let start = Instant::now();
        assert_eq!(shell("sleep 60", 200).0, Ending::TimedOut);
        assert_eq!(shell("while :; do echo x; done", 200).0, Ending::TimedOut);
        assert_eq!(shell("echo last; sleep 60", 30_000).0, Ending::TimedOut);
        // A child that keeps the pipe open does not keep the run open.
        assert_eq!(shell("sleep 5 & exit 7", 30_000).0, Ending::Exited(7));
        assert!(start.elapsed() < Duration::from_secs(4));
    }
}
