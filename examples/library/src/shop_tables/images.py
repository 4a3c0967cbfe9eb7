"""What images of this library's users shall hold. Nothing but pyjl_autoimage imports this module."""

from pyjl_autoimage import Workload, workload


@workload(packages=["DataFrames"])
def totals() -> None:
    import shop_tables

    shop_tables.totals(["bread", "milk", "bread"], [2.5, 1.0, 2.5])


# Or a script beside this file, in Python or Julia; or, with `statements=`, a file of precompile statements.
sorting = Workload("sorting.jl", packages=["DataFrames"])
