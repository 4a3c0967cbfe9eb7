# What an image depends on of Julia itself, printed as items. Runs with --compile=min: keep it simple.
include("internals.jl")
include("items.jl")
let item(key, value) = Main.item(stdout, key, value)
    item("version", VERSION)
    item("commit", Base.GIT_VERSION_INFO.commit)
    item("word_size", Sys.WORD_SIZE)
    # Base keeps its build id in every image that is built on top of this sysimage: it names the sysimage.
    item("base_build_id", Base.module_build_id(Base))
    item("cpu_name", Sys.CPU_NAME)
    item("bindir", Sys.BINDIR)
    item("base_sysimage", abspath(unsafe_string(Base.JLOptions().image_file)))
    item("libjulia", abspath(Base.Libc.Libdl.dlpath("libjulia")))
    foreach(path -> item("depot", abspath(path)), DEPOT_PATH)
    foreach(path -> item("load_path", path), Base.load_path())
    foreach(((name, without),) -> item("lacks", string(name, ": ", without)), Internals.lacking())
end
