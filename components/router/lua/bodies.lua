-- Request bodies for the platform's API: each is complete, and arrived in time, before a controller sees the request.

local _M = {}

-- Bytes that each further second brings, at least: a modem's 128 kbit/s.
local LEAST_RATE = 16 * 1024

local seconds

local function read()
  ngx.req.read_body()
end

local function sleep(time)
  ngx.sleep(time)
end

-- Set the time limit.
-- seconds for any body, beside those for its length
function _M.configure(settings)
  seconds = settings.seconds
end

-- For rewrite_by_lua of requests with a known length: nginx limits the time between two reads only, and allows any
-- number of reads.
function _M.await()
  local length = tonumber(ngx.var.http_content_length) or 0
  local reader = ngx.thread.spawn(read)
  if coroutine.status(reader) == "zombie" then
    return
  end
  local clock = ngx.thread.spawn(sleep, seconds + length / LEAST_RATE)
  ngx.thread.wait(reader, clock)
  if coroutine.status(reader) ~= "dead" then
    -- The connection ends without an answer, as where nginx's own timeout ends it.
    return ngx.exit(ngx.HTTP_REQUEST_TIMEOUT or 408)
  end
  ngx.thread.kill(clock)
end

return _M
