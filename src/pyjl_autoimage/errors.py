"""What this package raises, all of it under one name."""

from __future__ import annotations

__all__ = [
    "AutoimageError",
    "BuildError",
    "CodeError",
    "JuliaNotFoundError",
    "SettingsError",
    "StoreError",
    "WorkloadError",
]


class AutoimageError(Exception):
    """The base of every error that this package raises."""


class SettingsError(AutoimageError, ValueError):
    """A setting has an unknown name or a bad value; the message names where it was set."""


class JuliaNotFoundError(AutoimageError):
    """No usable Julia, or no Julia project; the message says what is missing and what to set."""


class SetUpError(JuliaNotFoundError):
    """juliapkg could not set Julia or its project up. `original` is its own error."""

    def __init__(self, message: str, original: BaseException) -> None:
        super().__init__(message)
        self.original = original

    def __reduce__(self) -> tuple[type[SetUpError], tuple[str, BaseException]]:
        return type(self), (str(self.args[0]), self.original)


class StoreError(AutoimageError):
    """The store cannot be used: not writable, not ours, or full."""


class WorkloadError(AutoimageError):
    """A workload cannot be run: there is no such program, or a function cannot be carried to a fresh process."""


class BuildError(AutoimageError):
    """A build failed. The message holds its last meaningful lines and the place of its log.

    ``log`` is the path of the whole log, or None when the build failed before it had one.
    """

    def __init__(self, message: str, log: str | None = None) -> None:
        super().__init__(message)
        self.log = log

    def __reduce__(self) -> tuple[type[BuildError], tuple[str, str | None]]:
        return type(self), (str(self.args[0]), self.log)


class CodeError(AutoimageError):
    """Julia code of the program's own cannot be found, or uses what the project does not have."""
