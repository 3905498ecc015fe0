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


class Tab:
    """A page, with everything that its console says."""

    def __init__(self, browser: Any, url: str, **how: Any) -> None:
        self.context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **how)
        self.said: list[str] = []
        self.page = self.open(url)

    def open(self, url: str) -> Any:
        page = self.context.new_page()
        page.set_default_timeout(8000)
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.goto(url)
        return page

    def reach(self, name: str, page: Any = None) -> Any:
        """Press Tab until the element with this id, or in this class, has the focus."""
        page = page or self.page
        for _ in range(80):
            page.keyboard.press("Tab")
            at = page.locator(":focus")
            if at.count() and name in (at.get_attribute("id"), *(at.get_attribute("class") or "").split()):
                return at
        raise AssertionError(f"Tab does not reach {name}")

    def clip(self) -> str:
        return str(self.page.evaluate("navigator.clipboard.readText()"))
