"""grizzlys: a CSV file is read, and looked at."""

import tempfile
from pathlib import Path

from grizzlys.core.session import julia
from grizzlys.io.csv.reader import read_csv

file = Path(tempfile.mkdtemp(), "weights.csv")
file.write_text("name,kind,weight\n" + "".join(f"n{i},{'ab'[i % 2]},{i * 0.5}\n" for i in range(200)))
table = read_csv(file)
print("rows", julia.nrow(table), flush=True)
print("columns", [str(name) for name in julia.names(table)])
print("first", str(julia.first(table, 3)))
