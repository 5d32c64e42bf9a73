-- The WebSockets that clients hold open here, and their end during a drain
-- (docs/decisions/0010-telling-websockets.md).
--
-- nginx relays their bytes unread. While the router is drained, and when this worker is to end, each client is sent a Close frame
-- of the router's own, 1001 "going away"; its answer is relayed like anything it sends, so the application ends its side in order too.

local ffi = require "ffi"
local balancer = require "balancer"
local endpoints = require "endpoints"
local request = require "request"

ffi.cdef [[
int getsockopt(int fd, int level, int name, void *value, uint32_t *length);
int ioctl(int fd, unsigned long request, ...);
int shutdown(int fd, int how);
]]

local C = ffi.C
local cast = ffi.cast
local address_type = ffi.typeof("intptr_t")
local dict = ngx.shared.ingot_routes
local now, sleep, exiting = ngx.now, ngx.sleep, ngx.worker.exiting
local ceil, max, min = math.ceil, math.max, math.min

local _M = {}

local TCP, TCP_INFO, LAST_DATA_SENT, SIOCOUTQ, SHUT_RD = 6, 11, 11, 0x5411, 0
local GOING_AWAY = "\136\2\3\233"   -- FIN and opcode 8, two bytes: 1001
local TICK_SECONDS, ANSWER_SECONDS = 0.25, 5
-- A gap between two frames, as far as that can be told: all sent bytes have arrived, and none came for so long.
local SILENT_MS = 1000

local open = {}        -- request -> its try, 0 where another worker or the server for unknown hosts made it
local told = {}        -- request -> when its client was told
local header, rows
local shutdown_seconds, leave_seconds = 900, 30
local leaving_at
local busy = false

-- Settings from nginx.conf.
--   options.shutdown_seconds the time a worker may take to finish its open requests, 0 for ever
--   options.leave_seconds the time over which its sockets are told before that ends
function _M.configure(options)
  shutdown_seconds, leave_seconds = options.shutdown_seconds, options.leave_seconds
end

local function count(try, by)
  header.websockets = max(header.websockets + by, 0)
  local row = balancer.row_of(try)
  if row then
    rows[row].websockets = max(rows[row].websockets + by, 0)
  end
end

-- For header_filter_by_lua of locations with WebSockets: with 101 a request has become one.
function _M.opened()
  if request.status() == 101 then
    local key, try = request.key(), balancer.try()
    open[key] = try
    count(try, 1)
  end
end

-- For log_by_lua of these locations.
function _M.closed()
  local key = request.key()
  local try = open[key]
  if try then
    open[key], told[key] = nil, nil
    count(try, -1)
  end
end

local function connection_of(key)
  local connection = request.connection(cast(address_type, key))
  return connection and connection.fd >= 0 and connection or nil
end

local info, info_length, queued = ffi.new("uint32_t[16]"), ffi.new("uint32_t[1]"), ffi.new("int[1]")

local function silent(fd)
  info_length[0] = 64
  return C.getsockopt(fd, TCP, TCP_INFO, info, info_length) == 0 and info[LAST_DATA_SENT] >= SILENT_MS
    and C.ioctl(fd, SIOCOUTQ, queued) == 0 and queued[0] == 0
end

-- False when it must be tried again later.
local function tell(key)
  local connection = connection_of(key)
  if not connection or not silent(connection.fd) then
    return false
  end
  -- If it is sent in part only, the connection simply breaks.
  connection.send(connection, GOING_AWAY, #GOING_AWAY)
  told[key] = now()
  header.websockets_told = header.websockets_told + 1
  return true
end

-- nginx reads an end of the client's side, and ends both in its own orderly way.
local function finish(key)
  local connection = open[key] and connection_of(key)
  if connection then
    C.shutdown(connection.fd, SHUT_RD)
    header.websockets_ended = header.websockets_ended + 1
  end
end

jit.off(tell)
jit.off(finish)

-- The seconds over which sockets are to be told now; nil when they are not.
local function wanted()
  local seconds = dict:get("telling")
  if seconds then
    return seconds
  end
  -- Without a limit for a worker's end there is no need.
  if not exiting() or shutdown_seconds == 0 then
    return nil
  end
  local room = shutdown_seconds - ANSWER_SECONDS - 2
  local span = max(min(leave_seconds, room), 1)
  leaving_at = leaving_at or now() + room - span
  return now() >= leaving_at and span or nil
end

-- Tell every socket that was not told, at an even rate; one that does not close then is ended.
local function turn(seconds)
  local queue, first, last = {}, 1, 0
  for key in pairs(open) do
    if not told[key] then
      last = last + 1
      queue[last] = key
    end
  end
  local till = now() + seconds
  while first <= last and now() < till and wanted() do
    local waiting = last - first + 1
    for _ = 1, min(waiting, ceil(waiting * TICK_SECONDS / (till - now()))) do
      local key = queue[first]
      queue[first], first = nil, first + 1
      if open[key] and not told[key] and not tell(key) then
        last = last + 1
        queue[last] = key
      end
    end
    sleep(TICK_SECONDS)
  end
  local answered = now() + ANSWER_SECONDS
  while next(told) and now() < answered and wanted() do
    sleep(TICK_SECONDS)
  end
  if not wanted() then
    return
  end
  for key in pairs(told) do
    finish(key)
  end
  for place = first, last do
    finish(queue[place])
  end
end

-- Once a second, so that a client that comes during a turn is told in the next. A worker that exits has no timers any
-- more, so this function goes on while a socket is open.
local function attend()
  if busy then
    return
  end
  busy = true
  local ok, reason = pcall(function()
    repeat
      local seconds = wanted()
      if seconds and next(open) then
        turn(seconds)
      end
      local stay = exiting() and next(open)
      if stay then
        sleep(1)
      end
    until not stay
  end)
  busy = false
  if not ok then
    ngx.log(ngx.ERR, "telling WebSockets: ", reason)
  end
end

-- For init_worker_by_lua, after endpoints.open.
function _M.start()
  local _
  _, rows, header = endpoints.memory()
  ngx.timer.every(1, attend)
end

return _M
