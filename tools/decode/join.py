#!/usr/bin/env python3
"""Bring a Holdfast read key back from its shares, or from its sheet, without Holdfast.

    join.py SHEET...

Each SHEET is a file with a share or a whole key as docs/format/keys.md describes, or
with its groups alone. The age identity is printed on standard output. Python's own
library is enough.
"""
import sys

LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def die(text):
    sys.exit("join.py: " + text)


def group_check(number, values):
    total = number % 32
    for i, v in enumerate(values):
        for _ in range(i + 1):
            v <<= 1
            if v & 32:
                v ^= 0x25
        total ^= v
    return total


def read(path):
    groups = []
    with open(path, encoding="utf-8-sig") as f:
        for line in f:
            line = line.strip()
            if line and not line.startswith("#") and ":" not in line:
                groups += line.replace("-", " ").split()
    bits = ""
    for number, group in enumerate(groups):
        text = group.upper().replace("O", "0").replace("I", "1").replace("L", "1")
        values = [LETTERS.find(c) for c in text]
        if len(values) != 5 or -1 in values or group_check(number, values[:4]) != values[4]:
            die("%s: group %d is not right" % (path, number + 1))
        bits += "".join(format(v, "05b") for v in values[:4])
    if not bits or len(bits) % 8:
        die("%s: groups are missing" % path)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def mul(a, b):
    p = 0
    while b:
        if b & 1:
            p ^= a
        a <<= 1
        if a & 256:
            a ^= 0x11B
        b >>= 1
    return p


def inverse(a):
    return next(b for b in range(1, 256) if mul(a, b) == 1)


def bech32(scalar, prefix):
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    number = int.from_bytes(scalar, "big") << 4  # 260 bits are 52 letters
    data = [number >> 5 * i & 31 for i in reversed(range(52))]

    def polymod(values):
        c = 1
        for v in values:
            top, c = c >> 25, (c & 0x1FFFFFF) << 5 ^ v
            for i, g in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
                c ^= g if top >> i & 1 else 0
        return c

    head = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    total = polymod(head + data + [0] * 6) ^ 1
    data += [total >> 5 * (5 - i) & 31 for i in range(6)]
    return (prefix + "1" + "".join(alphabet[v] for v in data)).upper()


def main():
    sheets = [read(p) for p in sys.argv[1:]]
    if not sheets:
        die("name the files of the shares, or of one key sheet")
    kind = sheets[0][0]  # 1 and 2 are of an X25519 key, 3 and 4 of a post-quantum one
    prefix = "age-secret-key-" if kind < 3 else "age-secret-key-pq-"
    if kind in (2, 4) and len(sheets[0]) == 40:
        return print(bech32(sheets[0][1:33], prefix))
    if kind not in (1, 3) or any(s[0] != kind or len(s) != 50 for s in sheets):
        die("not a share, or of another kind of key")
    if len({s[1:5] for s in sheets}) > 1:
        die("the shares are of different sets")
    needed, points = sheets[0][6], {s[5]: s[14:46] for s in sheets}
    if len(points) < needed:
        die("set %s: %d of %d needed shares" % (sheets[0][1:5].hex(), len(points), needed))
    points = dict(sorted(points.items())[:needed])
    secret = bytearray(32)
    for x, value in points.items():
        weight = 1
        for other in points:
            if other != x:
                weight = mul(weight, mul(other, inverse(x ^ other)))
        for n in range(32):
            secret[n] ^= mul(value[n], weight)
    print(bech32(bytes(secret), prefix))


main()
