-- Endpoints in one worker, and their counters.
--
-- A request needs its endpoint's address and its name in the log: both are in a table of this worker's own memory.
-- The numbers are in a file in the folder of the sockets, which this worker maps and writes, and which the router
-- process maps and reads: so counting is a few additions, and reading costs nginx nothing. The reader is
-- components/router/telemetry/counters.py; its unit test parses the declarations below.
--
-- The file: a page of header with the sums of everything, then per row 128 bytes of text ("app TAB instance TAB address TAB
-- port"), then per row 128 bytes of numbers. Row 0 is never an endpoint. A row whose endpoint is gone rests before it is used
-- again, so that the process sees its last numbers.

local ffi = require "ffi"
local bit = require "bit"
local limits = require "limits"
local huge_pages = require "huge_pages"

ffi.cdef [[
typedef struct {
  uint32_t generation;
  uint16_t port;
  uint8_t address_length, app_length, instance_length;
  unsigned char text[110];
  uint8_t weight;
  uint32_t references, app_slot;
} ingot_target;
typedef struct {
  double eject_until, latency_ms, bytes_in, bytes_out;
  uint32_t status[6], open, retries, generation, ejections, buckets[12], websockets;
  uint8_t live, unused[3];
} ingot_row;
typedef struct { unsigned char text[128]; } ingot_name;
typedef struct {
  double magic, pid, capacity, used, bad_requests, limited;
  double status[6], buckets[12], latency_ms, bytes_in, bytes_out, retries, ejections, websockets;
  double websockets_told, websockets_ended;
} ingot_header;
int memcmp(const void *a, const void *b, size_t n);
int32_t ngx_murmur_hash2(const unsigned char *data, size_t length);
int open(const char *path, int flags, int mode);
int close(int fd);
int unlink(const char *path);
int ftruncate(int fd, long length);
]]

local C = ffi.C
local band, bxor, lshift = bit.band, bit.bxor, bit.lshift
local MAGIC, PAGE, NAME, ROW, TEXT, REST_SECONDS = 20110413, 4096, 128, 128, 110, 60
local O_RDWR, O_CREAT_TRUNC, READ_WRITE, SHARED = 2, 512 + 64, 3, 1

local _M = {}

local targets, rows, names, header
local capacity = 0
-- Rows by their endpoint: open addressing, at most half full; 0 is an empty place.
local slots, slot_mask
local resting = { first = 1, last = 0 }

-- Targets and numbers by row, and the header: C memory, fixed for the life of the worker.
function _M.memory()
  return targets, rows, header
end

-- Map the file; for init_worker_by_lua. Without it (no room, no folder) only this worker sees its numbers.
function _M.open(folder, most)
  capacity = most
  targets = huge_pages.zeroed("ingot_target", capacity)
  local places = 1
  while places < capacity * 2 do
    places = places * 2
  end
  slots, slot_mask = huge_pages.zeroed("uint32_t", places), places - 1
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

local function place_of(row)
  local target = targets[row]
  local length = target.address_length + target.app_length + target.instance_length
  return band(bxor(C.ngx_murmur_hash2(target.text, length), lshift(target.port, 8)), slot_mask)
end

-- The row of an endpoint, and the place in `slots` where it is or would be.
local function search(text, port, address_length, app_length)
  local at = band(bxor(C.ngx_murmur_hash2(text, #text), lshift(port, 8)), slot_mask)
  while slots[at] ~= 0 do
    local target = targets[slots[at]]
    if target.port == port and target.address_length == address_length and target.app_length == app_length
      and address_length + app_length + target.instance_length == #text and C.memcmp(target.text, text, #text) == 0 then
      return slots[at], at
    end
    at = band(at + 1, slot_mask)
  end
  return nil, at
end

-- Empty a place; entries that were displaced by it move up.
local function vacate(at)
  local next = at
  while true do
    next = band(next + 1, slot_mask)
    if slots[next] == 0 then
      break
    end
    -- The distance of each from its own place.
    if band(next - place_of(slots[next]), slot_mask) >= band(next - at, slot_mask) then
      slots[at] = slots[next]
      at = next
    end
  end
  slots[at] = 0
end

-- The row of an endpoint, made if need be; nil when there is no row left. Every `take` is undone by a `give`. An
-- instance's id is cut to the room beside the address. The weight is the last one registered.
function _M.take(address, port, app, instance, weight)
  instance = instance:sub(1, TEXT - #address - #app)
  local text = address .. app .. instance
  local id, at = search(text, port, #address, #app)
  if id then
    targets[id].references, targets[id].weight = targets[id].references + 1, weight
    return id
  end
  id = free_row()
  if not id then
    return nil
  end
  local target, row = targets[id], rows[id]
  local generation = target.generation + 1
  target.generation, target.references, target.app_slot, target.port = generation, 1, limits.slot(app), port
  target.address_length, target.app_length, target.instance_length = #address, #app, #instance
  target.weight = weight
  ffi.copy(target.text, text, #text)
  -- The name comes first: the process reads it when it sees a new generation.
  local name = app .. "\t" .. instance .. "\t" .. address .. "\t" .. port
  ffi.fill(names[id], NAME)
  ffi.copy(names[id].text, name, #name)
  ffi.fill(row, ROW)
  row.generation, row.live = generation, 1
  slots[at] = id
  return id
end

-- A host's list no longer contains this row.
function _M.give(id)
  local target = targets[id]
  target.references = target.references - 1
  if target.references > 0 then
    return
  end
  local length = target.address_length + target.app_length + target.instance_length
  local _, at = search(ffi.string(target.text, length), target.port, target.address_length, target.app_length)
  vacate(at)
  rows[id].live = 0
  resting.last = resting.last + 1
  resting[resting.last] = { row = id, since = ngx.now() }
end

return _M
