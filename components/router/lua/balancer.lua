-- Choice of an endpoint: round robin or least connections, same zone first, past endpoints that refused a connection a
-- moment ago, with bounded tries.
--
-- nginx decides whether a request may be tried again at all (proxy_next_upstream): after a failed connection always, after a
-- broken response only when the method is idempotent. Everything that only a retry needs comes from nginx's own
-- record of the tries, so that a first try pays nothing for it.
--
-- A request's endpoint is remembered under the address of its structure in nginx, which is cheaper than anything
-- that belongs to the request; the log phase, which every request passes, clears it.

local ffi = require "ffi"
local peers = require "ngx.balancer"
local endpoints = require "endpoints"
local limits = require "limits"
local request = require "request"
local routes = require "routes"
local sticky = require "sticky"
local deferred_counters = require "deferred_counters"

local find, row_at, hosts = routes.find, routes.row_at, require("hosts").store
local request_key, send_to, set = request.key, request.send_to, request.set
local now, var = ngx.now, ngx.var
local random, floor, max = math.random, math.floor, math.max
local opened, left = deferred_counters.opened, deferred_counters.left

local _M = {}

-- A try as one number: the row and its generation, so that a row that was used again meanwhile is recognised.
local ROWS = 2097152

local least, eject_seconds, probe_seconds, app_limit, most_tries = false, 10, 12, 0, 5
local miss_peer = "unix:/run/ingot-router/miss.sock"
local targets, rows, header
local tries = {}       -- request -> its try, 0 for none
-- request -> rare facts: `verdict`, the reason why it has no endpoint, for error_page.lua; `second`, its only endpoint
-- was asked again
local exceptions_of, exceptions = {}, 0
local wary_till = 0     -- until when some row is ejected or waits to be probed; 0 saves looking

-- Settings from nginx.conf.
--   options.least          least connections, not round robin
--   options.eject_seconds  how long an endpoint is passed over
--   options.probe_seconds  how long the one request that tries it then is waited for; more than connecting may take
--   options.app_limit      requests one application may have open, 0 for any number
--   options.tries          endpoints one request may try: nginx does not count kept connections that break
--   options.miss           socket of the server that deals with unknown hosts
function _M.configure(options)
  least, app_limit, most_tries = options.least, options.app_limit, options.tries
  eject_seconds, probe_seconds = options.eject_seconds, options.probe_seconds
  miss_peer = "unix:" .. options.miss
  deferred_counters.configure(least)
end

-- For init_worker_by_lua, after endpoints.open.
function _M.start()
  targets, rows, header = endpoints.memory()
  ngx.timer.every(1, function()
    if wary_till ~= 0 and wary_till < now() then
      wary_till = 0
    end
  end)
end

local function address_of(row)
  return ffi.string(targets[row].text, targets[row].address_length)
end

-- The next request that comes to an endpoint whose time is over probes it.
local function usable(row)
  return rows[row].eject_until <= now()
end

-- Eject a row for so long, and be cautious for as long again, so that only one request comes to it first.
local function eject(row, seconds)
  rows[row].eject_until = now() + seconds
  wary_till = max(wary_till, now() + 2 * seconds)
end

-- A request goes to this row: if it is a probe, others avoid the row until it has answered.
local function probe(row)
  if rows[row].eject_until ~= 0 and usable(row) then
    eject(row, probe_seconds)
  end
end

-- The first usable place from i on, near ones first; the least bad one when none is: the last endpoint is never given up.
-- nil when every endpoint was tried.
local function skip(h, i, tried)
  local record = hosts.entries[h]
  local fallback
  for part = 1, 2 do
    local from = part == 1 and 0 or record.near
    local count = part == 1 and record.near or record.n - record.near
    for step = 0, count - 1 do
      local place = from + (i + step) % count
      local row = row_at(h, place)
      if not (tried and tried[row]) then
        if usable(row) then
          return place
        end
        fallback = fallback or place
      end
    end
  end
  return fallback
end

