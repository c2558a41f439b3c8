# SPDX-License-Identifier: Apache-2.0
"""Makes `golden.json`: what a real OPA answers to each named document. Run: `python -m
tests.vectors.policy.make`.

Made again when the policies change on purpose; the difference is then part of the review.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from control_plane.policy import document as document_of
from control_plane.policy.opa import OpaEngine
from control_plane.policy.revision import default_folder, load
from tests.control_plane.policy.opa_server import opa_server
from tests.control_plane.policy.sample import ALLOWED, DENIED, encoded, ordered

GOLDEN = Path(__file__).with_name("golden.json")


async def answers(url: str) -> list[dict[str, object]]:
    """One row a document: its name, itself, and OPA's answer."""
    engine, policies = OpaEngine(url, limit_s=5), load()
    try:
        await engine.ready(policies)
        return [
            {"name": name, "input": document, "answer": ordered(await engine.evaluate(policies, encoded(document)))}
            for name, document in {**ALLOWED, **DENIED}.items()
        ]
    finally:
        await engine.close()


def main() -> None:
    """Write the schema of the input, then the file."""
    schema = json.dumps(document_of.schema(), indent=2, sort_keys=True) + "\n"
    (default_folder() / "schemas/input.json").write_text(schema, "utf-8")
    with opa_server(default_folder()) as url:
        rows = asyncio.run(answers(url))
    GOLDEN.write_text(json.dumps(rows, indent=1, sort_keys=True, ensure_ascii=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
