# SPDX-License-Identifier: Apache-2.0
"""`qcos rates lint|push|list|show|accept|price` (G6). `lint` needs no plane."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from control_plane.commands._plane import plane, read


def register(groups: Any) -> None:
    """Add the commands."""
    rates = groups.add_parser("rates", help="rate cards: what the work of each backend costs").add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True
    )
    lint = rates.add_parser("lint", help="every fault of cards, by themselves and together; needs no plane")
    lint.add_argument(
        "files", metavar="FILE", type=Path, nargs="+", help="cards, in the order in which they are pushed"
    )
    lint.set_defaults(run=_lint)
    push = rates.add_parser("push", help="make a card the newest of its name")
    push.add_argument("file", metavar="FILE", type=Path, help="a rate card; qcos rates lint says what is wrong with it")
    push.set_defaults(run=_push)
    listing = rates.add_parser("list", help="cards, and which of them price now")
    listing.set_defaults(run=_list)
    show = rates.add_parser("show", help="the document of a card")
    show.add_argument("card", metavar="HASH", help="as qcos rates list has it")
    show.set_defaults(run=_show)
    accept = rates.add_parser("accept", help="take what is disputed on a card as it is chosen")
    accept.add_argument("card", metavar="HASH", help="as qcos rates list has it")
    accept.add_argument("--reason", metavar="TEXT", required=True, help="why; it stands in the ledger")
    accept.set_defaults(run=_accept)
    price = rates.add_parser("price", help="an example bill, line by line")
    price.add_argument("provider", metavar="PROVIDER", help="such as aws-braket")
    price.add_argument("device", metavar="DEVICE", help="a backend, or what it is sold as")
    price.add_argument("--shots", metavar="N", type=int, default=1000, help="executions; 1000 unless told")
    price.add_argument("--tasks", metavar="N", type=int, default=1, help="1 unless told; they are taken to be alike")
    price.add_argument(
        "--fact",
        metavar="METER=QUANTITY",
        action="append",
        default=[],
        help="what else was used, such as qpu_seconds=2.5; may be repeated",
    )
    price.add_argument("--card", metavar="FILE", type=Path, help="by this card, without a plane")
    price.set_defaults(run=_price)
    for one in (lint, push, listing, show, accept, price):
        one.add_argument("--json", action="store_true", help="one document")


def _lint(arguments: argparse.Namespace) -> int:
    from msgspec.structs import asdict

    from control_plane import tables
    from finops.lint import lint, notes

    files = {str(file): read(file) for file in arguments.files}
    faults, noted = ([asdict(one) for one in found(files)] for found in (lint, notes))
    if arguments.json:
        tables.document({"ok": not faults, "faults": faults, "notes": noted})
    else:
        for kind, found in (("", faults), ("note: ", noted)):
            for one in found:
                sys.stdout.write("{file}:{line}: {field}: {kind}{detail}\n".format(kind=kind, **one))
        if not faults:
            sys.stdout.write(f"{len(arguments.files)} sound\n")
    return 1 if faults else 0


def _push(arguments: argparse.Namespace) -> None:
    card = _document(arguments.file)
    _print_one(arguments, plane().ask("POST", "/api/v1/rates", card))


def _list(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    found = plane().ask("GET", "/api/v1/rates")
    if arguments.json:
        tables.document(found)
        return
    heading = ("card", "revision", "currency", "from", "until", "state", "hash")
    rows = [(c["name"], c["revision"], c["currency"], c["from"], c["until"], _state(c), c["rate_card"]) for c in found]
    tables.table(heading, rows)


def _show(arguments: argparse.Namespace) -> None:
    from control_plane import tables

    tables.document(plane().ask("GET", f"/api/v1/rates/{arguments.card}"))


def _accept(arguments: argparse.Namespace) -> None:
    path = f"/api/v1/rates/{arguments.card}/accept"
    _print_one(arguments, plane().ask("POST", path, {"reason": arguments.reason}))


def _price(arguments: argparse.Namespace) -> None:
    from decimal import Decimal

    from control_plane import tables
    from finops import money
    from finops.errors import FactInvalid
    from finops.facts import UNITS, fact
    from finops.rates import charge

    card, sku = _card(arguments)
    card.agreed(arguments.provider, arguments.device, sku)
    used = {"tasks": Decimal(arguments.tasks), "shots": Decimal(arguments.shots)}
    said: set[str] = set()
    for one in arguments.fact:
        meter, _, quantity = one.partition("=")
        if meter in said:
            raise FactInvalid("is said twice", field=meter)
        said.add(meter)
        used[meter] = money.parse(quantity, meter or "--fact")
        if used[meter] % 1 and UNITS.get(meter) not in (None, "Seconds", "Currency"):
            raise FactInvalid("want a whole number", field=meter)
    if used.get("mitigated_tasks", 0) > used["tasks"]:
        raise FactInvalid(f"there are {used['tasks']} tasks", field="mitigated_tasks")
    facts = [fact(meter, quantity, "estimated", "example") for meter, quantity in used.items()]
    bill = charge(card, arguments.provider, facts, arguments.device, sku, alike=True)
    disputed = card.price(arguments.provider, arguments.device, sku).disputed
    record: Any = bill.record()
    if arguments.json:
        about = None if disputed is None else disputed.about
        tables.document(record | {"unmeasured": list(bill.unmeasured), "disputed": about})
        return
    names = ("meter", "quantity", "unit", "rate", "amount")
    tables.table(names, [[line[name] for name in names] for line in record["lines"]])
    told = f"{record['amount']} {record['currency']} by card {card.name}, revision {card.card.revision}"
    sys.stdout.write(f"{told}\n")
    if bill.unmeasured:
        sys.stdout.write(f"not counted, for no --fact says: {', '.join(bill.unmeasured)}\n")
    if disputed is not None:
        says = disputed.readings[disputed.chosen].says
        sys.stdout.write(f"disputed: {disputed.about}; this is: {says}\n")


def _card(arguments: argparse.Namespace) -> tuple[Any, str | None]:
    """The card that prices what was asked for, and as what it is sold, where it is a backend of the plane."""
    import msgspec

    from control_plane.sealing import utc_now
    from finops.reading import parse_card
    from finops.tariff import tariff

    if arguments.card is not None:
        return parse_card(read(arguments.card), accepted=True), None
    client = plane()
    found = [one for one in client.ask("GET", "/api/v1/rates") if one["in_force"]]
    cards = []
    for one in reversed(found):
        told = client.ask("GET", f"/api/v1/rates/{one['rate_card']}")
        cards.append(parse_card(msgspec.json.encode(told["card"]), accepted=told["accepted"]))
    sku = _sold_as(client, arguments.provider, arguments.device)
    return tariff(cards, utc_now()).card_for(arguments.provider, arguments.device, sku), sku


def _sold_as(client: Any, provider: str, device: str) -> str | None:
    backends = client.ask("GET", "/api/v1/backends")
    if not any((one["id"], one["provider"]) == (device, provider) for one in backends):
        return None
    sku: str | None = client.ask("GET", f"/api/v1/backends/{device}")["capability"].get("sku")
    return sku


def _document(file: Path) -> Any:
    """The card as a value; one with faults is told here, with lines of the file as it is."""
    import msgspec

    from control_plane.errors import Refused
    from finops.reading import faults

    data = read(file)
    if found := faults(data):
        told = tuple({"field": one.field, "message": f"line {one.line}: {one.detail}"} for one in found)
        said = "; ".join(f"{file}:{one.line}: {one.field}: {one.detail}" for one in found[:3])
        raise Refused("rate_card_invalid", said, errors=told)
    return msgspec.json.decode(data)


def _state(card: dict[str, Any]) -> str:
    if card["disputed"] and not card["accepted"]:
        return "disputed"
    return "in force" if card["in_force"] else "not in force"


def _print_one(arguments: argparse.Namespace, card: dict[str, Any]) -> None:
    from control_plane import tables

    if arguments.json:
        tables.document(card)
    else:
        sys.stdout.write(f"{card['name']} revision {card['revision']}: {_state(card)}, {card['rate_card']}\n")
