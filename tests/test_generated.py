# SPDX-License-Identifier: Apache-2.0
"""What is made from code is as the code makes it; `make generate` writes it again."""

import pytest

from control_plane.app import openapi
from control_plane.fields import FIELDS
from tests.docs.tables import DOCS, MEANS, TABLES, made


@pytest.mark.parametrize("page", TABLES)
def test_a_page_has_the_tables_that_the_code_makes(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert made(page, text) == text, f"docs/{page}: make generate"


def test_every_setting_is_explained() -> None:
    assert MEANS.keys() == FIELDS.keys()


def test_the_published_openapi_document_is_the_apis_own() -> None:
    assert (DOCS / "openapi.json").read_bytes() == openapi(), "docs/openapi.json: make generate"
