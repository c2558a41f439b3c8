# SPDX-License-Identifier: Apache-2.0
"""What is made from code is as the code makes it; `make generate` writes it again."""

import pytest

from control_plane.fields import FIELDS
from tests.docs.tables import DOCS, FILES, MEANS, ROOT, TABLES, made


@pytest.mark.parametrize("page", TABLES)
def test_a_page_has_the_tables_that_the_code_makes(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert made(page, text) == text, f"docs/{page}: make generate"


def test_every_setting_is_explained() -> None:
    assert MEANS.keys() == FIELDS.keys()


@pytest.mark.parametrize("name", FILES)
def test_a_published_document_is_the_codes_own(name: str) -> None:
    assert (ROOT / name).read_bytes() == FILES[name](), f"{name}: make generate"
