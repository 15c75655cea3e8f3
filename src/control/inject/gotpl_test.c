/* Templates: what each construct and function makes, what is refused, what is bounded. */
#include "base/test.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "control/inject/gotpl.h"

static const char data_text[] =
    "{\"ObjectMeta\":{\"name\":\"web\",\"annotations\":{\"a/b\":\"yes\",\"n\":\"\"},\"labels\":{"
    "\"app\":\"shop\"}},"
    "\"Spec\":{\"containers\":[{\"name\":\"one\",\"ports\":[{\"containerPort\":80},{"
    "\"containerPort\":53,\"protocol\":\"UDP\"}]},{\"name\":\"two\"}],\"hostIP\":\"1.2.3.4\"},"
    "\"ProxyConfig\":{\"interceptionMode\":\"REDIRECT\",\"holdApplicationUntilProxyStarts\":true,"
    "\"proxyMetadata\":{\"B\":\"2\",\"A\":\"1\"}},"
    "\"Values\":{\"global\":{\"port\":15020,\"on\":true,\"off\":false,\"empty\":\"\",\"list\":[1,2,"
    "3],\"map\":{\"y\":{\"z\":1},\"x\":[\"q\"]},\"nil\":null}},\"Native\":false,\"UID\":1337}";

static struct mz_arena *arena;

static int up(void **state)
{
    (void)state;
    arena = mz_arena_create(MZ_MEM_STREAM);
    return 0;
}

static int down(void **state)
{
    (void)state;
    mz_arena_destroy(arena);
    return 0;
}

static const char *run(const char *text)
{
    struct mz_err err = { .path = "", .msg = "" };
    struct mz_gotpl *t = mz_gotpl_parse(mz_str_c(text), &err);
    json_t *data = json_loads(data_text, 0, NULL);
    struct mz_str out = MZ_STR("");
    assert_non_null(data);
    const bool ok = t && mz_gotpl_run(t, data, arena, &out, &err);
    mz_gotpl_destroy(t);
    json_decref(data);
    return ok ? out.p : mz_arena_printf(arena, "! %s", err.msg).p;
}

