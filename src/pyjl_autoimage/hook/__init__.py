"""`import juliacall` anywhere is a start of ours: in this process, under `run`, in each Python of an environment.

What each ``.pth`` file of `enable` imports is `find_spec` of this module, whatever else moves.
"""

from ..startup.door import find_spec, install, installed, uninstall

__all__ = ["find_spec", "install", "installed", "uninstall"]
