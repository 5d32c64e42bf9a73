-- The control socket: the router process's deltas in, routes and state out (docs/platform.md, "The router's two sockets").
--
-- Keys of the dictionary: "h:<host>" a host's routes, as a generation and one line an endpoint; "version" grows with every
-- change, "c:<version>" names the hosts it touched; "epoch", "seq", "generation", "loaded", "wildcards"; "telling" while
-- WebSockets are told to go elsewhere (sockets.lua).
--
-- A whole table comes in parts: the first opens a generation, every part overwrites its hosts in place, the last removes
-- the hosts no part named. So no host that lives is unknown for a moment.

local cjson = require "cjson.safe"
local routes = require "routes"

local dict = ngx.shared.ingot_routes
local concat = table.concat

local _M = {}

local CHANGES_KEPT_SECONDS = 60
local MAX_NAMES = 1000
local DUMP_HOSTS = 50
local SWEEP_KEYS = 500
local TELLING_SECONDS = 10

local function reply(status, value)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.print(cjson.encode(value))
  return ngx.exit(ngx.HTTP_OK)
end

local function held()
  return { epoch = dict:get("epoch"), seq = dict:get("seq") or 0, loaded = dict:get("loaded") or false }
end

local function body()
  ngx.req.read_body()
  local data = ngx.req.get_body_data()
  if data then
    return data
  end
  local path = ngx.req.get_body_file()
  if not path then
    return nil
  end
  local file, reason = io.open(path, "rb")
  if not file then
    ngx.log(ngx.ERR, "body of a delta: ", reason)
    return nil
  end
  data = file:read("*a")
  file:close()
  return data
end

local function text(value)
  if type(value) == "number" then
    return string.format("%d", value)
  end
  return type(value) == "string" and value or ""
end

local function lines_of(endpoints)
  local lines = {}
  for i, e in ipairs(endpoints) do
    local address = e.address
    if address:find(":", 1, true) then
      address = "[" .. address .. "]"
    end
    lines[i] = concat({ address, text(e.port), text(e.app), text(e.instance), cjson.encode(e.tags or {}) }, "\t")
  end
  return "\n" .. concat(lines, "\n")
end

local function split(value)
  local generation, lines = value:match("^(%d+)(.*)$")
  return tonumber(generation), lines
end

-- Every change of a delta, collected so that the workers are told once, after the dictionary holds it.
local Change = {}
Change.__index = Change

