"""What a picture is: its marks, what it shows in words, and the table that has its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from markupsafe import Markup, escape

from trtcheck.report.charts.marks import Mark, written

if TYPE_CHECKING:
    from trtcheck.report.view.tables import Table


@dataclass(frozen=True)
class Key:
    """A line of the legend: the mark of a series and its name."""

    mark: Mark
    name: str


@dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes:
        anchor: Its id on the page, unique, of letters, digits and hyphens.
        title: What it shows; stands above it and is read out first.
        description: What it tells, in one or two sentences with the most important figures: for those who do
            not see it.
        width: In pixels at full size.
        height: In pixels at full size.
        marks: What it is made of, drawn in this order.
        legend: What its series are, where there are several.
        table: Its numbers; None where a table with all of them stands beside it on the page anyway.
        numbers: Id of that table, where *table* is None.
    """

    anchor: str
    title: str
    description: str
    width: int
    height: int
    marks: tuple[Mark, ...]
    legend: tuple[Key, ...] = ()
    table: Table | None = None
    numbers: str | None = None

    @property
    def svg(self) -> Markup:
        """The picture as an inline SVG element, with title and description for screen readers."""
        title, told = f"{self.anchor}-title", f"{self.anchor}-told"
        size = f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}"'
        named = f"aria-labelledby={quoteattr(f'{title} {told}')}"
        inside = "".join(map(written, self.marks))
        return Markup(
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {size} role="img" {named}>'
            f"<title id={quoteattr(title)}>{escape(self.title)}</title>"
            f"<desc id={quoteattr(told)}>{escape(self.description)}</desc>{inside}</svg>"
        )

    @property
    def keys(self) -> tuple[tuple[Markup, str], ...]:
        """The legend: a little picture of each mark, and its name."""
        return tuple(
            (
                Markup(
                    '<svg xmlns="http://www.w3.org/2000/svg" class="chart key" viewBox="-12 -8 24 16" '
                    f'width="24" height="16" aria-hidden="true">{written(key.mark)}</svg>'
                ),
                key.name,
            )
            for key in self.legend
        )
