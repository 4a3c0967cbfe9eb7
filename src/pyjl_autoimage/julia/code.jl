# Evaluates a program's own Julia code the way the package that it will become is evaluated: as a module that is nobody's
# child. So the names in what is recorded now are those of the package, and nothing appears in Main.
module AutoimageCode

Base.Experimental.@compiler_options compile = min optimize = 0 infer = no

# What the last evaluation included and loaded: items separated by NUL, "file=PATH" and "package=NAME=UUID".
const FACTS = Ref{String}("")

facts() = FACTS[]

function evaluate(name, path, text, packages)
    key = Base.PkgId(nothing, String(name))
    Base.unreference_module(key) # an earlier version of it: what holds it keeps it
    tracked, known = Base._track_dependencies[], length(Base._require_dependencies)
    Base._track_dependencies[] = true
    try
        Core.eval(Base.__toplevel__, Expr(:module, true, Symbol(name), body(String(path), text, String(packages))))
        return Base.loaded_modules[key]
    catch
        Base.unreference_module(key)
        rethrow()
    finally
        Base._track_dependencies[] = tracked
        noted = splice!(Base._require_dependencies, known+1:length(Base._require_dependencies))
        FACTS[] = join((fact for fact in map(describe, noted, Iterators.repeated(Symbol(name))) if !isempty(fact)), '\0')
    end
end

function body(path, text, packages)
    block = Expr(:block, LineNumberNode(1, Symbol(path)))
    for package in split(packages)
        push!(block.args, Expr(:using, Expr(:., Symbol(package))))
    end
    code = text === nothing ? :(include($path)) : :($(Base.include_string)($(Expr(:macrocall, Symbol("@__MODULE__"), LineNumberNode(1))), $(String(text)), $path))
    push!(block.args, code)
    return block
end

# An entry of Base._require_dependencies: (module, path, ...), or (module, packed PkgId, ...) for a package.
function describe(entry, name)
    into, path = entry[1]::Module, entry[2]::String
    while parentmodule(into) !== into
        into = parentmodule(into)
    end
    if startswith(path, '\0')
        id = Base.binunpack(path)
        (nameof(into) === name && id.uuid !== nothing) || return ""
        return string("package=", id.name, '=', id.uuid)
    end
    return (nameof(into) === name || into === Main) ? string("file=", path) : ""
end

end
