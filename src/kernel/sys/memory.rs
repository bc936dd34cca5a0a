//! Giving memory back that an idle process does not need.

/// Gives back what only the start of this process has touched: for one that will now wait for hours.
pub fn rest() {
    release_program();
    release_stack();
}

/// Unmaps the pages of this program's code and constants; what is needed again comes back by page faults, from the page
/// cache. Resident are then a few pages instead of all that have been touched.
fn release_program() {
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
    let page = page_size();
    let (start, end) = (start.next_multiple_of(page), end / page * page);
    if start < end {
        // SAFETY: the range is the program's headers, constants and code: mapped from its file and never written
        // (what is relocated lies behind `etext`), so each page reads the same when it comes back.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Forgets the part of the stack that deeper calls have left behind, of the first thread: of another one it is not
/// known here where its stack ends.
fn release_stack() {
    /// What is looked at of it; that much is free below the first thread's stack, whatever its limit is.
    const DEPTH: usize = 1 << 20;
    if !rustix::thread::gettid().eq(&rustix::process::getpid()) {
        return;
    }
    let here = 0_u8;
    let page = page_size();
    // Two pages stay for the call itself.
    let end = (&raw const here as usize) / page * page - 2 * page;
    // SAFETY: nothing lives below the stack pointer but what the calls of this function need, and that is spared.
    // What is not mapped there is passed over.
    unsafe {
        libc::madvise(
            (end - DEPTH) as *mut libc::c_void,
            DEPTH,
            libc::MADV_DONTNEED,
        )
    };
}

/// The size of a page, in bytes.
///
/// From the C library, which knows it since the program was loaded. rustix asks the kernel, by a call of Linux 6.4 or
/// else by `/proc/self/auxv`, and panics where neither works: a process that is not dumpable may not read that file.
pub fn page_size() -> usize {
    // SAFETY: takes no memory of ours.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size)
        .ok()
        .filter(|size| size.is_power_of_two())
        .unwrap_or(4096)
}

/// Gives the free part of the heap back to the kernel. For a process that needed much memory for a while.
pub fn release_heap() {
    // SAFETY: takes no memory of ours; the allocator locks itself.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_page_is_as_large_as_the_kernel_says() {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let line = smaps
            .lines()
            .find(|line| line.starts_with("KernelPageSize"));
        let kilobytes = super::page_size() / 1024;
        assert!(line.unwrap().ends_with(&format!(" {kilobytes} kB")));
    }

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
