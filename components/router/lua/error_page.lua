-- Answers of the router itself, as opposed to an application's: short, true, in HTML or JSON by Accept.

local cjson = require "cjson.safe"
local balancer = require "balancer"
local stats = require "stats"
local request = require "request"
local sticky = require "sticky"

local status_of, sets_cookie, answered = request.status, request.sets_cookie, balancer.answered

local _M = {}

local RETRY_SECONDS = 2

local TITLES = {
  [400] = "BAD REQUEST",
  [404] = "DESTINATION NOT FOUND",
  [413] = "REQUEST TOO LARGE",
  [429] = "TOO MANY REQUESTS AT A TIME",
  [500] = "ROUTER ERROR",
  [502] = "THE APPLICATION BROKE OFF ITS ANSWER",
  [503] = "NO INSTANCE OF THE APPLICATION IS REACHABLE NOW",
  [504] = "THE APPLICATION DID NOT ANSWER IN TIME",
}

local FORMS = {
  ["application/json"] = "json", ["application/*"] = "json",
  ["text/html"] = "html", ["application/xhtml+xml"] = "html",
  ["text/plain"] = "text", ["text/*"] = "text", ["*/*"] = "text",
}

-- The form that the client prefers; of several equal ones, the first that it names.
local function form_of(accept)
  local best, most = "text", 0
  for item in accept:lower():gmatch("[^,]+") do
    local form = FORMS[item:match("^%s*([^%s;]+)")]
    local liking = tonumber(item:match(";%s*q=([%d.]+)") or 1) or 0
    if form and liking > most then
      best, most = form, liking
    end
  end
  return best
end

-- Send an answer.
--   status  the HTTP status
--   title   replaces the status's own
function _M.send(status, title)
  title = title or TITLES[status] or "ERROR"
  -- Behind the socket for unknown hosts, the request has its number from the server that clients reach.
  local id = ngx.var.ingot_inner == "1" and ngx.var.http_x_vcap_request_id or ngx.var.ingot_request
  local form = form_of(ngx.var.http_accept or "")
  local line, text = "VCAP ROUTER: " .. status .. " - " .. title, nil
  -- A body that is not read must not be taken for the connection's next request.
  ngx.req.discard_body()
  ngx.status = status
  if form == "json" then
    ngx.header["Content-Type"] = "application/json"
    text = cjson.encode({ code = status, description = line, request_id = id }) .. "\n"
  elseif form == "html" then
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
  if status == 503 or status == 429 then
    ngx.header["Retry-After"] = RETRY_SECONDS
  end
  ngx.print(text)
end

local function refuse()
  -- For the log and the counters: the client sees the connection end.
  ngx.status = 502
  return ngx.exit(ngx.ERROR)
end

local function pass()
  answered()
  if sets_cookie() then
    sticky.mark()
  end
end

-- For header_filter_by_lua, of every answer. nginx would pass on an answer that does not begin as HTTP as it is, and
-- keep the connection. It would pass on an answer that only announces another (1xx) with all that follows as its
-- body, and another client of the same connection would take that for its own answer.
function _M.filter()
  if status_of() < 200 then
    return refuse()
  end
  pass()
end

-- The same for a location where a WebSocket may begin.
function _M.filter_upgrade()
  local status = status_of()
  if status < 200 and status ~= 101 then
    return refuse()
  end
  pass()
end

-- True when no try of this request has sent anything.
local function never_connected()
  return not (ngx.var.upstream_bytes_sent or ""):find("[1-9]")
end

-- For error_page: nginx failed (ngx.status) on the way to or from an application.
function _M.failed()
  local status = ngx.status
  local known = (ngx.var.ingot_app or "") ~= ""
  local verdict = balancer.verdict()
  if verdict then
    status = verdict
  elseif known and (status == 502 or status == 504 or status == 500) and never_connected() then
    status = 503
  elseif not known and status == 502 then
    return _M.send(503, "THE ROUTES ARE NOT KNOWN AT THIS MOMENT")
  end
  if status == 429 then
    stats.limited()
  elseif verdict == 400 then
    stats.bad_request()
  end
  return _M.send(status)
end

return _M
