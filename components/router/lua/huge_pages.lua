-- Memory outside of Lua's heap, for tables with random access: the collector does not walk it, and it is in large
-- pages where the kernel has them, so that a look-up does not begin with a walk through page tables.

local ffi = require "ffi"

ffi.cdef [[
void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset);
int munmap(void *address, size_t length);
int madvise(void *address, size_t length, int advice);
]]

local C = ffi.C
local READ_WRITE, PRIVATE_ANONYMOUS, HUGE_PAGES = 3, 34, 14
local PAGE = 2097152

local _M = {}

-- Room for `count` of a C type, all zero, as a pointer; pages come only when touched. Raises an error where there is
-- no room.
function _M.zeroed(name, count)
  local length = math.ceil(ffi.sizeof(name) * count / PAGE) * PAGE
  -- A large page begins at a multiple of its size, so one more is requested and the ends are given back.
  local raw = C.mmap(nil, length + PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0)
  if ffi.cast("intptr_t", raw) == -1 then
    error("no memory for " .. count .. " of " .. name)
  end
  local start = ffi.cast("char *", raw)
  local before = (PAGE - tonumber(ffi.cast("uintptr_t", raw) % PAGE)) % PAGE
  if before > 0 then
    C.munmap(start, before)
  end
  C.munmap(start + before + length, PAGE - before)
  C.madvise(start + before, length, HUGE_PAGES)
  return ffi.cast(name .. " *", start + before)
end

-- Give back the memory of `zeroed` for the same type and count.
function _M.free(pointer, name, count)
  C.munmap(pointer, math.ceil(ffi.sizeof(name) * count / PAGE) * PAGE)
end

return _M
