module AutoimageRecorder

include("../../callers.jl")
include("recorder.jl")
include("layer.jl")
include("inferred.jl")

end
