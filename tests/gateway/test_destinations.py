"""Where the console may call: what is listed, and what is never called unless it is listed as a network."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.destinations import Destinations

ANYWHERE = Destinations.of([])
LISTED = Destinations.of(["crl.example.com", ".example.org", "10.1.0.0/16", "192.0.2.7", "169.254.10.0/24"])
CLOSE = [
    "127.0.0.1",
    "127.8.9.10",
    "::1",
    "::ffff:127.0.0.1",
    "169.254.169.254",
    "fe80::1%eth0",
    "64:ff9b::a9fe:a9fe",
    "100.100.100.200",
    "168.63.129.16",
    "fd00:ec2::254",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
]


@pytest.mark.parametrize("address", CLOSE)
def test_what_is_close_is_called_nowhere(address: str) -> None:
    assert "unless REVOCATION_FROM lists it" in ANYWHERE.why_not("pki.example.com", address)
    assert LISTED.why_not("crl.example.com", address), "not by a name that is listed either"


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "93.184.216.34", "fd12::1", "2606:2800::1"])
def test_without_a_list_everything_else_is(address: str) -> None:
    assert not ANYWHERE.why_not("pki.example.com", address)


@pytest.mark.parametrize(
    ("host", "address", "called"),
    [
        pytest.param("crl.example.com", "93.184.216.34", True, id="a-host"),
        pytest.param("CRL.example.com.", "93.184.216.34", True, id="however-it-is-written"),
        pytest.param("a.crl.example.com", "93.184.216.34", False, id="not-below-it"),
        pytest.param("a.b.example.org", "93.184.216.34", True, id="below-a-domain"),
        pytest.param("example.org", "93.184.216.34", False, id="not-the-domain-itself"),
        pytest.param("evilexample.org", "93.184.216.34", False, id="not-what-ends-alike"),
        pytest.param("anything", "10.1.2.3", True, id="in-a-network"),
        pytest.param("anything", "10.2.2.3", False, id="outside-of-it"),
        pytest.param("192.0.2.7", "192.0.2.7", True, id="one-address"),
        pytest.param("anything", "169.254.10.9", True, id="a-network-lets-even-those"),
    ],
)
def test_what_is_listed(host: str, address: str, called: bool) -> None:
    assert (LISTED.why_not(host, address) == "") is called


@pytest.mark.parametrize("text", ["10.0.0.1/8", "*", "", ".", "a b", "http://crl.example.com/", "*.example.com"])
def test_what_is_no_destination(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        Destinations.of([text])


@given(st.ip_addresses(), st.sampled_from(["crl.example.com", "elsewhere.example"]))
def test_a_list_only_ever_takes_away_but_by_networks(address: ipaddress.IPv4Address, host: str) -> None:
    names_alone = Destinations.of(["crl.example.com"])
    if not names_alone.why_not(host, str(address)):
        assert not ANYWHERE.why_not(host, str(address))
