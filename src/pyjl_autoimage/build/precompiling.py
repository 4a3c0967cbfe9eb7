"""The Julias that make a layer: one looks at the program's own code, one precompiles what may be.

A file of own code may end either of them: it is then left evaluated, and the others are tried once more without it.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from dataclasses import replace

from ..base.call import JULIA_SOURCES
from ..errors import BuildError
from ..julia.facts import JuliaFacts
from ..julia.items import items_of
from ..store.built import Image
from ..store.places import depot_of
from ..store.validity import Situation
from .layer import Parts, Report, read_report
from .runner import TooLong, ending
from .work import Work, executable_itself, julia_environment, run

__all__ = ["LayerJulia", "precompile"]


class LayerJulia:
    """How a layer's Julia is started: on its image, with its project and flags, and the layer's depot in front."""

    def __init__(
        self, work: Work, facts: JuliaFacts, situation: Situation, directory: str, image: Image | None
    ) -> None:
        self.directory: str = directory
        self.report: str = os.path.join(directory, "report")
        self._command = [
            executable_itself(facts, work.environment),
            *([f"--sysimage={image.path}"] if image else []),
            f"--project={work.environment.project}",
            "--startup-file=no",
            *(f"--{name.replace('_', '-')}={value}" for name, value in situation.flags.items()),
        ]
        ours = [depot_of(os.path.dirname(image.path))] if image else []
        self._environ = julia_environment()
        self._environ["JULIA_DEPOT_PATH"] = os.pathsep.join((depot_of(directory), *facts.depots, *ours))
        self._environ["JULIA_PKG_OFFLINE"] = "true"
        self._environ["PYTHON_JULIACALL_INIT"] = "no"

    def run(self, work: Work, script: str, packages: Mapping[str, str], may_end: Container[str]) -> dict[str, str]:
        """Run a script about packages; and again, without those of our own code that have ended it.

        Args:
            work: the build.
            script: the name of the Julia file.
            packages: name -> uuid.
            may_end: the names of those that may be left out.

        Returns:
            Which ended it -> how. The report says nothing of them.

        Raises:
            BuildError: it does not come to its end without those.
        """
        ended: dict[str, str] = {}
        path = os.path.join(JULIA_SOURCES, script)
        while True:
            left = [f"{name}={uuid}" for name, uuid in packages.items() if name not in ended]
            open(self.report, "wb").close()  # what an earlier one said counts no more
            try:
                command = [*self._command, path, self.directory, self.report, *left]
                how = ending(run(work, command, self._environ, phase="layer"))
            except TooLong as error:
                how = str(error)
            found = self._items()
            if not how and found[-1:] == [["end", ""]]:
                return ended
            begun = [name for kind, name, *_ in found if kind == "begun"]
            if not begun or begun[-1] not in may_end:
                raise BuildError(
                    f"the layer's Julia did not come to its end: {how or 'it ended before'}; see the log"
                )
            ended[begun[-1]] = f"it ends the Julia that loads it ({how or 'it calls exit'})"

    def _items(self) -> list[list[str]]:
        try:
            with open(self.report, "rb") as file:
                return items_of(file.read())
        except OSError:
            return []

    def looked(self) -> dict[str, str]:
        """What the last report says of own code that was looked at: module -> why it must stay evaluated."""
        return {name: why for kind, name, *of in self._items() if kind == "looked" for why in of if why}


def precompile(work: Work, julia: LayerJulia, parts: Parts) -> Report:
    """Precompile a layer's packages where they have been written; what became of them.

    Raises:
        BuildError: its statements could not be compiled.
    """
    left: dict[str, str] = {}
    if parts.code:
        left = julia.run(work, "own_code.jl", {name: parts.uuid(name) for name in parts.code}, parts.code)
        left.update(julia.looked())
    names = (parts.package, *(name for name in parts.code if name not in left))
    left.update(julia.run(work, "precompile_layer.jl", {name: parts.uuid(name) for name in names}, parts.code))
    report = read_report(julia.report)
    return replace(report, failed={**left, **report.failed})
