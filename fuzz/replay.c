/* Runs a fuzz target over every file of its corpus: each input that once found something stays a
 * test, with any compiler. */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data,
                           size_t size); /* the target's entry, as libFuzzer names it */

static int run_file(const char *dir, const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return -1;
    }
    size_t size = 0, room = 1 << 20;
    uint8_t *data = malloc(room);
    if (data)
        size = fread(data, 1, room, f);
    (void)fclose(f); /* read only */
    if (!data)
        return -1;
    /* a copy of the exact size, so that a sanitizer sees a read beyond the end */
    uint8_t *exact = malloc(size ? size : 1);
    for (size_t i = 0; exact && i < size; i++)
        exact[i] = data[i];
    free(data);
    if (!exact)
        return -1;
    (void)LLVMFuzzerTestOneInput(exact, size); /* always 0; trouble shows as an abort */
    free(exact);
    return 0;
}

int main(int argc, char **argv)
{
    DIR *d = argc > 1 ? opendir(argv[1]) : NULL;
    if (!d) {
        perror(argc > 1 ? argv[1] : "usage: replay CORPUS");
        return 1;
    }
    int files = 0, bad = 0;
    for (struct dirent *e; (e = readdir(d));) { /* NOLINT(concurrency-mt-unsafe): one thread */
        if (e->d_name[0] == '.')
            continue;
        files++;
        bad += run_file(argv[1], e->d_name) != 0;
    }
    (void)closedir(d); /* read only */
    printf("%d inputs\n", files);
    return bad || !files;
}
