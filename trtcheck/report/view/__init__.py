"""What the pages show: the report's document as ordered, formatted text, without any HTML."""

from trtcheck.report.view.classes_page import class_pages
from trtcheck.report.view.engine_page import engines
from trtcheck.report.view.index_page import index
from trtcheck.report.view.links import page_names
from trtcheck.report.view.matrices import heat_level
from trtcheck.report.view.sentences import headline
from trtcheck.report.view.statuses import STATUSES

__all__ = ["STATUSES", "class_pages", "engines", "headline", "heat_level", "index", "page_names"]
