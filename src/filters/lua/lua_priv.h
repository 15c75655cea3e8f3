#ifndef MZ_FILTERS_LUA_LUA_PRIV_H
#define MZ_FILTERS_LUA_LUA_PRIV_H
/*
 * The filter lua (H9): scripts on LuaJIT. A script has one virtual machine on each thread that serves; a message that it sees is
 * a run: a coroutine, with a turn each time that it starts or goes on. What a script may do to the process stands in vm.c.
 *
 * Objects in the script's hands are userdata without pointers to follow blindly: they carry the number of the run (the handle) or
 * of the turn (all others) that they belong to, and the machine knows which run has its turn now. An object whose time is over is
 * refused before anything of the stream is touched ("object used outside of proper scope", Envoy).
 */
#include "hcm/filter.h"
#include "observe/metadata.h"
#include "stats/stats.h"

#include <lauxlib.h>
#include <lua.h>

struct mz_async;
struct mz_fetch_reply;

/* ---- machines (vm.c) ---- */

struct lua_run;
struct lua_vm { /* one thread's */
    lua_State *L;
    size_t used, most;    /* bytes */
    uint64_t most_us;     /* of processor time a turn may take */
    uint64_t turn_cpu_us, looked_us; /* of the turn: first look at the processor's clock (0: none yet), last look at the wall's */
    bool over;            /* this turn's limit was reached */
    int on_request, on_response; /* references; LUA_NOREF: the script has no such function */
    uint64_t serial;      /* of runs and turns: none is 0, none comes twice */
    uint64_t turn;        /* of now; 0: nothing runs */
    struct lua_run *live; /* whose turn it is */
    char error[512];      /* of the last turn that failed */
};
struct lua_script; /* immutable but for its machines, each of which belongs to its thread */
/* Main thread. Compiles and runs @code once for each thread; it may not hold the thread up (vm.c). */
struct lua_script *lua_script_create(struct mz_str code, const struct mz_factory *f, struct mz_err *err);
void lua_script_destroy(struct lua_script *s); /* no run of it is left; any thread; NULL is fine */
struct lua_vm *lua_script_vm(const struct lua_script *s, unsigned slot);

struct lua_vm *lua_vm_of(lua_State *L);
void lua_vm_open(lua_State *L); /* sandbox.c: the libraries that scripts get */
enum lua_turn { LUA_TURN_DONE, LUA_TURN_WAITS, LUA_TURN_FAILED, LUA_TURN_OVER /* a limit was reached */ };
/* Gives @r its turn: @push leaves what its function gets on the stack, it may raise errors. After FAILED and OVER, vm->error
 * tells why and the run is over, as after DONE. */
enum lua_turn lua_vm_turn(struct lua_run *r, int (*push)(lua_State *L, struct lua_run *r));
void lua_run_drop(struct lua_run *r); /* forgets its coroutine */

/* ---- one message that a script sees (filter.c) ---- */

enum lua_wait { LUA_RUNNING, LUA_WAIT_CHUNK, LUA_WAIT_BODY, LUA_WAIT_TRAILERS, LUA_WAIT_CALL, LUA_RESPONDED };
struct lua_reply { /* of respond() */
    unsigned status;
    struct mz_headers *headers;
    struct mz_str body;
};
struct lua_run { /* in the stream's arena */
    struct mz_filter *f;
    struct lua_vm *vm;
    lua_State *co; /* NULL: it did not begin, or is over */
    int co_ref, function;
    uint64_t id;
    enum lua_wait wait;
    bool response;          /* the answer's way */
    bool active;            /* the script sees this message */
    bool end, saw_body, buffered, continued;
    bool iterates[2];       /* pairs() over headers, trailers was begun and not finished */
    bool iterates_metadata, duplicates;
    struct mz_headers *headers, *trailers;
    struct mz_buf *chunk;   /* of a turn that bodyChunks() goes on with */
    struct mz_async *call;
    const struct mz_fetch_reply *answer; /* of a turn that httpCall() goes on with */
    struct lua_reply reply;
    size_t taken;           /* bytes of the arena */
    struct mz_str key;      /* importPublicKey(): the first one counts (Envoy) */
    void *pkey;
};
struct lua_cfg {
    struct mz_arena *arena;
    struct mz_scope *scope;
    struct lua_script *script; /* NULL: none by default */
    struct lua_named {
        struct mz_str name;
        struct lua_script *script;
    } *named;
    size_t n_named;
    bool clear_route_cache;
};
struct lua_route_cfg {
    struct mz_arena *arena;
    bool disabled;
    struct mz_str name; /* "": none */
    struct lua_script *script;
    const struct mz_value *context; /* NULL: none */
};
enum { LUA_ERRORS, LUA_EXECUTIONS };
/* config.c */
void *lua_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void lua_config_destroy(void *cfg);
void *lua_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void lua_route_config_destroy(void *cfg);

