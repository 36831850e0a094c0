// The filter of the tests in C: the proxy-wasm ABI 0.2.1 by hand, the rest by wasi-libc. What it does is told in
// ../README.md.

#define _GNU_SOURCE // asprintf
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT(name) __attribute__((import_module("env"), import_name(#name))) uint32_t name
#define EXPORT(name) __attribute__((export_name(#name))) name

enum { OK = 0, CAS_MISMATCH = 8 };
enum { INFO = 2 };
enum { CONTINUE = 0, PAUSE = 1 };
enum { REQUEST_BODY = 0, PLUGIN_CONFIGURATION = 7 };
enum { REQUEST_HEADERS = 0, RESPONSE_HEADERS = 2 };

IMPORT(proxy_log)(uint32_t level, const char *text, size_t size);
IMPORT(proxy_get_buffer_bytes)(uint32_t type, size_t start, size_t most, char **at, size_t *size);
IMPORT(proxy_get_header_map_value)(uint32_t map, const char *name, size_t name_size, char **at, size_t *size);
IMPORT(proxy_add_header_map_value)(uint32_t map, const char *name, size_t name_size, const char *at, size_t size);
IMPORT(proxy_get_shared_data)(const char *key, size_t key_size, char **at, size_t *size, uint32_t *cas);
IMPORT(proxy_set_shared_data)(const char *key, size_t key_size, const char *at, size_t size, uint32_t cas);
IMPORT(proxy_send_local_response)(uint32_t status, const char *details, size_t details_size, const char *body,
                                  size_t body_size, const char *headers, size_t headers_size, int32_t grpc_status);

// What the host gives lies in memory of malloc, which is exported. It is the filter's to free.
typedef struct {
    char *at;
    size_t size;
} bytes;

typedef struct stream {
    uint32_t id;
    size_t body;
    struct stream *next;
} stream;

static stream *streams;
static bytes greeting;

static stream **find(uint32_t id) {
    stream **place = &streams;
    while (*place && (*place)->id != id) place = &(*place)->next;
    return place;
}

static bytes header(const char *name) {
    bytes value = {0};
    proxy_get_header_map_value(REQUEST_HEADERS, name, strlen(name), &value.at, &value.size);
    return value;
}

static bool header_is(const char *name, const char *text) {
    bytes value = header(name);
    bool is = value.size == strlen(text) && !memcmp(value.at, text, value.size);
    free(value.at);
    return is;
}

static void add_header(uint32_t map, const char *name, const char *value) {
    proxy_add_header_map_value(map, name, strlen(name), value, strlen(value));
}

static void add_number(const char *name, unsigned long number) {
    char text[24];
    snprintf(text, sizeof text, "%lu", number);
    add_header(RESPONSE_HEADERS, name, text);
}

// The number of responses so far, in all languages and on all workers: decimal digits.
static unsigned long count(void) {
    static const char key[] = "count";
    for (;;) {
        char text[24] = "";
        bytes old = {0};
        uint32_t cas = 0;
        if (proxy_get_shared_data(key, sizeof key - 1, &old.at, &old.size, &cas) == OK)
            snprintf(text, sizeof text, "%.*s", (int)old.size, old.at);
        free(old.at);
        unsigned long number = strtoul(text, NULL, 10) + 1;
        int size = snprintf(text, sizeof text, "%lu", number);
        if (proxy_set_shared_data(key, sizeof key - 1, text, size, cas) != CAS_MISMATCH) return number;
    }
}

void EXPORT(proxy_abi_version_0_2_1)(void) {}

void EXPORT(proxy_on_context_create)(uint32_t id, uint32_t root) {
    if (!root) return;
    stream *new = calloc(1, sizeof *new);
    *new = (stream){.id = id, .next = streams};
    streams = new;
}

bool EXPORT(proxy_on_vm_start)(uint32_t root, uint32_t size) {
    printf("c starts in %s\n", getenv("STAGE"));
    return fflush(stdout) == 0;
}

bool EXPORT(proxy_on_configure)(uint32_t root, uint32_t size) {
    proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, &greeting.at, &greeting.size);
    if (!greeting.size) fprintf(stderr, "c has no greeting\n");
    return greeting.size;
}

uint32_t EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t headers, bool ends) {
    assert(!header_is("x-crash", "c"));
    if (header_is(":path", "/local")) {
        static const char body[] = "a teapot in c\n";
        proxy_send_local_response(418, "teapot", 6, body, sizeof body - 1, NULL, 0, -1);
        return PAUSE;
    }
    bytes name = header("x-name");
    if (name.at) {
        char *text;
        int size = asprintf(&text, "%.*s %.*s", (int)greeting.size, greeting.at, (int)name.size, name.at);
        add_header(REQUEST_HEADERS, "x-greeting", text);
        proxy_log(INFO, text, size);
        free(text);
        free(name.at);
    }
    return CONTINUE;
}

uint32_t EXPORT(proxy_on_request_body)(uint32_t id, uint32_t size, bool ends) {
    bytes piece = {0};
    proxy_get_buffer_bytes(REQUEST_BODY, 0, size, &piece.at, &piece.size);
    (*find(id))->body += piece.size;
    free(piece.at);
    return CONTINUE;
}

uint32_t EXPORT(proxy_on_response_headers)(uint32_t id, uint32_t headers, bool ends) {
    add_header(RESPONSE_HEADERS, "x-language", "c");
    add_number("x-body-bytes", (*find(id))->body);
    add_number("x-count", count());
    return CONTINUE;
}

void EXPORT(proxy_on_delete)(uint32_t id) {
    stream **place = find(id), *gone = *place;
    if (!gone) return;
    *place = gone->next;
    free(gone);
}
