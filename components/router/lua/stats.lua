-- Counting, once a request in the log phase: a few additions to memory that the router process reads by itself.

local endpoints = require "endpoints"
local balancer = require "balancer"
local request = require "request"
local cjson = require "cjson.safe"

local floor = math.floor
local finish, status, age, received, sent =
  balancer.finish, request.status, request.age, request.received, request.sent

local _M = {}

local rows, header

-- For init_worker_by_lua, after endpoints.open.
function _M.start()
  rows, _, header = endpoints.memory()
end

-- Upper bounds in milliseconds; components/router/counters.py has the same.
local function bucket(ms)
  if ms <= 25 then
    if ms <= 5 then
      return ms <= 1 and 0 or ms <= 2 and 1 or 2
    end
    return ms <= 10 and 3 or 4
  elseif ms <= 250 then
    return ms <= 50 and 5 or ms <= 100 and 6 or 7
  end
  return ms <= 1000 and 8 or ms <= 5000 and 9 or ms <= 30000 and 10 or 11
end

local function add(row, class, ms, slot, bytes_in, bytes_out)
  rows[row].status[class] = rows[row].status[class] + 1
  rows[row].latency_ms = rows[row].latency_ms + ms
  rows[row].buckets[slot] = rows[row].buckets[slot] + 1
  rows[row].bytes_in = rows[row].bytes_in + bytes_in
  rows[row].bytes_out = rows[row].bytes_out + bytes_out
end

local function add_all(class, ms, slot, bytes_in, bytes_out)
  header.status[class] = header.status[class] + 1
  header.latency_ms = header.latency_ms + ms
  header.buckets[slot] = header.buckets[slot] + 1
  header.bytes_in = header.bytes_in + bytes_in
  header.bytes_out = header.bytes_out + bytes_out
end

local function class_of(code)
  return code >= 100 and code < 600 and floor(code / 100) or 0
end

local function milliseconds()
  local ms = floor(age() + 0.5)
  return ms > 0 and ms or 0
end

-- For log_by_lua of what clients reach.
function _M.count()
  local class, ms = class_of(status()), milliseconds()
  local slot, bytes_in, bytes_out = bucket(ms), received(), sent()
  add_all(class, ms, slot, bytes_in, bytes_out)
  local row = finish()
  if row then
    add(row, class, ms, slot, bytes_in, bytes_out)
  end
end

-- For log_by_lua of the server for unknown hosts: the total is counted where the client is.
function _M.count_inner()
  local row = finish()
  if row then
    local ms = milliseconds()
    add(row, class_of(status()), ms, bucket(ms), received(), sent())
  end
end

-- An unknown host or a request that names none.
function _M.bad_request()
  header.bad_requests = header.bad_requests + 1
end

-- A request that some limit turned away.
function _M.limited()
  header.limited = header.limited + 1
end

-- GET /stats: what only nginx itself can say.
function _M.show()
  ngx.header["Content-Type"] = "application/json"
  ngx.print(cjson.encode({
    client_connections = tonumber(ngx.var.connections_active) or 0,
    route_memory_free = ngx.shared.ingot_routes:free_space(),
    workers = ngx.worker.count(),
  }))
end

return _M
