# SPDX-License-Identifier: Apache-2.0
"""Rate cards on a real PostgreSQL: pushed, accepted, in force (G6, G7)."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

import finops
from control_plane.db import engine as make_engine
from control_plane.db import transaction
from finops import card_store
from finops.card import RateCard
from finops.errors import RateCardInvalid, UnknownPrice
from tests.postgres import TestDatabase

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
AER = (Path(__file__).parents[1] / "vectors" / "cards" / "good" / "version_1_aer.json").read_bytes()


@pytest.fixture
async def conn(database: TestDatabase) -> AsyncIterator[AsyncConnection]:
    """One transaction of tenant `demo`, by the application's own login."""
    engine = make_engine(database.app)
    async with transaction(engine, "demo") as conn:
        yield conn
    await engine.dispose()


async def test_the_newest_card_of_a_name_that_is_in_force_prices(conn: AsyncConnection) -> None:
    """G7: by its dates, then by when it was pushed; an old card stays readable by its hash."""

    async def price(at: datetime = AT) -> tuple[RateCard, ...]:
        return (await card_store.tariff(conn, "demo", at)).cards

    with pytest.raises(UnknownPrice):
        await price()
    first = await card_store.push(conn, "demo", AER, AT)
    second = await card_store.push(conn, "demo", AER.replace(b'"revision": 1', b'"revision": 2'), AT)
    future = AER.replace(b'"revision": 1', b'"revision": 3').replace(b"2026-01-01", b"2027-01-01")
    third = await card_store.push(conn, "demo", future, AT)
    assert await price() == (second,)
    found = await card_store.tariff(conn, "demo", AT)
    assert (found.since, found.until) == (second.effective_from, third.effective_from)
    assert await price(datetime(2027, 1, 1, tzinfo=UTC)) == (third,)
    with pytest.raises(UnknownPrice):
        await price(datetime(2025, 12, 31, tzinfo=UTC))
    assert await card_store.card(conn, "demo", first.hash) == first
    await card_store.push(conn, "demo", AER, AT)
    assert await price() == (first,)


async def test_cards_of_several_names_price_side_by_side_and_an_overlap_is_refused(conn: AsyncConnection) -> None:
    """G6: the one that would price what another prices is refused, naming both; nothing of it is kept."""
    own, braket = [await card_store.push(conn, "demo", _shipped(name), AT) for name in ("own", "aws-braket")]
    with pytest.raises(RateCardInvalid, match="cards own and aer both price aer") as caught:
        await card_store.push(conn, "demo", AER, AT)
    assert caught.value.field == "$.prices[0]"
    assert (await card_store.tariff(conn, "demo", AT)).cards == (braket, own)
    ended = json.loads(_shipped("own")) | {"revision": 2, "effective_until": "2026-12-01", "ends": True}
    await card_store.push(conn, "demo", json.dumps(ended).encode(), AT)
    later = AER.replace(b'"2026-01-01"', b'"2026-12-01"')
    aer = await card_store.push(conn, "demo", later, AT)
    assert (await card_store.tariff(conn, "demo", datetime(2026, 12, 1, tzinfo=UTC))).cards == (aer, braket)


async def test_a_revision_is_one_card_for_ever(conn: AsyncConnection) -> None:
    """G6: a bill may say "revision 1 of aer", also after that has ended."""
    ended = AER.replace(b'"effective_until": null', b'"effective_until": "2026-06-01"')
    await card_store.push(conn, "demo", ended, AT)
    with pytest.raises(RateCardInvalid, match="revision 1 of aer is another card") as caught:
        await card_store.push(conn, "demo", AER, AT)
    assert caught.value.field == "$.revision"
    again = await card_store.push(conn, "demo", ended, AT)
    newer = await card_store.push(conn, "demo", AER.replace(b'"revision": 1', b'"revision": 2'), AT)
    assert await card_store.every(conn, "demo") == [again, newer]


async def test_a_disputed_card_is_accepted_once(conn: AsyncConnection) -> None:
    """G6: until then it has no bound; pushed again, it stays accepted."""
    disputed = await card_store.push(conn, "demo", _shipped("azure-ionq"), AT)
    assert not disputed.accepted
    accepted = await card_store.accept(conn, "demo", disputed.hash)
    assert accepted is not None
    assert accepted.accepted
    assert await card_store.accept(conn, "demo", disputed.hash) is None
    assert (await card_store.push(conn, "demo", _shipped("azure-ionq"), AT)).accepted
    assert (await card_store.tariff(conn, "demo", AT)).cards == (accepted,)
    settled = await card_store.push(conn, "demo", AER, AT)
    assert await card_store.accept(conn, "demo", settled.hash) is None


def _shipped(name: str) -> bytes:
    return (Path(finops.__file__).parent / "cards" / f"{name}.json").read_bytes()
