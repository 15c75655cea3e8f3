#ifndef MZ_BASE_PARALLEL_H
#define MZ_BASE_PARALLEL_H
/*
 * Work in pieces that know nothing of each other, on several CPUs. There is no pool: threads are there while there is work, and
 * leave no memory behind.
 */
#include <stddef.h>
#include <stdint.h>

uint32_t mz_cpus(void); /* how many this process may use: affinity, then the cgroup's quota rounded up; at least 1 */
/*
 * Runs @each for 0 to @n - 1, on this thread and at most @threads - 1 others, and returns when all are done. What was written before
 * is seen in @each, and what @each wrote is seen behind it. No piece may wait for another.
 */
void mz_parallel(size_t n, uint32_t threads, void (*each)(void *arg, size_t i), void *arg);
#endif
