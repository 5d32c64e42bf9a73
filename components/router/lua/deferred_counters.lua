-- Counters of endpoints, added up later from notes of what happened to them.
--
-- The numbers of 100 000 endpoints fit into no cache of the processor, and a request that waited for them would be slower by
-- a microsecond. So a request only leaves a note in a short list, which is always at hand; once it is full, or a fifth of a
-- second has passed, its notes are added up in one go, where the processor fetches many rows at a time.

local ffi = require "ffi"
local endpoints = require "endpoints"

ffi.cdef [[
typedef struct {
  double bytes_in, bytes_out;
  uint32_t row, generation, ms;
  int32_t open;
  uint16_t counted, total, class, bucket;
} ingot_note;
]]

local max = math.max

local _M = {}

local MOST = 256
local notes = ffi.new("ingot_note[?]", MOST)
local used, room = 0, MOST
local rows, header

-- With `at_once` every note is added up when it is made: for algorithms that choose by these numbers.
function _M.configure(at_once)
  room = at_once and 1 or MOST
end

-- Add up all notes.
function _M.fold()
  for i = 0, used - 1 do
    local class, bucket, ms = notes[i].class, notes[i].bucket, notes[i].ms
    local bytes_in, bytes_out, total = notes[i].bytes_in, notes[i].bytes_out, notes[i].total
    header.status[class] = header.status[class] + total
    header.buckets[bucket] = header.buckets[bucket] + total
    header.latency_ms = header.latency_ms + ms * total
    header.bytes_in = header.bytes_in + bytes_in * total
    header.bytes_out = header.bytes_out + bytes_out * total
    local row, counted = notes[i].row, notes[i].counted
    -- A row that was used again meanwhile belongs to another endpoint.
    if rows[row].generation == notes[i].generation then
      rows[row].open = max(rows[row].open + notes[i].open, 0)
      rows[row].status[class] = rows[row].status[class] + counted
      rows[row].buckets[bucket] = rows[row].buckets[bucket] + counted
      rows[row].latency_ms = rows[row].latency_ms + ms
      rows[row].bytes_in = rows[row].bytes_in + bytes_in
      rows[row].bytes_out = rows[row].bytes_out + bytes_out
    end
  end
  used = 0
end

local function note(row, generation, open, counted, total, class, bucket, ms, bytes_in, bytes_out)
  local at = used
  notes[at].row, notes[at].generation, notes[at].open = row, generation, open
  notes[at].counted, notes[at].total = counted, total
  notes[at].class, notes[at].bucket, notes[at].ms = class, bucket, ms
  notes[at].bytes_in, notes[at].bytes_out = bytes_in, bytes_out
  used = at + 1
  if used >= room then
    _M.fold()
  end
end

-- A request was sent to an endpoint.
function _M.opened(row, generation)
  note(row, generation, 1, 0, 0, 0, 0, 0, 0, 0)
end

-- A try at an endpoint ended and another follows.
function _M.left(row, generation)
  note(row, generation, -1, 0, 0, 0, 0, 0, 0, 0)
end

-- A request ended; row 0 for one that no endpoint answered. With `total` it also counts in the sums of everything.
function _M.done(row, generation, total, class, bucket, ms, bytes_in, bytes_out)
  note(row, generation, -1, 1, total, class, bucket, ms, bytes_in, bytes_out)
end

-- For init_worker_by_lua, after endpoints.open.
function _M.start()
  local _
  _, rows, header = endpoints.memory()
  ngx.timer.every(0.2, _M.fold)
end

return _M
