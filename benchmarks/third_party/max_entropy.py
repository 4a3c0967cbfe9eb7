"""DualPerspective: the distribution on a grid that is closest to uniform, given a few of its moments."""

import numpy as np
from DualPerspective import DPModel, solve

grid = np.linspace(0, 1, 60)
truth = np.exp(-(((grid - 0.3) / 0.1) ** 2))
truth /= truth.sum()
features = np.vstack([np.cos(k * np.pi * grid) for k in range(8)])
model = DPModel(features, features @ truth, lam=1e-4)
density = solve(model)
print(f"mean {grid @ density:.4f}, total mass {density.sum():.4f}", flush=True)
for method in ("trust-region", "level-set", "self-scaled"):
    solution = solve(model, method=method, full_output=True)
    print(f"{method}: {solution.status}, mean {grid @ solution.x / solution.x.sum():.3f}")
