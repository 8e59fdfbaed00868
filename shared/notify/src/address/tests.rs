use super::*;
use url::{Host, Url};

fn public(address: &str) -> bool {
    AddressGuard::public_only().allows(address.parse().unwrap())
}

#[test]
fn public_addresses_pass() {
    for address in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "198.17.0.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450::1",
        "2001:4860::8888",
    ] {
        assert!(public(address), "{address}");
    }
}

#[test]
fn addresses_that_are_not_public_do_not() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001::1",
        "2001:db8::1",
        "2001:10::1",
        "2002:7f00:1::1",
        "2002:808:808::1",
        "3fff::1",
        "100::1",
        "5f00::1",
        "64:ff9b:1::1",
    ] {
        assert!(!public(address), "{address}");
    }
}

#[test]
fn wrapped_addresses_are_judged_by_what_they_wrap() {
    for (address, wanted) in [
        ("::ffff:10.0.0.1", false),
        ("::ffff:169.254.169.254", false),
        ("::ffff:1.1.1.1", true),
        ("64:ff9b::a00:1", false),
        ("64:ff9b::127.0.0.1", false),
        ("64:ff9b::1.1.1.1", true),
    ] {
        assert_eq!(public(address), wanted, "{address}");
    }
}

/// Every spelling of a private address that a URL may hold is either refused by the URL parser, read as the address it
/// is, or left as a name, which the resolver judges.
#[test]
fn odd_spellings_in_a_url_are_seen_through() {
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "0",
        "0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[fe80::1]",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "%31%32%37.0.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "10.1",
        "192.168.257",
    ] {
        let url = Url::parse(&format!("http://{host}/")).unwrap_or_else(|error| panic!("{host}: {error}"));
        let address: IpAddr = match url.host().unwrap() {
            Host::Ipv4(address) => address.into(),
            Host::Ipv6(address) => address.into(),
            Host::Domain(name) => panic!("{host} was read as the name {name}"),
        };
        assert!(!AddressGuard::public_only().allows(address), "{host} is {address}");
    }
    for host in ["256.0.0.1", "1.2.3.4.5", "[::1%25eth0]", "0x100000000"] {
        assert!(Url::parse(&format!("http://{host}/")).is_err(), "{host}");
    }
}

#[test]
fn an_operator_may_allow_ranges() {
    let ranges = ["127.0.0.0/8", "10.1.0.0/16", "fd00::/8"];
    let guard = AddressGuard::with_allowed(ranges.iter().map(|range| range.parse().unwrap()).collect());
    for (address, wanted) in [
        ("127.0.0.1", true),
        ("::ffff:127.0.0.1", true),
        ("10.1.2.3", true),
        ("10.2.0.1", false),
        ("fd12::1", true),
        ("::1", false),
        ("1.1.1.1", true),
    ] {
        assert_eq!(guard.allows(address.parse().unwrap()), wanted, "{address}");
    }
}
