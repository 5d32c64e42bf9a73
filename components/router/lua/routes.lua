-- Routes in one worker.
--
-- The router process's deltas arrive in the shared dictionary (control.lua). A worker keeps, for every host it was asked
-- for, an entry of C memory (hosts.lua) that names its endpoint rows (endpoints.lua): a request allocates nothing and leaves
-- Lua's collector nothing to walk. An endpoint of weight w is in its host's list w times.
--
-- A version number in the dictionary, read at most once a millisecond, tells whether anything changed; a change names its
-- hosts, and only these are read again, at their next request.

local ffi = require "ffi"
local cjson = require "cjson.safe"
local endpoints = require "endpoints"
local hosts = require "hosts"
local request = require "request"

local dict = ngx.shared.ingot_routes
local sub, find, gmatch, now = string.sub, string.find, string.gmatch, ngx.now
local place_of, request_host = hosts.place, request.host_bytes
local take, give = endpoints.take, endpoints.give

local _M = {}

local zone = ""
local platform = {}    -- names of the platform's own hosts
local LIVE, STALE, SHORT = hosts.LIVE, hosts.STALE, hosts.SHORT
local stale = {}       -- hosts that are to be read again
local entries = hosts.store
-- The lists of rows that entries have no room for; replaced by a larger table if needed.
local members, member_room, members_used, gaps = ffi.new("uint32_t[?]", 8192), 8192, 0, {}
local version = 0      -- of the dictionary, as far as this worker has followed
local wildcards = 0    -- hosts "*.x.y" that exist
local checked = 0      -- when the version was last read

-- A worker further behind than this reads everything again.
local MAX_LAG = 1000
local MAX_WEIGHT, REAP_SECONDS = 20, 10

-- Settings from nginx.conf: the zone this router is in, "" for none, and the platform's own hosts.
function _M.configure(name, hosts)
  zone, platform = name, {}
  for _, host in ipairs(hosts) do
    platform[host] = true
  end
end

local function forget(host)
  local at = hosts.find(host)
  if at then
    entries.entries[at].state = STALE
    stale[host] = true
  end
end

local function forget_all()
  for _, host in ipairs(hosts.stale_all()) do
    stale[host] = true
  end
end

-- Follow the dictionary.
local function catch_up(latest)
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

local function look()
  local latest = dict:get("version") or 0
  if latest ~= version then
    catch_up(latest)
  end
end

-- Read the version at the next request, even if another did in this millisecond.
function _M.refresh()
  checked = 0
end

-- Room for a list of n rows; the room of a removed list goes to the next of its length.
local function allot(n)
  local gap = gaps[n]
  if gap and #gap > 0 then
    return table.remove(gap)
  end
  local base = members_used
  members_used = base + n
  if members_used > member_room then
    local larger = ffi.new("uint32_t[?]", members_used * 2)
    ffi.copy(larger, members, member_room * 4)
    members, member_room = larger, members_used * 2
  end
  return base
end

-- The row at a place of an entry's list, both counted from 0.
local function row_at(at, place)
  if entries.entries[at].n <= SHORT then
    return entries.entries[at].rows[place]
  end
  return members[entries.entries[at].base + place]
end
_M.row_at = row_at

