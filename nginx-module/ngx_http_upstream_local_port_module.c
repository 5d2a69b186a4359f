/*
 * $upstream_local_port: nginx's own port on the connection of each attempt, in step with $upstream_addr, in any protocol.
 *
 * A connection exists only until its attempt is over, and the log is written later. So the port is read when nginx gives
 * the peer back (`peer.free`), which it does once for every attempt. Where the address in proxy_pass is known at run time
 * only, nginx makes the peer without asking an upstream: then the port is read when the answer's header comes, and
 * attempts without an answer have `-`.
 */
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* What an upstream had as `peer.init` before this module. */
typedef struct {
    ngx_http_upstream_srv_conf_t     *upstream;
    ngx_http_upstream_init_peer_pt    init;
} ngx_http_local_port_upstream_t;

typedef struct {
    /* Sorted by `upstream`. */
    ngx_http_local_port_upstream_t   *upstreams;
    ngx_uint_t                        count;
} ngx_http_local_port_conf_t;

/* One request's ports, in step with r->upstream_states; 0: not known. */
typedef struct {
    ngx_http_request_t               *request;
    ngx_array_t                       ports;
} ngx_http_local_port_ctx_t;

/* What a request's peer had before this module. */
typedef struct {
    ngx_http_request_t               *request;
    void                             *data;
    ngx_event_get_peer_pt             get;
    ngx_event_free_peer_pt            free;
    ngx_event_notify_peer_pt          notify;
#if (NGX_HTTP_SSL)
    ngx_event_set_peer_session_pt     set_session;
    ngx_event_save_peer_session_pt    save_session;
#endif
} ngx_http_local_port_peer_t;


static ngx_int_t ngx_http_local_port_add_variable(ngx_conf_t *cf);
static void *ngx_http_local_port_create_conf(ngx_conf_t *cf);
static ngx_int_t ngx_http_local_port_init(ngx_conf_t *cf);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;


static ngx_http_module_t  ngx_http_upstream_local_port_module_ctx = {
    ngx_http_local_port_add_variable,      /* preconfiguration */
    ngx_http_local_port_init,              /* postconfiguration */
    ngx_http_local_port_create_conf,       /* create main configuration */
    NULL,                                  /* init main configuration */
    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */
    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_upstream_local_port_module = {
    NGX_MODULE_V1,
    &ngx_http_upstream_local_port_module_ctx,
    NULL,
    NGX_HTTP_MODULE,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
    NGX_MODULE_V1_PADDING
};


/* Only an address to find the ports by: an internal redirect clears the request's contexts, and its pool stays. */
static void
ngx_http_local_port_cleanup(void *data)
{
}


static ngx_http_local_port_ctx_t *
ngx_http_local_port_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t         *cln;
    ngx_http_local_port_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_upstream_local_port_module);
    if (ctx != NULL) {
        return ctx;
    }

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        /* Subrequests share the pool. */
        if (cln->handler == ngx_http_local_port_cleanup
            && ((ngx_http_local_port_ctx_t *) cln->data)->request == r)
        {
            ngx_http_set_ctx(r, cln->data, ngx_http_upstream_local_port_module);
            return cln->data;
        }
    }

    return NULL;
}


static ngx_http_local_port_ctx_t *
ngx_http_local_port_add_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t         *cln;
    ngx_http_local_port_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_local_port_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ctx->request = r;
    if (ngx_array_init(&ctx->ports, r->pool, 2, sizeof(in_port_t)) != NGX_OK) {
        return NULL;
    }

    cln->handler = ngx_http_local_port_cleanup;
    ngx_http_set_ctx(r, ctx, ngx_http_upstream_local_port_module);
    return ctx;
}


/* 0 for a connection without a port, such as one to a Unix socket. */
static in_port_t
ngx_http_local_port_of(ngx_connection_t *c)
{
    socklen_t       len;
    ngx_sockaddr_t  sa;

    len = sizeof(ngx_sockaddr_t);
    ngx_memzero(&sa, len);
    if (getsockname(c->fd, &sa.sockaddr, &len) == -1) {
        return 0;
    }

    return ngx_inet_get_port(&sa.sockaddr);
}