static const struct {
    const char *text, *out;
} cases[] = {
    { "", "" },
    { "a {{ 1 }} b", "a 1 b" },
    { "a  {{- 1 -}}  b", "a1b" },
    { "a\n{{- /* no */ -}}\nb{{/* }} */}}c", "abc" },
    { "{{ \"x\\t\\u00e9\\\"\" }}{{ `raw\\n` }}{{ true }}{{ 0x10 }}{{ -3 }}{{ 1.5 }}",
      "x\t\xc3\xa9\"raw\\ntrue16-31.5" },
    /* fields */
    { "{{ .ObjectMeta.Name }}{{ .Spec.HostIP }}{{ .UID }}{{ .Spec.None }}{{ .Nothing.At.All }}",
      "web1.2.3.41337" },
    { "{{ .ProxyConfig.InterceptionMode.String }}{{ .ProxyConfig.GetInterceptionMode }}{{ "
      ".ProxyConfig.HoldApplicationUntilProxyStarts.GetValue }}",
      "REDIRECTREDIRECTtrue" },
    { "{{ index .ObjectMeta.Annotations `a/b` }}{{ index .Spec.Containers 1 }}{{ (index "
      ".Spec.Containers 0).Name }}{{ index .ObjectMeta.Annotations `none` }}",
      "yesmap[name:two]one" },
    { "{{ $.UID }}{{ with .ObjectMeta }}{{ .Name }}{{ $.UID }}{{ end }}", "1337web1337" },
    /* variables and control */
    { "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 3 }}{{ end }}{{ $x }}", "2" },
    { "{{ if .Native }}a{{ else if eq 1 2 }}b{{ else if .UID }}c{{ else }}d{{ end }}", "c" },
    { "{{ if not .Native }}a{{ end }}{{ with .Native }}b{{ else }}c{{ end }}", "ac" },
    { "{{ with .Native }}a{{ else with .UID }}{{ . }}{{ end }}", "1337" },
    { "{{ range $i, $c := .Spec.Containers }}{{ $i }}{{ $c.Name }},{{ end }}", "0one,1two," },
    { "{{ range .Values.global.list }}{{ if eq . 2 }}{{ continue }}{{ end }}{{ . }}{{ end }}",
      "13" },
    { "{{ range .Values.global.list }}{{ if eq . 2 }}{{ break }}{{ end }}{{ . }}{{ end }}", "1" },
    { "{{ range $k, $v := .ProxyConfig.ProxyMetadata }}{{ $k }}={{ $v }};{{ end }}", "A=1;B=2;" },
    { "{{ range .Spec.None }}a{{ else }}none{{ end }}", "none" },
    { "{{ $l := list }}{{ range .Spec.Containers }}{{ $l = append $l .Name }}{{ end }}{{ len $l }}",
      "2" },
    { "{{ define \"t\" }}<{{ . }}{{ $.x }}>{{ end }}{{ template \"t\" .UID }}",
      "! line 1: there is "
      "no field \"x\"" },
    { "{{ define \"t\" }}<{{ .Name }}>{{ end }}{{ template \"t\" .ObjectMeta }}", "<web>" },
    /* and, or stop where they can */
    { "{{ or false `` .UID (index .Values.global.list 9) }}", "1337" },
    { "{{ and .Native (index .Values.global.list 9) }}", "false" },
    { "{{ eq .Values.global.port 15020 }}{{ ne `a` `b` }}{{ eq 1 2 3 1 }}{{ lt 1 2 }}{{ ge 2 2 }}",
      "truetruetruetruetrue" },
    { "{{ eq .Values.global.none `` }}{{ eq .Values.global.none `x` }}", "truefalse" },
    { "{{ eq 1 `a` }}", "! line 1: cannot be compared with what it stands beside: \"a\"" },
    /* functions */
    { "{{ .Values.global.empty | default `d` }}{{ valueOrDefault .Values.global.off `d` }}{{ "
      ".Values.global.port | quote }}{{ squote `a` }}",
      "dfalse\"15020\"'a'" },
    { "{{ printf \"%s-%v-%d-%t-%q-%05d%%\" `a` 1 2 true `b` 42 }}", "a-1-2-true-\"b\"-00042%" },
    { "{{ printf \"%d\" `a` }}", "! line 1: cannot be formatted (a width is 200 at most): \"%d\"" },
    { "a:\n  {{ toYaml .Values.global.map | indent 2 }}{{ toYaml .Values.global.map | nindent 4 }}",
      "a:\n  x:\n  - q\n  \"y\":\n    z: 1\n  \n    x:\n    - q\n    \"y\":\n      z: 1\n    " },
    { "{{ trunc -9223372036854775808 `a` }}{{ trunc 9223372036854775807 `b` }}", "ab" },
    { "{{ `-_a-b._` | trimAll `-_.` }}{{ trunc 2 `abc` }}{{ trunc -2 `abc` }}{{ upper `a` }}{{ "
      "toLower `B` }}",
      "a-babbcAb" },
    { "{{ contains `/` `a/b` }}{{ hasPrefix `a` `ab` }}{{ trimSuffix `b` `ab` }}{{ replace `a` `x` "
      "`aba` }}{{ join `,` (list 1 `b`) }}",
      "truetrueaxbx1,b" },
    { "{{ isset .ObjectMeta.Annotations `n` }}{{ annotation .ObjectMeta `a/b` `d` }}{{ annotation "
      ".ObjectMeta `c` 7 }}{{ includeInboundPorts .Spec.Containers }}",
      "trueyes780" },
    { "{{ excludeInboundPort 15020 `1, 2` }} {{ excludeInboundPort `2` `1,2` }} {{ "
      "excludeInboundPort 0 `9` }}",
      "1,2,15020 1,2 9" },
    { "{{ toJsonMap (strdict `b` `1` `a` `2`) (omit .ObjectMeta.Labels `app`) }}{{ structToJSON "
      ".Values.global.list }}{{ (fromJSON `{\"k\": [1]}`).k }}",
      "{\"a\":\"2\",\"b\":\"1\"}[1,2,3][1]" },
    { "{{ omitNil .Values.global | toJson }}",
      "{\"empty\":\"\",\"list\":[1,2,3],\"map\":{\"x\":[\"q\"],\"y\":{\"z\":1}},\"off\":false,"
      "\"on\":true,\"port\":15020}" },
    { "{{ add 1 2 }}{{ div 7 2 }}{{ mod 7 `4` }}{{ sub 1 2 }}{{ mul 2 3 }}", "333-16" },
    { "{{ div 1 0 }}", "! line 1: is divided by \"0\"" },
    { "{{ ternary `a` `b` .Values.global.on }}{{ coalesce `` 0 `c` }}{{ empty `` }}{{ has 2 (list "
      "1 "
      "2) }}{{ dict `a` 1 | toJson }}",
      "actruetrue{\"a\":1}" },
    { "{{ env `MIZZEN_NO_SUCH_VARIABLE` `d` }}{{ directory `/a/b` }}", "d/a/" },
    /* faults, with their lines */
    { "a\n{{ nothing }}", "! line 2: there is no function \"nothing\"" },
    { "\n\n{{ if true }}", "! line 3: an \"end\" is missing \"\"" },
    { "{{ end }}", "! line 1: without a beginning: \"end\"" },
    { "{{ if true }}{{ else }}{{ else }}{{ end }}", "! line 1: an \"end\" is missing \"\"" },
    { "{{ .A", "! line 1: an action does not end: \" .A\"" },
    { "{{ `a }}", "! line 1: an action does not end: \" `a }}\"" },
    { "{{ \"a\\z\" }}", "! line 1: a text does not end: \"\"a\\z\"\"" },
    { "{{ $x }}", "! line 1: there is no variable \"x\"" },
    { "{{ 1 | 2 }}", "! line 1: only functions take a value: \"\"" },
    { "{{ .A 1 }}", "! line 1: only functions have arguments: \"\"" },
    { "{{ index .Values.global.list 3 }}", "! line 1: the list has no element \"3\"" },
    { "{{ quote 1 ) }}", "! line 1: unexpected \")\"" },
    { "{{ template \"none\" . }}", "! line 1: there is no template \"none\"" },
    { "{{ len }}", "! line 1: a wrong number of arguments for \"len\"" },
    { "{{ define \"r\" }}{{ template \"r\" . }}{{ end }}{{ template \"r\" . }}",
      "! line 1: is nested more than 64 deep" },
    { "{{ range 2000000 }}{{ end }}", "! line 1: takes more than 1000000 steps" },
    { "{{ indent 9999 `a` }}", "! line 1: is no indentation of 0 to 1000: \"9999\"" },
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++)
        if (strcmp(run(cases[i].text), cases[i].out) != 0)
            fail_msg("%s\nis \"%s\"\nnot \"%s\"", cases[i].text, run(cases[i].text), cases[i].out);
}

