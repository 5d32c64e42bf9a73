-- Headers that a request's Connection header names belong to that connection only (RFC 9110, 7.6.1) and are not
-- passed on.

local _M = {}

-- Headers that the router itself sets or uses; naming them changes nothing.
local KEPT = {
  ["host"] = true, ["connection"] = true, ["upgrade"] = true, ["expect"] = true,
  ["content-length"] = true, ["content-type"] = true, ["transfer-encoding"] = true,
}

-- For rewrite_by_lua of requests whose header Connection has more than close and keep-alive.
function _M.clear()
  for name in (ngx.var.http_connection or ""):lower():gmatch("[^%s,]+") do
    if not KEPT[name] and name:sub(1, 12) ~= "x-forwarded-" then
      ngx.req.clear_header(name)
    end
  end
end

return _M
