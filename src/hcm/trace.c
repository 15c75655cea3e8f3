#include "hcm/trace.h"

#include <pthread.h>
#include <string.h>

static struct {
    uint32_t on; /* atomic: anything to look at? */
    pthread_mutex_t lock;
    char name[128], value[128];
    uint64_t conn_id;
} rule = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void copy(char out[128], struct mz_str s)
{
    size_t n = s.n < 127 ? s.n : 127;
    if (n)
        memcpy(out, s.p, n);
    out[n] = '\0';
}

static void publish(void)
{
    __atomic_store_n(&rule.on, rule.name[0] || rule.conn_id, __ATOMIC_RELEASE);
}

void mz_trace_set_header(struct mz_str name, struct mz_str value)
{
    pthread_mutex_lock(&rule.lock);
    copy(rule.name, name);
    copy(rule.value, value);
    publish();
    pthread_mutex_unlock(&rule.lock);
}

void mz_trace_set_connection(uint64_t conn_id)
{
    pthread_mutex_lock(&rule.lock);
    rule.conn_id = conn_id;
    publish();
    pthread_mutex_unlock(&rule.lock);
}

void mz_trace_get(char out_name[128], char out_value[128], uint64_t *out_conn_id)
{
    pthread_mutex_lock(&rule.lock);
    memcpy(out_name, rule.name, 128);
    memcpy(out_value, rule.value, 128);
    *out_conn_id = rule.conn_id;
    pthread_mutex_unlock(&rule.lock);
}

bool mz_trace_matches(const struct mz_headers *h, uint64_t conn_id)
{
    if (MZ_LIKELY(!__atomic_load_n(&rule.on, __ATOMIC_ACQUIRE)))
        return false;
    char name[128], value[128];
    uint64_t id;
    mz_trace_get(name, value, &id); /* a lock, but only while somebody traces */
    if (id && id == conn_id)
        return true;
    struct mz_header *e = name[0] ? mz_headers_get(h, mz_str_c(name)) : NULL;
    return e && (!value[0] || mz_str_eq(e->value, mz_str_c(value)));
}
