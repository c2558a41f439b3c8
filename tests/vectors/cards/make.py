# SPDX-License-Identifier: Apache-2.0
"""Makes the bad rate cards of this folder again: `python -m tests.vectors.cards.make`.

Each `bad/NAME.json` is one small change of a good card (`NAME.1.json` and `NAME.2.json` are good alone and bad
together); `expected.json` has what lint says of each: file, line, field and words. A new fault is looked at by hand.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finops.lint import lint

HERE = Path(__file__).parent
Card = dict[str, Any]
_READING = {"says": "m adds", "source": "a page", "source_date": "2026-11-01"}
_OTHER = {"says": "m is a minimum", "source": "another", "source_date": "2026-11-01"}
GOOD: Card = {
    "version": 2,
    "name": "example",
    "revision": 1,
    "currency": "USD",
    "source": "A contract",
    "source_date": "2026-11-01",
    "effective_from": "2026-01-01",
    "effective_until": None,
    "precision": "0.01",
    "rounding": "half_even",
    "units": [{"unit": "HQC", "price": "12.5"}],
    "prices": [
        {
            "provider": "example",
            "device": "*",
            "lines": [
                {"meter": "shots", "unit": "Shots", "rate": "0.01"},
                {
                    "meter": "hqc",
                    "unit": "HQC",
                    "quantity": [
                        {"each": "5", "of": "tasks"},
                        {"each": "1", "of": "one_qubit_gate_shots", "per": "5000"},
                    ],
                },
            ],
        }
    ],
}


def _line(number: int = 0, **members: Any) -> Callable[[Card], None]:
    return lambda card: card["prices"][0]["lines"][number].update(members)


def _head(**members: Any) -> Callable[[Card], None]:
    return lambda card: card.update(members)


def _term(number: int, **members: Any) -> Callable[[Card], None]:
    return lambda card: card["prices"][0]["lines"][1]["quantity"][number].update(members)


def _limits(minimum: dict[str, str], cap: dict[str, str]) -> Callable[[Card], None]:
    terms = [[{"each": each, "of": of} for of, each in limit.items()] for limit in (minimum, cap)]
    return _line(minimum=terms[0], cap=terms[1])


def _tiers(*above: str) -> Callable[[Card], None]:
    return _line(rate=None, tiers=[{"above": one, "rate": "0.01"} for one in above])


def _disputed(*readings: dict[str, str], **chosen: int) -> Callable[[Card], None]:
    disputed = {"about": "what m means", "readings": list(readings), **chosen}
    return lambda card: card["prices"][0].update(disputed=disputed)


def _second_price(card: Card) -> None:
    lines = [{"meter": "shots", "unit": "Shots", "rate": "0.02"}]
    card["prices"].append({"provider": "example", "device": "*", "lines": lines})


def _twice(card: Card) -> None:
    card["prices"][0]["lines"].append(dict(card["prices"][0]["lines"][0]))


def _many(card: Card) -> None:
    _head(currency="usd", precision="0.02", source_date="yesterday", effective="2026-01-01")(card)
    _line(0, rate="-1", unit="Minutes")(card)
    _line(1, unit="AQT")(card)


def _queued_by_task(card: Card) -> None:
    _line(1, by="task", cap=[{"each": "1", "of": "tasks"}])(card)
    _term(1, of="queue_seconds")(card)


def _missing_and_negative(card: Card) -> None:
    del card["source"]
    del card["prices"][0]["provider"]
    _line(0, rate="-1")(card)


CHANGED: dict[str, Callable[[Card], Any]] = {
    "a_reading_twice": _disputed(_READING, _READING, chosen=0),
    "chosen_reading_is_not_there": _disputed(_READING, _OTHER, chosen=2),
    "currency_that_is_none": _head(currency="UDS"),
    "device_behind_a_space": lambda card: card["prices"][0].update(device=" *"),
    "disputed_with_one_reading": _disputed(_READING, chosen=0),
    "disputed_without_a_choice": _disputed(_READING, _OTHER),
    "divided_by_zero": _term(1, per="0"),
    "ends_before_it_begins": _head(effective_until="2026-01-01"),
    "ends_without_a_day": _head(ends=True),
    "by_something_else": _line(by="shot"),
    "by_task_of_the_job": _line(by="task", minimum=[{"each": "1", "of": "job"}]),
    "by_task_of_what_no_task_has": _line(
        meter="queue_seconds", unit="Seconds", by="task", cap=[{"each": "1", "of": "tasks"}]
    ),
    "by_task_of_what_no_task_has_in_a_quantity": _queued_by_task,
    "impossible_day": _head(effective_from="2026-02-30"),
    "increment_of_nothing": _line(increment={"size": "0", "rounding": "up"}),
    "increment_rounded_to_nowhere": _line(increment={"size": "0.01", "rounding": "half_even"}),
    "increment_without_a_rounding": _line(increment={"size": "-1"}),
    "many_faults": _many,
    "minimum_above_cap": _limits({"tasks": "3"}, {"tasks": "2"}),
    "minimum_above_cap_of_mitigated_tasks": _limits({"tasks": "1", "mitigated_tasks": "3"}, {"tasks": "2"}),
    "minimum_above_cap_of_one_task": _limits({"job": "3"}, {"tasks": "2"}),
    "minimum_of_shots": _line(minimum=[{"each": "3", "of": "shots"}]),
    "missing_and_negative": _missing_and_negative,
    "name_missing": lambda card: card.pop("name"),
    "name_with_an_unseen_character": _head(name="exam\u202eple\x00"),
    "nan": _line(rate="NaN"),
    "negative_rate": _line(rate="-0.01"),
    "no_rate": _line(rate=None),
    "prices_that_are_no_list": _head(prices={}),
    "quantity_named_as_a_meter": _line(1, meter="tasks"),
    "rate_and_price_of_the_unit": _line(1, rate="2"),
    "rate_and_tiers": _line(tiers=[{"above": "0", "rate": "1"}]),
    "rate_as_a_number": _line(rate=0.01),
    "ten_to_the_thirtieth": _line(rate="1" + "0" * 30),
    "tiers_out_of_order": _tiers("0", "1000", "500"),
    "tiers_that_do_not_begin_at_zero": _tiers("10", "1000"),
    "twice_the_same_line": _twice,
    "two_readings_without_a_mark": _second_price,
    "unbounded_meter": _line(meter="queue_seconds", unit="Seconds"),
    "unknown_field": _line(price="1"),
    "unknown_meter": _line(meter="photons"),
    "unknown_meter_in_a_quantity": _term(0, of="photons"),
    "unknown_unit": _line(unit="Minutes"),
    "unknown_unit_of_the_provider": _line(1, unit="AQT"),
    "version_to_come": _head(version=3),
    "wrong_currency": _head(currency="usd"),
}
WRITTEN: dict[str, tuple[str, str]] = {
    "byte_order_mark": ('{\n  "version": 2,', '\ufeff{\n  "version": 2,'),
    "comma_too_many": ('"version": 2,', '"version": 2,,'),
    "half_a_surrogate_pair": ('"A contract"', '"A \\ud800contract"'),
    "member_twice": ('  "currency": "USD",\n', '  "currency": "USD",\n  "currency": "EUR",\n'),
    "nan_as_a_number": ('"rate": "0.01"', '"rate": NaN'),
    "text_without_an_end": ('"source": "A contract",', '"source": "A contract,'),
}
TOGETHER: dict[str, tuple[Callable[[Card], Any], Callable[[Card], Any]]] = {
    "gap": (_head(effective_until="2026-07-01"), _head(revision=2, effective_from="2026-08-01")),
    "overlap": (_head(), _head(name="other")),
    "two_of_one_revision": (_head(), _head(currency="EUR")),
}


def files(name: str) -> dict[str, bytes]:
    """A bad card, or the two that are bad together."""
    return {path.name: path.read_bytes() for path in sorted((HERE / "bad").glob(f"{name}*.json")) if _of(path, name)}


def _of(path: Path, name: str) -> bool:
    return path.name.split(".")[0] == name


def found(name: str) -> list[dict[str, Any]]:
    """What lint says of it."""
    return [{name: getattr(one, name) for name in one.__struct_fields__} for one in lint(files(name))]


def _changed(change: Callable[[Card], Any]) -> str:
    card = copy.deepcopy(GOOD)
    change(card)
    return json.dumps(card, indent=2) + "\n"


def main() -> None:
    """Write the folder."""
    made = {name: _changed(change) for name, change in CHANGED.items()}
    made |= {name: _changed(_head()).replace(old, new) for name, (old, new) in WRITTEN.items()}
    for name, changes in TOGETHER.items():
        made |= {f"{name}.{number}": _changed(change) for number, change in enumerate(changes, 1)}
    (HERE / "bad").mkdir(exist_ok=True)
    for old in (HERE / "bad").glob("*.json"):
        old.unlink()
    for name, text in made.items():
        (HERE / "bad" / f"{name}.json").write_text(text)
    expected = {name: found(name) for name in sorted({*CHANGED, *WRITTEN, *TOGETHER})}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
