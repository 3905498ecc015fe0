"""What a browser says of a page: what axe-core finds, what is cut on a phone, what Tab reaches."""

from __future__ import annotations

from typing import Any


def serious(page: Any) -> list[str]:
    """The serious and critical findings of axe-core on an open page (a Playwright `Page`)."""
    from axe_playwright_python.sync_playwright import Axe

    # the inside of a plot is one picture with a description, and has thousands of nodes
    found = Axe().run(page, {"exclude": [".main-svg"]}, {"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{each['id']}: {node['html'][:160]} ({node.get('failureSummary', '')})"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def is_cut(page: Any) -> bool:
    """Whether the page itself scrolls sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def tabbed(page: Any, most: int = 200) -> list[str]:
    """The accessible names of what Tab reaches from the top of the page, in order."""
    name = """() => {
        const at = document.activeElement;
        if (!at || at === document.body) return null;
        if (at.dataset.reached) return null;
        at.dataset.reached = "1";
        return at.getAttribute("aria-label") || at.labels?.[0]?.innerText || at.innerText || at.id || at.tagName;
    }"""
    names: list[str] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        if (reached := page.evaluate(name)) is None:
            break
        names.append(" ".join(reached.split()))
    return names
