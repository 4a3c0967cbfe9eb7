# Runs at the end of the Julia process that writes the image: compiles the recorded statements into it and
# reports what the image really holds.
#
# PackageCompiler would evaluate a line of a statements file as it stands. A recording is data: only
# `precompile` of a type is accepted, and nothing of it is evaluated. The type is put together here, from names that
# are looked up in modules and from literals, and a line costs at most what a line may cost.
module Bake

include("callers.jl")
include("items.jl")

const DEEPEST = 50 # how deep a type may be nested
const LONGEST = 1000 # how many elements a length may stand for
const MOST = 5000 # how many names and literals a type may consist of
const WIDEST = 100 # how many types a union, each of which is compared with each other

# Whether a line may be shown to Julia's parser, which spends minutes on ten thousand brackets, operators or dots. Types
# are printed without anything that nests but brackets; where a name is none for the parser, it is a string.
function is_plain(line)
    code = replace(line, r"\bvar\"[^\"\\]*\"|\bSymbol\(\"[^\"\\$]*\"\)|'[^'\\]'" => "_")
    (occursin(r"[\"'`#$;@[:cntrl:]]|(?:\.\w+){50}", code) || count(==(','), code) > MOST) && return false
    count(r"[^\w\s.,:{}()]|(?<!,)\s|(?<=[\w:)}]):|(?<=[)}])[({]", code) > 500 && return false
    depth = 0
    for bracket in eachmatch(r"[({})]", code)
        depth += bracket.match in ("(", "{") ? 1 : -1
        depth > DEEPEST && return false
    end
    return true
end

# What a name or a literal is, or what is put together from them; anything else is an error. `scope`: names that are
# meant, whatever else is loaded. (Loops, for they are run once in a process: `map` would be compiled for each type.)
value(@nospecialize(literal::Union{Number,Char}), scope, depth) = literal
value(quoted::QuoteNode, scope, depth) = quoted.value::Symbol
value(name::Symbol, scope, depth) = haskey(scope, name) ? scope[name] : root_named(name)
function value(ex::Expr, scope, depth)
    depth < DEEPEST || error("nested too deep")
    head, args, depth = ex.head, ex.args, depth + 1
    head === :tuple && return (values(args, scope, depth)...,)
    head === :. && return getglobal(value(args[1], scope, depth)::Module, (args[2]::QuoteNode).value::Symbol)
    head === :where && return quantified(args[1], args[2:end], scope, depth)
    head === :curly && return curly(args, scope, depth)
    Meta.isexpr(ex, :call, 2) || error("not part of a type")
    f, arg = args[1], args[2] # a handful of calls occur in printed types
    f === :typeof && return typeof(value(arg, scope, depth))
    f === :Symbol && return Symbol(arg::String)
    f in LITERALS && return getglobal(Base, f)(arg::Union{Number,Char})
    error("not part of a type")
end

function values(args, scope, depth)
    found = Any[]
    for arg in args
        push!(found, value(arg, scope, depth))
    end
    return found
end

const LITERALS = Any[
    :Int8, :Int16, :Int32, :Int64, :Int128, :UInt8, :UInt16, :UInt32, :UInt64, :UInt128,
    :Float16, :Float32, :Float64, :Char, :Bool,
]

# Packages are known to each other by name, so names at the root of a type are looked up among what is loaded.
function root_named(name)
    for m in (Core, Base)
        Base.isexported(m, name) && return getglobal(m, name)
    end
    found = Module[]
    for (id, m) in Base.loaded_modules
        id.name == String(name) && push!(found, m)
    end
    return only(found)
end

# `body where variables`, of which the first is the outermost.
function quantified(@nospecialize(body), variables, scope, depth)
    isempty(variables) && return value(body, scope, depth)
    variable = type_variable(variables[1], scope, depth)
    scope = copy(scope)
    scope[variable.name] = variable
    return UnionAll(variable, quantified(body, variables[2:end], scope, depth))
end

# `T`, `T<:A`, `T>:A`, `A<:T<:B`, and without a name `<:A`, `>:A`.
function type_variable(@nospecialize(ex), scope, depth)
    ex isa Symbol && return TypeVar(ex)
    args = (ex::Expr).args
    bound = value(args[end], scope, depth)
    name = is_bound(ex) ? :_ : args[ex.head === :comparison ? 3 : 1]::Symbol
    ex.head === :<: && return TypeVar(name, bound)
    ex.head === :>: && return TypeVar(name, bound, Any)
    ex.head === :comparison && args[2] === args[4] === :<: || error("not a variable")
    return TypeVar(name, value(args[1], scope, depth), bound)
end

is_bound(@nospecialize(ex)) = Meta.isexpr(ex, :<:, 1) || Meta.isexpr(ex, :>:, 1)

function curly(args, scope, depth)
    type, variables, parameters, width = value(args[1], scope, depth), TypeVar[], Any[], 0
    for arg in args[2:end]
        is_bound(arg) && push!(variables, type_variable(arg, scope, depth))
        push!(parameters, is_bound(arg) ? variables[end] : value(arg, scope, depth))
        parameters[end] isa Integer && parameters[end] > LONGEST && has_length(type) && error("too long")
        type === Union && (width += Base.unionlen(parameters[end])) > WIDEST && error("too wide")
    end
    type = Core.apply_type(type, parameters...)
    for variable in reverse!(variables)
        type = UnionAll(variable, type)
    end
    return type
