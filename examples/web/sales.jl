using CSV, DataFrames

"What each region sold, in all."
function totals(text::String)
    sales = CSV.read(IOBuffer(text), DataFrame; select = [:region, :amount], types = Dict(:amount => Float64), strict = true)
    table = combine(groupby(sales, :region), :amount => sum => :total)
    return Dict{String,Float64}(zip(String.(table.region), table.total))
end
