"""pysr: a small search for an equation, as in its documentation."""

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
    parallelism="serial",
    deterministic=True,
    random_state=0,
    progress=False,
    verbosity=0,
    temp_equation_file=True,
)
model.fit(X, y)
best = model.get_best()
print("best equation", best["equation"], flush=True)
print("loss below one:", bool(best["loss"] < 1.0))
