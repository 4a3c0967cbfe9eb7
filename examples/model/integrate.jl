# Runge and Kutta's classical method for dy/dt = f(y), from y, in steps of h; the values after each `every` steps.
function integrate(f, y::NTuple{N,Float64}, h::Float64, steps::Int, every::Int) where {N}
    path = NTuple{N,Float64}[y]
    for step in 1:steps
        k1 = f(y)
        k2 = f(y .+ (h / 2) .* k1)
        k3 = f(y .+ (h / 2) .* k2)
        k4 = f(y .+ h .* k3)
        y = y .+ (h / 6) .* (k1 .+ 2 .* k2 .+ 2 .* k3 .+ k4)
        step % every == 0 && push!(path, y)
    end
    return path
end
