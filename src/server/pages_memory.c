/* Memory: what malloc says in Envoy's shape, and what each part of ours holds (base/alloc.h). */
#include <malloc.h>

#include "server/pages_priv.h"

static void memory(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)arg, (void)rq;
    struct mallinfo2 i = mallinfo2();
    pb_Memory m = pb_Memory__INIT;
    m.allocated = i.uordblks + i.hblkhd;
    m.heap_size = i.arena + i.hblkhd;
    m.pageheap_free = i.fordblks;
    m.total_thread_cache = i.fsmblks;
    m.total_physical_bytes = mz_mem_resident_bytes();
    page_message(out, &m.base, MZ_JSON_DEFAULTS);
}

static void by_type(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    (void)arg, (void)rq;
    struct mz_mem_count c[MZ_MEM__COUNT], sum = { 0 };
    mz_mem_counts(c);
    out->content_type = PAGE_JSON;
    mz_buf_printf(&out->body, "{\n \"types\": {");
    for (unsigned i = 0; i < MZ_MEM__COUNT; i++) {
        mz_buf_printf(&out->body, "%s\n  \"%s\": { \"bytes\": %lld, \"objects\": %lld }",
                      i ? "," : "", mz_mem_name((enum mz_mem)i), (long long)c[i].bytes,
                      (long long)c[i].objects);
        sum.bytes += c[i].bytes;
        sum.objects += c[i].objects;
    }
    mz_buf_printf(
        &out->body, "\n },\n \"bytes\": %lld,\n \"objects\": %lld,\n \"resident_bytes\": %llu\n}\n",
        (long long)sum.bytes, (long long)sum.objects, (unsigned long long)mz_mem_resident_bytes());
}

static const struct mz_admin_page pages[] = {
    { .path = "/memory", .help = "print current allocation/heap usage", .handle = memory },
    { .path = "/mizzen/memory",
      .help = "print the memory that each part of the proxy holds",
      .handle = by_type },
};
const struct page_list pages_memory = { pages, MZ_COUNT(pages) };