/* 4 MiB of output and no more; a text of 1 MiB and no more; parentheses as deep as the stack is ours. */
static void test_bounds(void **state)
{
    (void)state;
    assert_non_null(
        strstr(run("{{ $x := `0123456789abcdef0123456789abcdef` }}{{ range 200000 }}{{ $x "
                   "}}{{ end }}"),
               "makes more than 4 MiB of text"));
    char *deep = calloc(1, 3000000);
    memcpy(deep, "{{ ", 3);
    memset(deep + 3, '(', 1000);
    memcpy(deep + 1003, " }}", 4);
    assert_non_null(strstr(run(deep), "is nested too deeply"));
    memset(deep, 'a', 2000000);
    assert_non_null(strstr(run(deep), "at most"));
    deep[0] = 0;
    for (int i = 0; i < 100; i++)
        memcpy(deep + strlen(deep), "{{ if 1 }}", 11);
    assert_non_null(strstr(run(deep), "is nested too deeply"));
    free(deep);
}

#define DOUBLES(how)                                                                               \
    "{{ $x := \"ab\" }}{{ $l := list 1 }}{{ range 100 }}" how "{{ end }}{{ len $x }}"
#define GROWS(how)                                                                                 \
    "{{ $x := \"ab\" }}{{ $l := list 1 }}{{ range 1000000 }}" how "{{ end }}{{ len $x }}"
#define SHARED                                                                                     \
    "{{ $l := list }}{{ $m := list }}{{ range 60 }}{{ $l = list $l $l }}{{ $m = list $m $m }}{{ "  \
    "end }}"

