"""What a test sees of a page."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would ask for, and the text it would show."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.unlabelled: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset")]
        given = dict(attrs)
        if "scroll" in (given.get("class") or "").split() and not (given.get("aria-label") and "tabindex" in given):
            self.unlabelled.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data
