"""omjlcomps: OpenMDAO minimises a paraboloid whose values and derivatives are computed in Julia."""

import juliacall
import openmdao.api as om
from omjlcomps import JuliaExplicitComp

jl = juliacall.newmodule("Optimum")
jl.seval("""
using OpenMDAOCore
struct Paraboloid <: OpenMDAOCore.AbstractExplicitComp end
OpenMDAOCore.setup(::Paraboloid) =
    ([VarData("x"), VarData("y")], [VarData("f")], [PartialsData("f", "x"), PartialsData("f", "y")])
function OpenMDAOCore.compute!(::Paraboloid, inputs, outputs)
    x, y = inputs["x"][1], inputs["y"][1]
    outputs["f"][1] = (x - 3)^2 + x * y + (y + 4)^2 - 3
    return nothing
end
function OpenMDAOCore.compute_partials!(::Paraboloid, inputs, partials)
    x, y = inputs["x"][1], inputs["y"][1]
    partials["f", "x"][1] = 2 * (x - 3) + y
    partials["f", "y"][1] = x + 2 * (y + 4)
    return nothing
end
""")
problem = om.Problem(reports=False)
problem.model.add_subsystem("paraboloid", JuliaExplicitComp(jlcomp=jl.Paraboloid()), promotes=["*"])
problem.driver = om.ScipyOptimizeDriver(optimizer="SLSQP", disp=False)
problem.model.add_design_var("x", lower=-50, upper=50)
problem.model.add_design_var("y", lower=-50, upper=50)
problem.model.add_objective("f")
problem.setup()
problem.run_driver()
print(*(f"{name} = {problem.get_val(name).item():.4f}" for name in ("x", "y", "f")))
