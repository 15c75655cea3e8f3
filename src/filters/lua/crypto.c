#include "filters/lua/lua_priv.h"

#include "base/base64.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

/* ---- public keys ---- */

static void key_free(void *key)
{
    EVP_PKEY_free(key);
}

/* A text and how many bytes of it count. */
static struct mz_str sized(lua_State *L, int at)
{
    struct mz_str s = lua_arg_str(L, at);
    lua_Number n = luaL_checknumber(L, at + 1);
    if (!(n >= 0) || n > (lua_Number)s.n)
        luaL_error(L, "length is more than there is");
    return (struct mz_str){ s.p, (size_t)n };
}

int lua_import_public_key(lua_State *L)
{
    struct lua_run *r = lua_self(L);
    struct mz_str der = sized(L, 2);
    if (!r->pkey) {
        der = lua_take_str(L, der);
        const unsigned char *p = (const unsigned char *)der.p;
        EVP_PKEY *key = d2i_PUBKEY(NULL, &p, (long)der.n);
        if (!key)
            return lua_push_object(L, LUA_PUBLIC_KEY, NULL, 0);
        mz_arena_cleanup(mz_stream_arena(r->f->stream), key_free, key);
        r->pkey = key;
        r->key = der;
    }
    return lua_push_object(L, LUA_PUBLIC_KEY, r, 0);
}

static int public_key_get(lua_State *L)
{
    const struct lua_run *r = lua_object(L, 1, LUA_PUBLIC_KEY)->p;
    if (r)
        lua_push_str(L, r->key);
    else
        lua_pushnil(L);
    return 1;
}

const struct lua_method lua_public_key_methods[] = {
    { "get", public_key_get },
    { NULL, NULL },
};

/* ---- signatures ---- */

static const EVP_MD *digest_of(struct mz_str name)
{
    static const struct {
        struct mz_str name;
        const EVP_MD *(*md)(void);
    } all[] = {
        { MZ_STR_INIT("sha1"), EVP_sha1 },     { MZ_STR_INIT("sha224"), EVP_sha224 },
        { MZ_STR_INIT("sha256"), EVP_sha256 }, { MZ_STR_INIT("sha384"), EVP_sha384 },
        { MZ_STR_INIT("sha512"), EVP_sha512 },
    };
    for (size_t i = 0; i < MZ_COUNT(all); i++)
        if (mz_str_ieq(name, all[i].name))
            return all[i].md();
    return NULL;
}

static int refused(lua_State *L)
{
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

int lua_verify_signature(lua_State *L)
{
    struct lua_run *r = lua_self(L);
    struct mz_str hash = lua_arg_str(L, 2), key = lua_arg_str(L, 3);
    struct mz_str signature = sized(L, 4), text = sized(L, 6);
    if (!r->pkey || !mz_str_eq(key, r->key))
        return luaL_error(L, "invalid public key");
    const EVP_MD *md = digest_of(hash);
    if (!md) {
        lua_pushfstring(L, "%s is not supported.", hash.p);
        return refused(L);
    }
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int rc = EVP_DigestVerifyInit(ctx, NULL, md, NULL, r->pkey);
    bool begun = rc == 1;
    if (begun)
        rc = EVP_DigestVerify(ctx, (const unsigned char *)signature.p, signature.n,
                              (const unsigned char *)text.p, text.n);
    EVP_MD_CTX_free(ctx);
    if (rc == 1) {
        lua_pushboolean(L, 1);
        lua_pushnil(L);
        return 2;
    }
    lua_pushfstring(L,
                    begun ? "Failed to verify digest. Error code: %d"
                          : "Failed to initialize digest verify. Error code: %d",
                    rc);
    return refused(L);
}

/* ---- base64 ---- */

int lua_base64_escape(lua_State *L)
{
    struct lua_run *r = lua_self(L);
    struct mz_str s = lua_arg_str(L, 2);
    (void)lua_take(L, s.n / 3 * 4);
    lua_push_str(L, mz_base64_encode(s, mz_stream_arena(r->f->stream)));
    return 1;
}

int lua_base64_decode(lua_State *L)
{
    struct lua_run *r = lua_self(L);
    struct mz_str s = lua_arg_str(L, 2), bytes;
    (void)lua_take(L, s.n);
    if (mz_base64_decode(s, mz_stream_arena(r->f->stream), &bytes))
        lua_push_str(L, bytes);
    else
        lua_pushnil(L);
    return 1;
}
