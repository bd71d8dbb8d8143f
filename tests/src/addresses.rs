//! Loopback addresses that no other test uses at the same time: a block of 127.x.y.0/24 for each mesh.

use std::net::{Ipv4Addr, TcpListener};

/// Last octet and port by which a block is reserved: the socket ends with the process, however it ends.
const RESERVATION: (u8, u16) = (254, 9);
/// Blocks tried before giving up; far more than tests that run at the same time.
const TRIES: u32 = 2_000;

/// A block of addresses, held until dropped.
pub struct Block {
    second: u8,
    third: u8,
    _reservation: TcpListener,
}

impl Block {
    /// Reserves a free block.
    ///
    /// # Panics
    /// When none is free.
    pub fn reserve() -> Block {
        for _ in 0..TRIES {
            let (second, third) = (rand::random_range(16..=250), rand::random_range(0..=250));
            let address = Ipv4Addr::new(127, second, third, RESERVATION.0);
            if let Ok(reservation) = TcpListener::bind((address, RESERVATION.1)) {
                return Block { second, third, _reservation: reservation };
            }
        }
        panic!("no free block of loopback addresses after {TRIES} tries");
    }

    /// The address with this last octet (1 to 250).
    pub fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, last)
    }
}
