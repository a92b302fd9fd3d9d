//! Sizes as people write them: `16 MiB`, `64 KiB`, `4096`.

use super::limits;

/// Reads a size in bytes; the error says what a size looks like.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits_end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(not_a_size(text)),
    };
    let count: u64 = digits.parse().map_err(|_| not_a_size(text))?;
    count.checked_mul(factor).ok_or_else(|| not_a_size(text))
}

/// Reads the size of a memory: a whole number of pages, not zero and not beyond the limit.
pub fn parse_pages(text: &str) -> Result<u64, String> {
    let bytes = parse(text)?;
    if bytes > limits::MEMORY_BYTES {
        return Err(format!(
            "{text:?} is more than {} GiB, the limit; use less",
            limits::MEMORY_BYTES >> 30
        ));
    }
    if bytes == 0 || bytes % limits::PAGE != 0 {
        return Err(format!(
            "{text:?} is not a whole number of pages; use a multiple of {} bytes above zero",
            limits::PAGE
        ));
    }
    Ok(bytes)
}

fn not_a_size(text: &str) -> String {
    format!("{text:?} is not a size; write a whole number and KiB, MiB or GiB, such as \"16 MiB\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(parse("4096"), Ok(4096));
        assert_eq!(parse("64 KiB"), Ok(65536));
        assert_eq!(parse("16MiB"), Ok(16 << 20));
        assert_eq!(parse(" 2 GiB "), Ok(2 << 30));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "MiB",
            "16 MB",
            "-1",
            "1.5 MiB",
            "99999999999 GiB",
            "1 2",
            "１",
        ] {
            assert!(parse(text).unwrap_err().contains("is not a size"), "{text}");
        }
    }

    #[test]
    fn pages() {
        assert_eq!(parse_pages("4 KiB"), Ok(4096));
        assert_eq!(parse_pages("1024 GiB"), Ok(1 << 40));
        assert!(parse_pages("1025 GiB")
            .unwrap_err()
            .contains("1024 GiB, the limit"));
        for text in ["0", "4095", "1 KiB"] {
            assert!(parse_pages(text).unwrap_err().contains("pages"), "{text}");
        }
    }
}