-- Open requests by the weight of an endpoint, including the one it would get.
local function burden(row)
  return (rows[row].open + 1) / targets[row].weight
end

-- The place with the fewest open requests by weight: of all where there are few, else the better of two random ones.
local function quietest(h, turn)
  local record = hosts.entries[h]
  local n = record.near
  if n > 16 then
    local a, b = random(0, n - 1), random(0, n - 1)
    if wary_till ~= 0 and usable(row_at(h, a)) ~= usable(row_at(h, b)) then
      return usable(row_at(h, a)) and a or b
    end
    return burden(row_at(h, a)) <= burden(row_at(h, b)) and a or b
  end
  local best, least_burden = turn % n, math.huge
  for step = 0, n - 1 do
    local place = (turn + step) % n
    local row = row_at(h, place)
    -- An ejected endpoint has none open, and must not be taken for the quietest.
    if burden(row) < least_burden and (wary_till == 0 or usable(row)) then
      best, least_burden = place, burden(row)
    end
  end
  return best
end

-- The place of the endpoint that a request's cookie names, if it is still there and answers.
local function kept(h)
  local record = hosts.entries[h]
  local address, port = sticky.wanted()
  if not address then
    return nil
  end
  for place = 0, record.n - 1 do
    local row = row_at(h, place)
    if targets[row].port == port and address_of(row) == address and usable(row) then
      return place
    end
  end
  return nil
end

-- The row of a try, nil when it holds another endpoint by now.
local function row_of(try)
  local row = try % ROWS
  if try == 0 or targets[row].generation * ROWS + row ~= try then
    return nil
  end
  return row
end
_M.row_of = row_of

-- A try as its row and generation.
local function parts(try)
  return try % ROWS, floor(try / ROWS)
end

local function exception_of(key)
  if not exceptions_of[key] then
    exceptions_of[key] = {}
    exceptions = exceptions + 1
  end
  return exceptions_of[key]
end

local function give_up(key, verdict)
  exception_of(key).verdict = verdict
  return ngx.exit(ngx.ERROR)
end

local function connect(key, row)
  local target = targets[row]
  local text, address_length, app_length = target.text, target.address_length, target.app_length
  set("ingot_app", 9, text + address_length, app_length)
  set("ingot_instance", 14, text + address_length + app_length, target.instance_length)
  if not send_to(text, address_length, target.port) then
    ngx.log(ngx.ERR, "cannot send to endpoint ", address_of(row), ":", target.port)
    return give_up(key, 500)
  end
  if app_limit > 0 then
    limits.enter(key, target.app_slot)
  end
  tries[key] = target.generation * ROWS + row
  opened(row, target.generation)
end

-- The rows that this request has tried, as a set, the number of tries, and whether the last try sent anything. (The
-- time to connect does not tell: a refusal from another machine has one.)
local function look_back(h)
  local record = hosts.entries[h]
  local tried, tries_made, counts, sent = {}, 0, 0, true
  for peer in string.gmatch(var.upstream_addr or "", "[^, ]+") do
    if peer ~= ":" then
      tries_made = tries_made + 1
      for place = 0, record.n - 1 do
        local row = row_at(h, place)
        if peer == address_of(row) .. ":" .. targets[row].port then
          tried[row] = true
        end
      end
    end
  end
  for bytes in string.gmatch(var.upstream_bytes_sent or "", "%d+") do
    counts = counts + 1
    if counts == tries_made then
      sent = bytes ~= "0"
    end
  end
  return tried, tries_made, sent
end