/* What a few words make of themselves. */
static const struct {
    const char *text, *error;
} bombs[] = {
    { DOUBLES("{{ $x = print $x $x }}"), "MiB of" },
    { DOUBLES("{{ $x = printf \"%s%s\" $x $x }}"), "MiB of" },
    { DOUBLES("{{ $x = printf \"%q%q\" $x $x }}"), "MiB of" },
    { DOUBLES("{{ $x = quote $x $x }}"), "MiB of" },
    { DOUBLES("{{ $x = squote $x $x }}"), "MiB of" },
    { DOUBLES("{{ $x = println $x $x }}"), "MiB of" },
    { DOUBLES("{{ $x = replace \"a\" $x $x }}"), "MiB of" },
    { DOUBLES("{{ $x = join $x (list $x $x $x) }}"), "MiB of" },
    { DOUBLES("{{ $x = b64enc $x }}"), "MiB of" },
    { DOUBLES("{{ $x = indent 1000 (print $x \"\\n\" $x) }}"), "MiB of" },
    { DOUBLES("{{ $x = nindent 1000 (print $x \"\\n\" $x) }}"), "MiB of" },
    { DOUBLES("{{ $x = toJSON (list $x $x) }}"), "MiB of" },
    { DOUBLES("{{ $x = toYaml (list $x $x) }}"), "MiB of" },
    { DOUBLES("{{ $x = toString (list $x $x) }}"), "MiB of" },
    { DOUBLES("{{ $l = list $l $l }}"), "is nested more than 64 deep" },
    { DOUBLES("{{ $l = dict \"a\" $l \"b\" $l }}"), "is nested more than 64 deep" },
    { DOUBLES("{{ $l = append (list $l) $l }}"), "is nested more than 64 deep" },
    { DOUBLES("{{ $l = mergeMaps (dict \"a\" $l) }}"), "is nested more than 64 deep" },
    { SHARED "{{ toJSON $l }}", "MiB of text" },
    { SHARED "{{ toYaml $l }}", "MiB of text" },
    { SHARED "{{ $l }}", "MiB of" },
    { SHARED "{{ has $l (list $m) }}", "MiB of values" },
    { SHARED "{{ omitNil $l }}", "MiB of values" },
    { GROWS("{{ $l = append $l 1 }}"), "MiB of values" },
    { GROWS("{{ $l = prepend $l 1 }}"), "MiB of values" },
    { GROWS("{{ $l = rest (append $l 1) }}"), "MiB of values" },
    { "{{ $x := \"ab\" }}{{ range 20 }}{{ $x = print $x $x }}{{ end }}{{ range 100000 }}{{ "
      "contains \"b\" $x }}{{ end }}",
      "MiB of values" },
    { "{{ $x := \"ab\" }}{{ range 20 }}{{ $x = print $x $x }}{{ end }}{{ range 100000 }}{{ if eq "
      "$x "
      "$x }}{{ end }}{{ end }}",
      "MiB of values" },
    { "{{ $x := \"ab\" }}{{ range 20 }}{{ $x = print $x $x }}{{ end }}{{ range splitList \"a\" $x "
      "}}{{ end }}",
      "MiB of values" },
    { "{{ printf \"%1000000000d\" 1 }}", "a width is 200 at most" },
    { "{{ printf \"%1000000000s\" `a` }}", "a width is 200 at most" },
    { "{{ printf \"%.1000000000f\" 1.5 }}", "a width is 200 at most" },
    { "{{ trunc 888888888888888888888888888883 `a` }}", "no number: \"8888" },
    { "{{ trunc 1e30 `a` }}", "is too large: \"1e+30\"" },
    { "{{ indent 1000000000 `a` }}", "is no indentation of 0 to 1000" },
    { "{{ repeat 1000000000 `a` }}", "repeat" },
    { "{{ range 1000000000 }}{{ end }}", "takes more than 1000000 steps" },
    { "{{ range 1000 }}{{ range 1000 }}{{ range 1000 }}{{ end }}{{ end }}{{ end }}",
      "takes more than 1000000 steps" },
    { "{{ define `a` }}{{ template `b` . }}{{ end }}{{ define `b` }}{{ template `a` . }}{{ end "
      "}}{{ "
      "template `a` . }}",
      "is nested more than 64 deep" },
    { "{{ define `a` }}{{ range 1000 }}{{ template `b` . }}{{ end }}{{ end }}{{ define `b` }}{{ "
      "range "
      "1000 }}{{ template `c` . }}{{ end }}{{ end }}{{ define `c` }}x{{ end }}{{ range 1000 }}{{ "
      "template `a` . }}{{ end }}",
      "takes more than 1000000 steps" },
};

static size_t values, most_values; /* bytes */

static void *take(size_t n)
{
    void *p = malloc(n);
    values += malloc_usable_size(p);
    most_values = values > most_values ? values : most_values;
    return p;
}

static void give(void *p)
{
    values -= malloc_usable_size(p);
    free(p);
}

/* Each fails by name of the limit, soon, and with memory for about what the limit says. */
static void test_bombs(void **state)
{
#ifdef __SANITIZE_THREAD__
    print_message("the thread sanitizer has nothing to see in one thread, and needs minutes\n");
    skip();
#endif
    json_set_alloc_funcs(take, give);
    for (size_t i = 0; i < MZ_COUNT(bombs); i++) {
        const clock_t began = clock();
        const char *out = run(bombs[i].text);
        const double took = (double)(clock() - began) / CLOCKS_PER_SEC;
        if (out[0] != '!' || !strstr(out, bombs[i].error))
            fail_msg("%s\nis \"%.200s\"\nnot \"%s\"", bombs[i].text, out, bombs[i].error);
        if (took > 30) /* of CPU, under sanitizers; without them it is a tenth of a second */
            fail_msg("%s took %f s", bombs[i].text, took);
        if (mz_arena_size(arena) + most_values > 300 << 20)
            fail_msg("%s took %zu + %zu bytes", bombs[i].text, mz_arena_size(arena), most_values);
        down(state);
        up(state);
        most_values = 0;
    }
    assert_int_equal(values, 0);
    json_set_alloc_funcs(malloc, free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cases, up, down),
        cmocka_unit_test_setup_teardown(test_bounds, up, down),
        cmocka_unit_test_setup_teardown(test_bombs, up, down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
