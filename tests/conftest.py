"""Every test starts from the same random state, on the backend that the command line names."""

from collections.abc import Callable, Iterator

import pytest
import torch

from recurra.errors import ArgumentError
from recurra.kernels.cpu.host import find_host
from recurra.layers import Recurrent

# Searched for doctests, a folder's conftest would clash with this one: both are module "conftest".
collect_ignore_glob = ["*conftest.py"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend", default="auto", help="what layers run on where a test names no backend"
    )


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Models this small gain nothing from a second thread, and lose much on a busy machine.

    For a module, not for the session: what comes after it runs on the threads there are.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def at_level(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes kernels what a processor of a lesser level would run, or skips where it cannot."""

    def set_level(level: str) -> None:
        monkeypatch.setenv("RECURRA_CPU_LEVEL", level)
        find_host.cache_clear()
        try:
            find_host()
        except ArgumentError as error:
            pytest.skip(str(error))

    yield set_level
    find_host.cache_clear()


@pytest.fixture(autouse=True, scope="session")
def _backend(request: pytest.FixtureRequest) -> object:
    """Layers with backend="auto" take the named one, from their making on."""
    backend = request.config.getoption("--backend")
    if backend == "auto":
        yield
        return
    make = Recurrent.__init__

    def make_on_backend(self: Recurrent, *arguments: object, **options: object) -> None:
        if options.get("backend", "auto") == "auto":
            options["backend"] = backend
        make(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recurrent, "__init__", make_on_backend)
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--backend") == "auto":
        return
    skip = pytest.mark.skip(reason="about the generated kernels; runs without --backend")
    for item in items:
        if item.get_closest_marker("kernels"):
            item.add_marker(skip)
