# What the library has of Julia code: a package, so that it is precompiled, and part of images.
module ShopTables

using DataFrames

function totals(items, prices)
    sales = DataFrame(item = String.(items), price = Float64.(prices))
    table = combine(groupby(sales, :item), :price => sum => :total)
    return Dict(zip(table.item, table.total))
end

end
