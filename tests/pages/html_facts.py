"""Parse a page: its elements with their attributes, and its text."""

from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "img", "br", "line", "rect"}
URL_ATTRIBUTES = {"href", "src", "action", "formaction", "srcset", "poster", "data", "xlink:href"}


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        elements: (tag, attributes) in document order.
        texts: pieces of text outside the style sheet and the title of the page.
    """

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts, self.open, self.wrongly_closed = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.wrongly_closed.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    @property
    def structure(self):
        """Tags with the names of their attributes."""
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]

    def attributes(self, name):
        """The values of one attribute."""
        return [attributes[name] for _, attributes in self.elements if attributes.get(name) is not None]

    def named(self, tag):
        """The attributes of the elements with this tag."""
        return [attributes for found, attributes in self.elements if found == tag]


def read_page(path):
    return Page(path.read_text("utf-8"))


def check_page(page):
    """Check what holds for every page: it loads nothing, runs nothing, and readers of any kind find their way."""
    assert not page.open, page.open
    assert not page.wrongly_closed, page.wrongly_closed
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form", "base", "link", "audio", "video"}
    names = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in ("style", "srcdoc", "action")]
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.attributes("src"))
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)
    local = [link for link in page.attributes("href") if link.startswith("#")]
    assert {link[1:] for link in local} <= set(ids)
    assert {name for value in page.attributes("aria-labelledby") for name in value.split()} <= set(ids)
    assert all(picture.get("alt") for picture in page.named("img"))
    assert tags >= {"main", "header", "footer", "h1", "h2", "title"}
    assert page.named("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    captions = sum(tag == "caption" for tag, _ in page.elements)
    assert captions == sum(tag == "table" for tag, _ in page.elements)
    (policy,) = [meta["content"] for meta in page.named("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
