//! Ports of a registry. Clients derive the gRPC port from the HTTP port, and the Java server binds its gRPC ports on every
//! interface, so that addresses of a test's own are not enough.

use std::net::{Ipv4Addr, TcpListener};

/// HTTP ports; what lies 1,000 below and above is used too. All are below the ports that the system gives away.
const FIRST: u16 = 15_000;
/// Servers at the same time.
const PLACES: u16 = 100;
/// Ports between two servers.
const STEP: u16 = 10;
/// What is bound for as long as the ports are held: ends with the process, however that ends.
const RESERVATION: u16 = 5;

/// Ports of one registry, held until dropped.
pub struct Ports {
    http: u16,
    _reservation: TcpListener,
}

impl Ports {
    /// Reserves free ports.
    ///
    /// # Panics
    /// When none are free.
    pub fn reserve() -> Ports {
        let start = rand::random_range(0..PLACES);
        for place in (0..PLACES).map(|offset| (start + offset) % PLACES) {
            let http = FIRST + place * STEP;
            let Ok(reservation) = TcpListener::bind((Ipv4Addr::LOCALHOST, http + RESERVATION)) else { continue };
            let ports = Ports { http, _reservation: reservation };
            if ports.are_free() {
                return ports;
            }
        }
        panic!("no free ports for a registry among {PLACES}");
    }

    fn are_free(&self) -> bool {
        let raft = self.http - 1_000;
        let between_servers = self.grpc() + 1;
        let all = [raft, self.http, self.console(), self.grpc(), between_servers];
        all.iter().all(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok())
    }

    /// HTTP.
    pub fn http(&self) -> u16 {
        self.http
    }

    /// gRPC for clients.
    pub fn grpc(&self) -> u16 {
        self.http + 1_000
    }

    /// Console of rnacos.
    pub fn console(&self) -> u16 {
        self.http + 1
    }
}
