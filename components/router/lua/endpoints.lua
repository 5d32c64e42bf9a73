-- Endpoints as one worker sees them, and what it counts of each.
--
-- Both lie in plain C memory: a file in the folder of the sockets that this worker maps and writes, and that the router
-- process maps and reads (components/router/counters.py knows the same layout). So a request is counted by a few additions,
-- the collector of Lua has nothing to walk, and reading the numbers costs nginx nothing.
--
-- The file: a page of header with the sums of everything, then per row 128 bytes of text ("app TAB instance TAB address TAB
-- port"), then per row 128 bytes of numbers. Row 0 is never an endpoint. A row whose endpoint is gone rests before it is used
-- again, so that the process sees its last numbers.

local ffi = require "ffi"
local bit = require "bit"
local limits = require "limits"

ffi.cdef [[
typedef struct {
  double eject_until, bytes_in, bytes_out;
  uint32_t status[6];
  uint32_t latency_ms, open, retries, generation, app_slot;
  uint16_t port, ejections, websockets;
  uint8_t app_length, instance_length;
  uint32_t buckets[12];
  uint8_t address_length, live, unused[2];
} ingot_row;
typedef struct { unsigned char text[128]; } ingot_name;
typedef struct {
  double magic, pid, capacity, used, bad_requests, limited;
  double status[6], buckets[12], latency_ms, bytes_in, bytes_out, retries, ejections, websockets;
  double websockets_told, websockets_ended;
} ingot_header;
int open(const char *path, int flags, int mode);
int close(int fd);
int unlink(const char *path);
int ftruncate(int fd, long length);
void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset);
]]

local C = ffi.C
local MAGIC, PAGE, NAME, ROW, REST_SECONDS = 20110413, 4096, 128, 128, 60
local O_RDWR, O_CREAT_TRUNC, READ_WRITE, SHARED = 2, 512 + 64, 3, 1

local _M = {}

local rows, names, header
local capacity = 0
local ids = {}          -- "app TAB instance TAB address TAB port" -> row
local references = {}   -- row -> in how many hosts' lists it is
local resting = { first = 1, last = 0 }

-- Rows, their names, and the header: C memory, fixed for the life of the worker.
function _M.memory()
  return rows, names, header
end

-- Map the file; for init_worker_by_lua. Without it (no room, no folder) the numbers are this worker's own secret.
function _M.open(folder, most)
  capacity = most
  local length = PAGE + capacity * (NAME + ROW)
  local path = folder .. "/worker." .. ngx.worker.pid() .. ".stats"
  C.unlink(path)
  local fd = C.open(path, bit.bor(O_RDWR, O_CREAT_TRUNC), tonumber("660", 8))
  local base
  if fd >= 0 then
    if C.ftruncate(fd, length) == 0 then
      local address = C.mmap(nil, length, READ_WRITE, SHARED, fd, 0)
      if ffi.cast("intptr_t", address) ~= -1 then
        base = ffi.cast("char *", address)
      end
    end
    C.close(fd)
  end
  if not base then
    ngx.log(ngx.ERR, path, " cannot be mapped: this worker's numbers will not be read by anyone")
    _M.own = ffi.new("char[?]", length)
    base = ffi.cast("char *", _M.own)
  end
  header = ffi.cast("ingot_header *", base)
  names = ffi.cast("ingot_name *", base + PAGE)
  rows = ffi.cast("ingot_row *", base + PAGE + capacity * NAME)
  header.pid, header.capacity, header.used = ngx.worker.pid(), capacity, 1
  header.magic = MAGIC
end

local function free_row()
  local oldest = resting[resting.first]
  if oldest and (oldest.since + REST_SECONDS < ngx.now() or header.used >= capacity) then
    resting[resting.first] = nil
    resting.first = resting.first + 1
    return oldest.row
  end
  if header.used >= capacity then
    return nil
  end
  header.used = header.used + 1
  return header.used - 1
end

-- The row of an endpoint, made if need be; nil when there is no row left. Every `take` is undone by a `give`.
function _M.take(address, port, app, instance)
  local key = app .. "\t" .. instance .. "\t" .. address .. "\t" .. port
  local id = ids[key]
  if id then
    references[id] = references[id] + 1
    return id
  end
  id = free_row()
  if not id then
    return nil
  end
  local generation = rows[id].generation + 1
  ffi.fill(rows + id, ROW)
  ffi.fill(names + id, NAME)
  ffi.copy(names[id].text, key, math.min(#key, NAME - 1))
  rows[id].port, rows[id].generation, rows[id].app_slot = port, generation, limits.slot(app)
  rows[id].live, rows[id].app_length, rows[id].instance_length, rows[id].address_length = 1, #app, #instance, #address
  ids[key], references[id] = id, 1
  return id
end

-- A host's list no longer names this row.
function _M.give(id)
  references[id] = references[id] - 1
  if references[id] > 0 then
    return
  end
  local row = rows[id]
  ids[ffi.string(names[id].text, row.app_length + row.instance_length + row.address_length + 2) .. "\t" .. row.port] = nil
  references[id] = nil
  rows[id].live = 0
  resting.last = resting.last + 1
  resting[resting.last] = { row = id, since = ngx.now() }
end

return _M
