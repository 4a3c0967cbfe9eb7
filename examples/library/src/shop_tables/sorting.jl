using DataFrames

sort(DataFrame(item = ["milk", "bread"], price = [1.0, 2.5]), :price; rev = true)
