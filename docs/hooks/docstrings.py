"""Docstrings as the reference pages read them: an example is code; `::` before a block is `:`."""

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Names the section as griffe knows it; of itself it takes "Example:" for a remark."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class and function."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r"::$", ":", text, flags=re.MULTILINE)
