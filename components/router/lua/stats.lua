-- Counters: plain numbers of the worker, added to the shared dictionary once a second.

local ffi = require "ffi"
local cjson = require "cjson.safe"
local balancer = require "balancer"

local dict = ngx.shared.ingot_stats
local floor = math.floor

local _M = {}

local NAMES = {
  [0] = "requests", "responses_xxx", "responses_2xx", "responses_3xx", "responses_4xx", "responses_5xx",
  "latency_ms", "bad_requests",
}
local COUNT = #NAMES + 1
local counters = ffi.new("double[?]", COUNT)

-- For log_by_lua: no variable is read and nothing is allocated.
function _M.count()
  local class = floor(ngx.status / 100)
  counters[0] = counters[0] + 1
  if class < 2 or class > 5 then
    class = 1
  end
  counters[class] = counters[class] + 1
  counters[6] = counters[6] + (ngx.now() - ngx.req.start_time()) * 1000
end

-- An unknown host or a request that names none.
function _M.bad_request()
  counters[7] = counters[7] + 1
end

local function flush()
  for i = 0, COUNT - 1 do
    if counters[i] ~= 0 then
      dict:incr(NAMES[i], counters[i], 0)
      counters[i] = 0
    end
  end
  for name, value in pairs(balancer.counts) do
    if value ~= 0 then
      dict:incr(name, value, 0)
      balancer.counts[name] = 0
    end
  end
end

-- For init_worker_by_lua. A timer runs once more, early, when its worker ends: nothing counted is lost.
function _M.start()
  ngx.timer.every(1, flush)
end

-- GET /stats
function _M.show()
  flush()
  local values = {}
  for i = 0, COUNT - 1 do
    values[NAMES[i]] = dict:get(NAMES[i]) or 0
  end
  for name in pairs(balancer.counts) do
    values[name] = dict:get(name) or 0
  end
  values.client_connections = tonumber(ngx.var.connections_active) or 0
  values.route_memory_free = ngx.shared.ingot_routes:free_space()
  values.workers = ngx.worker.count()
  ngx.header["Content-Type"] = "application/json"
  ngx.print(cjson.encode(values))
end

return _M