local function again(key, try)
  local h = find()
  local row, generation = parts(try)
  left(row, generation)
  if app_limit > 0 then
    limits.leave(key)
  end
  tries[key] = 0
  if not h then
    return give_up(key, 503)
  end
  local tried, tries_made, sent = look_back(h)
  header.retries = header.retries + 1
  if targets[row].generation == generation then
    tried[row] = true
    rows[row].retries = rows[row].retries + 1
    if not sent and usable(row) then
      eject(row, eject_seconds)
      rows[row].ejections = rows[row].ejections + 1
      header.ejections = header.ejections + 1
    end
  end
  local record = hosts.entries[h]
  record.turn = record.turn + 1
  local _, status = peers.get_last_failure()
  -- A request that met silence for its whole time is not sent to others, too.
  local more = tries_made < most_tries and not (sent and status == 504)
  local place = more and skip(h, record.turn, tried)
  if not place and more and sent and not exception_of(key).second then
    -- The only endpoint broke the connection, which may have been kept too long: it is asked once more.
    exception_of(key).second = true
    place = skip(h, record.turn)
  end
  if not place then
    return give_up(key, not sent and 503 or status == 504 and 504 or 502)
  end
  local next = row_at(h, place)
  probe(next)
  return connect(key, next)
end

-- Unless the application's limit is reached. Requests of no application are not limited.
local function admit(key, row)
  local slot = targets[row].app_slot
  if app_limit > 0 and slot > 0 and limits.sum(slot) >= app_limit then
    return give_up(key, 429)
  end
  if wary_till ~= 0 then
    probe(row)
  end
  return connect(key, row)
end

-- The path past ejected endpoints, which most requests do not take.
local function cautious(key, h, place)
  if wary_till ~= 0 then
    place = skip(h, place) or place
  end
  return admit(key, row_at(h, place))
end

-- The first try of a request whose host is known.
local function go(key, h)
  local entries = hosts.entries
  local turn = entries[h].turn
  entries[h].turn = turn + 1
  local place = least and quietest(h, turn) or turn % entries[h].near
  if wary_till ~= 0 or app_limit > 0 then
    return cautious(key, h, place)
  end
  return connect(key, row_at(h, place))
end

-- The server behind this socket handles the request, and gets the body as any endpoint does.
local function miss(key)
  local _, length = request.host_bytes()
  if length == 0 then
    return give_up(key, 400)
  end
  return send_to(miss_peer, #miss_peer, 0)
end

-- For balancer_by_lua.
function _M.pick()
  local key = request_key()
  local try = tries[key]
  if try and try ~= 0 then
    return again(key, try)
  end
  local h = find()
  if h then
    return go(key, h)
  end
  return miss(key)
end

-- The same for a request that may carry a session's cookie.
function _M.pick_kept()
  local key = request_key()
  local try = tries[key]
  if try and try ~= 0 then
    return again(key, try)
  end
  local h = find()
  if not h then
    return miss(key)
  end
  local place = kept(h)
  if place then
    return admit(key, row_at(h, place))
  end
  return go(key, h)
end

-- The same where the router process has just pushed the route.
function _M.pick_fresh()
  routes.refresh()
  local key = request_key()
  if (tries[key] or 0) == 0 and not find() then
    -- The process knows the host, but this worker cannot hold it: asking again would go round for ever.
    return give_up(key, 503)
  end
  return _M.pick_kept()
end

-- An answer begins: an endpoint that was probed gets its turns again.
local function recovered()
  local row = row_of(tries[request_key()] or 0)
  if row and rows[row].eject_until ~= 0 and (var.upstream_header_time or ""):find("%d$") then
    rows[row].eject_until = 0
  end
end
jit.off(recovered)

-- For header_filter_by_lua.
function _M.answered()
  if wary_till ~= 0 then
    recovered()
  end
end

-- This request's try, 0 for none.
function _M.try()
  return tries[request_key()] or 0
end

-- The reason why a request has no endpoint, or nil.
function _M.verdict()
  local its = exceptions_of[request_key()]
  return its and its.verdict
end

-- For the log phase: the row and generation of the endpoint that answered, row 0 for none; forgets the request.
function _M.finish()
  local key = request_key()
  local try = tries[key]
  if exceptions > 0 and exceptions_of[key] then
    exceptions_of[key] = nil
    exceptions = exceptions - 1
  end
  if not try or try == 0 then
    return 0, 0
  end
  tries[key] = 0
  if app_limit > 0 then
    limits.leave(key)
  end
  return parts(try)
end

return _M
