"""jlext: functions written in Julia inside a Python program."""

from jlext import JuliaModule, julia


@julia
def escape_time(re, im, limit):
    """
    c = z = complex(re, im)
    for i in 1:limit
        abs2(z) > 4 && return i
        z = z * z + c
    end
    return limit
    """


print("escapes after", escape_time(0.4, 0.4, 50), flush=True)
print(list(escape_time.map([(0.3, 0.5, 100), (-1.0, 0.0, 50), (1.0, 1.0, 50)])))
print(round(JuliaModule("LinearAlgebra").norm([3.0, 4.0]), 6))
