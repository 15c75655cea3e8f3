/*
 * GET /: the home page. One self-contained page; what is not ours is escaped (H07). The head is kept fresh by a small script
 * that reads /stats; without scripts the links and forms work all the same.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "server/pages_priv.h"

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
    "<meta name=\"viewport\" content=\"width=device-width\"><title>Mizzen</title>\n<style>\n"
    ":root{color-scheme:light dark;--soft:#8883}"
    "body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:62em;padding:1em}"
    "h1{font-size:1.4em;margin:0 1em 0 0}h2{font-size:1.05em;margin:1.6em 0 .3em}"
    "header{display:flex;flex-wrap:wrap;align-items:baseline;border-bottom:1px solid "
    "var(--soft);padding-bottom:.6em}"
    "dl{display:flex;flex-wrap:wrap;gap:.3em 1.6em;margin:0}dl "
    "div{display:flex;gap:.4em}dt{opacity:.65}dd{margin:0;"
    "font-variant-numeric:tabular-nums;font-weight:600}"
    "table{border-collapse:collapse;width:100%}td{padding:.3em .6em .3em 0;vertical-align:top;"
    "border-bottom:1px solid var(--soft)}td:first-child{white-space:nowrap;width:15em}"
    "form{display:flex;flex-wrap:wrap;gap:.3em .8em;align-items:center}summary{cursor:pointer}"
    "input,select,button{font:inherit}label span{opacity:.65}.bad{color:#c22}"
    "\n</style></head><body>\n";

static const char script[] =
    "<script>\n"
    "const $=i=>document.getElementById(i),f='^(server[.](uptime|state|total_connections)|"
    "http[.].*[.]downstream_(rq_total|rq_5xx|cx_active))$';\n"
    "let old=null;\n"
    "function span(s){const d=Math.floor(s/86400),h=Math.floor(s/3600)%24,m=Math.floor(s/60)%60;"
    "return d?d+'d '+h+'h':h?h+'h '+m+'m':m?m+'m '+s%60+'s':s+'s'}\n"
    "async function tick(){try{const r=await(await "
    "fetch('/stats?format=json&filter='+encodeURIComponent(f))).json();"
    "let n={rq:0,bad:0,cx:0,t:performance.now()};"
    "for(const{name,value}of r.stats){if(name==='server.uptime')$('up').textContent=span(value);"
    "else "
    "if(name==='server.state')$('state').textContent=['LIVE','DRAINING','PRE_INITIALIZING','"
    "INITIALIZING'][value];"
    "else if(name.startsWith('http.admin.')||!name.startsWith('http.'))continue;"
    "else if(name.endsWith('rq_total'))n.rq+=value;else "
    "if(name.endsWith('rq_5xx'))n.bad+=value;else n.cx+=value}"
    "$('cx').textContent=n.cx;$('rq').textContent=n.rq;$('bad').textContent=n.bad;"
    "if(old)$('rate').textContent=Math.max(0,(n.rq-old.rq)*1000/"
    "(n.t-old.t)).toFixed(n.rq-old.rq<10?1:0);"
    "old=n;$('gone').hidden=true}catch(e){$('gone').hidden=false}setTimeout(tick,1000)}\n"
    "tick();\n"
    "for(const x of document.forms)x.addEventListener('submit',e=>{"
    "if(x.dataset.ask&&!confirm(x.dataset.ask)){e.preventDefault();return}"
    "for(const i of "
    "x.elements){if(!i.name||i.value!=='')continue;i.disabled=true;setTimeout(()=>i.disabled=false)"
    "}"
    "const p=x.querySelector('[data-pair]');if(p){const k=p.value.split('=');"
    "x.action=x.action.split('?')[0]+'?'+encodeURIComponent(k.shift())+'='+encodeURIComponent(k."
    "join('='))}})\n"
    "</script>\n</body></html>\n";

static void put(struct mz_buf *b, const char *text)
{
    mz_buf_append(b, text, strlen(text));
}

static void escaped(struct mz_buf *b, const char *text)
{
    mz_admin_html_escape(b, mz_str_c(text));
}

/* Parameters that are there or not: check boxes. */
static bool is_flag(const char *name)
{
    static const char *const flags[] = { "usedonly",  "invert_filter", "text_readouts", "graceful",
                                         "skip_exit", "inboundonly",   "include_eds",   "off" };
    for (size_t i = 0; i < MZ_COUNT(flags); i++)
        if (!strcmp(name, flags[i]))
            return true;
    return false;
}

/* "...; One of (a, b)": a list to choose from. */
static void choices(struct mz_buf *b, const char *name, struct mz_str words)
{
    mz_buf_printf(b, "<select name=\"%s\"><option></option>", name);
    for (struct mz_str w; mz_str_split(&words, ',', &w);) {
        w = mz_str_trim(w);
        if (!w.n)
            continue;
        put(b, "<option>");
        mz_admin_html_escape(b, w);
        put(b, "</option>");
    }
    put(b, "</select>");
}

