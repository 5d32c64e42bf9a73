-- Answers of the router itself, as opposed to an application's: the truth, short, in HTML or JSON by Accept.

local cjson = require "cjson.safe"

local _M = {}

local RETRY_SECONDS = 2

local TITLES = {
  [400] = "BAD REQUEST",
  [404] = "DESTINATION NOT FOUND",
  [413] = "REQUEST TOO LARGE",
  [500] = "ROUTER ERROR",
  [502] = "THE APPLICATION BROKE OFF ITS ANSWER",
  [503] = "NO INSTANCE OF THE APPLICATION IS REACHABLE NOW",
  [504] = "THE APPLICATION DID NOT ANSWER IN TIME",
}

-- Send an answer.
--   status  the HTTP status
--   title   replaces the status's own
function _M.send(status, title)
  title = title or TITLES[status] or "ERROR"
  local id = ngx.var.request_id
  local accept = ngx.var.http_accept or ""
  local line, text = "VCAP ROUTER: " .. status .. " - " .. title, nil
  -- Not read by anyone: it must not be taken for the connection's next request.
  ngx.req.discard_body()
  ngx.status = status
  if accept:find("application/json", 1, true) then
    ngx.header["Content-Type"] = "application/json"
    text = cjson.encode({ code = status, description = line, request_id = id }) .. "\n"
  elseif accept:find("text/html", 1, true) then
    ngx.header["Content-Type"] = "text/html; charset=utf-8"
    text = "<!DOCTYPE html><html><head><title>" .. status .. "</title></head><body><h1>" .. line
      .. "</h1><p>Request " .. id .. "</p></body></html>\n"
  else
    ngx.header["Content-Type"] = "text/plain; charset=utf-8"
    text = line .. "\r\n"
  end
  ngx.header["Content-Length"] = #text
  ngx.header["X-Vcap-Request-Id"] = id
  ngx.header["Cache-Control"] = "no-store"
  if status == 503 then
    ngx.header["Retry-After"] = RETRY_SECONDS
  end
  ngx.print(text)
end

-- True when no try of this request reached an endpoint.
local function never_connected()
  local times = ngx.var.upstream_connect_time
  return not times or times == "" or not times:find("%d")
end

-- For error_page: nginx failed (ngx.status) on the way to or from an application.
function _M.failed()
  local status = ngx.status
  local known = (ngx.var.ingot_app or "") ~= ""
  if known and (status == 502 or status == 504 or status == 500) and never_connected() then
    status = 503
  end
  return _M.send(status)
end

return _M
