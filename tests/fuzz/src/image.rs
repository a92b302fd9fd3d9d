//! Guest images.

use hypervisor::image::{Image, MAX_SEGMENTS};

const RAM_BYTES: u64 = 4 << 20;

/// Allowed: an error with a text; or an image whose segments lie in the file and in the RAM, do not
/// overlap, and hold the entry.
pub fn image(data: &[u8]) -> bool {
    let image = match Image::parse(data, RAM_BYTES) {
        Ok(image) => image,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    assert!((1..=MAX_SEGMENTS).contains(&image.segments.len()));
    let mut ranges = Vec::new();
    for segment in &image.segments {
        assert!(segment.file.start <= segment.file.end && segment.file.end <= data.len());
        assert!(segment.file.len() as u64 <= segment.memory_bytes);
        let end = segment.address.0.checked_add(segment.memory_bytes).unwrap();
        assert!(segment.memory_bytes > 0 && end <= RAM_BYTES);
        ranges.push((segment.address.0, end));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    assert_eq!(ranges.last().map(|range| range.1), Some(image.end.0));
    assert!(ranges
        .iter()
        .any(|range| (range.0..range.1).contains(&image.entry.0)));
    true
}
