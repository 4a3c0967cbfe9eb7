# An epidemic of the SIR kind, fitted to the daily count of infected people, region by region.
using CSV, DataFrames, LinearAlgebra, Statistics

include("integrate.jl")

"Infections per day and infected person (beta), recoveries per day (gamma), and how many are infected at first."
struct SIR
    beta::Float64
    gamma::Float64
    infected::Float64
end

SIR(parameters::Vector{Float64}) = SIR(exp.(parameters)...)
parameters(model::SIR) = log.([model.beta, model.gamma, model.infected])
reproduction(model::SIR) = model.beta / model.gamma

const POPULATION = 10_000.0

"The number of infected people on each day."
function simulate(model::SIR, days::Int)
    change((s, i, r)) = (new = model.beta * s * i / POPULATION; (-new, new - model.gamma * i, model.gamma * i))
    start = (POPULATION - model.infected, model.infected, 0.0)
    return [i for (_, i, _) in integrate(change, start, 0.25, 4 * (days - 1), 4)]
end

"The model that fits the counts best: Gauss and Newton's method, damped, on the logarithms of the parameters."
function fit(counts::AbstractVector{<:Real}; rounds = 60)
    days, damping = length(counts), 1.0
    residuals(p) = sqrt.(simulate(SIR(p), days)) .- sqrt.(counts)
    best = parameters(SIR(0.4, 0.15, max(1.0, first(counts))))
    r = residuals(best)
    for _ in 1:rounds
        jacobian = reduce(hcat, [(residuals(best .+ 1e-5 .* (1:3 .== k)) .- r) ./ 1e-5 for k in 1:3])
        step = (jacobian' * jacobian + damping * I) \ (-jacobian' * r)
        candidate = residuals(best .+ step)
        if sum(abs2, candidate) < sum(abs2, r)
            best, r, damping = best .+ step, candidate, damping / 3
            norm(step) < 1e-9 && break
        else
            damping *= 4
        end
    end
    return SIR(best)
end

"What became of each region: a table, and the regions' curves beside each other every ten days, as text."
function report(path::AbstractString)
    cases = CSV.read(path, DataFrame)
    fits = combine(groupby(cases, :region), :infected => (counts -> Ref(fit(counts))) => :model)
    transform!(fits, :model => ByRow(reproduction) => :R0, :model => ByRow(m -> 1 / m.gamma) => :days_ill)
    fits.peak = [argmax(simulate(model, 200)) - 1 for model in fits.model]
    curves = unstack(filter(:day => day -> day % 10 == 0, cases), :day, :region, :infected)
    growth = combine(groupby(cases, :region), :infected => maximum => :most, :infected => mean => :mean)
    table = sort!(leftjoin(select(fits, Not(:model)), growth, on = :region), :R0, rev = true)
    for name in (:R0, :days_ill, :mean)
        table[!, name] = round.(table[!, name], digits = 2)
    end
    return string(sprint(show, MIME("text/plain"), table), '\n', sprint(show, MIME("text/plain"), curves))
end
