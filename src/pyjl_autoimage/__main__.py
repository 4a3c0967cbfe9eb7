"""``python -m pyjl_autoimage``, and the script ``pyjl-autoimage``."""

import os
import sys


def main() -> int:
    """Run the command line of this process; its exit status."""
    _see_what_a_module_sees()
    if sys.argv[1:2] == ["run"]:  # quickly: a program is waiting
        from .hook.run import run

        return run(sys.argv[2:])
    from .people.cli import main

    return main()


def _see_what_a_module_sees() -> None:
    """Let the script see the ``juliapkg.json`` that ``python -m`` sees: the current directory is on its ``sys.path``.

    At the end: nothing there is to be imported in place of anything else.
    """
    if __name__ != "__main__" and not getattr(sys.flags, "safe_path", False):
        try:
            sys.path.append(os.getcwd())
        except OSError:
            pass  # it is gone


if __name__ == "__main__":
    sys.exit(main())
