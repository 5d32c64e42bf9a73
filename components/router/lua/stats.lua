-- Counting, once a request in the log phase.

local ffi = require "ffi"
local endpoints = require "endpoints"
local balancer = require "balancer"
local request = require "request"
local deferred_counters = require "deferred_counters"
local cjson = require "cjson.safe"

local floor, max = math.floor, math.max
local finish, done = balancer.finish, deferred_counters.done
local status, age, received = request.status, request.age, request.received

local _M = {}

local header

-- For init_worker_by_lua, after endpoints.open.
function _M.start()
  header = select(3, endpoints.memory())
end

-- Upper bounds in milliseconds; components/router/telemetry/counters.py has the same.
local BOUNDS = { 1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000, 30000 }

-- The bucket of every number of milliseconds up to the last bound. It is a table because one path through the code
-- for all requests is compiled better than one for each bucket.
local buckets = ffi.new("uint8_t[?]", BOUNDS[#BOUNDS] + 1)
do
  local bucket = 0
  for ms = 0, BOUNDS[#BOUNDS] do
    if ms > BOUNDS[bucket + 1] then
      bucket = bucket + 1
    end
    buckets[ms] = bucket
  end
end

local LAST, SLOWEST = #BOUNDS, BOUNDS[#BOUNDS]

local function bucket(ms)
  return ms <= SLOWEST and buckets[ms] or LAST
end

local function class_of(code)
  return code >= 100 and code < 600 and floor(code / 100) or 0
end

local function milliseconds()
  return max(floor(age() + 0.5), 0)
end

-- For log_by_lua of the servers that clients reach.
function _M.count()
  local row, generation = finish()
  local ms = milliseconds()
  done(row, generation, 1, class_of(status()), bucket(ms), ms, received(), request.sent())
end

-- For log_by_lua of the server for unknown hosts: the total is counted at the client's server.
function _M.count_inner()
  local row, generation = finish()
  if row > 0 then
    local ms = milliseconds()
    done(row, generation, 0, class_of(status()), bucket(ms), ms, received(), request.sent())
  end
end

-- Count an unknown host, or a request that names none.
function _M.bad_request()
  header.bad_requests = header.bad_requests + 1
end

-- Count a request that a limit refused.
function _M.limited()
  header.limited = header.limited + 1
end

-- GET /stats: the numbers that only nginx itself knows.
function _M.show()
  ngx.header["Content-Type"] = "application/json"
  ngx.print(cjson.encode({
    client_connections = tonumber(ngx.var.connections_active) or 0,
    route_memory_free = ngx.shared.ingot_routes:free_space(),
    workers = ngx.worker.count(),
  }))
end

return _M
