#include "filters/lua/lua_priv.h"

#include "base/log.h"
#include "proto/mapper.h"
#include "runtime/runtime.h"

#include <luajit.h>
#include <time.h>

/*
 * Machines. Scripts are configuration, but of whoever may write a filter for a workload, so none may stop the process: a turn
 * has a limit of processor time, a machine one of memory, and the libraries are those that neither block nor end the process
 * (sandbox.c). The compiler is off, as its code looks at no limit. Envoy has none of this: its scripts may loop for ever.
 */

#define LOOK_EVERY    1000 /* instructions */
#define LOOK_AFTER_US 20000
#define MOST_MS       1000u
#define MOST_BYTES    (128u << 20)

/* ---- limits ---- */

static void *allocate(void *arg, void *p, size_t old, size_t n)
{
    struct lua_vm *vm = arg;
    if (!p)
        old = 0;
    if (n == 0) {
        mz_free(MZ_MEM_CONFIG, p);
        vm->used -= old;
        return NULL;
    }
    if (n > old && (vm->used > vm->most || n - old > vm->most - vm->used))
        return NULL; /* Lua collects its garbage and tries again, then it is an error */
    vm->used += n - old;
    return mz_realloc(MZ_MEM_CONFIG, p, n);
}

struct lua_vm *lua_vm_of(lua_State *L)
{
    void *arg;
    (void)lua_getallocf(L, &arg);
    return arg;
}

