#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "tensor/json.h"
#include "tensor/pickle.h"

enum { PIECE = 1 << 14, FEW = 4, MEMO_FEW = 256 };

static const char *opcode_name(unsigned char op)
{
    static const struct { unsigned char op; const char *name; } known[] = {
        { '}', "EMPTY_DICT" }, { ']', "EMPTY_LIST" }, { ')', "EMPTY_TUPLE" }, { '(', "MARK" }, { 't', "TUPLE" }, { 0x85, "TUPLE1" }, { 0x86, "TUPLE2" },
        { 0x87, "TUPLE3" }, { 'N', "NONE" }, { 0x88, "NEWTRUE" }, { 0x89, "NEWFALSE" }, { 'K', "BININT1" }, { 'M', "BININT2" }, { 'J', "BININT" },
        { 0x8A, "LONG1" }, { 'G', "BINFLOAT" }, { 'X', "BINUNICODE" }, { 'U', "SHORT_BINSTRING" }, { 'T', "BINSTRING" }, { 'q', "BINPUT" },
        { 'r', "LONG_BINPUT" }, { 'h', "BINGET" }, { 'j', "LONG_BINGET" }, { '0', "POP" }, { 'a', "APPEND" }, { 'e', "APPENDS" }, { 's', "SETITEM" },
        { 'u', "SETITEMS" }, { 'c', "GLOBAL" }, { 'Q', "BINPERSID" }, { 'R', "REDUCE" }, { 'b', "BUILD" }, { '.', "STOP" }, { 0x80, "PROTO" },
        { 0x93, "STACK_GLOBAL" }, { 'i', "INST" }, { 'o', "OBJ" }, { 0x81, "NEWOBJ" }, { 'P', "PERSID" }, { 0x82, "EXT1" } };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].op == op) return known[i].name;
    return "unknown";
}

bool pickle_wrong(const Pickle *p, TorchKind k, const char *format, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    unsigned char op = p->start < p->size ? p->code[p->start] : 0;
    if (p->start >= p->size) return torch_refuse(p->refusal, k, "%s, at byte %zu of data.pkl, its end", text, p->start);
    return torch_refuse(p->refusal, k, "%s, at byte %zu of data.pkl, opcode %s (0x%02x)", text, p->start, opcode_name(op), op);
}

/* ---- memory, stack, memo ------------------------------------------------------------------------------- */

void *pickle_take(Pickle *p, size_t bytes)
{
    bytes = (bytes + 15) / 16 * 16;
    if (bytes > p->shelf_left) {
        size_t piece = bytes > PIECE / 4 ? bytes : PIECE;
        char *new = arena_take(p->scratch, piece);
        if (!new) {
            torch_memory(p->refusal);
            return NULL;
        }
        if (piece == bytes) return new;
        p->shelf = new;
        p->shelf_left = piece;
    }
    void *to = p->shelf;
    p->shelf += bytes;
    p->shelf_left -= bytes;
    return to;
}

/* Room for at least `least` items of `size` bytes, twice what there was. */
static bool grow(Pickle *p, void *array, size_t *room, size_t count, size_t least, size_t size)
{
    void **items = array, *old = *items;
    if (least <= *room) return true;
    size_t wanted = *room ? 2 * *room : FEW;
    if (wanted < least) wanted = least;
    void *new = pickle_take(p, wanted * size);            /* least is bounded by the pickle's length: no overflow */
    if (!new) return false;
    if (count) memcpy(new, old, count * size);
    *items = new;
    *room = wanted;
    return true;
}

Node *pickle_node(Pickle *p, size_t room)
{
    Node *n = pickle_take(p, sizeof *n);
    if (!n) return NULL;
    *n = (Node){ .height = 1 };
    return !room || grow(p, &n->item, &n->room, 0, room, sizeof *n->item) ? n : NULL;
}

static bool push(Pickle *p, Value v)
{
    if (!grow(p, &p->stack, &p->room, p->depth, p->depth + 1, sizeof v)) return false;
    p->stack[p->depth++] = v;
    return true;
}

