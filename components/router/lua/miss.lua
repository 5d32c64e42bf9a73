-- A host that nginx does not know: the router process is asked over its socket.
--
-- The balancer sends such a request to a server of this nginx behind a socket of its own, as to any endpoint: its body streams,
-- and it can still be passed on when the process has pushed the route meanwhile.
--
-- The process answers as HTTP (docs/platform.md): X-Accel-Redirect when it has pushed the route meanwhile, else 404 or 503.
-- The question goes over a socket of Lua, because proxy_pass would send the request's body with it.

local error_page = require "error_page"
local stats = require "stats"

local known_misses = ngx.shared.ingot_misses

local _M = {}

-- A new route reaches the routes themselves, which are looked up first: a remembered miss hides none.
local REMEMBER_SECONDS = 1

-- No host's name is longer.
local LONGEST = 253

local path = "unix:/run/ingot-router/router.sock"
local wait_ms, most = 6000, 2048
local asking = 0

-- Settings from nginx.conf.
--   options.socket   the process's socket
--   options.wait_ms how long its answer may take
--   options.most questions that may be open; each holds four connections, and known hosts need some too
function _M.configure(options)
  path, wait_ms, most = "unix:" .. options.socket, options.wait_ms, options.most
end

-- Ask; returns the status and, if the host can be served now, the location. nil when the process does not answer.
local function ask(host)
  local sock = ngx.socket.tcp()
  sock:settimeouts(500, 500, wait_ms)
  if not sock:connect(path) then
    return nil
  end
  local ok = sock:send("GET / HTTP/1.0\r\nHost: " .. host .. "\r\n\r\n")
  local line = ok and sock:receive("*l")
  local status = line and tonumber(line:match("^HTTP/%d%.%d (%d%d%d)"))
  local target
  while line and line ~= "" do
    line = sock:receive("*l")
    target = target or (line and line:match("^[Xx]%-[Aa]ccel%-[Rr]edirect: *(%S+)"))
  end
  sock:close()
  return status, target
end

function _M.serve()
  local host = ngx.var.host
  if #host > LONGEST or known_misses:get(host) then
    stats.bad_request()
    return error_page.send(404)
  end
  local status, target
  if asking < most then
    asking = asking + 1
    status, target = ask(host)
    asking = asking - 1
  end
  if target then
    return ngx.exec(target)
  end
  if status == 404 then
    known_misses:set(host, true, REMEMBER_SECONDS)
    stats.bad_request()
    return error_page.send(404)
  end
  return error_page.send(503, "THE ROUTES ARE NOT KNOWN AT THIS MOMENT")
end

return _M
