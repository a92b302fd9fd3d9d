//! QEMU's monitor (QMP, the QEMU Machine Protocol), for what comes to a machine from outside.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::{json, Value};

/// A monitor that takes longer to answer is broken.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A connection to the monitor of a running machine.
pub struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects and leaves the negotiation mode, in which the monitor takes no other command.
    pub fn connect(socket: &Path) -> Result<Self, Failed> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        let mut monitor = Monitor {
            stream: BufReader::new(stream),
        };
        match monitor.execute("qmp_capabilities")? {
            true => Ok(monitor),
            false => Err("the machine was gone before the monitor could be asked".into()),
        }
    }

    /// Executes a command without arguments; `false` if the machine is gone.
    pub fn execute(&mut self, command: &str) -> Result<bool, Failed> {
        let request = json!({ "execute": command });
        if writeln!(self.stream.get_mut(), "{request}").is_err() {
            return Ok(false);
        }
        // Other lines are the greeting and events.
        while let Some(line) = self.line()? {
            if line.get("return").is_some() {
                return Ok(true);
            }
            if let Some(error) = line.get("error") {
                return Err(format!("the monitor refused {command}: {error}").into());
            }
        }
        Ok(false)
    }

    fn line(&mut self) -> Result<Option<Value>, Failed> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(serde_json::from_str(&line)?)),
            // The machine ended between a request and its answer.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