static size_t frame(const Pickle *p) { return p->depth - (p->marks ? p->mark[p->marks - 1] : 0); }    /* values above the last mark */

static bool need(const Pickle *p, size_t n) { return frame(p) >= n || pickle_wrong(p, TORCH_STACK, "%zu values are needed, there are %zu", n, frame(p)); }

static Value pop(Pickle *p) { return p->stack[--p->depth]; }

static bool set_mark(Pickle *p)
{
    if (!grow(p, &p->mark, &p->mark_room, p->marks, p->marks + 1, sizeof *p->mark)) return false;
    p->mark[p->marks++] = p->depth;
    return true;
}

/* The values above the last mark, which goes. */
static bool unmark(Pickle *p, Value **first, size_t *n)
{
    if (!p->marks) {
        pickle_wrong(p, TORCH_STACK, "no mark is set");
        return false;
    }
    *n = frame(p);
    p->depth = p->mark[--p->marks];
    *first = p->stack + p->depth;
    return true;
}

static bool put(Pickle *p, uint64_t i)
{
    if (!need(p, 1)) return false;
    if (i >= p->size) return pickle_wrong(p, TORCH_MEMO, "memo %llu in a pickle of %zu bytes", (unsigned long long)i, p->size);
    size_t before = p->memo_room;
    if (!grow(p, &p->memo, &p->memo_room, before, i < MEMO_FEW ? MEMO_FEW : (size_t)i + 1, sizeof *p->memo)) return false;
    if (p->memo_room > before) memset(p->memo + before, 0, (p->memo_room - before) * sizeof *p->memo);
    p->memo[i] = p->stack[p->depth - 1];
    return true;
}

static bool get(Pickle *p, uint64_t i)
{
    if (i >= p->memo_room || p->memo[i].kind == V_NOTHING) return pickle_wrong(p, TORCH_MEMO, "memo %llu holds nothing", (unsigned long long)i);
    return push(p, p->memo[i]);
}

/* ---- containers ---------------------------------------------------------------------------------------- */

static bool is_container(Value v) { return v.kind >= V_TUPLE; }

/* Deeper nesting that arises later, inside what is held already, is found at the end. */
static bool raise(Pickle *p, Node *n, Value child)
{
    if (!is_container(child)) return true;
    if (child.is.node == n) return pickle_wrong(p, TORCH_CYCLE, "a container that holds itself");
    if (child.is.node->height >= PICKLE_DEEPEST) return pickle_wrong(p, TORCH_DEPTH, "more than %d containers in each other", PICKLE_DEEPEST);
    if (n->height <= child.is.node->height) n->height = (unsigned char)(child.is.node->height + 1);
    return true;
}

static bool append(Pickle *p, Node *n, Value v)
{
    if (!raise(p, n, v) || !grow(p, &n->item, &n->room, n->count, n->count + 1, sizeof v)) return false;
    n->item[n->count++] = v;
    return true;
}

static bool append_all(Pickle *p, Value to, const Value *v, size_t n)
{
    if (to.kind != V_LIST) return pickle_wrong(p, TORCH_STRUCTURE, "values are appended to what is no list");
    for (size_t i = 0; i < n; i++)
        if (!append(p, to.is.node, v[i])) return false;
    return true;
}

static bool set_all(Pickle *p, Value to, const Value *v, size_t n)
{
    if (n % 2) return pickle_wrong(p, TORCH_STACK, "a key without a value");
    if (to.kind != V_DICT) return pickle_wrong(p, TORCH_STRUCTURE, "items are set in what is no dict");
    for (size_t i = 0; i < n; i++) {
        if (i % 2 == 0 && v[i].kind != V_TEXT && v[i].kind != V_INT) return pickle_wrong(p, TORCH_STRUCTURE, "a key that is neither text nor integer");
        if (!append(p, to.is.node, v[i])) return false;
    }
    return true;
}

