module AutoimageRecorder

include("../../callers.jl")
include("recorder.jl")
include("layer.jl")
include("inferred.jl")
include("sleep.jl")

end
