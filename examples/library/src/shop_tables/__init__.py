"""Totals of a shop's sales, computed by Julia's DataFrames.

    pip install . examples/library    # in the repository
    python -m pyjl_autoimage build      # finds what `images.py` declares, by the package's metadata, and bakes it
    python -m pyjl_autoimage run -c "import shop_tables; print(shop_tables.totals(['bread', 'milk'], [2.5, 1]))"

Nothing here needs pyjl_autoimage: without it, the package works as any that says `import juliacall`.
"""

from __future__ import annotations

from collections.abc import Sequence

from juliacall import Main as jl

jl.seval("import ShopTables")  # the Julia package beside this file


def totals(items: Sequence[str], prices: Sequence[float]) -> dict[str, float]:
    """What was sold of each item, in all."""
    return dict(jl.ShopTables.totals(items, prices))
