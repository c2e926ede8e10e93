#!/usr/bin/env python3
"""Reads a Holdfast repository without Holdfast.

Written from docs/format/repository.md alone. It is slow (BLAKE3 in plain Python,
about a megabyte per second: --fast leaves content hashes out and trusts the
authenticated encryption) and careful. It needs Python 3.9, the "cryptography"
module, and for zstd either the "zstandard" module or the zstd program.

    decode.py --identity FILE REPOSITORY list
    decode.py --identity FILE REPOSITORY restore SCOPE/ID DIRECTORY
    decode.py --identity FILE REPOSITORY log OBJECT-NAME > FILE
    decode.py REPOSITORY history SCOPE [DIRECTORY]

"history" needs no identity: it says which snapshots are listed, which the vault removed on
record, and which of the chain are neither. DIRECTORY holds copies of records that were
folded: it says whether a fold stands for these and no others.

REPOSITORY is a directory. FILE holds a line AGE-SECRET-KEY-1... or
AGE-SECRET-KEY-PQ-1... With
--verify-key FILE every manifest, log piece and key epoch must be signed by that key,
or by one of them where it is given several times.
"""
import argparse
import base64
import hashlib
import hmac
import json
import os
import stat
import struct
import subprocess
import sys

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

MAX_PLAIN = 16 << 20


class Damaged(Exception):
    pass


class NotOurs(Damaged):
    """what is sealed to others"""


def need(ok, what):
    if not ok:
        raise Damaged(what)


# BLAKE3, from its specification.

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERM = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16
M32 = 0xFFFFFFFF


def compress(cv, block, counter, length, flags):
    m = list(struct.unpack("<16I", block))
    v = list(cv) + [IV[0], IV[1], IV[2], IV[3], counter & M32, counter >> 32, length, flags]

    def g(a, b, c, d, x, y):
        va, vb, vc, vd = v[a], v[b], v[c], v[d]
        va = (va + vb + x) & M32
        vd ^= va
        vd = (vd >> 16) | (vd << 16) & M32
        vc = (vc + vd) & M32
        vb ^= vc
        vb = (vb >> 12) | (vb << 20) & M32
        va = (va + vb + y) & M32
        vd ^= va
        vd = (vd >> 8) | (vd << 24) & M32
        vc = (vc + vd) & M32
        vb ^= vc
        vb = (vb >> 7) | (vb << 25) & M32
        v[a], v[b], v[c], v[d] = va, vb, vc, vd

    for r in range(7):
        g(0, 4, 8, 12, m[0], m[1])
        g(1, 5, 9, 13, m[2], m[3])
        g(2, 6, 10, 14, m[4], m[5])
        g(3, 7, 11, 15, m[6], m[7])
        g(0, 5, 10, 15, m[8], m[9])
        g(1, 6, 11, 12, m[10], m[11])
        g(2, 7, 8, 13, m[12], m[13])
        g(3, 4, 9, 14, m[14], m[15])
        if r < 6:
            m = [m[i] for i in PERM]
    return [v[i] ^ v[i + 8] for i in range(8)]


