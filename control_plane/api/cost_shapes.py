# SPDX-License-Identifier: Apache-2.0
"""What answers about costs look like (G7). Pure."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from control_plane.api.shapes import Amount, Currency


class Grouped(Struct, frozen=True, kw_only=True):
    """What a group is of: a member for each dimension asked for, null where charges have none."""

    project: str | None = None
    team: str | None = None
    user: Annotated[str | None, Meta(description="The name under which they submitted.")] = None
    cost_center: str | None = None
    backend: str | None = None
    provider: str | None = None
    purpose: str | None = None
    classification: str | None = None


class CostShown(Grouped, frozen=True):
    """One group of charged lines, and its figures.

    `spend` = `gross` + `credits`. With `top` a group has `spend` and what it was in the period `before`.
    """

    currency: Currency
    spend: Amount
    day: Annotated[str | None, Meta(description="UTC.")] = None
    month: Annotated[str | None, Meta(description="UTC; that in which the lines count.")] = None
    meter: str | None = None
    job: str | None = None
    gross: Annotated[Amount | None, Meta(description="Used, or shared out.")] = None
    credits: Annotated[Amount | None, Meta(description="Credits, corrections and refunds.")] = None
    share: Annotated[float | None, Meta(description="Of all that was found, in its currency; null of nothing.")] = None
    jobs: Annotated[int | None, Meta(description="Jobs that were charged.")] = None
    completed: Annotated[int | None, Meta(description="Those of them that ended with a result.")] = None
    cost_per_completed_job: Annotated[Amount | None, Meta(description="To a millionth.")] = None
    quantity: Annotated[Amount | None, Meta(description="By meter.")] = None
    unit: Annotated[str | None, Meta(description="By meter.")] = None
    before: Annotated[Amount | None, Meta(description="With `top`: the period before.")] = None
    change: Annotated[Amount | None, Meta(description="With `top`.")] = None
    change_percent: Annotated[float | None, Meta(description="With `top`; null where it was nothing before.")] = None
