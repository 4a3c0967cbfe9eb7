"""Julia in Python, started as if its code had been compiled ahead of time.

``from pyjl_autoimage import jl`` gives ``juliacall.Main``, started on the newest valid system image of this
environment, and records what the process compiles; ``rebuild()`` (or ``python -m pyjl_autoimage build``)
makes the next image of it. Importing this package starts nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .base.program import __version__ as __version__
    from .base.settings import Settings as Settings
    from .build.begin import Build as Build
    from .build.begin import rebuild as rebuild
    from .errors import AutoimageError as AutoimageError
    from .errors import BuildError as BuildError
    from .errors import CodeError as CodeError
    from .errors import JuliaNotFoundError as JuliaNotFoundError
    from .errors import SettingsError as SettingsError
    from .errors import StoreError as StoreError
    from .errors import WorkloadError as WorkloadError
    from .people.status import status as status
    from .profile.workloads import Workload as Workload
    from .profile.workloads import workload as workload
    from .startup.attach import attach as attach
    from .startup.attach import detach as detach
    from .startup.code import define as define
    from .startup.code import include as include
    from .startup.door import start as start
    from .startup.started import Started as Started
    from .startup.started import started as started

    jl: Any

__all__ = [
    "AutoimageError",
    "Build",
    "BuildError",
    "CodeError",
    "JuliaNotFoundError",
    "Settings",
    "SettingsError",
    "Started",
    "StoreError",
    "Workload",
    "WorkloadError",
    "__version__",
    "attach",
    "define",
    "detach",
    "include",
    "jl",
    "rebuild",
    "start",
    "started",
    "status",
    "workload",
]

_HOMES = {
    "AutoimageError": "errors",
    "Build": "build.begin",
    "BuildError": "errors",
    "CodeError": "errors",
    "JuliaNotFoundError": "errors",
    "Settings": "base.settings",
    "SettingsError": "errors",
    "Started": "startup.started",
    "StoreError": "errors",
    "Workload": "profile.workloads",
    "WorkloadError": "errors",
    "__version__": "base.program",
    "attach": "startup.attach",
    "define": "startup.code",
    "detach": "startup.attach",
    "include": "startup.code",
    "load_ipython_extension": "people.notebook",
    "rebuild": "build.begin",
    "start": "startup.door",
    "started": "startup.started",
    "status": "people.status",
    "unload_ipython_extension": "people.notebook",
    "workload": "profile.workloads",
}


def __getattr__(name: str) -> object:
    """Load public names when they are first used; `jl` starts Julia."""
    if name == "jl":
        from .startup.door import start

        try:
            return start()
        except AttributeError as error:  # of which `from pyjl_autoimage import jl` would say that there is no jl
            raise ImportError(f"juliacall cannot be imported: AttributeError: {error}") from error
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__} - {"jl"})  # who looks at everything that there is must not start Julia
