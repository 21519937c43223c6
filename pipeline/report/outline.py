"""The headings of the page, and the list of contents that is made from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

from markupsafe import Markup


@dataclass(frozen=True)
class Heading:
    """One heading.

    Attributes:
        level: 2 to 6.
        title: its text, without the owner.
        anchor: what links lead to.
        owner: whose part of the page it is in; empty where it is of the whole page.
    """

    level: int
    title: str
    anchor: str
    owner: str = ""


@dataclass(frozen=True)
class Outline:
    """Headings in the order in which the page shows them.

    Attributes:
        owner: what stands before the titles of sections; empty for nothing.
        number: of the owner, from 1. Anchors of the second and later ones end in it.
        headings: all of the page, whoever owns them.
    """

    owner: str = ""
    number: int = 1
    headings: list[Heading] = field(default_factory=list)

    def of(self, owner: str, number: int) -> Outline:
        """The outline of a part of the page, whose headings go into the same list."""
        return Outline(owner, number, self.headings)

    @property
    def sections(self) -> list[tuple[str, list[Heading]]]:
        """The headings of level 2, with their owners."""
        sections = [heading for heading in self.headings if heading.level == 2]
        return [(owner, list(owned)) for owner, owned in groupby(sections, key=lambda heading: heading.owner)]

    def anchor(self, name: str) -> str:
        """The anchor of `name` in this part of the page."""
        return name if self.number == 1 else f"{name}-{self.number}"

    def heading(self, level: int, title: str, name: str) -> Markup:
        """A heading that links to itself; it is added to the list of contents.

        Raises:
            ValueError: another heading has its anchor, or it skips a level.
        """
        shown = f"{self.owner}: {title}" if self.owner and level == 2 else title
        anchor = self.anchor(name)
        if anchor in {heading.anchor for heading in self.headings}:
            raise ValueError(f"two headings have the anchor {anchor}")
        if level > 1 + (self.headings[-1].level if self.headings else 1):
            raise ValueError(f"the heading {anchor} skips a level")
        self.headings.append(Heading(level, title, anchor, self.owner))
        return Markup('<h{0} id="{1}"><a href="#{1}">{2}</a></h{0}>').format(level, anchor, shown)
