//! What a lender and its borrowers write to a page that is lent, and what it shows.
//!
//! Each borrower has a word of its own in the page and counts up in it. See `program=lender`.

use core::sync::atomic::{AtomicU64, Ordering};

/// The words of a page.
pub type Page = [AtomicU64; 512];

/// What every word is before a borrower counts on from there. No count comes back to 0, which is
/// what fresh memory holds.
pub const FILLED: u64 = 1 << 32;

/// Fills a page before it is lent.
pub fn fill(page: &Page) {
    for word in page {
        word.store(FILLED, Ordering::Relaxed);
    }
}

/// Whether the borrower of that word has begun to count; `None` if the page has no such word.
pub fn has_begun(page: &Page, word: usize) -> Option<bool> {
    let count = page.get(word)?.load(Ordering::Relaxed);
    Some(count != FILLED)
}

/// The first of these words that is not 0, and what it is.
pub fn first_change(words: &[AtomicU64]) -> Option<(usize, u64)> {
    let values = words.iter().map(|word| word.load(Ordering::Relaxed));
    values.enumerate().find(|(_, value)| *value != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn fresh() -> Page {
        [const { AtomicU64::new(0) }; 512]
    }

    #[test]
    fn a_borrower_is_seen_in_its_own_word() {
        let page = fresh();
        fill(&page);
        assert_eq!(has_begun(&page, 2), Some(false));
        page[1].store(FILLED + 1, Ordering::Relaxed);
        assert_eq!(has_begun(&page, 2), Some(false));
        page[2].store(FILLED + 1, Ordering::Relaxed);
        assert_eq!(has_begun(&page, 2), Some(true));
        assert_eq!(has_begun(&page, 512), None);
    }

    #[test]
    fn a_late_write_is_seen_wherever_it_is() {
        let page = fresh();
        assert_eq!(first_change(&page), None);
        page[511].store(FILLED, Ordering::Relaxed);
        assert_eq!(first_change(&page), Some((511, FILLED)));
        assert_eq!(first_change(&page[..511]), None);
        page[3].store(7, Ordering::Relaxed);
        assert_eq!(first_change(&page), Some((3, 7)));
    }
}
