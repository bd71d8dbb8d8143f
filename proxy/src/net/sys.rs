//! The one place for unsafe code: what the kernel offers and no safe wrapper does.
#![expect(unsafe_code, reason = "calls of the C library on memory that this module has looked up itself")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs, io, mem,
    os::fd::AsRawFd,
    sync::atomic::{AtomicIsize, Ordering},
};

use mesh_core::reach::Unanswered;

/// Gives back the pages of programs and constants, ours and the libraries', that start-up touched: parsing settings and
/// state, making keys, building tables. They stay in the page cache, shared with other proxies of the node, and come back
/// as they are used again. Returns the bytes of the mappings, resident or not.
///
/// # Errors
/// When the kernel shows no mappings or refuses the advice; nothing has changed then.
pub fn release_code() -> io::Result<usize> {
    let mappings = fs::read_to_string("/proc/self/smaps")?;
    let mut released = 0;
    for (start, end) in unchanged_mappings(&mappings) {
        let length = end - start;
        // SAFETY: the range is a whole mapping of this process, private, backed by a file and not writable, and the kernel
        // counts no page in it that differs from the file; programs and libraries are replaced, not written to.
        // MADV_DONTNEED drops page table entries only; the next access faults the same bytes in again.
        if unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
        released += length;
    }
    Ok(released)
}

/// What the kernel sent in vain on a TCP connection since its peer was heard last.
///
/// # Errors
/// When the kernel does not say.
pub fn unanswered(connection: &impl AsRawFd) -> io::Result<Unanswered> {
    let mut info = mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = mem::size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that large and outlives the call, and takes
    // any descriptor: one that is no TCP socket is an error.
    let result = unsafe {
        let into = info.as_mut_ptr().cast();
        libc::getsockopt(connection.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every field is an integer, for which zeros, and whatever the kernel wrote over them, are valid.
    let info = unsafe { info.assume_init() };
    Ok(Unanswered { retransmissions: info.tcpi_retransmits, probes: info.tcpi_probes })
}

/// The allocator of the system, counted: what this process has asked for and not given back.
#[derive(Debug)]
pub struct Counted;

/// Bytes that all threads together have asked for, except for what each has not told yet.
static ASKED_FOR: AtomicIsize = AtomicIsize::new(0);
/// A thread tells of what it asked for and gave back when that is so much, bytes: threads hardly ever meet at the counter.
const UNTOLD_MAX: isize = 32 * 1024;

thread_local! {
    static UNTOLD: Untold = const { Untold(Cell::new(0)) };
}

/// What a thread has not told. It tells the rest when it ends: threads for blocking calls come and go, and what each of them
/// kept for itself would make the count wrong by more and more.
struct Untold(Cell<isize>);

impl Drop for Untold {
    fn drop(&mut self) {
        ASKED_FOR.fetch_add(self.0.take(), Ordering::Relaxed);
    }
}

/// Bytes that this process has asked for and not given back; 0 where [`Counted`] is not its allocator.
pub fn asked_for() -> usize {
    usize::try_from(ASKED_FOR.load(Ordering::Relaxed)).unwrap_or_default()
}

fn count(change: isize) {
    let told = UNTOLD.try_with(|Untold(untold)| {
        let sum = untold.get() + change;
        if sum.abs() < UNTOLD_MAX {
            untold.set(sum);
        } else {
            untold.set(0);
            ASKED_FOR.fetch_add(sum, Ordering::Relaxed);
        }
    });
    if told.is_err() {
        // The thread is about to end.
        ASKED_FOR.fetch_add(change, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to the allocator of the system as it came, which keeps the contract; counting neither
// allocates nor unwinds (of thread locals the standard library asks the system's allocator itself).
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Start and end of each mapping of a file that cannot be written and of which no page was changed before that became so,
/// as relocation does (`/proc/self/smaps`, proc(5)).
fn unchanged_mappings(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        match (fields.next(), fields.next()) {
            (Some("Anonymous:"), Some(changed)) => found.extend(candidate.take().filter(|_| changed == "0")),
            (Some(range), Some("r-xp" | "r--p")) => {
                let is_file = fields.nth(3).is_some_and(|name| name.starts_with('/'));
                candidate = addresses(range).filter(|_| is_file);
            }
            (Some(name), _) if !name.ends_with(':') => candidate = None,
            _ => {}
        }
    }
    found
}

fn addresses(range: &str) -> Option<(usize, usize)> {
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_its_file_is_released() {
        let mapping = |permissions: &str, file: &str, changed: u32| {
            let text = format!(
                "55d0c000-55d0e000 {permissions} 0000a000 08:01 123   {file}\nSize:  8 kB\nAnonymous:  {changed} kB\n"
            );
            unchanged_mappings(&text)
        };
        let whole = vec![(0x55d0_c000, 0x55d0_e000)];
        assert_eq!(mapping("r-xp", "/usr/bin/mesh-proxy", 0), whole);
        assert_eq!(mapping("r--p", "/lib/libc.so.6", 0), whole);
        // Relocated, writable, no file.
        for (permissions, file, changed) in [
            ("r--p", "/usr/bin/mesh-proxy", 8),
            ("rw-p", "/usr/bin/mesh-proxy", 0),
            ("r-xp", "[vdso]", 0),
            ("r--p", "", 0),
        ] {
            assert_eq!(mapping(permissions, file, changed), [], "{permissions} {file} {changed}");
        }
        assert_eq!(unchanged_mappings("1-2 r-xp 0 08:01 1 /a\n3-4 rw-p 0 08:01 1 /a\nAnonymous: 0 kB\n"), []);
    }

    #[test]
    fn thread_that_ends_tells_what_it_has_not_told() {
        // Nobody else counts here: the allocator of tests is another.
        let before = ASKED_FOR.load(Ordering::Relaxed);
        for _ in 0..10 {
            std::thread::spawn(|| count(100)).join().unwrap();
        }
        assert_eq!(ASKED_FOR.load(Ordering::Relaxed) - before, 1_000);
    }

    #[test]
    fn program_goes_on_after_its_code_was_released() {
        assert!(release_code().unwrap() > 0);
        assert_eq!("42".parse::<u8>().unwrap(), 42);
    }
}
