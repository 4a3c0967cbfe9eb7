"""cxregions: curves, polygons and Moebius maps in the complex plane."""

from cxregions import Circle, Line, Mobius, Polygon, unitcircle

polygon = Polygon([4, 4 + 3j, 3j, -2j, 6 - 2j, 6])
print("winding numbers", [polygon.winding(z) for z in (5 - 1j, 1 + 1j, -2 + 1j)], flush=True)
to_circle = Mobius(Line(-1, 1), Circle(0, 1))
print("the line becomes the unit circle:", to_circle(Line(-1, 1)).isapprox(unitcircle))
inverse = Mobius(1, 1, 1, -1).inv()
print("inverse of (z + 1) / (z - 1) at 3:", inverse(3))
print("length of the polygon:", round(polygon.arclength(), 9))
