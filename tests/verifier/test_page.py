# SPDX-License-Identifier: Apache-2.0
"""verify.html in a real browser, from a file:// address: what a person sees, hears and may rely on (G3, I4)."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.verifier.agreement import NODE, ROOT, VECTORS

FOLDER = ROOT / "clients" / "verifier"
PAGE = FOLDER / "verify.html"
FILES = VECTORS / "verifier"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PACKAGES = (FOLDER / "node_modules" / "esbuild").is_dir()
in_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium: the verifier's page was not opened (Debian: apt install chromium)"
)
built = pytest.mark.skipif(
    NODE is None or not PACKAGES,
    reason="no node, or not the verifier's packages: its page was not built again (make verifier)",
)


@pytest.fixture
def opened() -> Iterator[tuple[Page, list[str]]]:
    """The page, and every address that was asked for."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: asked.append(f"error: {error}"))
        page.goto(PAGE.as_uri())
        yield page, asked
        browser.close()


def choose(page: Page, bundle: Path, trust: Path = FILES / "trust.json") -> str:
    """Gives the page, opened anew so that nothing said before is heard, both files; what it says aloud."""
    page.goto(PAGE.as_uri())
    page.get_by_label("Evidence bundle").set_input_files(bundle)
    page.get_by_label("Trust file").set_input_files(trust)
    said = page.get_by_role("status")
    said.filter(has_text=re.compile(r"Valid|Invalid|Unanchored|judged")).wait_for()
    return said.inner_text()


@in_browser
def test_a_person_sees_the_verdict_and_nothing_leaves_the_page(opened: tuple[Page, list[str]], tmp_path: Path) -> None:
    """Valid, invalid, unanchored and unusable, each as a word; one address was asked for, the file's own."""
    page, asked = opened
    assert choose(page, FILES / "full.json").startswith("Valid: every check passed")
    assert page.get_by_role("heading", level=2).first.inner_text().split() == ["✓", "Valid"]
    assert page.get_by_role("rowheader", name="timestamps").is_visible()
    assert page.get_by_role("table", name=re.compile("^Counts, 1,000 shots")).get_by_role("row").count() == 3
    changed = tmp_path / "changed.json"
    changed.write_bytes((FILES / "full.json").read_bytes().replace(b'"project":"demo"', b'"project":"<b>o"'))
    assert choose(page, changed).startswith("Invalid: spec: ")
    assert "not proven" in page.locator(".caution").inner_text()
    assert page.locator("#result b").count() == 0
    assert choose(page, FILES / "full.json", VECTORS / "bundles" / "trust.json").startswith(
        "Unanchored: checkpoint_signatures"
    )
    assert page.locator("tr.open .state").first.inner_text() == "○ out of reach"
    broken = tmp_path / "broken.json"
    broken.write_bytes(b'{"version":')
    assert choose(page, broken).startswith("Can't be judged: bundle: not JSON")
    assert set(asked) == {PAGE.as_uri()}


@in_browser
def test_the_page_can_be_used_from_the_keyboard(opened: tuple[Page, list[str]]) -> None:
    """Tab reaches both choices and the button, in that order, and each has a name."""
    page, _ = opened
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["bundle", "trust", "print"]
    assert page.get_by_role("status").inner_text() == "Waiting for both files."
    assert page.title() == "QCOS evidence verifier"


def test_the_page_is_one_file_that_may_load_nothing() -> None:
    """A policy that allows its own two scripts and its own style by hash, and no address anywhere in its markup."""
    text = PAGE.read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy[1]
    markup = re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(src|href|action)=|https?:", markup)


@built
def test_building_the_page_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """What lies in the repository is what its sources make; and they have their types."""
    again = tmp_path / "verify.html"
    subprocess.run([str(NODE), "build.mjs", str(again)], cwd=FOLDER, check=True)
    assert again.read_bytes() == PAGE.read_bytes()
    subprocess.run([str(NODE), "node_modules/typescript/bin/tsc", "--noEmit"], cwd=FOLDER, check=True)
