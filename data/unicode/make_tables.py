#!/usr/bin/env python3
"""make_tables.py -- tables.json (from the Unicode character database) -> nn/tokenizer_table.h

Usage: python3 data/unicode/make_tables.py > nn/tokenizer_table.h      (from the root; needs nothing but Python 3)
"""
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
WIDTH = 150


def array(declaration, items):
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > WIDTH:
            lines.append(line)
            line = "   "
        line += " " + item + ","
    return "static const %s = {\n%s\n};\n" % (declaration, "\n".join(lines + [line]))


def rows(table):
    return ["{%s}" % ",".join(str(v) for v in row) for row in table]


def lower_runs(pairs):
    """[from, to, step, add]: every step-th code from..to maps to itself + add"""
    out, i = [], 0
    while i < len(pairs):
        best = (i, 1)
        for step in (1, 2):
            j = i
            while j + 1 < len(pairs) and pairs[j + 1][0] == pairs[j][0] + step \
                    and pairs[j + 1][1] - pairs[j + 1][0] == pairs[i][1] - pairs[i][0]:
                j += 1
            best = max(best, (j, -step))
        j, step = best[0], abs(best[1])
        out.append([pairs[i][0], pairs[j][0], step, pairs[i][1] - pairs[i][0]])
        i = j + 1
    return out


def class_runs(pairs):
    out = []
    for code, ccc in pairs:
        if out and out[-1][1] == code - 1 and out[-1][2] == ccc:
            out[-1][1] = code
        else:
            out.append([code, code, ccc])
    return out


def main():
    with open(os.path.join(HERE, "tables.json")) as f:
        u = json.load(f)
    longer = [l for l in u["lower"] if len(l) != 2]
    assert longer == [[0x130, 0x69, 0x307]], longer          # the one case tokenizer_unicode.c writes out
    parts = [[d[0]] + (d[2:] + [0])[:2] for d in u["decomposition"]]
    assert parts == sorted(parts) and all(len(d) in (3, 4) for d in u["decomposition"])
    composable = sorted((p[1], p[2], i) for i, (p, d) in enumerate(zip(parts, u["decomposition"])) if d[1])
    assert len({c[:2] for c in composable}) == len(composable)
    print("/* tokenizer_table.h -- character tables of Unicode %s, made by data/unicode/make_tables.py; do not edit. */" % u["unicode_version"])
    print("#ifndef NN_TOKENIZER_TABLE_H\n#define NN_TOKENIZER_TABLE_H\n#include <stdint.h>\n")
    print("/* [from, to] */")
    for name in ("letter", "number", "space"):
        print(array("uint32_t %s[][2]" % name, rows(u[name])))
    print("/* every step-th code from..to: code + add in lower case */")
    print(array("struct { uint32_t from, to; int32_t step, add; } lower[]", rows(lower_runs([l for l in u["lower"] if len(l) == 2]))))
    print("/* [from, to, canonical combining class] */")
    print(array("uint32_t combining[][3]", rows(class_runs(u["combining_class"]))))
    print("/* canonical decomposition [code, first, second or 0], by code; Hangul syllables are computed */")
    print(array("uint32_t decomposition[][3]", rows(parts)))
    print("/* rows of it that compose again, ordered by (first, second) */")
    print(array("uint16_t composition[]", [str(c[2]) for c in composable]))
    print("#endif")


main()