/* The request's youngest attempt goes over this connection. */
static void
ngx_http_local_port_note(ngx_http_request_t *r, ngx_connection_t *c)
{
    in_port_t                  *port;
    ngx_uint_t                  attempts;
    ngx_http_local_port_ctx_t  *ctx;

    if (c == NULL || r->upstream_states == NULL) {
        return;
    }

    ctx = ngx_http_local_port_ctx(r);
    if (ctx == NULL) {
        ctx = ngx_http_local_port_add_ctx(r);
        if (ctx == NULL) {
            return;
        }
    }

    attempts = r->upstream_states->nelts;
    while (ctx->ports.nelts < attempts) {
        port = ngx_array_push(&ctx->ports);
        if (port == NULL) {
            return;
        }

        *port = 0;
    }

    if (attempts > 0) {
        port = (in_port_t *) ctx->ports.elts + attempts - 1;
        if (*port == 0) {
            *port = ngx_http_local_port_of(c);
        }
    }
}


static ngx_int_t
ngx_http_local_port_get_peer(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_local_port_peer_t  *peer = data;

    return peer->get(pc, peer->data);
}


static void
ngx_http_local_port_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_local_port_peer_t  *peer = data;

    /* Before `keepalive` puts the connection aside. */
    ngx_http_local_port_note(peer->request, pc->connection);
    peer->free(pc, peer->data, state);
}


static void
ngx_http_local_port_notify_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t type)
{
    ngx_http_local_port_peer_t  *peer = data;

    peer->notify(pc, peer->data, type);
}


#if (NGX_HTTP_SSL)

static ngx_int_t
ngx_http_local_port_set_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_local_port_peer_t  *peer = data;

    return peer->set_session(pc, peer->data);
}


static void
ngx_http_local_port_save_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_local_port_peer_t  *peer = data;

    peer->save_session(pc, peer->data);
}

#endif


