"""What is asked of every page in the browser, as JavaScript that the debugger evaluates."""

from __future__ import annotations

UNFOLD = "document.querySelectorAll('details').forEach(found => { found.open = true })"
TOO_WIDE = """(() => {
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= wide) return [];
  const end = each => Math.max(each.getBoundingClientRect().right, each.scrollWidth);
  const found = [...document.querySelectorAll('body *')].filter(each =>
    !each.closest('.scroll > *, .skip') && end(each) > wide + 1);
  return [`${document.documentElement.scrollWidth} of ${wide}`].concat(
    found.slice(0, 5).map(each => each.outerHTML.slice(0, 160)));
})()"""
"""How wide the page is where it is wider than its window, and the elements that stick out; else nothing."""
STICKS_OUT = """(() => {
  const wide = document.documentElement.clientWidth;
  const found = [...document.querySelectorAll('.scroll, .scroll table, .scroll svg, img, pre, h1, p, dl')];
  return found
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > wide + 1)
    .map(e => `${Math.round(e.getBoundingClientRect().right)} of ${wide}: ${e.outerHTML.slice(0, 160)}`);
})()"""
"""What paper would cut: it neither scrolls nor shows what is hidden."""
STYLED = """[...document.styleSheets].map(sheet => sheet.cssRules.length).concat(
  parseFloat(getComputedStyle(document.querySelector('.banner')).borderLeftWidth))"""
"""Rules of every style sheet, then the width in pixels of the banner's mark, which style.css gives it."""
BLANK = "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
"""Addresses of pictures that are not shown."""
LINKS = (
    "[...document.querySelectorAll('[href]')].map(each => new URL(each.getAttribute('href'), location).href)"
)
IDS = "[...document.querySelectorAll('[id]')].map(each => each.id)"
TAGS = "[...new Set([...document.querySelectorAll('*')].map(each => each.localName))]"
