# SPDX-License-Identifier: Apache-2.0
"""The record of a configured backend: what the administrator says of it, and what a driver claims within that. Pure.

Region, zone and sovereignty are the administrator's word, and so is how many shots it may take at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hal_drivers.base import Capabilities, Device, Format
from hal_drivers.errors import ProgramUnsupported
from hal_drivers.limits import Limits

if TYPE_CHECKING:
    from hal_drivers.config import BackendConfig, DriversConfig


def formats(limits: Limits) -> tuple[Format, ...]:
    """The circuit formats that the shared reader takes."""
    return ("QASM3", "QASM2", "QPY") if limits.qpy else ("QASM3", "QASM2")


def record(
    backend: BackendConfig,
    capabilities: Capabilities,
    *,
    qubits: int,
    simulator: bool = True,
    max_shots: int | None = None,
    by_method: Mapping[str, int] | None = None,
    sku: str | None = None,
) -> Device:
    """The backend's record; ``max_shots`` is what its driver takes, None where that is no bound."""
    return Device(
        id=backend.id,
        provider=backend.provider,
        qubits=qubits,
        simulator=simulator,
        region=backend.region,
        compliance_zone=backend.compliance_zone,
        sovereign=backend.sovereign,
        max_shots=backend.max_shots if max_shots is None else min(backend.max_shots, max_shots),
        capabilities=capabilities,
        qubits_by_method=dict(by_method or {}),
        sku=sku,
    )


def local_claims(config: DriversConfig, *, dynamic: bool = False, exact: bool = False) -> Capabilities:
    """What the local driver does for every engine; ``dynamic``: measurements before the end, and what they decide."""
    return Capabilities(
        formats=formats(config.limits),
        control_flow=dynamic,
        mid_circuit=dynamic,
        seed=True,
        cancel="running",
        idempotent_submit=True,
        find_authoritative=True,
        handle_scope="process",
        tasks_at_once=config.children,
        exact=exact,
    )


def check_shots(shots: int, device: Device) -> None:
    """Raises ProgramUnsupported for more shots than the device takes, or none."""
    if not 1 <= shots <= device.max_shots:
        raise ProgramUnsupported(f"{shots} shots asked, the backend takes 1 to {device.max_shots}")
