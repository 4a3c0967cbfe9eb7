# Runs on a new image, with the image's depot in front: precompiles what is not in the image, so that no program
# waits for it. An image has a Core of its own, so the caches that Julia ships for its standard libraries do not
# fit it either. Those get a project of their own: Pkg precompiles a project's packages side by side.
using Pkg

function write_project_of_standard_libraries(directory)
    projects = [
        Base.parsed_toml(file) for
        file in (joinpath(Sys.STDLIB, name, "Project.toml") for name in readdir(Sys.STDLIB)) if isfile(file)
    ]
    outside(project) = !haskey(Base.loaded_modules, Base.PkgId(Base.UUID(project["uuid"]::String), project["name"]::String))
    open(joinpath(directory, "Project.toml"), "w") do io
        println(io, "[deps]")
        foreach(p -> println(io, p["name"], " = ", repr(p["uuid"])), filter(outside, projects))
    end
    open(joinpath(directory, "Manifest.toml"), "w") do io
        println(io, "julia_version = ", repr(string(VERSION)), "\nmanifest_format = \"2.0\"")
        for project in projects
            println(io, "\n[[deps.", project["name"], "]]")
            println(io, "deps = ", repr(sort!(collect(String, keys(get(project, "deps", Dict{String,Any}()))))))
            println(io, "uuid = ", repr(project["uuid"]))
        end
    end
end

function precompile_all()
    try
        Pkg.precompile()
        return true
    catch err # some do not load on every system; a program that needs one would say so
        println("not precompiled: ", sprint(showerror, err))
        return false
    end
end

let users = Base.active_project()
    mktempdir() do directory
        write_project_of_standard_libraries(directory)
        Pkg.activate(directory; io = devnull)
        precompile_all()
    end
    Pkg.activate(dirname(users); io = devnull)
    precompile_all() || exit(1)
end
