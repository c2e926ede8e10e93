"use strict";
// Opens the offline copy that this page holds. It asks nobody: no address is reached.
(() => {
  const by = (id) => document.getElementById(id);
  const say = (text) => { by("said").textContent = text; };
  const part = (id) => by(id).textContent.split("\n").filter((l) => l !== "" && !l.startsWith("-----")).join("\n");
  const statement = new Map(part("statement").split("\n").map((l) => l.split(": ")).filter((p) => p.length === 2));
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, "0")).join("");
  const text = (s) => new TextEncoder().encode(s);

  if (!window.crypto || !crypto.subtle) {
    say("This browser does not decrypt files. Take another one, or use the command below.");
    return;
  }
  by("form").hidden = false;
  by("passphrase").focus();

  async function open(passphrase) {
    const body = bytes(part("sealed").replace(/\s/g, ""));
    const sealed = "sha256:" + hex(await crypto.subtle.digest("SHA-256", body));
    if (sealed !== statement.get("sealed")) {
      throw new Error("This file was changed, or is not whole: what is sealed in it has the digest " + sealed + ", and its statement names another one. Take another copy.");
    }
    const secret = await crypto.subtle.importKey("raw", text(passphrase), "PBKDF2", false, ["deriveBits"]);
    const bits = new Uint8Array(await crypto.subtle.deriveBits({ name: "PBKDF2", hash: "SHA-256", salt: body.slice(8, 16), iterations: Number(statement.get("rounds")) }, secret, 384));
    const hmac = { name: "HMAC", hash: "SHA-256" };
    const first = await crypto.subtle.importKey("raw", bits.slice(0, 32), hmac, false, ["sign"]);
    const codeKey = await crypto.subtle.importKey("raw", await crypto.subtle.sign("HMAC", first, text("holdfast locked 1")), hmac, false, ["verify"]);
    const code = Uint8Array.from(statement.get("code").match(/../g), (h) => parseInt(h, 16));
    if (!await crypto.subtle.verify("HMAC", codeKey, code, body)) {
      throw new Error("This passphrase does not open it. Look at capital letters, blanks and dashes.");
    }
    const key = await crypto.subtle.importKey("raw", bits.slice(0, 32), "AES-CBC", false, ["decrypt"]);
    const plain = await crypto.subtle.decrypt({ name: "AES-CBC", iv: bits.slice(32, 48) }, key, body.slice(16));
    show(new TextDecoder().decode(plain), sealed);
  }

  // What was sealed is a page without scripts; the policy of this page lets none run.
  function show(page, sealed) {
    const inside = new DOMParser().parseFromString(page, "text/html");
    const looks = [...inside.querySelectorAll("style")];
    document.title = inside.title;
    document.documentElement.className = "paper";
    document.head.querySelectorAll("style").forEach((s) => s.remove());
    looks.forEach((s) => document.head.append(document.adoptNode(s)));
    document.body.replaceWith(document.adoptNode(inside.body));
    by("sealed-digest").textContent = sealed;
    const print = document.createElement("button");
    print.id = "print";
    print.type = "button";
    print.textContent = "Print it: paper needs no passphrase";
    print.addEventListener("click", () => window.print());
    const row = document.createElement("p");
    row.className = "screen-only";
    row.append(print);
    document.querySelector(".cover").append(row);
    const style = document.createElement("style");
    style.textContent = "#print { font: inherit; padding: 8px 16px } @media print { .screen-only { display: none } }";
    document.head.append(style);
    document.body.dataset.opened = "yes";
    window.scrollTo(0, 0);
  }

  by("form").addEventListener("submit", async (e) => {
    e.preventDefault();
    const field = by("passphrase");
    say("Opening. This takes some seconds on purpose.");
    by("open").disabled = true;
    try {
      await open(field.value.trim());
    } catch (err) {
      say(err.message || "It cannot be opened here. Use the command below.");
      by("open").disabled = false;
      field.select();
    }
  });
})();