local function release(base, rows)
  for _, row in ipairs(rows) do
    give(row)
  end
  if #rows > SHORT then
    gaps[#rows] = gaps[#rows] or {}
    table.insert(gaps[#rows], base)
  end
end

-- Weight and zone from the tags; most registrations have neither.
local function traits(tags)
  if not (find(tags, '"weight"', 1, true) or find(tags, '"zone"', 1, true)) then
    return 1, false
  end
  local said = cjson.decode(tags)
  if type(said) ~= "table" then
    return 1, false
  end
  local weight = math.floor(tonumber(said.weight) or 1)
  -- Compared in this way because "nan" is a number too.
  return weight >= 1 and math.min(MAX_WEIGHT, weight) or 1, zone ~= "" and said.zone == zone
end

-- Spread the places of heavier endpoints, so that none has several turns in a row: of all with places left, the one
-- that is furthest behind its share is next.
local function spread(list)
  local total, out = 0, {}
  for _, e in ipairs(list) do
    total = total + e.weight
  end
  if total == #list then
    return list
  end
  for _ = 1, total do
    local best
    for _, e in ipairs(list) do
      e.credit = (e.credit or 0) + e.weight
      if not best or e.credit > best.credit then
        best = e
      end
    end
    best.credit = best.credit - total
    out[#out + 1] = best
  end
  return out
end

-- The endpoints of a host's routes in the dictionary, by zone.
local function parse(value)
  local near, far = {}, {}
  for address, port, app, instance, tags in gmatch(value, "\n([^\t]+)\t(%d+)\t(%d*)\t([^\t]*)\t([^\n]*)") do
    local weight, here = traits(tags)
    local list = here and near or far
    list[#list + 1] = { address, tonumber(port), app ~= "" and app or "0", instance, weight = weight }
  end
  return spread(near), spread(far)
end

local function rows_of(host, list, rows)
  for _, e in ipairs(list) do
    local row = take(e[1], e[2], e[3], e[4], e.weight)
    if row then
      rows[#rows + 1] = row
    else
      ngx.log(ngx.ERR, "no room for endpoint ", e[1], ":", e[2], " of ", host, ": raise router_endpoints")
    end
  end
end

-- Read a host's routes from the dictionary; returns the place of its entry, nil when it has none.
local function load(host)
  local value = dict:get("h:" .. host)
  stale[host] = nil
  local rows, near = {}, 0
  if value then
    local here, far = parse(value)
    rows_of(host, here, rows)
    near = #rows
    rows_of(host, far, rows)
  end
  local at = #rows > 0 and hosts.put(host) or hosts.find(host)
  if not at then
    return nil
  end
  local entry, old = entries.entries[at], {}
  for place = 0, entry.n - 1 do
    old[place + 1] = row_at(at, place)
  end
  -- After the new ones were taken, so that an endpoint that stays keeps its row.
  release(entry.base, old)
  entry.n = #rows
  if #rows == 0 then
    entry.state = STALE
    return nil
  end
  entry.near, entry.state = near > 0 and near or #rows, LIVE
  if #rows > SHORT then
    entry.base = allot(#rows)
  end
  local list = #rows > SHORT and members + entry.base or entry.rows
  for i, row in ipairs(rows) do
    list[i - 1] = row
  end
  return at
end

local function live(host)
  local at = hosts.find(host)
  return at and entries.entries[at].state == LIVE and at or load(host)
end

-- The entry that serves this host: its own, or the nearest wildcard above it. A wildcard is an application's and
-- never serves a host of the platform, not even while that is away.
local function entry_of(host)
  local at = live(host)
  if at then
    return at
  end
  if wildcards > 0 and not platform[host] then
    local dot = find(host, ".", 1, true)
    while dot do
      at = live("*" .. sub(host, dot))
      if at then
        return at
      end
      dot = find(host, ".", dot + 1, true)
    end
  end
  return nil
end

-- Rare work stays out of the compiled path of a request, which would otherwise begin with it: a worker's first
-- requests are all for hosts that it has not read yet.
jit.off(look)
jit.off(load, true)
jit.off(entry_of)

-- For the balancer: the place of the entry that serves this request's host; nil for an unknown host.
function _M.find()
  local time = now()
  if time ~= checked then
    checked = time
    look()
  end
  local text, length = request_host()
  local at = place_of(text, length)
  if at and entries.entries[at].state == LIVE then
    return at
  end
  return entry_of(ffi.string(text, length))
end

-- Read again, or drop, changed hosts without a request since: removed endpoints give back their rows.
local function reap()
  for host in pairs(stale) do
    load(host)
  end
  stale = {}
end

-- For init_worker_by_lua.
function _M.start()
  ngx.timer.every(REAP_SECONDS, reap)
end

return _M
