//! The serial port as console.
#![forbid(unsafe_code)]

use super::Serial;
use crate::interface::{Console, Refusal};
use crate::pv::Place;

impl Console for Serial {
    fn write(&self, text: &[u8]) {
        // A terminal wants both ends of a line.
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) => {
                    Serial::write(self, line);
                    Serial::write(self, b"\r\n");
                }
                None => Serial::write(self, line),
            }
        }
    }

    fn flush(&self) {
        Serial::flush(self);
    }

    fn read(&self) -> Option<u8> {
        Serial::read(self)
    }
}

static SERIAL: spin::Once<Serial> = spin::Once::new();

pub(super) fn open(place: &Place) -> Result<&'static dyn Console, Refusal> {
    place.devices()?;
    let serial = Serial::find().ok_or(Refusal("there is no serial port at 0x3F8"))?;
    Ok(SERIAL.call_once(|| serial))
}
