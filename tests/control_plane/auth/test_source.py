# SPDX-License-Identifier: Apache-2.0
"""G13, S1: a key's source network is the caller's own address, which no header of the caller's can change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.auth.source import UNIX, caller, network, within

PROXIES = ("10.0.0.0/8", "192.0.2.7", "2001:db8::/32")


@pytest.mark.parametrize(
    ("peer", "told", "proxies", "address"),
    [
        ("198.51.100.4", [], (), "198.51.100.4"),
        ("198.51.100.4", ["203.0.113.9"], (), "198.51.100.4"),
        ("198.51.100.4", ["203.0.113.9"], PROXIES, "198.51.100.4"),
        ("10.1.2.3", ["203.0.113.9"], PROXIES, "203.0.113.9"),
        ("10.1.2.3", ["1.1.1.1, 203.0.113.9"], PROXIES, "203.0.113.9"),
        ("10.1.2.3", ["1.1.1.1", "203.0.113.9, 192.0.2.7"], PROXIES, "203.0.113.9"),
        ("10.1.2.3", ["203.0.113.9:5123"], PROXIES, "203.0.113.9"),
        ("10.1.2.3", ["[2001:db9::1]:5123"], PROXIES, "2001:db9::1"),
        ("10.1.2.3", ["::ffff:203.0.113.9"], PROXIES, "203.0.113.9"),
        ("::ffff:10.1.2.3", ["203.0.113.9"], PROXIES, "203.0.113.9"),
        ("2001:db8::5", ["203.0.113.9"], PROXIES, "203.0.113.9"),
        ("10.1.2.3", [], PROXIES, "10.1.2.3"),
        ("10.1.2.3", ["unknown"], PROXIES, None),
        ("10.1.2.3", ["203.0.113.9, _hidden"], PROXIES, None),
        ("10.1.2.3", [""], PROXIES, None),
        ("10.1.2.3", ["203.0.113.9,"], PROXIES, None),
        ("10.1.2.3", ["fe80::1%eth0"], PROXIES, None),
        (None, ["203.0.113.9"], PROXIES, None),
        (None, ["203.0.113.9"], (*PROXIES, UNIX), "203.0.113.9"),
        (None, [], (UNIX,), None),
    ],
)
def test_only_the_administrators_proxies_say_whom_they_speak_for(
    peer: str | None, told: list[str], proxies: tuple[str, ...], address: str | None
) -> None:
    """S1: whatever the caller wrote before its own proxy stands before what that proxy wrote."""
    found = caller(peer, told, proxies)
    assert (None if found is None else str(found)) == address


@given(st.lists(st.text(max_size=40), max_size=6), st.ip_addresses())
def test_no_header_of_a_caller_moves_it(told: list[str], peer: object) -> None:
    """S1: without a proxy that is named, a header says nothing."""
    assert caller(str(peer), told, ()) == caller(str(peer), [], ())


@given(st.lists(st.text(max_size=40), max_size=6), st.ip_addresses(v=4))
def test_what_stands_before_the_last_proxys_word_changes_nothing(told: list[str], address: object) -> None:
    """S1: a forged beginning of the header is never reached."""
    assert str(caller("10.0.0.1", [*told, str(address)], ("10.0.0.1",))) == str(address) or str(address) == "10.0.0.1"


@pytest.mark.parametrize(
    "text", ["", "10.0.0.1/8", "10.0.0.0/33", "fe80::1%eth0", "example.org", "10.0.0", "１0.0.0.1", "10.0.0.0/8 "]
)
def test_a_network_that_is_none_is_refused(text: str) -> None:
    """Bits behind the mask are a slip of the hand: 10.0.0.1/8 is no way to write one machine."""
    with pytest.raises(ValueError, match="no network"):
        network(text)


def test_addresses_of_both_kinds_lie_where_they_should() -> None:
    """No address lies in no network, the whole world's included."""
    networks = [network(one) for one in ("192.0.2.0/24", "::ffff:198.51.100.0/120", "2001:db8::/32")]
    for told, inside in (("192.0.2.9", True), ("198.51.100.4", True), ("2001:db8::1", True), ("192.0.3.1", False)):
        assert within(caller(told, [], ()), networks) is inside
    assert not within(None, [network("0.0.0.0/0"), network("::/0")])