static ngx_http_upstream_init_peer_pt
ngx_http_local_port_init_before(ngx_http_local_port_conf_t *conf,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_uint_t  low, high, middle;

    low = 0;
    high = conf->count;
    while (low < high) {
        middle = (low + high) / 2;
        if (conf->upstreams[middle].upstream == us) {
            return conf->upstreams[middle].init;
        }

        if ((uintptr_t) conf->upstreams[middle].upstream < (uintptr_t) us) {
            low = middle + 1;

        } else {
            high = middle;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_local_port_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_peer_connection_t           *pc;
    ngx_http_local_port_conf_t      *conf;
    ngx_http_local_port_peer_t      *peer;
    ngx_http_upstream_init_peer_pt   init;

    conf = ngx_http_get_module_main_conf(r, ngx_http_upstream_local_port_module);
    init = ngx_http_local_port_init_before(conf, us);
    if (init == NULL || init(r, us) != NGX_OK) {
        return NGX_ERROR;
    }

    peer = ngx_palloc(r->pool, sizeof(ngx_http_local_port_peer_t));
    if (peer == NULL) {
        return NGX_ERROR;
    }

    pc = &r->upstream->peer;
    peer->request = r;
    peer->data = pc->data;
    peer->get = pc->get;
    peer->free = pc->free;
    peer->notify = pc->notify;

    pc->data = peer;
    pc->get = ngx_http_local_port_get_peer;
    pc->free = ngx_http_local_port_free_peer;
    if (peer->notify) {
        pc->notify = ngx_http_local_port_notify_peer;
    }

#if (NGX_HTTP_SSL)
    peer->set_session = pc->set_session;
    peer->save_session = pc->save_session;
    if (peer->set_session) {
        pc->set_session = ngx_http_local_port_set_session;
    }

    if (peer->save_session) {
        pc->save_session = ngx_http_local_port_save_session;
    }
#endif

    return NGX_OK;
}


static ngx_int_t
ngx_http_local_port_header_filter(ngx_http_request_t *r)
{
    if (r->upstream) {
        ngx_http_local_port_note(r, r->upstream->peer.connection);
    }

    return ngx_http_next_header_filter(r);
}


/* The entries and separators of $upstream_addr (ngx_http_upstream_addr_variable). */
static ngx_int_t
ngx_http_local_port_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                     *p;
    in_port_t                  *ports;
    ngx_uint_t                  i, attempts, known;
    ngx_http_upstream_state_t  *states;
    ngx_http_local_port_ctx_t  *ctx;

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    if (r->upstream_states == NULL || r->upstream_states->nelts == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    if (r->upstream) {
        ngx_http_local_port_note(r, r->upstream->peer.connection);
    }

    ctx = ngx_http_local_port_ctx(r);
    ports = ctx ? ctx->ports.elts : NULL;
    known = ctx ? ctx->ports.nelts : 0;
    attempts = r->upstream_states->nelts;
    states = r->upstream_states->elts;

    p = ngx_pnalloc(r->pool, attempts * (sizeof("65535 : ") - 1));
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->data = p;
    i = 0;

    for ( ;; ) {
        if (i < known && ports[i] != 0) {
            p = ngx_sprintf(p, "%ui", (ngx_uint_t) ports[i]);

        } else {
            *p++ = '-';
        }

        if (++i == attempts) {
            break;
        }

        if (states[i].peer) {
            *p++ = ',';
            *p++ = ' ';
            continue;
        }

        *p++ = ' ';
        *p++ = ':';
        *p++ = ' ';

        if (++i == attempts) {
            break;
        }
    }

    v->len = p - v->data;
    return NGX_OK;
}


static ngx_int_t
ngx_http_local_port_add_variable(ngx_conf_t *cf)
{
    ngx_str_t             name = ngx_string("upstream_local_port");
    ngx_http_variable_t  *var;

    var = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);
    if (var == NULL) {
        return NGX_ERROR;
    }

    var->get_handler = ngx_http_local_port_variable;
    return NGX_OK;
}


static void *
ngx_http_local_port_create_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_local_port_conf_t));
}


static int ngx_libc_cdecl
ngx_http_local_port_compare(const void *one, const void *two)
{
    uintptr_t  a = (uintptr_t) ((ngx_http_local_port_upstream_t *) one)->upstream;
    uintptr_t  b = (uintptr_t) ((ngx_http_local_port_upstream_t *) two)->upstream;

    return a < b ? -1 : a > b;
}


/* By now every upstream has its balancer, and `keepalive` around it. */
static ngx_int_t
ngx_http_local_port_init(ngx_conf_t *cf)
{
    ngx_uint_t                       i;
    ngx_http_local_port_conf_t      *conf;
    ngx_http_upstream_srv_conf_t   **upstreams;
    ngx_http_upstream_main_conf_t   *main;

    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_local_port_header_filter;

    main = ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module);
    conf = ngx_http_conf_get_module_main_conf(cf,
                                        ngx_http_upstream_local_port_module);

    conf->upstreams = ngx_palloc(cf->pool, (main->upstreams.nelts + 1)
                                   * sizeof(ngx_http_local_port_upstream_t));
    if (conf->upstreams == NULL) {
        return NGX_ERROR;
    }

    upstreams = main->upstreams.elts;
    for (i = 0; i < main->upstreams.nelts; i++) {
        conf->upstreams[i].upstream = upstreams[i];
        conf->upstreams[i].init = upstreams[i]->peer.init;
        upstreams[i]->peer.init = ngx_http_local_port_init_peer;
    }

    conf->count = main->upstreams.nelts;
    ngx_qsort(conf->upstreams, conf->count,
              sizeof(ngx_http_local_port_upstream_t),
              ngx_http_local_port_compare);

    return NGX_OK;
}