static bool push_container(Pickle *p, ValueKind kind, const Value *v, size_t n)
{
    Node *node = pickle_node(p, n);
    for (size_t i = 0; i < n && node; i++)
        if (!append(p, node, v[i])) return false;
    return node && push(p, (Value){ .kind = kind, .is.node = node });
}

static bool push_tuple(Pickle *p, size_t n)
{
    if (!need(p, n)) return false;
    p->depth -= n;
    return push_container(p, V_TUPLE, p->stack + p->depth, n);
}

/* ---- numbers and texts --------------------------------------------------------------------------------- */

static const unsigned char *bytes(Pickle *p, uint64_t n)
{
    if (n > p->size - p->at) {
        pickle_wrong(p, TORCH_TRUNCATED_PICKLE, "%llu bytes are wanted, %zu are left", (unsigned long long)n, p->size - p->at);
        return NULL;
    }
    p->at += (size_t)n;
    return p->code + p->at - (size_t)n;
}

static bool number(Pickle *p, int n, uint64_t *v)         /* little-endian, without sign */
{
    const unsigned char *b = bytes(p, (uint64_t)n);
    *v = 0;
    while (b && n-- > 0) *v = *v << 8 | b[n];
    return b != NULL;
}

static bool push_int(Pickle *p, int n, bool has_sign)
{
    uint64_t v, top = n ? (uint64_t)1 << (8 * n - 1) : 0;
    return number(p, n, &v) && push(p, (Value){ .kind = V_INT, .is.i = (int64_t)(has_sign ? (v ^ top) - top : v) });
}

static bool push_long(Pickle *p)
{
    uint64_t n;
    if (!number(p, 1, &n)) return false;
    if (n > 8) return pickle_wrong(p, TORCH_INTEGER, "an integer of %d bytes, at most 8 are read", (int)n);
    return push_int(p, (int)n, true);
}

static bool push_float(Pickle *p)
{
    const unsigned char *b = bytes(p, 8);
    uint64_t v = 0;
    double x;
    for (int i = 0; i < 8 && b; i++) v = v << 8 | b[i];
    memcpy(&x, &v, sizeof x);
    return b && push(p, (Value){ .kind = V_FLOAT, .is.x = x });
}

static bool push_text(Pickle *p, int prefix)
{
    uint64_t n;
    if (!number(p, prefix, &n)) return false;
    const char *text = (const char *)bytes(p, n);
    if (!text) return false;
    if (!utf8_valid_bytes(text, (size_t)n)) return pickle_wrong(p, TORCH_STRING, "a text that is not UTF-8");
    return push(p, (Value){ .kind = V_TEXT, .length = (uint32_t)n, .is.text = text });
}

static const char *line(Pickle *p, size_t *n)             /* up to a new line, which is skipped */
{
    const char *from = (const char *)p->code + p->at, *end = memchr(from, '\n', p->size - p->at);
    if (!end) {
        pickle_wrong(p, TORCH_TRUNCATED_PICKLE, "a name without an end");
        return NULL;
    }
    *n = (size_t)(end - from);
    p->at += *n + 1;
    return from;
}

/* ---- operations ---------------------------------------------------------------------------------------- */

static bool push_global(Pickle *p)
{
    size_t m, n;
    Value v;
    const char *module = line(p, &m), *name = module ? line(p, &n) : NULL;
    return name && pickle_global(p, module, m, name, n, &v) && push(p, v);
}

static bool persistent(Pickle *p)
{
    Value v;
    return need(p, 1) && pickle_storage(p, pop(p), &v) && push(p, v);
}

static bool reduce(Pickle *p)
{
    Value v;
    if (!need(p, 2)) return false;
    p->depth -= 2;
    return pickle_reduce(p, p->stack[p->depth], p->stack[p->depth + 1], &v) && push(p, v);
}

static bool build(Pickle *p)                              /* torch hangs `_metadata` on its OrderedDicts: dropped */
{
    if (!need(p, 2)) return false;
    pop(p);
    Value to = p->stack[p->depth - 1];
    return (to.kind == V_DICT && to.is.node->ordered) || pickle_wrong(p, TORCH_BAD_BUILD, "only an OrderedDict may be given attributes");
}

