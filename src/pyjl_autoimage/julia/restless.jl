# Before Julia writes the cache of a package it waits for all that runs in its process: for ever, where a package that it has
# loaded has started a timer or a server. None of ours may load such a one.
const RESTLESS = Set{Base.PkgId}()

# How many timers, sockets and the like are at work (`active_handles` of libuv's `uv_loop_t`).
at_work() = unsafe_load(Ptr{Cuint}(Base.eventloop() + sizeof(Ptr{Cvoid})))

# Loads a package. Why none of ours can be precompiled upon it; nothing if one can.
function reason_against(id::Base.PkgId)
    before, known = at_work(), Set(keys(Base.loaded_modules))
    try
        Base.require(id)
    catch error
        return "it cannot be loaded here: $(first(split(sprint(showerror, error), '\n')))"
    end
    at_work() > before && union!(RESTLESS, setdiff(keys(Base.loaded_modules), known))
    return id in RESTLESS ? "it leaves something running that a precompilation would wait for" : nothing
end
