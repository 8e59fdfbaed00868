//! Which addresses a notification may reach.
//!
//! A receiver's URL is written by a user, and the function that posts to it runs inside the operator's account: without a
//! guard it would be a way to the metadata service, to the runtime API on the loopback and to whatever a VPC holds. The
//! check is made on addresses, after the name was resolved, and the connection is made to the addresses that were checked:
//! a name that resolves to something else a moment later gains nothing.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Lets public addresses pass, and those that the operator allows.
#[derive(Clone, Debug, Default)]
pub struct AddressGuard {
    allowed: Vec<IpNet>,
}

/// An address that must not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the receiver's host has only an address that is not public")]
pub struct Forbidden {
    /// One of them.
    pub address: IpAddr,
}

impl AddressGuard {
    /// Lets only public addresses pass.
    #[must_use]
    pub fn public_only() -> Self {
        Self::default()
    }

    /// Also lets these ranges pass.
    #[must_use]
    pub fn with_allowed(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Whether an address may be reached.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        // ::ffff:10.0.0.1 is 10.0.0.1 to the operating system.
        let address = address.to_canonical();
        is_public(address) || self.allowed.iter().any(|range| range.contains(&address))
    }

    /// Whether an address may be reached.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, address: IpAddr) -> Result<(), Forbidden> {
        if self.allows(address) {
            Ok(())
        } else {
            Err(Forbidden { address })
        }
    }
}

/// Whether an address belongs to the public Internet.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// IPv4 ranges that are not globally reachable (the IANA special-purpose registry, RFC 6890), with their prefix lengths.
const SPECIAL_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // "this network"
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // carrier-grade NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, with the metadata service
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24), // AS112
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, with broadcast
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    let inside = |(network, length): &(Ipv4Addr, u32)| (address.to_bits() ^ network.to_bits()) >> (32 - length) == 0;
    !SPECIAL_V4.iter().any(inside)
}

/// Only global unicast (2000::/3) is public, and of that not what documents, tunnels or wraps something else.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    // NAT64 (RFC 6052): a network without IPv4 sees every IPv4 host so. The embedded address decides.
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [.., a, b, c, d] = address.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    let global_unicast = s[0] & 0xe000 == 0x2000;
    let special = match s[0] {
        // Protocol assignments (Teredo, benchmarks, ORCHID) and documentation.
        0x2001 => s[1] < 0x0200 || s[1] == 0x0db8,
        // 6to4 wraps any IPv4 address.
        0x2002 => true,
        // AS112.
        0x2620 => s[1] == 0x004f && s[2] == 0x8000,
        // Documentation.
        0x3fff => s[1] < 0x1000,
        _ => false,
    };
    global_unicast && !special
}

#[cfg(test)]
mod tests;
