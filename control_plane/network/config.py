# SPDX-License-Identifier: Apache-2.0
"""The `[network]` table of `qcos.toml`, and `QCOS_NETWORK_…` variables, which win over it (N11). Pure.

Enters: a TOML table and text. Leaves: frozen `Network`, or SettingInvalid that names the key, its value and what is
wanted. Fidelities are shares from 0 to 1 here and parts per million everywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from control_plane.errors import SettingInvalid
from control_plane.fields import SWITCH
from hal_drivers.p2p.ir import SERVICES
from hal_drivers.p2p.plan import PlanConfig, Weights

Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0.05, le=3600)]
Address = Annotated[str, Meta(pattern=r"^/[!-~]{1,200}\Z")]
Peer = Annotated[str, Meta(pattern=r"^/[!-~]{1,200}/p2p/12D3KooW[1-9A-HJ-NP-Za-km-z]{44}\Z")]
Weight = Annotated[int, Meta(ge=0, le=1000)]
PPM = 1_000_000
_ENVIRONMENT = "QCOS_NETWORK_"
_LOOPBACK = re.compile(r"/ip4/127\.|/ip6/::1/")


class Network(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an administrator sets. `enabled` and a fabric that can't start is a plane that doesn't start."""

    enabled: bool = False
    listen: Annotated[tuple[Address, ...], Meta(min_length=1, max_length=16)] = ("/ip4/127.0.0.1/tcp/0",)
    bootstrap: Annotated[tuple[Peer, ...], Meta(max_length=256)] = ()
    mdns: bool = False
    operators: tuple[str, ...] = ()
    heartbeat_s: Seconds = 1.0
    refresh_s: Seconds = 10.0
    advert_ttl_s: Annotated[int, Meta(ge=1, le=86400)] = 60
    min_fidelity: dict[str, Share] = {}
    default_min_fidelity: Share = 0.9
    fallbacks: Annotated[int, Meta(ge=0, le=16)] = 2
    mode: Literal["auto", "whole"] = "auto"
    retries: Annotated[int, Meta(ge=0, le=16)] = 1
    backoff_s: Seconds = 0.1
    backoff_most_s: Seconds = 2.0
    reserve_limit_s: Seconds = 2.0
    execute_limit_s: Seconds = 60.0
    control_limit_s: Seconds = 2.0
    probe_s: Annotated[float, Meta(ge=0, le=86400)] = 30.0
    probe_shots: Annotated[int, Meta(ge=200, le=50_000)] = 1_000
    link_latency_s: Seconds = 0.5
    link_failure: Share = 0.05
    weight_latency: Weight = 1
    weight_failure: Weight = 1
    weight_infidelity: Weight = 1
    weight_entanglement: Weight = 1
    weight_load: Weight = 1
    weight_price: Weight = 1

    def planning(self) -> PlanConfig:
        """What a plan is made by; its hash stands in the plan."""
        return PlanConfig(
            weights=Weights(
                latency=self.weight_latency,
                failure=self.weight_failure,
                infidelity=self.weight_infidelity,
                entanglement=self.weight_entanglement,
                load=self.weight_load,
                price=self.weight_price,
            ),
            min_fidelity_ppm={name: round(share * PPM) for name, share in sorted(self.min_fidelity.items())},
            default_min_fidelity_ppm=round(self.default_min_fidelity * PPM),
            fallbacks=self.fallbacks,
            mode=self.mode,
        )


