using DataFrames, Statistics

"The line through some points, and its value at `x`."
function line(xs, ys, x)
    slope = length(xs) > 1 ? cov(xs, ys) / var(xs) : 0.0
    return mean(ys) + slope * (x - mean(xs))
end

"What each product will sell `ahead` days after the last day that is known of it."
function forecast(products, days, counts, ahead)
    sales = DataFrame(product = String.(products), day = Float64.(days), count = Float64.(counts))
    line_ahead = [:day, :count] => ((day, count) -> round(line(day, count, maximum(day) + ahead), digits = 2)) => :forecast
    table = sort!(combine(groupby(sales, :product), line_ahead), :product)
    return Dict{String,Float64}(zip(table.product, table.forecast))
end