function Change:touch(host, delta)
  self.names[#self.names + 1] = host
  if host:sub(1, 2) == "*." then
    self.wildcards = self.wildcards + delta
  end
end

function Change:set(host, endpoints)
  local key, lines = "h:" .. host, lines_of(endpoints)
  local old = dict:get(key)
  local old_lines = old and select(2, split(old))
  if old and old_lines == lines and not self.full then
    return true
  end
  local ok, reason = dict:safe_set(key, self.generation .. lines)
  if not ok then
    return nil, reason
  end
  if old_lines ~= lines then
    self:touch(host, old and 0 or 1)
  end
  return true
end

function Change:delete(host)
  if dict:get("h:" .. host) then
    dict:delete("h:" .. host)
    self:touch(host, -1)
  end
end

-- Remove the hosts that the completed generation did not name, with turns for other requests between.
function Change:sweep()
  for i, key in ipairs(dict:get_keys(0)) do
    if i % SWEEP_KEYS == 0 then
      ngx.sleep(0)
    end
    if key:sub(1, 2) == "h:" then
      local value = dict:get(key)
      if value and split(value) ~= self.generation then
        self:delete(key:sub(3))
      end
    end
  end
end

function Change:publish()
  if #self.names == 0 then
    return
  end
  dict:set("wildcards", (dict:get("wildcards") or 0) + self.wildcards)
  local number = (dict:get("version") or 0) + 1
  -- Without a list of hosts (no memory, too long) a version makes the workers forget everything, which is correct.
  dict:safe_set("c:" .. number, #self.names > MAX_NAMES and "*" or concat(self.names, "\n"), CHANGES_KEPT_SECONDS)
  dict:set("version", number)
  -- This worker follows at its next request, the others within a millisecond.
  routes.refresh()
end

local function apply(delta)
  local full = delta.full == true
  local opening = full and (delta.part or 0) == 0
  local now = held()
  if not opening and (delta.epoch ~= now.epoch or delta.seq ~= now.seq + 1) then
    return reply(409, now)
  end
  local generation = dict:get("generation") or 0
  if opening then
    generation = generation + 1
    dict:set("generation", generation)
    dict:set("epoch", delta.epoch)
    dict:set("loaded", false)
  end
  local change = setmetatable({ generation = generation, full = full, names = {}, wildcards = 0 }, Change)
  local failure
  for host, endpoints in pairs(delta.set or {}) do
    local ok, reason = change:set(host, endpoints)
    if not ok then
      failure = reason
      break
    end
  end
  for _, host in ipairs(delta.delete or {}) do
    change:delete(host)
  end
  if full and not delta.more and not failure then
    change:sweep()
    dict:set("loaded", true)
  end
  change:publish()
  if failure then
    -- The sequence does not advance, so the process learns that nginx lacks this delta.
    return reply(507, { error = "the route memory is full", reason = failure })
  end
  dict:set("seq", delta.seq)
  return reply(200, held())
end

local function endpoints_of(value)
  local endpoints = {}
  for address, port, app, instance, tags in value:gmatch("\n([^\t]+)\t(%d+)\t(%d*)\t([^\t]*)\t([^\n]*)") do
    endpoints[#endpoints + 1] = {
      address = address:match("^%[(.*)%]$") or address,
      port = tonumber(port),
      app = tonumber(app),
      instance = instance ~= "" and instance or nil,
      tags = cjson.decode(tags),
    }
  end
  return cjson.encode(endpoints)
end

-- All routes, a few hosts at a time, with turns for other requests between.
local function dump()
  ngx.header["Content-Type"] = "application/json"
  local state = held()
  ngx.print('{"epoch":', cjson.encode(state.epoch or cjson.null), ',"loaded":', tostring(state.loaded), ',"routes":{')
  local comma, pieces = "", {}
  for _, key in ipairs(dict:get_keys(0)) do
    local value = key:sub(1, 2) == "h:" and dict:get(key)
    if value then
      pieces[#pieces + 1] = comma .. cjson.encode(key:sub(3)) .. ":" .. endpoints_of(value)
      comma = ","
      if #pieces == DUMP_HOSTS then
        ngx.print(pieces)
        ngx.flush(true)
        pieces = {}
      end
    end
  end
  ngx.print(pieces)
  ngx.print("}}")
end

-- POST: apply a delta. GET: all routes, for a router process that starts beside a running nginx.
function _M.routes()
  local method = ngx.req.get_method()
  if method == "GET" then
    return dump()
  end
  if method ~= "POST" then
    return reply(405, { error = "GET or POST" })
  end
  local delta = cjson.decode(body() or "")
  if type(delta) ~= "table" or type(delta.epoch) ~= "string" or type(delta.seq) ~= "number" then
    return reply(400, { error = "the body must be {epoch, seq, full, set, delete}" })
  end
  return apply(delta)
end

-- POST /drain: {"seconds": N} has every WebSocket told to go elsewhere, spread over so many seconds; the order ends
-- by itself unless it is repeated, and with 0 at once. GET: the present order.
function _M.drain()
  if ngx.req.get_method() == "GET" then
    return reply(200, { seconds = dict:get("telling") or 0 })
  end
  local wish = cjson.decode(body() or "")
  local seconds = type(wish) == "table" and tonumber(wish.seconds)
  if ngx.req.get_method() ~= "POST" or not seconds or seconds < 0 then
    return reply(400, { error = "must be a POST of {seconds}" })
  end
  if seconds == 0 then
    dict:delete("telling")
  else
    dict:set("telling", seconds, TELLING_SECONDS)
  end
  return reply(200, {})
end

-- GET /state: the epoch and sequence nginx holds.
function _M.state()
  return reply(200, held())
end

return _M
