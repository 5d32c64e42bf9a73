-- Certificates by the name a client asks for (SNI), from a directory that may change at any time.
--
-- NAME.crt (the chain, leaf first) and NAME.key serve NAME; _.x.y.crt and .key serve every name one label above x.y;
-- default.crt and default.key serve all other names.

local ffi = require "ffi"
local ssl = require "ngx.ssl"

ffi.cdef [[
void *OPENSSL_sk_value(const void *stack, int place);
int X509_check_private_key(const void *certificate, const void *key);
]]

local C = ffi.C
local _M = {}

local folder = "/etc/ingot/certificates"
local kept = {}          -- name -> { chain, key, till }; false where there is none
local KEEP_SECONDS, MAX_KEPT = 5, 10000
local count = 0

-- Settings from nginx.conf.
function _M.configure(path)
  folder = path
end

local function content(path)
  local file = io.open(path, "rb")
  if not file then
    return nil
  end
  local text = file:read("*a")
  file:close()
  return text
end

local function read(name)
  local chain_pem, key_pem = content(folder .. "/" .. name .. ".crt"), content(folder .. "/" .. name .. ".key")
  if not chain_pem then
    return nil
  end
  if not key_pem then
    ngx.log(ngx.ERR, "certificate ", name, ": its key is not there, or not for this group to read")
    return nil
  end
  local chain, reason = ssl.parse_pem_cert(chain_pem)
  local key
  if chain then
    key, reason = ssl.parse_pem_priv_key(key_pem)
  end
  if not key then
    ngx.log(ngx.ERR, "certificate ", name, ": ", reason)
    return nil
  end
  if C.X509_check_private_key(C.OPENSSL_sk_value(chain, 0), key) ~= 1 then
    ngx.log(ngx.ERR, "certificate ", name, ": the key is another certificate's")
    return nil
  end
  return { chain = chain, key = key }
end

local function certificate(name)
  local known = kept[name]
  if known and known.till > ngx.now() then
    return known.chain and known
  end
  local found = read(name) or {}
  -- The files are half written, or only one of both is replaced: the earlier ones serve on.
  if not found.chain and known and known.chain then
    found = known
  end
  if count >= MAX_KEPT then
    kept, count = {}, 0
  end
  if not kept[name] then
    count = count + 1
  end
  found.till = ngx.now() + KEEP_SECONDS
  kept[name] = found
  return found.chain and found
end

-- For ssl_certificate_by_lua.
function _M.choose()
  local name = (ssl.server_name() or ""):lower()
  local found
  if name:find("^[a-z0-9_-][a-z0-9_.-]*$") and not name:find("..", 1, true) and #name < 254 then
    found = certificate(name) or certificate((name:gsub("^[^.]+", "_")))
  end
  found = found or certificate("default")
  if not found then
    -- The certificate with which nginx was started.
    return
  end
  ssl.clear_certs()
  local ok, reason = ssl.set_cert(found.chain)
  if ok then
    ok, reason = ssl.set_priv_key(found.key)
  end
  if not ok then
    ngx.log(ngx.ERR, "certificate for ", name, ": ", reason)
    return ngx.exit(ngx.ERROR)
  end
end

return _M