def chunk_value(data, counter, key, flags, root):
    cv = key
    count = max(1, (len(data) + 63) // 64)
    for i in range(count):
        block = data[64 * i : 64 * i + 64]
        f = flags | (CHUNK_START if i == 0 else 0)
        if i == count - 1:
            f |= CHUNK_END | (ROOT if root else 0)
        cv = compress(cv, block.ljust(64, b"\0"), counter, len(block), f)
    return cv


def tree_value(data, counter, key, flags, root):
    if len(data) <= 1024:
        return chunk_value(data, counter, key, flags, root)
    left = 1024
    while left * 2 < len(data):
        left *= 2
    a = tree_value(data[:left], counter, key, flags, False)
    b = tree_value(data[left:], counter + left // 1024, key, flags, False)
    return compress(key, struct.pack("<16I", *a, *b), 0, 64, flags | PARENT | (ROOT if root else 0))


def blake3(data, key=None):
    words, flags = (IV, 0) if key is None else (struct.unpack("<8I", key), KEYED)
    return struct.pack("<8I", *tree_value(bytes(data), 0, words, flags, True))


# S2, the block format of github.com/klauspost/compress/s2.


def s2_decode(src, want):
    n = shift = i = 0
    while True:
        b = src[i]
        i += 1
        n |= (b & 0x7F) << shift
        shift += 7
        if b < 0x80:
            break
    need(n == want, "s2 length")
    out = bytearray()
    offset = 0
    while i < len(src):
        tag = src[i]
        kind, top = tag & 3, tag >> 2
        i += 1
        if kind == 0:
            if top >= 60:
                k = top - 59
                top = int.from_bytes(src[i : i + k], "little")
                i += k
            need(i + top + 1 <= len(src), "s2 literal")
            out += src[i : i + top + 1]
            i += top + 1
            continue
        if kind == 1:
            to = (tag & 0xE0) << 3 | src[i]
            i += 1
            length = top & 7
            if to:
                offset = to
            elif length >= 5:  # a repeat of the last offset with a long length
                k = length - 4
                length = int.from_bytes(src[i : i + k], "little") + (4, 1 << 8, 1 << 16)[k - 1]
                i += k
            length += 4
        else:
            k = 2 if kind == 2 else 4
            offset = int.from_bytes(src[i : i + k], "little")
            i += k
            length = top + 1
        need(0 < offset <= len(out) and len(out) + length <= n, "s2 copy")
        if offset >= length:
            at = len(out) - offset
            out += out[at : at + length]
        else:
            run = bytes(out[-offset:])
            out += (run * (length // offset + 1))[:length]
    need(len(out) == n, "s2 end")
    return bytes(out)


def zstd_decode(src, want):
    try:
        import zstandard

        return zstandard.ZstdDecompressor().decompress(src, max_output_size=want)
    except ImportError:
        return subprocess.run(["zstd", "-dc"], input=src, stdout=subprocess.PIPE, check=True).stdout


def decompress(code, stored, want):
    need(0 < want <= MAX_PLAIN and code in (0, 1, 2), "plain length or codec")
    plain = (lambda b, n: b, zstd_decode, s2_decode)[code](stored, want)
    need(len(plain) == want, "decompressed length")
    return plain


# ML-KEM-768, from FIPS 203: what opening needs, without the check that makes a stranger's
# cipher text give another key. Here the tag behind it fails instead.

Q = 3329
ZETA = [pow(17, int(format(i, "07b")[::-1], 2), Q) for i in range(128)]


def ntt(f):
    f, k, n = list(f), 1, 128
    while n >= 2:
        for start in range(0, 256, 2 * n):
            for j in range(start, start + n):
                t = ZETA[k] * f[j + n] % Q
                f[j], f[j + n] = (f[j] + t) % Q, (f[j] - t) % Q
            k += 1
        n //= 2
    return f


def ntt_back(f):
    f, k, n = list(f), 127, 2
    while n <= 128:
        for start in range(0, 256, 2 * n):
            for j in range(start, start + n):
                f[j], f[j + n] = (f[j] + f[j + n]) % Q, ZETA[k] * (f[j + n] - f[j]) % Q
            k -= 1
        n *= 2
    return [x * 3303 % Q for x in f]


def dot(a, b):
    """the sum of the products of polynomials in the NTT domain"""
    out = [0] * 256
    for f, g in zip(a, b):
        for i in range(128):
            z = ZETA[i] * ZETA[i] * 17 % Q
            x, y, u, v = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
            out[2 * i] = (out[2 * i] + x * u + y * v * z) % Q
            out[2 * i + 1] = (out[2 * i + 1] + x * v + y * u) % Q
    return out


def pack_bits(f, d):
    return sum(x << d * i for i, x in enumerate(f)).to_bytes(32 * d, "little")


def unpack_bits(b, d):
    n = int.from_bytes(b, "little")
    return [n >> d * i & (1 << d) - 1 for i in range(256)]


def uniform(seed):
    stream, out = hashlib.shake_128(seed).digest(168 * 8), []
    for i in range(0, len(stream), 3):
        x, y = stream[i] + 256 * (stream[i + 1] % 16), stream[i + 1] // 16 + 16 * stream[i + 2]
        out += [v for v in (x, y) if v < Q]
    return out[:256]  # 896 draws, each good four times of five


def small(seed, n):
    bits = unpack_bits(hashlib.shake_256(seed + bytes([n])).digest(128), 4)
    return ntt([((v & 1) + (v >> 1 & 1) - (v >> 2 & 1) - (v >> 3)) % Q for v in bits])


class MLKEM768:
    def __init__(self, d):
        g = hashlib.sha3_512(d + b"\x03").digest()
        self.s = [small(g[32:], i) for i in range(3)]
        public = b""
        for i in range(3):
            row = [uniform(g[:32] + bytes([j, i])) for j in range(3)]
            public += pack_bits([(x + e) % Q for x, e in zip(dot(row, self.s), small(g[32:], 3 + i))], 12)
        self.hash = hashlib.sha3_256(public + g[:32]).digest()

    def open(self, c):
        def wide(x, d):
            return [(Q * v + (1 << d - 1)) >> d for v in x]

        u = [ntt(wide(unpack_bits(c[320 * i : 320 * i + 320], 10), 10)) for i in range(3)]
        v = wide(unpack_bits(c[960:], 4), 4)
        w = [(x - y) % Q for x, y in zip(v, ntt_back(dot(self.s, u)))]
        m = pack_bits([1 if Q < 4 * x < 3 * Q else 0 for x in w], 1)
        return hashlib.sha3_512(m + self.hash).digest()[:32]


# age, age-encryption.org/v1.


def unbase64(s):
    return base64.b64decode(s + "=" * (-len(s) % 4), validate=True)


def identity(text):
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    hrp, _, rest = text.strip().lower().rpartition("1")
    need(hrp in ("age-secret-key-", "age-secret-key-pq-"), "not an age identity")
    values = [alphabet.index(c) for c in rest]
    chk = 1
    for v in [ord(c) >> 5 for c in hrp] + [0] + [ord(c) & 31 for c in hrp] + values:
        top = chk >> 25
        chk = (chk & 0x1FFFFFF) << 5 ^ v
        for i, gen in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            chk ^= gen if top >> i & 1 else 0
    need(chk == 1, "mistyped age identity")
    acc = 0
    for v in values[:-6]:
        acc = acc << 5 | v
    bits = 5 * len(values[:-6])
    secret = (acc >> bits % 8).to_bytes(bits // 8, "big")
    return (Hybrid if hrp.endswith("pq-") else Classic)(secret)


def hkdf(secret, salt, info):
    key = hmac.new(salt or bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(key, info + b"\x01", hashlib.sha256).digest()


class Classic:
    """an X25519 identity"""

    def __init__(self, secret):
        self.private = X25519PrivateKey.from_private_bytes(secret)
        self.public = self.private.public_key().public_bytes_raw()

    def open(self, args, body):
        if args[0] != "X25519":
            return None
        share = unbase64(args[1])
        shared = self.private.exchange(X25519PublicKey.from_public_bytes(share))
        wrap = hkdf(shared, share + self.public, b"age-encryption.org/v1/X25519")
        try:
            return ChaCha20Poly1305(wrap).decrypt(bytes(12), body, None)
        except InvalidTag:
            return None


class Hybrid:
    """an ML-KEM-768 and X25519 identity: HPKE (RFC 9180) with the KEM of draft-ietf-hpke-pq"""

    SUITE = b"HPKE" + struct.pack(">HHH", 0x647A, 1, 3)  # the KEM, HKDF-SHA-256, ChaCha20-Poly1305

    def __init__(self, seed):
        both = hashlib.shake_256(seed).digest(96)  # 32 for the key, 32 for what the tag does here, 32 for X25519
        self.kem = MLKEM768(both[:32])
        self.private = X25519PrivateKey.from_private_bytes(both[64:])
        self.public = self.private.public_key().public_bytes_raw()

    def extract(self, salt, label, value):
        return hmac.new(salt or bytes(32), b"HPKE-v1" + self.SUITE + label + value, hashlib.sha256).digest()

    def expand(self, secret, label, info, n):
        info = struct.pack(">H", n) + b"HPKE-v1" + self.SUITE + label + info
        return hmac.new(secret, info + b"\x01", hashlib.sha256).digest()[:n]

    def open(self, args, body):
        if args[0] != "mlkem768x25519":
            return None
        enc = unbase64(args[1])
        need(len(enc) == 1120, "age stanza")
        point = enc[1088:]
        exchanged = self.private.exchange(X25519PublicKey.from_public_bytes(point))
        shared = hashlib.sha3_256(self.kem.open(enc[:1088]) + exchanged + point + self.public + b"\\.//^\\").digest()
        info = self.extract(b"", b"info_hash", b"age-encryption.org/mlkem768x25519")
        context = b"\x00" + self.extract(b"", b"psk_id_hash", b"") + info
        secret = self.extract(shared, b"secret", b"")
        try:
            return ChaCha20Poly1305(self.expand(secret, b"key", context, 32)).decrypt(self.expand(secret, b"base_nonce", context, 12), body, None)
        except InvalidTag:
            return None


def age_decrypt(data, identity):
    end = data.index(b"\n--- ") + 1
    mac_end = data.index(b"\n", end)
    lines = data[:end].decode().splitlines()
    need(lines[0] == "age-encryption.org/v1", "age version")
    i = 1
    while i < len(lines):
        args = lines[i].split(" ")
        need(args[0] == "->", "age stanza")
        i += 1
        body = ""
        while True:
            line = lines[i]
            body += line
            i += 1
            if len(line) < 64:
                break
        file_key = identity.open(args[1:], unbase64(body))
        if file_key is None:
            continue
        mac = hmac.new(hkdf(file_key, b"", b"header"), data[: end + 3], hashlib.sha256).digest()
        need(hmac.compare_digest(mac, unbase64(data[end + 4 : mac_end].decode())), "age header")
        nonce, payload = data[mac_end + 1 : mac_end + 17], data[mac_end + 17 :]
        # The key is 32 bytes: one chunk, the last, with counter 0.
        return ChaCha20Poly1305(hkdf(file_key, nonce, b"payload")).decrypt(bytes(11) + b"\x01", payload, None)
    raise NotOurs("the identity opens none of the recipients' stanzas")


def open_sealed(key, number, sealed, context):
    try:
        return AESGCM(key).decrypt(number.to_bytes(12, "big"), sealed, context)
    except InvalidTag:
        raise Damaged("sealed bytes do not authenticate") from None


class Repository:
    def __init__(self, path, identity, verify, fast):
        self.path, self.identity, self.verify, self.fast, self.opened = path, identity, verify, fast, {}
        marker = json.loads(self.read("holdfast-repository"))
        need(marker["format"] == 1, "repository format")
        self.id = marker["repository"]

    def read(self, name):
        with open(os.path.join(self.path, *name.split("/")), "rb") as f:
            return f.read()

    def replacements(self, name):
        names = ("repairs/%02d/%s" % (n, name) for n in range(1, 17))
        return [n for n in names if os.path.exists(os.path.join(self.path, *n.split("/")))]

    def instead(self, name, act):
        """act on an object's bytes, or where they are damaged on those of a replacement"""
        names = [name] + self.replacements(name)[::-1]
        for i, n in enumerate(names):
            try:
                return act(self.read(n))
            except (Damaged, OSError, ValueError, KeyError, IndexError, struct.error):
                if i == len(names) - 1:
                    raise

    def check_signature(self, domain, message, sig):
        for key in self.verify:
            try:
                return key.verify(sig, b"holdfast/1 " + domain + b"\n" + message)
            except InvalidSignature:
                pass
        need(not self.verify, "signature")

    def keys(self, scope, name, wrapped):
        """the key in an object's own header, or those that key epochs hold for it, newest first"""
        try:
            return [age_decrypt(wrapped, self.identity)]
        except NotOurs:
            found = [e[name] for e in self.epochs(scope) if name in e]
            if not found:
                raise
            return found

    def epochs(self, scope):
        if scope not in self.opened:
            self.opened[scope] = []
            path = os.path.join(self.path, "keys", scope)
            for n in sorted(os.listdir(path), reverse=True) if os.path.isdir(path) else []:
                try:
                    e = self.instead("keys/%s/%s" % (scope, n), lambda b: self.open_epoch(scope, n, b))
                except NotOurs:
                    continue
                except Damaged as err:
                    print("keys/%s/%s: %s" % (scope, n, err), file=sys.stderr)
                    continue
                self.opened[scope].append(e)
        return self.opened[scope]

    def open_epoch(self, scope, name, b):
        line, sig, rest = b.split(b"\n")
        need(rest == b"", "key epoch lines")
        self.check_signature(b"keys", line, base64.b64decode(sig, validate=True))
        e = json.loads(line)
        need(e["format"] == 1 and e["type"] == "keys" and e["repository"] == self.id, "key epoch")
        need(e["scope"] == scope and e["id"] == name, "key epoch of another name")
        names = e["objects"]
        context = "holdfast/1 keys\n%s\n%s/%s\n%s" % (self.id, scope, name, blake3("\n".join(names).encode()).hex())
        own = age_decrypt(base64.b64decode(e["wrapped"], validate=True), self.identity)
        plain = open_sealed(own, 0, base64.b64decode(e["sealed"], validate=True), context.encode())
        need(len(plain) == 32 * len(names), "number of keys")
        return {o: plain[32 * i : 32 * i + 32] for i, o in enumerate(names)}

    def open_with(self, scope, name, wrapped, number, sealed, context):
        """returns the key that opens, and what it opens"""
        keys = self.keys(scope, name, wrapped)
        for key in keys:
            try:
                return key, open_sealed(key, number, sealed, context)
            except Damaged:
                if key is keys[-1]:
                    raise

    def manifest(self, scope_id):
        return self.instead("snapshots/" + scope_id, lambda b: self.open_manifest(scope_id, b))

    def open_manifest(self, scope_id, b):
        line, sig, rest = b.split(b"\n")
        need(rest == b"", "manifest lines")
        self.check_signature(b"manifest", line, base64.b64decode(sig, validate=True))
        m = json.loads(line)
        need(m["format"] == 1 and m["type"] == "manifest" and m["repository"] == self.id, "manifest")
        need(m["scope"] + "/" + m["id"] == scope_id, "manifest of another name")
        return m

    def removals(self, scope):
        """the records of removed snapshots, by id"""
        path = os.path.join(self.path, "tombstones", "removed", scope)
        for n in sorted(os.listdir(path)) if os.path.isdir(path) else []:
            yield n, self.removal(scope, n, self.read("tombstones/removed/%s/%s" % (scope, n)))

    def removal(self, scope, name, b):
        line, sig, rest = b.split(b"\n")
        need(rest == b"", "removal lines")
        self.check_signature(b"removal", line, base64.b64decode(sig, validate=True))
        r = json.loads(line)
        need(r["format"] == 1 and r["type"] == "removal" and r["repository"] == self.id, "removal")
        need(r["scope"] == scope and r["id"] == name, "removal of another name")
        return r

    def history(self, scope, copies):
        listed, hashes, links, removed = [], set(), [], set()
        path = os.path.join(self.path, "snapshots", scope)
        for n in sorted(os.listdir(path)) if os.path.isdir(path) else []:
            m = self.manifest(scope + "/" + n)
            listed.append(n)
            hashes.add(blake3(self.read("snapshots/%s/%s" % (scope, n))).hex())
            links.append((n, m["previous"]))
        for n, r in self.removals(scope):
            for e in r["snapshots"]:
                removed.add(e["snapshot"])
                hashes.add(e["manifest"])
                links.append((e["snapshot"], e["previous"]))
            if "folded" in r:
                removed.update(r["folded"]["snapshots"])
                if copies is not None:
                    self.unfold(scope, r["folded"], copies)
        oldest = listed[0] if listed else ""
        lost = sorted({n for n, previous in links if previous and previous not in hashes and n > oldest})
        return {"listed": listed, "removed": sorted(removed), "without_predecessor": lost}

    def unfold(self, scope, fold, copies):
        digest, ids = bytes(32), set()
        names = [n for n in sorted(os.listdir(copies)) if n <= fold["last"]]
        for n in names:
            with open(os.path.join(copies, n), "rb") as f:
                b = f.read()
            ids.update(e["snapshot"] for e in self.removal(scope, n, b)["snapshots"])
            digest = blake3(digest + blake3(b))
        need(len(names) == fold["records"] and digest.hex() == fold["digest"], "the fold does not stand for these records")
        need(sorted(ids) == fold["snapshots"], "snapshots of the fold")

    def log(self, name):
        return self.instead(name, lambda b: self.open_log(name, b))

    def open_log(self, name, b):
        need(b[:8] == b"HFLOG01\n", "log magic")
        (j,) = struct.unpack(">I", b[8:12])
        h = json.loads(b[12 : 12 + j])
        at = 12 + j
        (w,) = struct.unpack(">I", b[at : at + 4])
        wrapped, at = b[at + 4 : at + 4 + w], at + 4 + w
        (s,) = struct.unpack(">I", b[at : at + 4])
        sealed = b[at + 4 : at + 4 + s]
        need(len(b) == at + 4 + s + 64, "log length")
        self.check_signature(b"log", blake3(b[:-64]), b[-64:])
        need(h["format"] == 1 and h["repository"] == self.id, "log header")
        parts = ["logs", h["scope"], h["lineage"]]
        if h["type"] == "piece":
            parts += ["%08x" % h["timeline"], h["start"] + "-" + h["end"]]
        else:
            parts += [h["name"]]
        need("/".join(parts) == name, "log object of another name")
        context = "holdfast/1 log\n%s\n%s\n%s" % (self.id, name, blake3(b[:at]).hex())
        _, stored = self.open_with(h["scope"], name, wrapped, 0, sealed, context.encode())
        return decompress(h["codec"], stored, h["plain"])


class Pack:
    def __init__(self, repo, scope, ref, name, b):
        self.repo, self.data = repo, b
        need(len(b) == ref["size"], "pack size")
        if not repo.fast or repo.replacements(name):
            need(blake3(b).hex() == ref["hash"], "pack hash")
        need(b[:8] == b"HFPACK1\n" and b[-8:] == b"HFPACKE\n", "pack magic")
        (w,) = struct.unpack(">I", b[8:12])
        header = b[: 12 + w]
        need(blake3(header)[:16].hex() == ref["id"], "pack id")
        self.context = ("holdfast/1 pack\n%s\n%s" % (repo.id, ref["id"])).encode()
        off, length, n = struct.unpack(">QII", b[-24:-8])
        self.key, f = repo.open_with(scope, name, header[12:], 0xFFFFFFFF, b[off : off + length], self.context)
        need(not any(b[off + length : -24]), "padding")
        need(f[0] == 1 and struct.unpack(">I", f[33:37])[0] == n, "footer")
        self.mac, at, end = f[1:33], 37, 12 + w
        self.segments = []
        for _ in range(n):
            o, stored, plain, code, kind, count = struct.unpack(">QIIBBI", f[at : at + 22])
            at += 22
            chunks = []
            for _ in range(count):
                chunks.append((f[at : at + 32], struct.unpack(">I", f[at + 32 : at + 36])[0]))
                at += 36
            need(o == end and sum(c[1] for c in chunks) == plain, "segment")
            end = o + stored
            self.segments.append((o, stored, plain, code, kind, chunks))
        need(end == off and at == len(f), "footer end")
        self.cache = {}

    def segment(self, i, kind):
        if i in self.cache:
            return self.cache[i]
        o, stored, plain, code, k, chunks = self.segments[i]
        need(k == kind, "kind of segment")
        out = decompress(code, open_sealed(self.key, i, self.data[o : o + stored], self.context), plain)
        if not self.repo.fast:
            at = 0
            for cid, n in chunks:
                need(blake3(out[at : at + n], self.mac) == cid, "chunk id")
                at += n
        self.cache = {i: out}
        return out


def text(v):
    return base64.b64decode(v["b"]) if isinstance(v, dict) else v.encode()


class Snapshot:
    def __init__(self, repo, name):
        self.repo, self.m, self.packs = repo, repo.manifest(name), {}
        r = self.m["root"]
        self.root = json.loads(self.segment(r["pack"], r["segment"], 3))
        need([self.root[k] for k in ("scope", "kind", "id")] == [self.m[k] for k in ("scope", "kind", "id")], "root")

    def segment(self, pack, i, kind):
        if pack not in self.packs:
            if len(self.packs) > 4:
                self.packs.pop(next(iter(self.packs)))
            ref = self.m["packs"][pack]
            name = "packs/%s/%s" % (ref["id"][:2], ref["id"])
            self.packs[pack] = self.repo.instead(name, lambda b: Pack(self.repo, self.m["scope"], ref, name, b))
        return self.packs[pack].segment(i, kind)

    def entries(self):
        entry = None
        for part in self.root["entries"]:
            for line in self.segment(part["pack"], part["segment"], 2).split(b"\n")[:-1]:
                v = json.loads(line)
                if "more" in v:
                    entry["x"] += v["more"]
                    continue
                if entry is not None:
                    yield entry
                entry = v
        if entry is not None:
            yield entry

    def restore(self, top):
        top = os.fsencode(top)
        os.makedirs(top)
        later = []
        for e in self.entries():
            path = text(e["p"])
            parts = path.split(b"/")
            need(path == b"." or not any(p in (b"", b".", b"..") for p in parts), "path leads outside")
            to = os.path.join(top, path)
            if e["t"] == "dir":
                os.makedirs(to, exist_ok=True)
            elif e["t"] == "file":
                os.makedirs(os.path.dirname(to), exist_ok=True)
                self.restore_file(e, to)
                continue
            later.append((e, to))
        for e, to in later:
            os.makedirs(os.path.dirname(to), exist_ok=True)
            if e["t"] == "symlink":
                os.symlink(text(e["l"]), to)
                self.stamp(e, to, follow_symlinks=False)
            elif e["t"] == "hardlink":
                os.link(os.path.join(top, text(e["l"])), to)
            elif e["t"] in ("fifo", "socket", "char", "block"):
                kind = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "char": stat.S_IFCHR, "block": stat.S_IFBLK}
                os.mknod(to, kind[e["t"]] | e.get("m", 0) & 0o777, e.get("d", 0))
        for e, to in reversed(later):
            if e["t"] == "dir":
                os.chmod(to, e.get("m", 0))
                self.stamp(e, to)

    def restore_file(self, e, to):
        extents, size, end = e.get("x", []), e.get("s", 0), 0
        need(len(extents) == e.get("n", 0), "number of extents")
        with open(to, "xb") as f:
            f.truncate(size)
            for off, n, pack, seg, at in extents:
                need(off >= end and off + n <= size, "extent")
                end = off + n
                plain = self.segment(pack, seg, 1)
                need(at + n <= len(plain), "extent beyond its segment")
                f.seek(off)
                f.write(plain[at : at + n])
        if "h" in e and not self.repo.fast:
            with open(to, "rb") as f:
                need(blake3(f.read()).hex() == e["h"], "content hash of %r" % to)
        for name, value in e.get("xa", []):
            try:
                os.setxattr(to, text(name), base64.b64decode(value))
            except OSError as err:
                print("attribute of %r: %s" % (to, err), file=sys.stderr)
        os.chmod(to, e.get("m", 0))
        self.stamp(e, to)

    @staticmethod
    def stamp(e, to, **kw):
        if "mt" in e:
            ns = e["mt"][0] * 10**9 + e["mt"][1]
            os.utime(to, ns=(ns, ns), **kw)


def first_line(path):
    with open(path) as f:
        return next(l.strip() for l in f if l.strip() and not l.startswith("#"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--identity")
    p.add_argument("--verify-key", action="append", default=[])
    p.add_argument("--fast", action="store_true")
    p.add_argument("repository")
    p.add_argument("verb", choices=["list", "restore", "log", "history"])
    p.add_argument("args", nargs="*")
    a = p.parse_args()
    verify = [Ed25519PublicKey.from_public_bytes(base64.b64decode(first_line(f).split(":")[2])) for f in a.verify_key]
    if a.identity is None and a.verb in ("restore", "log"):
        p.error(a.verb + " needs --identity")
    repo = Repository(a.repository, a.identity and identity(first_line(a.identity)), verify, a.fast)
    if a.verb == "list":
        for kind in ("snapshots", "logs"):
            for d, _, names in sorted(os.walk(os.path.join(a.repository, kind))):
                for n in sorted(names):
                    print(os.path.relpath(os.path.join(d, n), a.repository))
    elif a.verb == "restore" and len(a.args) == 2:
        Snapshot(repo, a.args[0]).restore(a.args[1])
    elif a.verb == "log" and len(a.args) == 1:
        sys.stdout.buffer.write(repo.log(a.args[0]))
    elif a.verb == "history" and len(a.args) in (1, 2):
        print(json.dumps(repo.history(a.args[0], a.args[1] if len(a.args) == 2 else None), indent=1))
    else:
        p.error("restore takes SCOPE/ID and DIRECTORY, log an object name, history SCOPE and perhaps a DIRECTORY")


if __name__ == "__main__":
    try:
        main()
    except (Damaged, OSError, ValueError, KeyError, IndexError, struct.error) as err:
        sys.exit("decode.py: %s: %s" % (type(err).__name__, err))