static uint64_t clock_us(clockid_t id)
{
    struct timespec t;
    (void)clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Runs each LOOK_EVERY instructions; once the time is up at each of them, so that no pcall() keeps the script alive. */
static void look(lua_State *L, lua_Debug *at)
{
    (void)at;
    struct lua_vm *vm = lua_vm_of(L);
    uint64_t now = clock_us(CLOCK_MONOTONIC_COARSE);
    if (!vm->over) {
        if (now - vm->looked_us < LOOK_AFTER_US)
            return;
        vm->looked_us = now;
        uint64_t cpu = clock_us(CLOCK_THREAD_CPUTIME_ID);
        if (!vm->turn_cpu_us)
            vm->turn_cpu_us = cpu;
        if (cpu - vm->turn_cpu_us < vm->most_us)
            return;
        vm->over = true;
        lua_sethook(L, look, LUA_MASKCOUNT, 1);
    }
    luaL_error(L, "script ran for more than %d ms", (int)(vm->most_us / 1000));
}

/* The processor's clock costs a system call: it is asked only when a turn lasts. */
static void limits_begin(struct lua_vm *vm)
{
    const struct mz_runtime *r =
        mz_runtime_here(); /* while listeners are built at the start it is empty */
    vm->most = mz_runtime_u64(r, MZ_STR("mizzen.lua.max_bytes"), MOST_BYTES);
    vm->most_us = mz_runtime_u64(r, MZ_STR("mizzen.lua.max_turn_ms"), MOST_MS) * 1000;
    vm->over = false;
    vm->looked_us = clock_us(CLOCK_MONOTONIC_COARSE);
    vm->turn_cpu_us = 0;
    lua_sethook(vm->L, look, LUA_MASKCOUNT, LOOK_EVERY);
}

/* ---- life ---- */

struct load {
    struct mz_str code;
    struct lua_vm *vm;
};

static int function_of(lua_State *L, const char *name)
{
    lua_getglobal(L, name);
    if (lua_isfunction(L, -1))
        return luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
    return LUA_NOREF;
}

static int load(lua_State *L)
{
    const struct load *l = lua_touserdata(L, 1);
    lua_vm_open(L);
    lua_objects_register(L);
    /* The text is its own name, as Envoy's messages have it. Never bytecode, which nobody checks. */
    if (luaL_loadbufferx(L, l->code.p, l->code.n, l->code.p, "t") != 0)
        return lua_error(L);
    lua_call(L, 0, 0);
    l->vm->on_request = function_of(L, "envoy_on_request");
    l->vm->on_response = function_of(L, "envoy_on_response");
    return 0;
}

static void vm_destroy(struct lua_vm *vm)
{
    if (!vm)
        return;
    lua_sethook(vm->L, NULL, 0, 0);
    lua_close(vm->L);
    MZ_ASSERT(vm->used == 0);
    mz_free(MZ_MEM_CONFIG, vm);
}

static struct lua_vm *vm_create(struct mz_str code, struct mz_err *err)
{
    struct lua_vm *vm = mz_new0(MZ_MEM_CONFIG, struct lua_vm);
    vm->most = MOST_BYTES;
    vm->L = lua_newstate(allocate, vm);
    if (!vm->L) {
        mz_err_set(err, "script load error: not enough memory");
        mz_free(MZ_MEM_CONFIG, vm);
        return NULL;
    }
    (void)luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    limits_begin(vm);
    struct load l = { code, vm };
    if (lua_cpcall(vm->L, load, &l) == 0)
        return vm;
    mz_err_set(err, "script load error: %s",
               lua_type(vm->L, -1) == LUA_TSTRING ? lua_tostring(vm->L, -1)
                                                  : "unspecified lua error");
    vm_destroy(vm);
    return NULL;
}

/* ---- scripts ---- */

enum { VM_COUNT };
static const struct mz_stat_def stat_defs[] = {
    [VM_COUNT] = { "lua_vm_count", MZ_GAUGE, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "lua_process", stat_defs, MZ_COUNT(stat_defs) };

struct lua_script {
    struct mz_scope *scope;
    unsigned n;
    struct lua_vm *vms[];
};

struct lua_script *lua_script_create(struct mz_str code, const struct mz_factory *f,
                                     struct mz_err *err)
{
    struct mz_str text = mz_arena_dup(f->proto->arena, code); /* with a NUL behind it */
    unsigned n = f->workers + 1;
    struct lua_script *s = mz_alloc0(MZ_MEM_CONFIG, sizeof(*s) + mz_mul(n, sizeof(*s->vms)));
    s->scope = mz_scope_create(f->stats, &stat_kind, MZ_STR("lua."));
    for (; s->n < n; s->n++) {
        s->vms[s->n] = vm_create(text, err);
        if (!s->vms[s->n]) {
            lua_script_destroy(s);
            return NULL;
        }
        mz_gauge_add(s->scope, VM_COUNT, 1);
    }
    if (s->vms[0]->on_request == LUA_NOREF)
        MZ_LOG(INFO, lua,
               "envoy_on_request() function not found. Lua filter will not hook requests.");
    if (s->vms[0]->on_response == LUA_NOREF)
        MZ_LOG(INFO, lua,
               "envoy_on_response() function not found. Lua filter will not hook responses.");
    return s;
}

void lua_script_destroy(struct lua_script *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < s->n; i++)
        vm_destroy(s->vms[i]);
    if (s->n)
        mz_gauge_add(s->scope, VM_COUNT, -(int64_t)s->n);
    mz_scope_unref(s->scope);
    mz_free(MZ_MEM_CONFIG, s);
}

struct lua_vm *lua_script_vm(const struct lua_script *s, unsigned slot)
{
    return slot < s->n ? s->vms[slot] : NULL;
}

/* ---- turns ---- */

struct turn {
    struct lua_run *r;
    int (*push)(lua_State *L, struct lua_run *r);
    int rc;
};

/* Protected: whatever Lua raises, out of memory too, ends here. Arguments are made on the machine's own stack, so that the
 * coroutine is untouched where that fails. */
static int turn_protected(lua_State *L)
{
    struct turn *t = lua_touserdata(L, 1);
    struct lua_run *r = t->r;
    lua_settop(L, 0);
    bool begins = !r->co;
    if (begins) {
        lua_State *co = lua_newthread(L);
        r->co_ref = luaL_ref(L, LUA_REGISTRYINDEX);
        r->co = co;
        lua_rawgeti(L, LUA_REGISTRYINDEX, r->function);
    }
    (void)t->push(L, r);
    int n = lua_gettop(L);
    lua_xmove(L, r->co, n);
    t->rc = lua_resume(r->co, n - (begins ? 1 : 0));
    if (t->rc == 0 || t->rc == LUA_YIELD)
        return 0;
    lua_settop(L, 0);
    lua_xmove(r->co, L, 1); /* the error */
    return lua_error(L);
}

static void error_keep(struct lua_vm *vm, int rc)
{
    const char *text = lua_type(vm->L, -1) == LUA_TSTRING ? lua_tostring(vm->L, -1)
                       : rc == LUA_ERRMEM                 ? "not enough memory"
                                                          : "unspecified lua error";
    size_t n = strlen(text);
    n = n < sizeof(vm->error) ? n : sizeof(vm->error) - 1;
    memcpy(vm->error, text, n);
    vm->error[n] = '\0';
}

static enum lua_turn result(struct lua_run *r, const struct turn *t, int rc)
{
    struct lua_vm *vm = r->vm;
    if (rc != 0) {
        error_keep(vm, rc);
        lua_settop(vm->L, 0);
        lua_run_drop(r);
        return vm->over || rc == LUA_ERRMEM || t->rc == LUA_ERRMEM ? LUA_TURN_OVER
                                                                   : LUA_TURN_FAILED;
    }
    if (t->rc == 0) {
        lua_run_drop(r);
        return LUA_TURN_DONE;
    }
    if (r->wait != LUA_RUNNING)
        return LUA_TURN_WAITS;
    static const char unexpected[] = "script performed an unexpected yield";
    memcpy(vm->error, unexpected, sizeof(unexpected));
    lua_run_drop(r);
    return LUA_TURN_FAILED;
}

enum lua_turn lua_vm_turn(struct lua_run *r, int (*push)(lua_State *L, struct lua_run *r))
{
    struct lua_vm *vm = r->vm;
    struct turn t = { r, push, 0 };
    MZ_ASSERT(!vm->live); /* what a script asks for that makes others run is done after its turn */
    vm->live = r;
    vm->turn = ++vm->serial;
    if (!r->id)
        r->id = ++vm->serial;
    r->iterates[0] = r->iterates[1] = r->iterates_metadata = false;
    limits_begin(vm);
    int rc = lua_cpcall(vm->L, turn_protected, &t);
    vm->live = NULL;
    vm->turn = 0;
    return result(r, &t, rc);
}

void lua_run_drop(struct lua_run *r)
{
    if (!r->co)
        return;
    luaL_unref(r->vm->L, LUA_REGISTRYINDEX, r->co_ref);
    r->co = NULL;
}
