r"""Equations between `\[` and `\]` or `$` and `$` become MathML, which browsers draw by themselves.

So the pages need no script and no network.
"""

import re
from html import unescape
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(html: str, **_: Any) -> str:
    """Turn what the extension arithmatex has marked."""
    return EQUATION.sub(_mathml, html)


def _mathml(found: re.Match[str]) -> str:
    is_display = found[1] == "div"
    drawn = convert(unescape(found[2]).strip(), display="block" if is_display else "inline")
    if r"\begin" in found[2] and "<mtr" not in drawn:
        raise PluginError(f"latex2mathml does not know this environment: {found[2]}")
    return f'<div class="equation">{drawn}</div>' if is_display else drawn
