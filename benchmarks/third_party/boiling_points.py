"""pyclapeyron: equations of state of methane and ethane."""

import numpy as np
import pyclapeyron as cl

methane = cl.PR(["methane"])
pressure, liquid, vapour = cl.saturation_pressure(methane, 130.0)
print(f"methane boils at 130 K under {pressure / 1e5:.3f} bar", flush=True)
mixture = cl.SRK(["methane", "ethane"]) if hasattr(cl, "SRK") else cl.PR(["methane", "ethane"])
z = np.array([0.6, 0.4])
print(f"{cl.molar_density(mixture, 20e5, 300.0, z):.2f} mol/m3")
print(f"speed of sound {cl.speed_of_sound(mixture, 20e5, 300.0, z):.1f} m/s")
bubble = cl.bubble_pressure(mixture, 200.0, z)
print(f"bubble point {bubble[0] / 1e5:.2f} bar, first vapour {np.round(bubble[3], 3)}")
