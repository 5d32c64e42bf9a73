-- Routes as one worker sees them.
--
-- The shared dictionary is where the router process's deltas arrive (control.lua); a worker keeps, for every host it was
-- asked for, ONE packed string, so that a request costs two table look-ups and no allocation of its own:
--
--   byte 1            width of an instance id
--   6 bytes each      endpoint: address number (3), port (2), reserved (1)
--   width bytes each  the endpoint's instance id, padded with blanks
--
-- A version number in the dictionary, read at every request, says whether anything changed; a change names its hosts, and
-- only these are forgotten and read again at their next request.

local dict = ngx.shared.ingot_routes
local byte, char, sub, find, gmatch, rep =
  string.byte, string.char, string.sub, string.find, string.gmatch, string.rep
local concat, floor, random = table.concat, math.floor, math.random

local _M = {}

local packed = {}      -- host -> packed string
local apps = {}        -- host -> application id as a string, "0" where none is known
local mixed = {}       -- host -> application ids by endpoint, only where a host is served by several applications
local turns = {}       -- host -> requests so far: the round robin's place
local addresses = {}   -- number -> address
local numbers = {}     -- address -> number
local version = 0      -- of the dictionary, as far as this worker has followed
local wildcards = 0    -- hosts "*.x.y" that exist

-- A worker further behind than this forgets everything instead of following.
local MAX_LAG = 1000

local function number_of(address)
  local number = numbers[address]
  if not number then
    number = #addresses + 1
    addresses[number] = address
    numbers[address] = number
  end
  return number
end

local function forget_all()
  packed, apps, mixed, turns, addresses, numbers = {}, {}, {}, {}, {}, {}
end

local function forget(host)
  packed[host], apps[host], mixed[host], turns[host] = nil, nil, nil, nil
end

-- Catch up with the dictionary; called once a request.
local function sync()
  local latest = dict:get("version") or 0
  if latest == version then
    return
  end
  if latest - version > MAX_LAG or latest < version then
    forget_all()
  else
    for number = version + 1, latest do
      local names = dict:get("c:" .. number)
      if not names or names == "*" then
        forget_all()
        break
      end
      for name in gmatch(names, "[^\n]+") do
        forget(name)
      end
    end
  end
  version = latest
  wildcards = dict:get("wildcards") or 0
end

-- Pack a host's routes from the dictionary; nil when it has none.
local function load(host)
  local value = dict:get("h:" .. host)
  if not value then
    return nil
  end
  local records, ids, names, width, several = {}, {}, {}, 0, false
  local n = 0
  for address, port, app, instance in gmatch(value, "\n([^\t]+)\t(%d+)\t(%d*)\t([^\t]*)\t") do
    n = n + 1
    local number, port_number = number_of(address), tonumber(port)
    records[n] = char(
      floor(number / 65536), floor(number / 256) % 256, number % 256, floor(port_number / 256), port_number % 256, 0
    )
    ids[n] = instance
    names[n] = app ~= "" and app or "0"
    several = several or names[n] ~= names[1]
    if #instance > width then
      width = #instance
    end
  end
  if n == 0 then
    return nil
  end
  for i = 1, n do
    ids[i] = ids[i] .. rep(" ", width - #ids[i])
  end
  local routes = char(width) .. concat(records) .. concat(ids)
  packed[host] = routes
  apps[host] = names[1]
  mixed[host] = several and names or nil
  turns[host] = random(0, n - 1)
  return routes
end

-- Which entry serves this host: its own, or the nearest wildcard above it.
local function entry(host)
  if packed[host] or load(host) then
    return host
  end
  if wildcards > 0 then
    local dot = find(host, ".", 1, true)
    while dot do
      local name = "*" .. sub(host, dot)
      if packed[name] or load(name) then
        return name
      end
      dot = find(host, ".", dot + 1, true)
    end
  end
  return nil
end

-- For set_by_lua: the application's id ("0": there is a route, the application is not known), or "" for an unknown host.
function _M.app()
  sync()
  local host = ngx.var.host
  local app = apps[host]
  if app then
    return app
  end
  local name = entry(host)
  return name and apps[name] or ""
end

-- For the balancer: the entry's name, its packed routes, the number of endpoints, the width of an id; nil without routes.
function _M.find(host)
  local routes = packed[host]
  if not routes then
    host = entry(host)
    if not host then
      return nil
    end
    routes = packed[host]
  end
  local width = byte(routes, 1)
  return host, routes, (#routes - 1) / (6 + width), width
end

-- The place the next request takes.
function _M.turn(name)
  local turn = turns[name]
  turns[name] = turn + 1
  return turn
end

-- Endpoint i (from 0) as address, port, and one number that stands for both.
function _M.endpoint(routes, i)
  local at = 2 + i * 6
  local a, b, c, d, e = byte(routes, at, at + 4)
  local number, port = a * 65536 + b * 256 + c, d * 256 + e
  return addresses[number], port, number * 65536 + port
end

-- The instance id of endpoint i.
function _M.instance(routes, i, n, width)
  local at = 2 + n * 6 + i * width
  local id = sub(routes, at, at + width - 1)
  if byte(id, width) == 32 then
    id = id:match("^(.-) *$")
  end
  return id
end

-- The application of endpoint i where a host has several; nil where app() has said it already.
function _M.app_of(name, i)
  local names = mixed[name]
  return names and names[i + 1]
end

-- The number that `endpoint` gives for an address and a port seen in a log variable; nil for one never seen.
function _M.key(address, port)
  local number = numbers[address]
  return number and number * 65536 + port
end

return _M
