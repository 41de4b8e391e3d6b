-- What nginx-lua and envoy-lua do to verify a delivery: HMAC-SHA256 with libcrypto, through LuaJIT's FFI.
local ffi = require("ffi")

ffi.cdef([[
const void *EVP_sha256(void);
unsigned char *HMAC(const void *digest, const void *key, int key_length, const char *data, size_t length,
                    unsigned char *tag, unsigned int *tag_length);
int CRYPTO_memcmp(const void *left, const void *right, size_t length);
]])

local PREFIX, DIGITS = "sha256=", 64
local HEX = "0123456789abcdef"

local bit = require("bit")
local tag = ffi.new("unsigned char[32]")
local hex = ffi.new("unsigned char[64]")
local crypto, digest, secret
local verify = {}

-- As root, in the first process: workers may not read the file. `library` is loaded; nginx has its libcrypto already.
function verify.read(path, library)
    crypto = library and ffi.load(library) or ffi.C
    digest = crypto.EVP_sha256()
    local file = assert(io.open(path, "rb"))
    secret = file:read("*a")
    file:close()
end

function verify.is_genuine(claimed, body)
    if #claimed ~= #PREFIX + DIGITS or claimed:sub(1, #PREFIX) ~= PREFIX then
        return false
    end
    if crypto.HMAC(digest, secret, #secret, body, #body, tag, nil) == nil then
        return false
    end
    for at = 0, 31 do
        local byte = tag[at]
        hex[2 * at] = HEX:byte(bit.rshift(byte, 4) + 1)
        hex[2 * at + 1] = HEX:byte(bit.band(byte, 15) + 1)
    end
    -- Takes as long whatever is in it.
    return crypto.CRYPTO_memcmp(hex, claimed:sub(#PREFIX + 1), DIGITS) == 0
end

function verify.check()
    ngx.req.read_body()
    local body = ngx.req.get_body_data() or ""
    if not verify.is_genuine(ngx.var.http_x_hub_signature_256 or "", body) then
        return ngx.exit(401)
    end
end

return verify