/* filter.c: an httpCall() has ended */
void lua_run_answered(struct lua_run *r, const struct mz_fetch_reply *reply);

/* ---- objects (object.c) ---- */

enum lua_kind {
    LUA_HANDLE, LUA_HEADERS, LUA_BUFFER, LUA_METADATA, LUA_STREAM_INFO, LUA_CX_STREAM_INFO, LUA_DYNAMIC_METADATA, LUA_CONNECTION,
    LUA_SSL, LUA_FILTER_STATE, LUA_PUBLIC_KEY, LUA_PLACE, LUA_KIND__COUNT
};
struct lua_object {
    uint64_t owner; /* run of a handle, else turn */
    void *p;
    unsigned which;
};
struct lua_method {
    const char *name;
    lua_CFunction call;
};
/* All the tables of methods; each ends with an empty line. */
extern const struct lua_method lua_handle_methods[], lua_headers_methods[], lua_buffer_methods[], lua_metadata_methods[],
    lua_stream_info_methods[], lua_cx_stream_info_methods[], lua_dynamic_metadata_methods[], lua_connection_methods[],
    lua_ssl_methods[], lua_filter_state_methods[], lua_public_key_methods[], lua_place_methods[];
void lua_objects_register(lua_State *L);
/* Pushes a new object of this turn; always 1, what a function returns. */
int lua_push_object(lua_State *L, enum lua_kind k, const void *p, unsigned which);
/* The object at stack place @at, of this turn; raises an error otherwise. */
struct lua_object *lua_object(lua_State *L, int at, enum lua_kind k);
struct lua_run *lua_self(lua_State *L);          /* of a handle that is argument 1 */
struct lua_run *lua_self_on_own(lua_State *L);   /* ... called by the run's own coroutine: it may wait */
struct lua_run *lua_run_here(lua_State *L);      /* whose turn it is */

/* Memory of the stream for what a script hands over: at most LUA_TAKEN_MAX a run, then it raises an error. */
#define LUA_TAKEN_MAX (16u << 20)
void *lua_take(lua_State *L, size_t n);
struct mz_str lua_take_str(lua_State *L, struct mz_str s);
struct mz_str lua_arg_str(lua_State *L, int at); /* a string or a number; borrowed of Lua */
void lua_push_str(lua_State *L, struct mz_str s);
int lua_no_second_iterator(lua_State *L); /* raises */

/* value.c */
void lua_push_value(lua_State *L, const struct mz_value *v);
const struct mz_value *lua_take_value(lua_State *L, int at); /* raises for what metadata cannot hold */

/* headers.c: @h gets the entries of the table at @at. Names and values are checked; those that frame a message are passed over. */
void lua_take_headers(lua_State *L, int at, struct mz_headers *h, bool answer);

/* handle.c: what body() gives */
int lua_push_body(lua_State *L, struct lua_run *r);

/* call.c, crypto.c */
int lua_http_call(lua_State *L);
int lua_push_answer(lua_State *L, struct lua_run *r);
int lua_import_public_key(lua_State *L);
int lua_verify_signature(lua_State *L);
int lua_base64_escape(lua_State *L);
int lua_base64_decode(lua_State *L);
#endif
