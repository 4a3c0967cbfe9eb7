"""``python -m pyjl_autoimage``, and the script ``pyjl-autoimage``."""

import sys


def main() -> int:
    """Run the command line of this process; its exit status."""
    if sys.argv[1:2] == ["run"]:  # quickly: a program is waiting
        from .programs import run

        return run(sys.argv[2:])
    from .cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
