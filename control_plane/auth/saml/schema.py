# SPDX-License-Identifier: Apache-2.0
"""The schemas of SAML 2.0, as python3-saml brings them, each compiled once a process; and the times in them."""

from __future__ import annotations

import datetime as dt
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

from control_plane.auth.saml.document import Element
from control_plane.auth.saml.refusals import SamlRefused

__all__ = ["follows", "moment", "written"]

_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


@cache
def _schema(name: str) -> Any:
    import onelogin.saml2.xml_utils
    from lxml import etree

    folder = Path(onelogin.saml2.xml_utils.__file__).parent / "schemas"
    return etree.XMLSchema(etree.parse(str(folder / f"saml-schema-{name}-2.0.xsd")))


def follows(element: Element, name: Literal["protocol", "assertion"]) -> bool:
    """Whether `element` is what the schema says."""
    return bool(_schema(name).validate(element))


def moment(text: str | None) -> float | None:
    """Unix seconds of a time in a message; None where it isn't there. SAML 2.0 core section 1.3.3 wants UTC."""
    if text is None:
        return None
    if not _UTC.fullmatch(text):
        raise SamlRefused("schema")
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise SamlRefused("schema") from None


def written(at: float) -> str:
    """The same, the other way, to the second."""
    return dt.datetime.fromtimestamp(int(at), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