static bool many(Pickle *p, bool act_on(Pickle *p, Value to, const Value *v, size_t n))
{
    Value *v;
    size_t n;
    return unmark(p, &v, &n) && need(p, 1) && act_on(p, p->stack[p->depth - 1], v, n);
}

static bool few(Pickle *p, bool act_on(Pickle *p, Value to, const Value *v, size_t n), size_t n)
{
    if (!need(p, n + 1)) return false;
    p->depth -= n;
    return act_on(p, p->stack[p->depth - 1], p->stack + p->depth, n);
}

static bool tuple_from_mark(Pickle *p)
{
    Value *v;
    size_t n;
    return unmark(p, &v, &n) && push_container(p, V_TUPLE, v, n);
}

static bool drop(Pickle *p)
{
    if (!need(p, 1)) return false;
    pop(p);
    return true;
}

static bool memo(Pickle *p, int width, bool act(Pickle *p, uint64_t i))
{
    uint64_t i;
    return number(p, width, &i) && act(p, i);
}

static bool operate(Pickle *p, unsigned char op)
{
    switch (op) {
    case '}':  return push_container(p, V_DICT, NULL, 0);
    case ']':  return push_container(p, V_LIST, NULL, 0);
    case ')':  return push_container(p, V_TUPLE, NULL, 0);
    case '(':  return set_mark(p);
    case 't':  return tuple_from_mark(p);
    case 0x85: return push_tuple(p, 1);
    case 0x86: return push_tuple(p, 2);
    case 0x87: return push_tuple(p, 3);
    case 'N':  return push(p, (Value){ .kind = V_NONE });
    case 0x88: return push(p, (Value){ .kind = V_BOOL, .is.i = 1 });
    case 0x89: return push(p, (Value){ .kind = V_BOOL, .is.i = 0 });
    case 'K':  return push_int(p, 1, false);
    case 'M':  return push_int(p, 2, false);
    case 'J':  return push_int(p, 4, true);
    case 0x8A: return push_long(p);
    case 'G':  return push_float(p);
    case 'X':  return push_text(p, 4);
    case 'T':  return push_text(p, 4);
    case 'U':  return push_text(p, 1);
    case 'q':  return memo(p, 1, put);
    case 'r':  return memo(p, 4, put);
    case 'h':  return memo(p, 1, get);
    case 'j':  return memo(p, 4, get);
    case '0':  return drop(p);
    case 'a':  return few(p, append_all, 1);
    case 'e':  return many(p, append_all);
    case 's':  return few(p, set_all, 2);
    case 'u':  return many(p, set_all);
    case 'c':  return push_global(p);
    case 'Q':  return persistent(p);
    case 'R':  return reduce(p);
    case 'b':  return build(p);
    default:   return pickle_wrong(p, TORCH_OPCODE, "this operation is not among those that build tensors");
    }
}

bool pickle_run(Pickle *p, Value *result)
{
    p->start = p->at = 0;
    if (p->size < 2) return pickle_wrong(p, TORCH_TRUNCATED_PICKLE, "a pickle of %zu bytes", p->size);
    if (p->code[0] != 0x80 || p->code[1] != 2) return pickle_wrong(p, TORCH_PROTOCOL, "a pickle of protocol 2 is wanted");
    p->at = 2;
    for (;;) {
        p->start = p->at;
        if (p->at == p->size) return pickle_wrong(p, TORCH_TRUNCATED_PICKLE, "it ends without STOP");
        unsigned char op = p->code[p->at++];
        if (op == '.') break;
        if (!operate(p, op)) return false;
    }
    if (p->marks || p->depth != 1) return pickle_wrong(p, TORCH_STACK, "%zu values and %zu marks are left, one value is wanted", p->depth, p->marks);
    if (p->at != p->size) return pickle_wrong(p, TORCH_STRUCTURE, "%zu bytes follow the end", p->size - p->at);
    *result = p->stack[0];
    return true;
}
