-- Sticky sessions: the cookie __VCAP_ID__ names the endpoint that holds a session, in the form of the routers of 2011
-- (protocol 3.3): base64 of Blowfish-CBC, zero IV, key = first 16 bytes of the session key, of Ruby's Marshal of
-- [uri, host, port]. Any router with the same key understands it.

local ffi = require "ffi"

ffi.cdef [[
typedef struct { uint32_t p[18]; uint32_t s[1024]; } ingot_blowfish;
void BF_set_key(ingot_blowfish *key, int length, const unsigned char *data);
void BF_cbc_encrypt(const unsigned char *in, unsigned char *out, long length, const ingot_blowfish *key,
  unsigned char *iv, int encrypt);
]]

local C = ffi.C
local char, byte, rep = string.char, string.byte, string.rep

local _M = {}

local key = ffi.new("ingot_blowfish")

-- Settings from nginx.conf: the file with the session key that all routers share.
function _M.configure(path)
  local file = assert(io.open(path, "rb"))
  local secret = file:read("*l")
  file:close()
  C.BF_set_key(key, math.min(#secret, 16), secret)
end

local function blowfish(text, encrypt)
  local out, iv = ffi.new("unsigned char[?]", #text), ffi.new("unsigned char[8]")
  C.BF_cbc_encrypt(text, out, #text, key, iv, encrypt)
  return ffi.string(out, #text)
end

-- Marshal's small integers.
local function integer(n)
  if n == 0 then
    return "\0"
  elseif n < 123 then
    return char(n + 5)
  elseif n < 256 then
    return char(1, n)
  end
  return char(2, n % 256, math.floor(n / 256))
end

-- The cookie's value for an endpoint.
function _M.encode(uri, address, port)
  local plain = "\4\8[\8I\"" .. integer(#uri) .. uri .. "\6:\6EF" .. "I\"" .. integer(#address) .. address
    .. "\6;\0F" .. "i" .. integer(port)
  local padding = 8 - #plain % 8
  return ngx.encode_base64(blowfish(plain .. rep(char(padding), padding), 1))
end

-- Reads Marshal's [string, string, integer], with and without the encodings that Ruby 1.9 added.
local function unmarshal(text)
  local at = 5
  local function number()
    local first = byte(text, at) or 0
    at = at + 1
    if first == 0 then
      return 0
    elseif first >= 6 and first < 128 then
      return first - 5
    elseif first > 4 then
      return nil
    end
    local value = 0
    for i = 0, first - 1 do
      value = value + (byte(text, at + i) or 0) * 256 ^ i
    end
    at = at + first
    return value
  end
  local function word()
    local extended = text:sub(at, at) == "I"
    at = extended and at + 1 or at
    if text:sub(at, at) ~= '"' then
      return nil
    end
    at = at + 1
    local length = number()
    if not length or at + length > #text then
      return nil
    end
    local value = text:sub(at, at + length - 1)
    at = at + length
    if extended then
      local tail = text:match("^\6:\6E[FT]()", at) or text:match("^\6;%z[FT]()", at)
      if not tail then
        return nil
      end
      at = tail
    end
    return value
  end
  if text:sub(1, 4) ~= "\4\8[\8" then
    return nil
  end
  local uri = word()
  local address = uri and word()
  if not address or text:sub(at, at) ~= "i" then
    return nil
  end
  at = at + 1
  return uri, address, number()
end

-- The uri, address and port of a cookie; nil for one that no router with this key wrote.
function _M.decode(value)
  local sealed = ngx.decode_base64(value)
  if not sealed or #sealed == 0 or #sealed % 8 ~= 0 then
    return nil
  end
  local plain = blowfish(sealed, 0)
  local padding = byte(plain, -1)
  if padding < 1 or padding > 8 then
    return nil
  end
  return unmarshal(plain:sub(1, -padding - 1))
end

-- The endpoint a request's cookie names, as address and port.
function _M.wanted()
  local value = ngx.var.cookie___VCAP_ID__
  if not value then
    return nil
  end
  local _, address, port = _M.decode(value)
  return address, port
end

-- An answer that sets cookies and begins a Java session by one of them also gets the cookie of its endpoint.
function _M.mark()
  local cookies = ngx.header["Set-Cookie"]
  if type(cookies) == "string" then
    cookies = { cookies }
  end
  for _, cookie in ipairs(cookies) do
    -- Anywhere in the text: some servers' sessions have a longer name.
    if cookie:lower():find("jsessionid", 1, true) then
      local rest = cookie:match(";.*$") or ""
      local last = (ngx.var.upstream_addr or ""):match("([^, ]+)$") or ""
      local address, port = last:match("^(.+):(%d+)$")
      if address and not last:find("^unix:") then
        cookies[#cookies + 1] = "__VCAP_ID__=" .. _M.encode(ngx.var.host, address, tonumber(port)) .. rest
        ngx.header["Set-Cookie"] = cookies
      end
      return
    end
  end
end

return _M
