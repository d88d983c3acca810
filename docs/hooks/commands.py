"""Commands of the guide are run, and what they print and draw is put into its pages.

Each line of a block of shell commands in `docs/guide/` is a command of recurra. They run in the
order of the pages in `build/guide`, so that a later one finds the runs of an earlier one. Then

    printed:                         becomes what the last command above has printed
    figure: runs/lstm 2              becomes the second picture of runs/lstm/report.html

A command runs again only when it, a run that it reads, or the package has changed. Nothing that is
made here is kept in the repository.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from base64 import b64decode
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "guide"
DIRECTIVE = re.compile(
    r"^```shell\n(?P<commands>.*?)^```$|^printed:$|^figure: (?P<run>\S+) (?P<number>\d+)$",
    re.M | re.S,
)
FIGURE = re.compile(
    r'<figure><img alt="[^"]*" src="data:image/svg\+xml;base64,([^"]+)">'
    r"<figcaption>(.*?)</figcaption></figure>",
    re.DOTALL,
)
log = get_plugin_logger("guide")
keys: dict[str, str] = {}  # of the command that made each folder


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Run the page's commands, and put in what they print and draw."""
    if not page.file.src_uri.startswith("guide/"):
        return markdown
    printed = ""

    def replace(found: re.Match[str]) -> str:
        nonlocal printed
        if found["commands"]:
            for line in found["commands"].splitlines():
                printed = run(line)
            return found[0]
        if not found["run"]:
            return f"``` {{ .text .printed }}\n{printed.strip()}\n```"
        image, caption = figure(found["run"], int(found["number"]))
        name = f"{found['run'].replace('/', '-')}-{found['number']}.svg"
        files.append(File.generated(config, f"guide/{name}", content=image))
        # an inspection's picture has its caption inside
        has_own = (FOLDER / found["run"] / "inspection.json").exists()
        below = "" if has_own else f"<figcaption>{caption}</figcaption>\n"
        return f'<figure>\n<img src="{name}" alt="{caption}">\n{below}</figure>'

    return DIRECTIVE.sub(replace, markdown)


def run(command: str) -> str:
    """What a command prints; as the last build kept it, if nothing has changed since."""
    words = shlex.split(command)
    out = words[words.index("--out") + 1] if "--out" in words else None
    depends = [package(), command, *(keys[word] for word in words if word in keys and word != out)]
    key = _digest(*depends)
    kept = FOLDER / f"{(out or _digest(command)).replace('/', '-')}.json"
    if out is not None:
        keys[out] = key
    if kept.exists() and (out is None or (FOLDER / out).exists()):
        former = json.loads(kept.read_text(encoding="utf-8"))
        if former["key"] == key:
            return str(former["printed"])
    if out is not None:
        shutil.rmtree(FOLDER / out, ignore_errors=True)
    printed = _invoke(command, words)
    kept.write_text(json.dumps({"key": key, "printed": printed}), encoding="utf-8")
    return printed


def figure(folder: str, number: int) -> tuple[bytes, str]:
    """A picture of a folder's report, from 1, and its caption in HTML."""
    found = FIGURE.findall((FOLDER / folder / "report.html").read_text(encoding="utf-8"))
    if not 1 <= number <= len(found):
        raise PluginError(f"figure: {folder}/report.html has pictures 1 to {len(found)}")
    image, caption = found[number - 1]
    return b64decode(image), caption


@cache
def package() -> str:
    """A digest of the code that the commands run."""
    paths = sorted(p for p in (ROOT / "src").rglob("*") if p.suffix in (".py", ".yaml"))
    return _digest(*(path.read_text(encoding="utf-8") for path in paths))


def _invoke(command: str, words: list[str]) -> str:
    from typer.testing import CliRunner

    from recurra.cli.main import app

    FOLDER.mkdir(parents=True, exist_ok=True)
    before, arguments, started_s = Path.cwd(), sys.argv, monotonic()
    os.chdir(FOLDER)
    sys.argv = words
    try:
        result = CliRunner().invoke(app, words[1:])
    finally:
        os.chdir(before)
        sys.argv = arguments
    if result.exit_code:
        raise PluginError(f"{command}\n{result.output}")
    log.info("%.0f s: %s", monotonic() - started_s, command)
    return str(result.stdout)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