MEANS = {
    "enabled": "run the fabric; a plane whose fabric can't start doesn't start",
    "listen": "multiaddresses at which the fabric hears",
    "bootstrap": "multiaddresses, with `/p2p/ID`, to which it connects at the start",
    "mdns": "announce `listen` on the local network, for nodes without a bootstrap list; they join only when enrolled",
    "operators": "tenants whose `quantum-admin` may act on enrolments; profile `dev`: any, others: none but these",
    "heartbeat_s": "how often each peer is asked whether it lives",
    "refresh_s": "how often nodes advertise again, and how soon a change is told",
    "advert_ttl_s": "an advert holds at most so long",
    "min_fidelity": "a table, e.g. `{ cnot = 0.95 }`: the smaller of reported and verified must reach it",
    "default_min_fidelity": "the same for services that `min_fidelity` doesn't name",
    "mode": "`auto`: groups that share no qubit may run on different nodes; `whole`: all on one",
    "fallbacks": "nodes beside the primary that a plan names a fragment",
    "retries": "tries more on the same node",
    "backoff_s": "the first wait between tries; doubled each time",
    "backoff_most_s": "and at most",
    "reserve_limit_s": "the longest that a window may take to be granted or refused",
    "execute_limit_s": "the longest that a fragment may take on a node",
    "control_limit_s": "the longest that a cancel or a heartbeat may take",
    "probe_s": "a service of a node is probed about so often; 0: never, and then no node is ever used",
    "probe_shots": "about so many shots a probe: half to twice as many, as jobs have them",
    "link_latency_s": "a link whose median heartbeat takes longer is degraded",
    "link_failure": "and so is one that surely (99 %) loses more of its heartbeats than this share",
    "weight_latency": "what a node's latency counts in a plan",
    "weight_failure": "what its share of failed fragments counts",
    "weight_infidelity": "what its services on one qubit lack in fidelity counts",
    "weight_entanglement": "what those on two lack counts",
    "weight_load": "what its load counts",
    "weight_price": "what its price counts",
}


def read(table: object, environment: Mapping[str, str]) -> Network:
    """The settings of the network: the file's table with what the environment says instead."""
    if not isinstance(table, Mapping):
        raise SettingInvalid("network", table, "a table, headed [network]")
    values = {key: _value(f"network.{key}", key, value) for key, value in table.items()}
    for key in MEANS:
        name = _ENVIRONMENT + key.upper()
        if environment.get(name):
            values[key] = _value(name, key, _text(name, key, environment[name]))
    for name in environment:
        if name.startswith(_ENVIRONMENT) and name.removeprefix(_ENVIRONMENT).lower() not in MEANS:
            raise SettingInvalid(name, environment[name], "one of the known keys: " + ", ".join(MEANS))
    found = Network(**values)
    if found.backoff_s > found.backoff_most_s:
        raise SettingInvalid("network.backoff_s", found.backoff_s, f"at most backoff_most_s, {found.backoff_most_s:g}")
    if found.mdns and all(_LOOPBACK.match(address) for address in found.listen):
        wanted = "no announcement where `listen` has loopback addresses alone: nobody else reaches them"
        raise SettingInvalid("network.mdns", found.mdns, wanted)
    if found.refresh_s >= found.advert_ttl_s:
        wanted = f"less than advert_ttl_s, {found.advert_ttl_s}: adverts would be stale before they are refreshed"
        raise SettingInvalid("network.refresh_s", found.refresh_s, wanted)
    return found


_KINDS = {field.name: field.type for field in msgspec.structs.fields(Network)}


def _value(name: str, key: str, value: object) -> Any:
    if key not in MEANS:
        raise SettingInvalid(name, value, "one of the known keys: " + ", ".join(MEANS))
    try:
        found = msgspec.convert(value, _KINDS[key])
    except msgspec.ValidationError as error:
        raise SettingInvalid(name, value, f"{MEANS[key]} ({error})") from error
    if key == "min_fidelity" and (unknown := sorted(set(found) - set(SERVICES))):
        raise SettingInvalid(name, unknown[0], "one of the services: " + ", ".join(SERVICES))
    return found


def _text(name: str, key: str, text: str) -> object:
    """A variable's text as its key wants it: JSON, and a list of plain words separated by commas."""
    if key in {"listen", "bootstrap", "operators"}:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if key in {"enabled", "mdns"}:
        return SWITCH.get(text.lower(), text)
    if key == "mode":
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise SettingInvalid(name, text, MEANS[key]) from error
