# Runs on a new image, with the image's depot in front: precompiles what is not in the image, so that no program
# waits for it. An image has a Core of its own, so the caches that Julia ships for its standard libraries do not
# fit it either.
using Pkg

# Those of the image, which sleep, are there for who asks what is missing.
foreach(((id, m),) -> id.name == "AutoimageRecorder" && m.reveal(), collect(Base.loaded_modules))

# Nothing is to be installed. Asked to look, Pkg would install the registries of a depot that has none or (Julia 1.13)
# that the manifest names, JULIA_PKG_OFFLINE or not (Pkg.jl 4579, 4784).
precompile_all() = Pkg.precompile(; already_instantiated = true)

identity_of(project) = Base.PkgId(Base.UUID(project["uuid"]::String), project["name"]::String)

function standard_libraries()
    files = (joinpath(Sys.STDLIB, name, "Project.toml") for name in readdir(Sys.STDLIB))
    return [Base.parsed_toml(file) for file in files if isfile(file)]
end

# A project that depends on all that is outside the image: Pkg precompiles a project's packages side by side.
function write_project(directory, libraries)
    wanted = Dict(p["name"] => p["uuid"] for p in libraries if !haskey(Base.loaded_modules, identity_of(p)))
    entry(p) = Dict("uuid" => p["uuid"], "deps" => get(p, "deps", Dict{String,Any}()))
    entries = Dict(p["name"] => [entry(p)] for p in libraries)
    open(io -> Pkg.TOML.print(io, Dict("deps" => wanted)), joinpath(directory, "Project.toml"), "w")
    open(joinpath(directory, "Manifest.toml"), "w") do io
        Pkg.TOML.print(io, Dict("julia_version" => string(VERSION), "manifest_format" => "2.0", "deps" => entries))
    end
end

let users = dirname(Base.active_project()), libraries = standard_libraries(), failed = String[]
    try
        mktempdir() do directory
            write_project(directory, libraries)
            Pkg.activate(directory; io = devnull)
            precompile_all()
        end
    catch err
        println("standard libraries: ", sprint(showerror, err))
    end
    Pkg.activate(users; io = devnull)
    for project in libraries # loaded, so that extensions which they trigger are precompiled, too
        id = identity_of(project)
        haskey(Base.loaded_modules, id) && continue
        try
            Base.require(id)
        catch
            push!(failed, id.name) # some do not load on every system; a program that needs one would say so
        end
    end
    isempty(failed) || println("not precompiled: ", join(failed, ", "))
end
precompile_all()
