//! From the memory map to page tables and a heap.

use crate::boot::{ram, Handover};
use crate::mm::{active, MapProblem, Mapper};

/// Maps the RAM and what `map_more` maps, and hands the free RAM to `add_heap` (start, bytes).
pub(super) fn take(
    handover: &Handover,
    map_more: impl FnOnce(&mut Mapper<'_>) -> Result<(), MapProblem>,
    mut add_heap: impl FnMut(usize, usize),
) {
    if let Err(problem) = active::install(handover, map_more) {
        panic!("cannot map the RAM: {problem:?}");
    }
    ram::free(handover, &[active::image_range()], |range| {
        add_heap(range.start as usize, (range.end - range.start) as usize);
    });
}
