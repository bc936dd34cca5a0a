//! Giving memory back that an idle process does not need.

/// Lets go of the pages of this program's own code and constants. They are the file's, unchanged, and stay in
/// the page cache; what is needed again is mapped again, page fault by page fault. For a process that
/// has done its work and will now wait for hours: it counts with a few pages instead of with
/// everything that its start has touched.
pub fn release_program() {
    unsafe extern "C" {
        /// The linker's: where the program begins, and where its code ends.
        static __executable_start: u8;
        static etext: u8;
    }
    // Reading the addresses only; neither symbol is a real object.
    let (start, end) = (
        &raw const __executable_start as usize,
        &raw const etext as usize,
    );
    let page = rustix::param::page_size();
    let (start, end) = (start.next_multiple_of(page), end / page * page);
    if start < end {
        // SAFETY: the range is the program's headers, constants and code: mapped from its file and never written
        // (what is relocated lies behind `etext`), so each page reads the same when it comes back.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Gives the kernel back what of the heap is free. For a process that needed much for a while.
pub fn release_heap() {
    // SAFETY: takes no memory of ours; the allocator locks itself.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_goes_on_without_its_pages() {
        for round in 0..3 {
            super::release_program();
            assert_eq!(
                format!("{round} {:?}", [1.5, f64::NAN]),
                format!("{round} [1.5, NaN]")
            );
        }
    }
}
