/* The authority of a request as a key of the DNS cache: it stays within its bounds, and is its own key. */
#include "base/log.h"
#include "upstream/upstream_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char key[DNS_CACHE_KEY], again[DNS_CACHE_KEY + 2], bracketed[DNS_CACHE_KEY + 2];
    size_t n, host_n, m, k;
    if (!dns_cache_key((struct mz_str){ (const char *)data, size }, 80, key, &n, &host_n))
        return 0;
    MZ_ASSERT(n <= DNS_CACHE_KEY && host_n && host_n < n && key[host_n] == ':');
    for (size_t i = host_n + 1; i < n; i++)
        MZ_ASSERT(key[i] >= '0' && key[i] <= '9');
    int len = snprintf(bracketed, sizeof(bracketed), "[%.*s]%.*s", (int)host_n, key,
                       (int)(n - host_n), key + host_n);
    MZ_ASSERT(dns_cache_key((struct mz_str){ bracketed, (size_t)len }, 443, again, &m, &k));
    MZ_ASSERT(m == n && k == host_n && memcmp(key, again, n) == 0);
    return 0;
}
