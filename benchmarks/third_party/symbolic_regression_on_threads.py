"""pysr: the same search on all threads that Julia has."""

import numpy as np
from pysr import PySRRegressor

random = np.random.default_rng(7)
X = random.uniform(-2, 2, size=(80, 2))
y = 1.5 * X[:, 0] ** 2 - np.cos(3 * X[:, 1])
model = PySRRegressor(
    niterations=4,
    populations=4,
    population_size=20,
    maxsize=14,
    binary_operators=["+", "-", "*"],
    unary_operators=["cos"],
    parallelism="multithreading",
    progress=False,
    verbosity=0,
    temp_equation_file=True,
)
model.fit(X, y)
print("loss below one:", bool(model.get_best()["loss"] < 1.0), flush=True)