static void param(struct mz_buf *b, const struct mz_admin_param *p)
{
    struct mz_str help = mz_str_c(p->help), intro = MZ_STR("One of (");
    ptrdiff_t at = mz_str_find(help, intro);
    put(b, "<label title=\"");
    escaped(b, p->help);
    put(b, "\"><span>");
    escaped(b, p->name);
    put(b, "</span> ");
    if (is_flag(p->name)) {
        mz_buf_printf(b, "<input type=\"checkbox\" name=\"%s\" value=\"1\">", p->name);
    } else if (at >= 0) {
        struct mz_str words = mz_str_skip(help, (size_t)at + intro.n);
        ptrdiff_t end = mz_str_chr(words, ')');
        words.n = end < 0 ? words.n : (size_t)end;
        choices(b, p->name, words);
    } else {
        mz_buf_printf(b, "<input name=\"%s\" size=\"14\">", p->name);
    }
    put(b, "</label>");
}

static void form(struct mz_buf *b, const struct mz_admin_page *p)
{
    bool pair = !strcmp(p->path, "/runtime_modify");
    mz_buf_printf(b, "<form method=\"%s\" action=\"%s\"%s>", p->mutates ? "post" : "get", p->path,
                  strcmp(p->path, "/quitquitquit") ? "" : " data-ask=\"Stop this proxy?\"");
    for (size_t i = 0; i < MZ_COUNT(p->params) && p->params[i].name; i++)
        param(b, &p->params[i]);
    if (pair)
        put(b, "<input data-pair size=\"24\" placeholder=\"key=value\">");
    mz_buf_printf(b, "<button>%s</button></form>", p->mutates ? "POST" : "show");
}

static void row(struct mz_buf *b, const struct mz_admin_page *p)
{
    put(b, "<tr><td>");
    if (p->mutates)
        escaped(b, p->path);
    else
        mz_buf_printf(b, "<a href=\"%s\">%s</a>", p->path, p->path);
    put(b, "</td><td>");
    if (p->mutates || p->params[0].name) {
        put(b, "<details><summary>");
        escaped(b, p->help);
        put(b, "</summary>");
        form(b, p);
        put(b, "</details>");
    } else {
        escaped(b, p->help);
    }
    put(b, "</td></tr>\n");
}

static int by_path(const void *x, const void *y)
{
    const struct mz_admin_page *const *a = x, *const *b = y;
    return strcmp((*a)->path, (*b)->path);
}

static void table(struct mz_buf *b, const char *title, const struct mz_admin_page **v, size_t n,
                  int ours, int mutates)
{
    mz_buf_printf(b, "<h2>%s</h2>\n<table>\n", title);
    for (size_t i = 0; i < n; i++) {
        bool own = !strncmp(v[i]->path, "/mizzen/", strlen("/mizzen/"));
        if (own == ours && (ours || v[i]->mutates == mutates) && strcmp(v[i]->path, "/") != 0)
            row(b, v[i]);
    }
    put(b, "</table>\n");
}

static void live_head(const struct mz_pages *p, struct mz_buf *b)
{
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(
        &pb_ServerInfo_State__descriptor, (int)p->env.state(p->env.arg));
    put(b, "<header><h1>Mizzen</h1><dl><div><dt>version</dt><dd>");
    escaped(b, p->env.version);
    mz_buf_printf(b,
                  "</dd></div><div><dt>state</dt><dd id=\"state\">%s</dd></div>"
                  "<div><dt>up</dt><dd id=\"up\">%llus</dd></div>",
                  v ? v->name : "",
                  (unsigned long long)((mz_clock->mono_us() - p->env.start_us) / 1000000));
    put(b, "<div><dt>connections</dt><dd id=\"cx\">-</dd></div><div><dt>requests</dt><dd "
           "id=\"rq\">-</dd></div>"
           "<div><dt>per second</dt><dd id=\"rate\">-</dd></div><div><dt>5xx</dt><dd "
           "id=\"bad\">-</dd></div></dl>"
           "<span id=\"gone\" class=\"bad\" hidden>&nbsp; not answering</span></header>\n"
           "<p>What went wrong lately, and why: <a href=\"/mizzen/requests\">failed and slow "
           "requests</a>. "
           "What would become of a request: explain, below.</p>\n");
}

static void home(void *arg, const struct mz_admin_request *rq, struct mz_admin_reply *out)
{
    const struct mz_pages *p = arg;
    const struct mz_admin_page **v = mz_arena_alloc(rq->arena, p->n * sizeof(*v));
    for (size_t i = 0; i < p->n; i++)
        v[i] = &p->v[i];
    qsort(v, p->n, sizeof(const struct mz_admin_page *), by_path);
    page_html(rq, out);
    put(&out->body, head);
    live_head(p, &out->body);
    table(&out->body, "Why", v, p->n, true, false);
    table(&out->body, "Look", v, p->n, false, false);
    table(&out->body, "Change", v, p->n, false, true);
    put(&out->body, script);
}

static const struct mz_admin_page pages[] = {
    { .path = "/", .help = "Admin home page", .handle = home },
};
const struct page_list pages_home = { pages, MZ_COUNT(pages) };
