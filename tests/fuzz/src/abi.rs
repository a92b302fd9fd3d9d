//! Registers and words that guests fill as they like.

use nuncio_abi::{
    Call, CallToken, Error, Handle, Header, ImageNote, Message, RawCall, Rights, Transfer, Verb,
};

fn word(data: &[u8], index: usize) -> u64 {
    let mut bytes = [0; 8];
    for (byte, source) in bytes.iter_mut().zip(data.iter().skip(8 * index)) {
        *byte = *source;
    }
    u64::from_le_bytes(bytes)
}

/// Allowed: `unknown-verb` for numbers past the table; else `bad-argument`, `bad-handle`, or a call
/// whose registers are the very same, so that no bit was dropped.
pub fn call(data: &[u8]) -> bool {
    let raw = RawCall {
        verb: word(data, 0),
        arguments: std::array::from_fn(|index| word(data, 1 + index)),
    };
    let is_verb = Verb::from_number(raw.verb).is_some();
    match Call::decode(&raw) {
        Ok(call) => {
            assert_eq!(call.encode(), raw);
            assert_eq!(call.verb().number(), raw.verb);
            true
        }
        Err(Error::UnknownVerb) => {
            assert!(!is_verb);
            false
        }
        Err(error) => {
            assert!(
                matches!(error, Error::BadArgument | Error::BadHandle),
                "{error:?}"
            );
            assert!(is_verb);
            false
        }
    }
}

/// Allowed: `bad-argument`, or a value that is the same word again and within the limits of a
/// message. A message that is cut from words has zeros past its length.
pub fn message(data: &[u8]) -> bool {
    let raw = word(data, 0);
    if let Ok(transfer) = Transfer::from_raw(raw) {
        assert_eq!(transfer.to_raw(), raw);
        assert!(Rights::from_bits(raw >> 32).is_some());
    }
    if let Some(handle) = Handle::from_raw(raw) {
        assert_eq!(Handle::new(handle.index(), handle.generation()).raw(), raw);
    }
    let token = CallToken::from_header(raw).map_or(0, CallToken::to_header);
    assert_eq!(token, raw & !0xFFFF_FFFF);
    if let Some(note) = ImageNote::from_descriptor(data) {
        assert!(data.len() >= 16 && note.entry == word(data, 1));
    }
    let bytes = Message::from_bytes(data);
    assert_eq!(bytes.is_some(), data.len() <= 64);
    if let Some(message) = bytes {
        assert_eq!(&message.to_bytes()[..data.len()], data);
    }
    let length = data.first().copied().unwrap_or(0);
    match Message::from_words(length, (0..12).map(|index| word(data, index))) {
        Some(message) => {
            let past = &message.to_bytes()[usize::from(length)..];
            assert!(past.iter().all(|byte| *byte == 0));
        }
        None => assert!(length > 64),
    }
    match Header::from_raw(raw) {
        Ok(header) => {
            assert_eq!(header.to_raw(), raw);
            assert!(header.length <= 64 && header.handles <= 4);
            assert!(header.in_memory || header.words() <= 3);
            true
        }
        Err(error) => {
            assert_eq!(error, Error::BadArgument);
            false
        }
    }
}
