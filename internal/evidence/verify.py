#!/usr/bin/env python3
"""Check that the facts of an evidence pack are those of its checkpoint.

usage: verify.py FOLDER [CHECKPOINT...]

FOLDER holds the unpacked pack. Each CHECKPOINT is one that you kept from before.
Check the signatures first: VERIFY.txt says how.
"""
import base64, hashlib, json, os, sys


def h(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def root(leaves):  # RFC 9162: a tree of n leaves splits at the largest power of two below n
    if not leaves:
        return h()
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return h(b"\x01", root(leaves[:k]), root(leaves[k:]))


def checkpoint(path):
    origin, size, b64 = open(path, encoding="utf-8").read().split("\n")[:3]
    return origin, int(size), base64.b64decode(b64, validate=True)


def check(good, text):
    if not good:
        sys.exit("NOT VERIFIED: " + text)
    print("ok: " + text)


pack = lambda name: os.path.join(sys.argv[1], name)
origin, size, signed = checkpoint(pack("checkpoint"))
text = open(pack("checkpoint.txt"), encoding="utf-8").read()
check(open(pack("checkpoint"), encoding="utf-8").read().startswith(text + "\n"), "checkpoint.txt is the text of the checkpoint")
hashes = [base64.b64decode(line.strip(), validate=True) for line in open(pack("leaf-hashes.txt"))]
check(len(hashes) == size and root(hashes) == signed, f"{size} hashes give the root of the checkpoint")
first = json.load(open(pack("pack.json"), encoding="utf-8"))["log_first"]
facts = open(pack("log.ndjson"), "rb").read().split(b"\n")[:-1]
check(len(facts) == size - first, f"the facts {first} to {size - 1} are there")
for i, fact in enumerate(facts, first):
    if h(b"\x00", fact) != hashes[i] or json.loads(fact)["index"] != i:
        check(False, f"fact {i} is not the one in the log")
print(f"ok: each of the {len(facts)} facts is the one in the log")
held = [p for p in sys.argv[2:] if os.path.exists(p)]
for path in held + [p for p in [pack("previous-checkpoint")] if os.path.exists(p)]:
    o, n, r = checkpoint(path)
    check(o == origin and n <= size and root(hashes[:n]) == r, f"the log still contains the {n} facts of {path}")
