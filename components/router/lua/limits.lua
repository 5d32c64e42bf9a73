-- The number of open requests of an application in all workers of this router, for router_app_requests.
--
-- A file that every worker maps: a page that says which rows are in use, then a row of counters for each worker, one counter for each
-- application. A worker writes its own row only, so no worker waits for another, and adds up all rows where it needs the sum: two
-- workers that do so in the same moment may let one request too many pass. A row belongs to the worker that holds a lock on its
-- byte. The kernel releases the lock when a worker ends in any way, and another then clears its row.

local ffi = require "ffi"

ffi.cdef [[
typedef struct { uint32_t changes; uint8_t used[512]; } ingot_limits;
typedef struct { short type, whence; long start, length; int pid; } ingot_lock;
int fcntl(int fd, int command, ...);
int fallocate(int fd, int mode, long offset, long length);
]]

local C = ffi.C
local PAGE, ROWS, SLOTS = 4096, 512, 262144
local ROW_BYTES = SLOTS * 4
local O_RDWR_CREAT_CLOEXEC, READ_WRITE, SHARED, PUNCH_HOLE = 2 + 64 + 524288, 3, 1, 3
local SET_LOCK, WRITE_LOCK, UNLOCK = 6, 1, 2

local _M = {}

local fd = -1
local own               -- this worker's counters
local own_row
local common, counters  -- the page, and every row's counters; nil when there is no file
local active = {}       -- other workers' rows
local seen
local held = {}         -- request -> the application it is counted for

-- An application's place in a row. Ids that differ by a multiple of 262143 would share one.
function _M.slot(app)
  local id = tonumber(app)
  return id == 0 and 0 or 1 + id % (SLOTS - 1)
end

local function lock(row, kind)
  return C.fcntl(fd, SET_LOCK, ffi.new("ingot_lock", { type = kind, start = row, length = 1 })) == 0
end

-- Set the counters of a row to zero, and give its memory back to the kernel.
local function clear(row)
  if C.fallocate(fd, PUNCH_HOLE, PAGE + row * ROW_BYTES, ROW_BYTES) ~= 0 then
    ffi.fill(counters + row * SLOTS, ROW_BYTES)
  end
end

local function look()
  active = {}
  seen = common.changes
  for row = 0, ROWS - 1 do
    if common.used[row] == 1 and row ~= own_row then
      active[#active + 1] = row
    end
  end
end

-- Clear the rows of workers that ended.
local function sweep()
  for _, row in ipairs(active) do
    if lock(row, WRITE_LOCK) then
      clear(row)
      common.used[row] = 0
      common.changes = common.changes + 1
      lock(row, UNLOCK)
    end
  end
  look()
end

local function map(path)
  fd = C.open(path, O_RDWR_CREAT_CLOEXEC, tonumber("660", 8))
  if fd < 0 or C.ftruncate(fd, PAGE + ROWS * ROW_BYTES) ~= 0 then
    return false
  end
  local address = C.mmap(nil, PAGE + ROWS * ROW_BYTES, READ_WRITE, SHARED, fd, 0)
  if ffi.cast("intptr_t", address) == -1 then
    return false
  end
  local base = ffi.cast("char *", address)
  common, counters = ffi.cast("ingot_limits *", base), ffi.cast("uint32_t *", base + PAGE)
  for row = 0, ROWS - 1 do
    if lock(row, WRITE_LOCK) then
      clear(row)
      own_row, own = row, counters + row * SLOTS
      common.used[row] = 1
      common.changes = common.changes + 1
      look()
      return true
    end
  end
  return false
end

-- For init_worker_by_lua; `most` is the limit, 0 for none, and then nothing is counted.
function _M.start(folder, most)
  if most == 0 then
    return
  end
  if map(folder .. "/open-requests") then
    ngx.timer.every(1, sweep)
    return
  end
  ngx.log(ngx.ERR, folder, "/open-requests cannot be shared: router_app_requests holds for each worker alone")
  common, own = nil, ffi.new("uint32_t[?]", SLOTS)
end

-- Requests of an application that are open now.
function _M.sum(slot)
  local total = own[slot]
  if common then
    if common.changes ~= seen then
      look()
    end
    for i = 1, #active do
      total = total + counters[active[i] * SLOTS + slot]
    end
  end
  return total
end

-- Count this request from now on.
function _M.enter(key, slot)
  held[key] = slot
  own[slot] = own[slot] + 1
end

-- Count it no more; nothing happens if it was not counted.
function _M.leave(key)
  local slot = held[key]
  if slot then
    held[key] = nil
    own[slot] = own[slot] - 1
  end
end

return _M
