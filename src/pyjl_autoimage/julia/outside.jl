# Runs on a new image, with the image's depot in front: precompiles what is not in the image, so that no program
# waits for it. An image has a Core of its own, so the caches that Julia ships for its standard libraries do not
# fit it either.
let failed = String[]
    for name in readdir(Sys.STDLIB)
        file = joinpath(Sys.STDLIB, name, "Project.toml")
        isfile(file) || continue
        project = Base.parsed_toml(file)
        id = Base.PkgId(Base.UUID(project["uuid"]::String), project["name"]::String)
        haskey(Base.loaded_modules, id) && continue
        try
            Base.require(id)
        catch
            push!(failed, name) # some do not load on every system; a program that needs one would say so
        end
    end
    isempty(failed) || println("not precompiled: ", join(failed, ", "))
end
using Pkg
Pkg.precompile()
