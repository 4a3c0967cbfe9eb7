# Says what the loaded packages are made of, as Julia's own precompile caches say it: items "made", uuid, name, cache and
# its files, and "read", uuid, name, and uuid and name of a preference. Of a package that was loaded from source, and of
# what a system image holds, nothing is said.
module Made

include("versions.jl")
include("items.jl")

function report(io::IO)
    for (id, loaded) in Base.loaded_modules
        (id.uuid === nothing || Base.in_sysimage(id)) && continue
        cache, made = try
            path = Base.pkgorigins[id].cachepath::String
            path, cache_header(path)
        catch
            continue
        end
        # Another process may have put another one there since.
        ((id, Base.module_build_id(loaded) % UInt64) in made.modules) || continue
        item(io, "made", id.uuid, id.name, cache, made.files...)
        for (uuid, name) in made.preferences
            item(io, "read", id.uuid, id.name, uuid, name)
        end
    end
end
report(path::String) = open(report, path; write = true)

end
