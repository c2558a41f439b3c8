# SPDX-License-Identifier: Apache-2.0
"""`qcos costs`: what was spent, on what, by whom (G7). One file a command."""

from __future__ import annotations

from typing import Any

from control_plane.commands import (
    _costs_close,
    _costs_credit,
    _costs_estimates,
    _costs_export,
    _costs_forecast,
    _costs_recompute,
    _costs_reconcile,
    _costs_show,
)


def register(groups: Any) -> None:
    """Add the commands."""
    costs = groups.add_parser(
        "costs", help="what was spent and will be, FOCUS files, invoices, months that are closed"
    ).add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)
    _costs_show.register(costs)
    _costs_forecast.register(costs)
    _costs_estimates.register(costs)
    _costs_export.register(costs)
    _costs_recompute.register(costs)
    _costs_reconcile.register(costs)
    _costs_close.register(costs)
    _costs_credit.register(costs)
