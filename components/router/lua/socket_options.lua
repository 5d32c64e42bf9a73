-- The kernel's default patience, restored on the connections of clients.
--
-- The role has the kernel give up early on unacknowledged data, for requests to machines that lost their power. A
-- client on a poor line gets the kernel's usual patience: a connection inherits it from its listening socket.

local ffi = require "ffi"

ffi.cdef [[
int getsockopt(int fd, int level, int name, void *value, unsigned int *length);
int setsockopt(int fd, int level, int name, const void *value, unsigned int length);
]]

local C = ffi.C
local _M = {}

-- Linux's numbers of these options.
local SOL_SOCKET, SO_ACCEPTCONN = 1, 30
local IPPROTO_TCP, TCP_USER_TIMEOUT = 6, 18
local PATIENCE_MS = 924600
-- Listening sockets are opened first, so their descriptors are low.
local HIGHEST = 4096

-- For init_worker_by_lua: all workers share a listening socket, so one worker sets it for all.
function _M.start()
  local value, length = ffi.new("int[1]"), ffi.new("unsigned int[1]")
  for fd = 0, HIGHEST do
    length[0] = ffi.sizeof(value)
    if C.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, value, length) == 0 and value[0] == 1 then
      value[0] = PATIENCE_MS
      -- Unix sockets refuse it, and do not need it.
      C.setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, value, ffi.sizeof(value))
    end
  end
end

return _M
