# What our Julia processes report: items "key=value" that NUL ends, as a path may hold anything but NUL. What an item
# without a key says goes with the item before.
function item(io::IO, key, values...)
    print(io, key)
    foreach(value -> print(io, '=', value, '\0'), values)
end
