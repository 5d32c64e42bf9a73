-- The private parts of nginx and of its Lua module that this code calls (docs/decisions/0014-private-interfaces.md),
-- and the check that the running nginx has them in a known form. Wrong arguments make every request fail, or worse.

local ffi = require "ffi"
-- Loading these declares the functions.
require "resty.core.var"
require "resty.core.response"
require "resty.core.request"
require "resty.core.time"
require "resty.core.misc"
require "ngx.balancer"

local floor = math.floor

local _M = {}

-- By major and minor number, because a patch within one of them keeps the structures.
local NGINX = { [1022] = "1.22", [1024] = "1.24", [1026] = "1.26" }
local MODULES = { [10023] = "0.10.23", [10026] = "0.10.26", [10028] = "0.10.28" }
local REMEDY = "Install nginx and libnginx-mod-http-lua of Debian 12, Debian 13 or Ubuntu 24.04, or a release of Ingot that knows this one"

local REQUEST = "struct ngx_http_request_s *"
local PEER = "int (" .. REQUEST .. ", const unsigned char *, uint64_t, int, "
-- name -> form -> prototype as resty.core declares it, which accepts only the module it was written for.
local FUNCTIONS = {
  -- The host is for modules that keep connections themselves, by the name they were opened for.
  ngx_http_lua_ffi_balancer_set_current_peer = {
    plain = PEER .. "char **)",
    with_host = PEER .. "const unsigned char *, int64_t, char **)",
  },
  ngx_http_lua_ffi_get_resp_header = {
    plain = "int (" .. REQUEST .. ", const unsigned char *, uint64_t, unsigned char *, struct *, int, char **)",
  },
  ngx_http_lua_ffi_get_resp_status = { plain = "int (" .. REQUEST .. ")" },
  ngx_http_lua_ffi_now = { plain = "double ()" },
  ngx_http_lua_ffi_req_start_time = { plain = "double (" .. REQUEST .. ")" },
  ngx_http_lua_ffi_var_get = {
    plain = "int (" .. REQUEST .. ", const char *, uint64_t, char *, int, char **, uint64_t *, char **)",
  },
  ngx_http_lua_ffi_var_set = {
    plain = "int (" .. REQUEST .. ", const unsigned char *, uint64_t, unsigned char *, const unsigned char *, uint64_t, "
      .. "unsigned char *, uint64_t *)",
  },
}

local MOST_ARGUMENTS = 16
-- A coroutine converts to no type of C, and LuaJIT converts all arguments before it calls.
local UNCONVERTIBLE = coroutine.create(function() end)

-- The declared prototype of a function, as text, without a call; else the reason why there is none.
local function prototype(name)
  local found, callable = pcall(function()
    return ffi.C[name]
  end)
  if not found then
    return "nothing (" .. callable .. ")"
  end
  local types, arguments = {}, {}
  for place = 1, MOST_ARGUMENTS do
    arguments[place] = UNCONVERTIBLE
    local _, reason = pcall(callable, unpack(arguments, 1, place))
    local kind = tostring(reason):match("cannot convert 'thread' to '(.+)'")
    if not kind then
      break
    end
    -- Structures without a name have a number instead.
    types[place] = kind:gsub("struct %d+", "struct")
    if kind:find("*", 1, true) then
      arguments[place] = nil
    else
      arguments[place] = 0
    end
  end
  return tostring(ffi.typeof(callable)):match("^ctype<(.-) ?%(%)>$") .. " (" .. table.concat(types, ", ") .. ")"
end

local function values(known)
  local all = {}
  for _, value in pairs(known) do
    all[#all + 1] = value
  end
  table.sort(all)
  return all
end

local function refuse(what, known)
  error("this router cannot serve with " .. what .. "; known: " .. table.concat(values(known), ", ") .. ". " .. REMEDY, 0)
end

local function dotted(version)
  return floor(version / 1000000) .. "." .. floor(version / 1000) % 1000 .. "." .. version % 1000
end

-- The form that a function has here, of those it may have. Raises an error where it has none of them.
function _M.form(name)
  local declared = prototype(name)
  for form, known in pairs(FUNCTIONS[name]) do
    if declared == known then
      return form
    end
  end
  return refuse(name .. " declared as " .. declared, FUNCTIONS[name])
end

-- Raises an error where nginx or its Lua module is unknown; in init_by_lua, nginx does not start then.
function _M.check()
  local nginx, lua = ngx.config.nginx_version, ngx.config.ngx_lua_version
  if not NGINX[floor(nginx / 1000)] then
    refuse("nginx " .. dotted(nginx), NGINX)
  end
  if not MODULES[lua] then
    refuse("nginx's Lua module " .. dotted(lua), MODULES)
  end
  for name in pairs(FUNCTIONS) do
    _M.form(name)
  end
end

return _M
