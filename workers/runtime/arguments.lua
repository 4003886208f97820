-- Fragment for the scripts that read their arguments one after the other.
local position = 0

local function next_text()
  position = position + 1
  return ARGV[position]
end

local function next_number()
  return tonumber(next_text())
end

local function next_list()
  local list = {}
  for i = 1, next_number() do list[i] = next_text() end
  return list
end

