-- Every request has a path of its own.
local n = 0

function request()
  n = n + 1
  return wrk.format("GET", "/" .. n)
end
