-- Choice of an endpoint: round robin, past endpoints that refused a connection a moment ago, with bounded tries.
--
-- nginx decides whether a request may be tried again at all (proxy_next_upstream): after a failed connection always, after a
-- broken response only when the method is idempotent. Everything that only a retry needs is worked out from nginx's own
-- record of the tries, so that a first try pays nothing for it.

local balancer = require "ngx.balancer"
local routes = require "routes"

local set_current_peer, set_more_tries, get_last_failure =
  balancer.set_current_peer, balancer.set_more_tries, balancer.get_last_failure
local find, turn, endpoint, instance, app_of = routes.find, routes.turn, routes.endpoint, routes.instance, routes.app_of

local _M = {}

local max_tries = 5
local eject_seconds = 10

local ejected = {}     -- endpoint number -> until when it is passed over
local ejections = 0    -- how many entries `ejected` has
local counts = { retries = 0, ejections = 0 }
_M.counts = counts

-- Settings from nginx.conf: tries a request may take, seconds an endpoint is passed over.
function _M.configure(tries, seconds)
  max_tries, eject_seconds = tries, seconds
end

local function usable(key)
  local till = ejected[key]
  if not till then
    return true
  end
  if till > ngx.now() then
    return false
  end
  -- Its time is over: the next request probes it.
  ejected[key] = nil
  ejections = ejections - 1
  return true
end

-- The first usable place from i on; i itself when none is, because the last endpoint is never given up.
local function skip(list, i, n, tried)
  local fallback
  for step = 0, n - 1 do
    local place = (i + step) % n
    local _, _, key = endpoint(list, place)
    if not (tried and tried[key]) then
      if usable(key) then
        return place
      end
      fallback = fallback or place
    end
  end
  return fallback or i
end

-- What this request has tried, as a set of endpoint numbers; the last is ejected if it could not even be connected to.
local function look_back()
  local tried, last, index = {}, nil, 0
  for peer in string.gmatch(ngx.var.upstream_addr or "", "[^, ]+") do
    local address, port = peer:match("^(.+):(%d+)$")
    if address then
      index = index + 1
      last = routes.key(address, tonumber(port))
      if last then
        tried[last] = true
      end
    end
  end
  counts.retries = counts.retries + 1
  local at = 0
  for seconds in string.gmatch(ngx.var.upstream_connect_time or "", "[^, ]+") do
    at = at + 1
    if at == index and seconds == "-" and last and not ejected[last] then
      ejected[last] = ngx.now() + eject_seconds
      ejections = ejections + 1
      counts.ejections = counts.ejections + 1
    end
  end
  return tried
end

function _M.pick()
  local name, list, n, width = find(ngx.var.host)
  if not name then
    -- The host's last route went between the decision and now; answer.lua says so.
    return ngx.exit(ngx.ERROR)
  end
  local i = turn(name) % n
  if get_last_failure() then
    i = skip(list, i, n, look_back())
  else
    if ejections > 0 then
      i = skip(list, i, n)
    end
    if n > 1 then
      set_more_tries((n < max_tries and n or max_tries) - 1)
    end
  end
  local address, port = endpoint(list, i)
  local ok, reason = set_current_peer(address, port)
  if not ok then
    ngx.log(ngx.ERR, "endpoint ", address, ":", port, " of ", name, ": ", reason)
    return ngx.exit(ngx.ERROR)
  end
  local app = app_of(name, i)
  if app then
    ngx.var.ingot_app = app
  end
  if width > 0 then
    ngx.var.ingot_instance = instance(list, i, n, width)
  end
end

return _M
