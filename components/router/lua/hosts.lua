-- Hosts that a worker was asked for, in C memory: found by their bytes in nginx's memory, without a string of Lua.
--
-- An entry has the host's list of endpoint rows, or the beginning of a long list in `routes.lua`; the number of rows, and the
-- number of first ones in this router's zone. All of that is in one line of the processor's cache, the name in
-- the next. Open addressing, at most a quarter full; an entry of a removed host keeps its place.

local ffi = require "ffi"
local bit = require "bit"
local huge_pages = require "huge_pages"
-- Loading it declares the functions used here.
require "endpoints"

ffi.cdef [[
typedef struct {
  int32_t hash;
  uint32_t base, n, near, turn;
  uint16_t length, state;
  uint32_t rows[10];
  unsigned char text[64];
} ingot_host;
]]

local C = ffi.C
local band = bit.band
local bytes = ffi.typeof("const unsigned char *")

local EMPTY, LIVE, STALE = 0, 1, 2
local LONGEST = 64

-- SHORT: the number of rows that an entry itself can hold.
local _M = { LIVE = LIVE, STALE = STALE, SHORT = 10 }

local capacity, mask, used = 4096, 4095, 0
-- Replaced by a larger one as need be.
local store = { entries = huge_pages.zeroed("ingot_host", 4096) }
_M.store = store

-- From the second probe on, in a function of its own: a loop would keep the first from being compiled.
local function further(hash, text, length)
  local at, entries = band(hash + 1, mask), store.entries
  while entries[at].state ~= EMPTY do
    if entries[at].hash == hash and entries[at].length == length and C.memcmp(entries[at].text, text, length) == 0 then
      return at
    end
    at = band(at + 1, mask)
  end
  return nil
end

-- The place of a host's entry, whatever its state; nil where it has none.
function _M.place(text, length)
  local hash = C.ngx_murmur_hash2(text, length)
  local at, entries = band(hash, mask), store.entries
  if entries[at].hash == hash and entries[at].length == length and C.memcmp(entries[at].text, text, length) == 0 then
    return at
  end
  if entries[at].state == EMPTY then
    return nil
  end
  return further(hash, text, length)
end

-- The key of a host; one that is longer than an entry's room is kept by its digest only.
local function key_of(host)
  return #host > LONGEST and "#" .. ngx.md5(host) or host
end

function _M.find(host)
  local key = key_of(host)
  return _M.place(ffi.cast(bytes, key), #key)
end

local function insert(hash)
  local at = band(hash, mask)
  while store.entries[at].state ~= EMPTY do
    at = band(at + 1, mask)
  end
  return at
end

local function grow()
  local old, size = store.entries, capacity
  local keep = 0
  for i = 0, size - 1 do
    keep = keep + ((old[i].state ~= EMPTY and old[i].n > 0) and 1 or 0)
  end
  while capacity < keep * 8 do
    capacity = capacity * 2
  end
  mask, used = capacity - 1, 0
  store.entries = huge_pages.zeroed("ingot_host", capacity)
  for i = 0, size - 1 do
    -- Entries of removed hosts are not copied.
    if old[i].state ~= EMPTY and old[i].n > 0 then
      store.entries[insert(old[i].hash)] = old[i]
      used = used + 1
    end
  end
  huge_pages.free(old, "ingot_host", size)
end

-- The place of a host's entry, made if need be.
function _M.put(host)
  local at = _M.find(host)
  if at then
    return at
  end
  if used * 4 >= capacity then
    grow()
  end
  local key = key_of(host)
  local hash = C.ngx_murmur_hash2(ffi.cast(bytes, key), #key)
  at = insert(hash)
  used = used + 1
  local entry = store.entries[at]
  entry.hash, entry.length, entry.state, entry.n = hash, #key, STALE, 0
  ffi.copy(entry.text, key, #key)
  -- Routers and workers must not all begin with the same endpoint.
  entry.turn = math.random(0, 1000)
  return at
end

-- Mark every host to be read again; returns the names.
function _M.stale_all()
  local names = {}
  for i = 0, capacity - 1 do
    if store.entries[i].state == LIVE then
      store.entries[i].state = STALE
      names[#names + 1] = ffi.string(store.entries[i].text, store.entries[i].length)
    end
  end
  return names
end

return _M