end

# Whether a parameter may be a number of elements: of a tuple, or of one in a field.
function has_length(@nospecialize(type))
    body = Base.unwrap_unionall(type)
    is_of_any_length(body) && return true
    body isa DataType || return false
    for field in Base.unwrap_unionall(body.name.wrapper).types
        is_of_any_length(field) && return true
    end
    return false
end
is_of_any_length(@nospecialize(type)) = type === Vararg || type isa Core.TypeofVararg || type isa DataType && type <: Tuple

# How many of `left` parts are left beside those of a type, in which tuples of tuples multiply.
function left_by(@nospecialize(type), left)
    left > 0 || return left
    if type isa DataType
        left -= 1
        for parameter in type.parameters
            left = left_by(parameter, left)
        end
        return left
    end
    type isa UnionAll && return left_by(type.body, left_by(type.var.lb, left_by(type.var.ub, left)))
    type isa Union && return left_by(type.a, left_by(type.b, left))
    type isa Core.TypeofVararg && return isdefined(type, :T) ? left_by(type.T, left) : left
    return left - 1
end

# The type that a line names: nothing if it is anything else, or names what is not there.
#
# `own`: modules that are meant by their names, whatever else is loaded.
function named(line, own = Module[])
    is_plain(line) || return nothing
    try
        ex = Meta.parse(line)
        Meta.isexpr(ex, :call, 2) && ex.args[1] === :precompile && Meta.isexpr(ex.args[2], :curly) || return nothing
        scope = Dict{Symbol,Any}()
        for m in own
            scope[nameof(m)] = m
        end
        tuple = value(ex.args[2], scope, 0)
        return tuple isa Type && tuple <: Tuple && left_by(tuple, MOST) > 0 ? tuple : nothing
    catch
        return nothing
    end
end

compile(::Nothing) = false
compile(@nospecialize(tuple::Type)) =
    try
        precompile(tuple)::Bool
    catch
        false
    end

# Code is compiled for what a call brings along. Where little is known of that ahead (a column is an AbstractVector), the
# callee is inferred all the same, with all that it may reach; there is nothing to compile, and `precompile` refuses it. If
# the image lacks the result, whoever makes such a call next infers it anew.
infer(::Nothing) = false
infer(@nospecialize(tuple::Type)) =
    try
        method = which(tuple)
        type, parameters = ccall(:jl_type_intersection_with_env, Any, (Any, Any), tuple, method.sig)::Core.SimpleVector
        Core.Compiler.typeinf_type(Core.Compiler.NativeInterpreter(), method, type, parameters) !== nothing
    catch
        false
    end

recorder() = only(m for (id, m) in Base.loaded_modules if id.name == "AutoimageRecorder")

# No recording has what our own recorder needs; every start on the image calls it.
function compile_recorder(recorder)
    precompile(recorder.start, (String,))
    precompile(recorder.note, (Base.PkgId,))
    precompile(recorder.note_compiled, ())
    precompile(recorder.note_inferred, (String, Float64))
    precompile(recorder.unspecialize_callers, ())
    precompile(recorder.use_layer, (String,))
    precompile(recorder.load_statements, (Base.PkgId,))
    precompile(recorder.load_cached, (Base.PkgId,))
    precompile(recorder.load_cached, (String, String))
    precompile(recorder.__init__, ())
    precompile(Base._delete!, (Dict{Base.PkgId,Module}, Int))
    for name in (:EXT_PRIMED, :EXT_DORMITORY)
        isdefined(Base, name) && precompile(empty!, (typeof(getfield(Base, name)),))
    end
    precompile(recorder.reinstate, (Method,))
    precompile(recorder.wake, (Base.PkgId,))
    precompile(recorder.wake_for_caches, (Base.PkgId,))
    for env in (Nothing, String)
        precompile(recorder.may_wake, (Base.PkgId, env))
        precompile(Base._require_prelocked, (Base.PkgId, env))
        precompile(Base.__require_prelocked, (Base.PkgId, env))
        isdefined(Base, :_require) && precompile(Base._require, (Base.PkgId, env))
    end
    precompile(Base._tryrequire_from_serialized, (Base.PkgId, String, String))
end

function bake(statements, report)
    unspecialize_callers() # before anything of them is compiled; an image keeps it
    lines = readlines(statements)
    println("[autoimage] statements 0/", length(lines))
    flush(stdout)
    # Whoever ends a build that hangs at a statement must know which.
    at = open(report * ".at", "w")
    open(report, "w") do io
        for (number, line) in enumerate(lines)
            print(seekstart(at), number)
            flush(at)
            tuple = named(line)
            compile(tuple) || item(io, infer(tuple) ? "inferred" : "unresolved", number)
            if number % 200 == 0
                println("[autoimage] statements ", number, '/', length(lines))
                flush(stdout)
            end
        end
        item(io, "julia", VERSION, Base.GIT_VERSION_INFO.commit, Base.module_build_id(Base))
        compile_recorder(recorder())
        for (id, loaded) in Base.loaded_modules
            (id.uuid === nothing || Base.in_sysimage(id)) && continue
            item(io, "loaded", id.uuid, id.name, something(pkgversion(loaded), ""), something(pkgdir(loaded), ""))
        end
        item(io, "end", "")
    end
    Base.invokelatest(recorder().put_to_sleep)
    println("[autoimage] native code")
    flush(stdout)
end

end
