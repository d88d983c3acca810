"""Code on the pages of `docs/` runs: Python as it stands, commands as far as their options go.

The guide's commands are run, with what they print and draw, whenever the documentation is built.
"""

import re
import shlex
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer.core

from recurra.cli.main import app
from recurra.jobs.configurations import resolve

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^``` ?(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
pytestmark = pytest.mark.usefixtures("one_thread")
LANGUAGES = {"python", "shell", "text"}


def _blocks(page: Path, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def _name(page: Path) -> str:
    return str(page.relative_to(DOCS))


def _commands() -> list[Any]:
    return [
        pytest.param(line.split(" < ")[0], id=f"{_name(page)}: {line[:60]}")
        for page in PAGES
        for block in _blocks(page, "shell")
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip()
    ]


def _parsed(command: str) -> typer.Context:
    """The context of the verb that a line of shell calls; an error if it does not parse."""
    words = shlex.split(command, comments=True)
    assert words[0] == "recurra", command
    verb, words = typer.main.get_command(app), words[1:]
    context = typer.Context(verb)
    while isinstance(verb, typer.core.TyperGroup):
        _, verb, words = verb.resolve_command(context, words)
        if isinstance(verb, typer.core.TyperGroup):
            context = typer.Context(verb, parent=context)
    return verb.make_context(verb.name, words, parent=context)


@pytest.mark.parametrize("command", _commands())
def test_commands_parse_and_their_settings_exist(command: str) -> None:
    context = _parsed(command)
    if context.info_name in ("train", "compare"):
        given = context.params
        flags = {name: given.get(name) for name in ("model", "cell", "hidden_size", "data")}
        resolve(given["task"], given.get("config"), given.get("settings") or [], flags)


def test_a_command_with_an_unknown_option_or_key_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option: --lag"):
        _parsed("recurra inspect gradients --lag 3")
    with pytest.raises(ValueError, match="hidden_sizes"):
        test_commands_parse_and_their_settings_exist("recurra train lm --set hidden_sizes=3")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_block_names_its_language(page: Path) -> None:
    fences = re.findall(r"^```(.*)$", page.read_text("utf-8"), re.MULTILINE)
    assert {name.strip() for name in fences[::2]} <= LANGUAGES
    assert not any(fences[1::2])


def test_lines_that_pages_take_from_the_sources_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS / "hooks"))
    monkeypatch.delitem(sys.modules, "sources", raising=False)
    import sources  # type: ignore[import-not-found, unused-ignore]

    pages = [page.read_text("utf-8") for page in PAGES]
    assert sum("source: " in page for page in pages) >= 8
    for page in pages:
        assert not sources.DIRECTIVE.search(sources.on_page_markdown(page))
    with pytest.raises(LookupError, match="has no line with 'gone'"):
        sources.source("recurra.cells.gru.step", "gone")


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "python")], ids=_name)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    names: dict[str, Any] = {}
    for block in _blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


def write_files(folder: Path) -> None:
    """Small files by the names that the pages use."""
    words = [("The", "DET"), ("cat", "NOUN"), ("sleeps", "VERB"), (".", "PUNCT")]
    sentence = "".join(
        f"{k}\t{word}\t_\t{tag}" + "\t_" * 6 + "\n" for k, (word, tag) in enumerate(words, 1)
    )
    for name, count in (("train", 40), ("dev", 10), ("test", 10)):
        (folder / f"en-{name}.conllu").write_text("\n".join([sentence] * count) + "\n", "utf-8")
    opinions = [("good", 5), ("bad", 1)]
    reviews = [f"a {word} film number {k},{stars}" for k in range(40) for word, stars in opinions]
    (folder / "reviews.csv").write_text("\n".join(["body,stars", *reviews]) + "\n", "utf-8")
    for name, first, last in (("shops", 0, 150), ("new", 150, 157)):
        rows = [
            f"{shop},{date(2023, 1, 2) + timedelta(days=k)},{100 + 10 * (k % 7)}"
            for shop in ("north", "south")
            for k in range(first, last)
        ]
        (folder / f"{name}.csv").write_text("\n".join(["shop,day,sales", *rows]) + "\n", "utf-8")
