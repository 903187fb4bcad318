/* hiredis, as its users use it. Arguments: protocol, our node, another node, a prefix for keys. It says no HELLO by
 * itself, and has no reconnection of its own but redisReconnect. */

#include <hiredis/hiredis.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char host[64], other_host[64], prefix[64];
static int port, other_port, protocol;
static redisContext *client, *other;

#if HIREDIS_MAJOR != 1 || HIREDIS_MINOR != 0 || HIREDIS_PATCH != 3
#error "This is meant for hiredis 1.0.3, which Redis 7.0.15 carries."
#endif

/* What the step failed of; empty while it did not. */
static char failure[512];

static void fail(const char *format, ...) {
    if (failure[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(failure, sizeof failure, format, arguments);
    va_end(arguments);
}

/* Says which protocol it is to be: what is not said is RESP2. */
static void greet(redisContext *context) {
    if (protocol == 2) return;
    redisReply *reply = redisCommand(context, "HELLO %d", protocol);
    if (reply == NULL || reply->type != REDIS_REPLY_MAP) fail("HELLO %d is answered with a map", protocol);
    freeReplyObject(reply);
}

static redisContext *connect_to(const char *address, int number) {
    struct timeval patience = {15, 0};
    redisContext *context = redisConnectWithTimeout(address, number, patience);
    if (context == NULL || context->err) {
        fprintf(stderr, "connecting to %s:%d: %s\n", address, number, context ? context->errstr : "no memory");
        exit(1);
    }
    redisSetTimeout(context, patience);
    greet(context);
    return context;
}

/* A reply in one line, arrays in brackets. */
static void describe(const redisReply *reply, char *text, size_t size) {
    if (reply == NULL) snprintf(text, size, "nothing");
    else if (reply->type == REDIS_REPLY_NIL) snprintf(text, size, "nil");
    else if (reply->type == REDIS_REPLY_INTEGER) snprintf(text, size, "%lld", reply->integer);
    else if (reply->type == REDIS_REPLY_ARRAY || reply->type == REDIS_REPLY_MAP || reply->type == REDIS_REPLY_PUSH) {
        size_t length = snprintf(text, size, "[");
        for (size_t i = 0; i < reply->elements && length < size; i++) {
            if (i > 0) length += snprintf(text + length, size - length, " ");
            describe(reply->element[i], text + length, size - length);
            length += strlen(text + length);
        }
        if (length < size) snprintf(text + length, size - length, "]");
    } else snprintf(text, size, "%s", reply->str);
}

/* Compares a reply with its description, and frees it. An expectation that ends in `...` is a beginning. */
static void check(redisReply *reply, const char *expected) {
    char text[512];
    describe(reply, text, sizeof text);
    size_t length = strlen(expected);
    int begins = length > 3 && strcmp(expected + length - 3, "...") == 0;
    if (begins ? strncmp(text, expected, length - 3) != 0 : strcmp(text, expected) != 0)
        fail("expected %s, got %s", expected, text);
    if (reply) freeReplyObject(reply);
}

static redisReply *received(redisContext *context) {
    void *reply = NULL;
    return redisGetReply(context, &reply) == REDIS_OK ? reply : NULL;
}

static void handshake(void) {
    char expected[16];
    check(redisCommand(client, "PING"), "PONG");
    check(redisCommand(client, "SET %s:text %b", prefix, "a\r\n\0b", (size_t)5), "OK");
    redisReply *reply = redisCommand(client, "GET %s:text", prefix);
    if (reply == NULL || reply->len != 5 || memcmp(reply->str, "a\r\n\0b", 5) != 0) fail("GET changed the bytes");
    freeReplyObject(reply);
    check(redisCommand(client, "GET %s:nothing", prefix), "nil");
    reply = redisCommand(client, "CLIENT INFO");
    snprintf(expected, sizeof expected, " resp=%d", protocol);
    if (reply == NULL || strstr(reply->str, expected) == NULL) fail("CLIENT INFO does not say%s", expected);
    freeReplyObject(reply);
    check(redisCommand(client, "HSET %s:hash field value", prefix), "1");
    reply = redisCommand(client, "HGETALL %s:hash", prefix);
    if (reply == NULL || reply->type != (protocol == 2 ? REDIS_REPLY_ARRAY : REDIS_REPLY_MAP))
        fail("HGETALL is answered in another protocol");
    check(reply, "[field value]");
}

static void pipeline(void) {
    char expected[64];
    for (int i = 0; i < 200; i++) redisAppendCommand(client, "SET %s:pipeline:%d value-%d", prefix, i, i);
    redisAppendCommand(client, "INCR %s:pipeline:0", prefix);
    for (int i = 0; i < 200; i++) redisAppendCommand(client, "GET %s:pipeline:%d", prefix, i);
    for (int i = 0; i < 200; i++) check(received(client), "OK");
    check(received(client), "ERR value is not an integer or out of range");
    for (int i = 0; i < 200; i++) {
        snprintf(expected, sizeof expected, "value-%d", i);
        check(received(client), expected);
    }
}

static void transaction(void) {
    check(redisCommand(client, "SET %s:transaction 1", prefix), "OK");
    check(redisCommand(client, "WATCH %s:transaction", prefix), "OK");
    check(redisCommand(other, "SET %s:transaction 10", prefix), "OK");
    check(redisCommand(client, "MULTI"), "OK");
    check(redisCommand(client, "SET %s:transaction 2", prefix), "QUEUED");
    check(redisCommand(client, "EXEC"), "nil");
    check(redisCommand(client, "WATCH %s:transaction", prefix), "OK");
    check(redisCommand(client, "MULTI"), "OK");
    check(redisCommand(client, "INCR %s:transaction", prefix), "QUEUED");
    check(redisCommand(client, "GET %s:transaction", prefix), "QUEUED");
    check(redisCommand(client, "EXEC"), "[11 11]");
    check(redisCommand(other, "GET %s:transaction", prefix), "11");
}

static void pubsub(void) {
    char expected[256];
    redisContext *subscriber = connect_to(host, port);
    /* In RESP3 messages are pushed, which hiredis throws away unless it is told to hand them out. */
    redisSetPushCallback(subscriber, NULL);
    snprintf(expected, sizeof expected, "[subscribe %s:news 1]", prefix);
    check(redisCommand(subscriber, "SUBSCRIBE %s:news", prefix), expected);
    snprintf(expected, sizeof expected, "[psubscribe %s:n* 2]", prefix);
    check(redisCommand(subscriber, "PSUBSCRIBE %s:n*", prefix), expected);
    redisReply *reply = redisCommand(other, "PUBLISH %s:news hello", prefix);
    if (reply == NULL || reply->type != REDIS_REPLY_INTEGER) fail("PUBLISH answers with a number");
    freeReplyObject(reply);
    snprintf(expected, sizeof expected, "[message %s:news hello]", prefix);
    check(received(subscriber), expected);
    snprintf(expected, sizeof expected, "[pmessage %s:n* %s:news hello]", prefix, prefix);
    check(received(subscriber), expected);
    redisFree(subscriber);
}

static void script(void) {
    const char *source = "return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1]), false}";
    char expected[256], sha[64] = "";
    check(redisCommand(client, "EVALSHA %s 0", "ffffffffffffffffffffffffffffffffffffffff"), "NOSCRIPT No matching...");
    snprintf(expected, sizeof expected, "[%s:script 5 nil]", prefix);
    check(redisCommand(client, "EVAL %s 1 %s:script 5", source, prefix), expected);
    redisReply *reply = redisCommand(other, "SCRIPT LOAD %s", source);
    if (reply && reply->type == REDIS_REPLY_STRING) snprintf(sha, sizeof sha, "%s", reply->str);
    freeReplyObject(reply);
    snprintf(expected, sizeof expected, "[%s:script 12 nil]", prefix);
    check(redisCommand(client, "EVALSHA %s 1 %s:script 7", sha, prefix), expected);
    check(redisCommand(other, "SCRIPT FLUSH"), "OK");
    check(redisCommand(client, "EVALSHA %s 1 %s:script 7", sha, prefix), "NOSCRIPT No matching...");
}

static void reconnect(void) {
    check(redisCommand(client, "INCR %s:reconnect", prefix), "1");
    redisReply *id = redisCommand(client, "CLIENT ID");
    redisContext *second = connect_to(host, port);
    check(redisCommand(second, "CLIENT KILL ID %lld", id ? id->integer : 0), "1");
    freeReplyObject(id);
    redisFree(second);
    check(redisCommand(client, "INCR %s:reconnect", prefix), "nothing");
    if (redisReconnect(client) != REDIS_OK) fail("redisReconnect: %s", client->errstr);
    greet(client);
    check(redisCommand(client, "INCR %s:reconnect", prefix), "2");
}

static atomic_bool stopping;
static atomic_long acknowledged, longest;
static atomic_int count_failures;
static pthread_t threads[3];

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void *increment(void *fresh) {
    redisContext *context = connect_to(host, port);
    while (!stopping) {
        if (fresh) {
            redisFree(context);
            context = connect_to(host, port);
        }
        long began = now(), before = longest;
        redisReply *reply = redisCommand(context, "INCR %s:count", prefix);
        if (reply == NULL || reply->type != REDIS_REPLY_INTEGER) {
            fprintf(stderr, "INCR: %s\n", reply ? reply->str : context->errstr);
            count_failures++;
            return NULL;
        }
        freeReplyObject(reply);
        acknowledged++;
        long took = now() - began;
        while (took > before && !atomic_compare_exchange_weak(&longest, &before, took)) {}
    }
    redisFree(context);
    return NULL;
}

static void count(void) {
    stopping = 0;
    /* The last of them connects anew for each increment. */
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, increment, i == 2 ? &threads[i] : NULL);
}

static void stop(void) {
    stopping = 1;
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    if (count_failures > 0) fail("%d loops of increments failed", count_failures);
}

static const struct {
    const char *name;
    void (*run)(void);
} steps[] = {{"handshake", handshake}, {"pipeline", pipeline},   {"transaction", transaction}, {"pubsub", pubsub},
             {"script", script},       {"reconnect", reconnect}, {"count", count},             {"stop", stop}};

int main(int argc, char **argv) {
    char line[64];
    if (argc != 5 || sscanf(argv[1], "%d", &protocol) != 1 || sscanf(argv[2], "%63[^:]:%d", host, &port) != 2 ||
        sscanf(argv[3], "%63[^:]:%d", other_host, &other_port) != 2) {
        fprintf(stderr, "usage: hiredis PROTOCOL HOST:PORT HOST:PORT PREFIX\n");
        return 2;
    }
    snprintf(prefix, sizeof prefix, "%s", argv[4]);
    client = connect_to(host, port);
    other = connect_to(other_host, other_port);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        snprintf(failure, sizeof failure, "no such step");
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            if (strcmp(steps[i].name, line) == 0) {
                failure[0] = 0;
                steps[i].run();
            }
        }
        if (failure[0]) printf("failed %s\n", failure);
        else if (strcmp(line, "stop") == 0) printf("ok %ld %ld\n", acknowledged, longest);
        else printf("ok\n");
        fflush(stdout);
    }
    return 0;
}
