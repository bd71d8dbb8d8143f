//! The one place for unsafe code: what the kernel offers and no safe wrapper does.
#![expect(unsafe_code, reason = "calls of the C library on memory that this module has looked up itself")]

use std::{fs, io, mem, os::fd::AsRawFd};

use mesh_core::reach::Unanswered;

/// Gives back the pages of our own code that start-up touched: parsing settings and state, making keys, building
/// tables. They stay in the page cache, shared with other proxies of the node, and come back one by one when they are
/// used again. Returns the bytes of the mappings, resident or not.
///
/// # Errors
/// When the kernel shows no mappings or refuses the advice; nothing has changed then.
pub fn release_code() -> io::Result<usize> {
    let executable = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mut released = 0;
    for (start, end) in maps.lines().filter_map(|line| code_mapping(line, &executable.to_string_lossy())) {
        let length = end - start;
        // SAFETY: the range is a whole mapping of this process, private, backed by the file that is being executed and
        // not writable, so that no page in it differs from the file. MADV_DONTNEED drops page table entries only; the
        // next access faults the same bytes in again, and the kernel refuses writes to a file that is being executed.
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

/// Start and end of a mapping of executable, not writable pages of `executable` (a line of `/proc/self/maps`, proc(5)).
fn code_mapping(line: &str, executable: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    if permissions != "r-xp" || !line.ends_with(executable) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    (start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_executable_is_released() {
        let line = |permissions: &str, file: &str| {
            code_mapping(&format!("55d0c000-55d0e000 {permissions} 0000a000 08:01 123   {file}"), "/usr/bin/mesh-proxy")
        };
        assert_eq!(line("r-xp", "/usr/bin/mesh-proxy"), Some((0x55d0_c000, 0x55d0_e000)));
        for (permissions, file) in
            [("rw-p", "/usr/bin/mesh-proxy"), ("r--p", "/usr/bin/mesh-proxy"), ("r-xp", "/lib/libc.so.6")]
        {
            assert_eq!(line(permissions, file), None, "{permissions} {file}");
        }
        assert_eq!(code_mapping("", "x"), None);
    }

    #[test]
    fn program_goes_on_after_its_code_was_released() {
        assert!(release_code().unwrap() > 0);
        assert_eq!("42".parse::<u8>().unwrap(), 42);
    }
}
