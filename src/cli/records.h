#ifndef MZ_CLI_RECORDS_H
#define MZ_CLI_RECORDS_H
/* What the proxies' recorders kept (/mizzen/requests), of several pods in one list. */
#include <stdio.h>

#include "base/vec.h"
#include "cli/pods.h"

struct record {
    const struct pod *pod;
    const struct mz_node *node; /* lives as long as the list */
};
struct records {
    MZ_VEC(struct record) v;
    struct dump *dumps; /* one a pod */
    size_t dumps_n;
};
struct records_ask {
    const struct pod *const *pods; /* whose; NULL: of all that can be asked */
    size_t n;
    struct mz_str request_id; /* "" any */
    uint64_t *since;          /* one a pod of struct pods: what was new then; goes on to what comes next. NULL: all there is */
};
/* A pod that does not answer is left out, @on_error is told. */
void records_load(struct records *r, const struct pods *p, const struct records_ask *ask,
                  void (*on_error)(const struct pod *pod, const struct mz_err *err));
void records_fini(struct records *r);
void records_sort(struct records *r, bool newest_first);

struct record_filter { /* all of them must fit */
    uint64_t status_from, status_to; /* 0 to 999: any */
    struct mz_str flag;              /* short name; "" any */
    char after[40];                  /* time, as records have it; "" any */
    bool watched;                    /* only those that were watched for */
};
/* @status: "503", "5xx", "400-499"; @since: "30s", "5m", "2h"; NULL: any. */
bool record_filter_read(struct record_filter *f, const char *status, const char *flag, const char *since, struct mz_err *err);
bool record_fits(const struct record_filter *f, const struct record *r);
void record_line(const struct record *r, FILE *to);  /* one line, for people */
void record_story(const struct record *r, FILE *to); /* its steps, a line each */
void record_json_line(const struct record *r, FILE *to); /* {"pod":..., "request": as the proxy has it}, one line */
/* Pods by name; none: all that can be asked. False: @err names the one that is not there. */
bool records_pods(const struct pods *p, const struct arg_list *names, const struct pod ***out, size_t *out_n, struct mz_err *err);
bool pod_records(const struct pod *p); /* can it be asked? */
#endif
