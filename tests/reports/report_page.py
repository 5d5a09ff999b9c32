"""A report as a test sees it: parsed, and opened in a real browser."""

from __future__ import annotations

import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

VOID = {"meta", "br", "link", "img", "input", "hr", "col"}


class Page(HTMLParser):
    """A parsed report: every start tag, the text outside scripts, and the machine-readable figures.

    ``merits`` holds those of each pod's row, ``figures`` those before any row: (value, text) in order.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.json = ""
        self.merits: dict[str, list[tuple[float, str]]] = {}
        self.figures: list[tuple[float, str]] = []
        self._row = ""
        self._figure: float | None = None
        self._in_json = False
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self._row = (given.get("id") or "").removeprefix("merit-") if "merit-" in (given.get("id") or "") else ""
        if tag == "data":
            self._figure = float(given["value"] or "nan")
        self._in_json = tag == "script" and given.get("id") == "run"

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        self._figure = None

    def handle_data(self, data: str) -> None:
        if self._in_json:
            self.json += data
        if "script" in self.open or "style" in self.open:
            return
        self.text += data
        if self._figure is not None:
            into = self.merits.setdefault(self._row, []) if self._row else self.figures
            into.append((self._figure, data))


def dom_in_a_browser(html: str, folder: Path) -> tuple[str, str]:
    """What a browser logs and the document it ends with; skips the test where there is no browser."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=3000"]
    done = subprocess.run(
        [browser, *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "HOME": str(folder)},
    )
    return done.stderr, done.stdout
