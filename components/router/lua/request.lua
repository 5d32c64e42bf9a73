-- The few facts that every request needs, straight from nginx's own functions: a value of ngx.var or ngx.header costs
-- a string of Lua and several look-ups each time.

local ffi = require "ffi"
local base = require "resty.core.base"
-- Loading it declares the functions used here. Every file that touches a request loads this one, so nginx starts with
-- a known version only.
local private = require "private"
private.check()

-- The beginnings of ngx_http_request_t and ngx_connection_t, the same in every version that private.lua knows and for many years before.
-- `send` is the connection's own function for writing, plain or TLS.
ffi.cdef [[
intptr_t ngx_atoi(unsigned char *digits, size_t length);
typedef struct ingot_connection ingot_connection;
struct ingot_connection {
  void *data, *read, *write;
  int fd;
  void *receive;
  intptr_t (*send)(ingot_connection *connection, const unsigned char *bytes, size_t length);
  void *receive_chain, *send_chain, *listening;
  int64_t sent;
};
typedef struct { uint32_t signature; ingot_connection *connection; } ingot_request;
]]

local C = ffi.C
local request = base.get_request
local cast = ffi.cast
local address_type = ffi.typeof("intptr_t")
local request_type = ffi.typeof("ingot_request *")
-- "HTTP" as a number.
local SIGNATURE = 0x50545448
local value, length = ffi.new("unsigned char *[1]"), ffi.new("size_t[1]")
local reason = ffi.new("char *[1]")
local lower, header_lower = ffi.new("unsigned char[64]"), ffi.new("unsigned char[64]")
local headers = ffi.new("ngx_http_lua_ffi_str_t[1]")
local error_text, error_length = ffi.new("unsigned char[256]"), ffi.new("size_t[1]")

local _M = {}

-- This request, as the address of its structure, which is the key of its facts.
function _M.key()
  return tonumber(cast(address_type, request()))
end

-- The requested host, in nginx's form (lower case, without port): the address of its bytes, and their number.
function _M.host_bytes()
  if C.ngx_http_lua_ffi_var_get(request(), "host", 4, lower, 0, value, length, reason) ~= 0 then
    return value[0], 0
  end
  return value[0], tonumber(length[0])
end

local function number(name, name_length)
  if C.ngx_http_lua_ffi_var_get(request(), name, name_length, lower, 0, value, length, reason) ~= 0 then
    return 0
  end
  return tonumber(C.ngx_atoi(value[0], length[0]))
end

-- Bytes from the client, header and body.
function _M.received()
  return number("request_length", 14)
end

-- The client's connection of a request, given as a pointer or its address; nil where there is no request.
function _M.connection(at)
  local structure = cast(request_type, at)
  return structure.signature == SIGNATURE and structure.connection or nil
end

-- Bytes to the client, header and body, as nginx says them.
local function bytes_sent()
  return number("bytes_sent", 10)
end

-- The same from nginx's own structure, which is ten times as fast.
local function connection_sent()
  return tonumber(cast(request_type, request()).connection.sent)
end

-- Bytes to the client, header and body. The first request finds out whether nginx's structures are as assumed.
function _M.sent()
  local connection = _M.connection(request())
  local known = connection and tonumber(connection.sent) == bytes_sent()
  _M.sent = known and connection_sent or bytes_sent
  if not known then
    ngx.log(ngx.WARN, "this nginx lays out its connections differently: counting bytes takes longer")
  end
  return _M.sent()
end

local function send_plain(address, address_length, port)
  return C.ngx_http_lua_ffi_balancer_set_current_peer(request(), address, address_length, port, reason) == 0
end

-- With no host: nginx keeps the connections (`keepalive` in nginx.conf) by their addresses.
local function send_without_host(address, address_length, port)
  return C.ngx_http_lua_ffi_balancer_set_current_peer(request(), address, address_length, port, nil, 0, reason) == 0
end

-- Send this request to an address in C memory, given with its length and a port; returns whether it is an address.
local takes_host = private.form("ngx_http_lua_ffi_balancer_set_current_peer") == "with_host"
_M.send_to = takes_host and send_without_host or send_plain

-- Set a variable from C memory.
function _M.set(name, name_length, bytes, count)
  C.ngx_http_lua_ffi_var_set(request(), name, name_length, lower, bytes, count, error_text, error_length)
end

function _M.status()
  return C.ngx_http_lua_ffi_get_resp_status(request())
end

-- Milliseconds since the request began.
function _M.age()
  return (C.ngx_http_lua_ffi_now() - C.ngx_http_lua_ffi_req_start_time(request())) * 1000
end

-- True when the answer sets a cookie.
function _M.sets_cookie()
  return C.ngx_http_lua_ffi_get_resp_header(request(), "set-cookie", 10, header_lower, headers, 1, reason) > 0
end

return _M
