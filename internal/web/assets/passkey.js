// The use of a passkey: fetch the challenge, let the browser ask the person, send its
// answer. What goes wrong is said in words beside the button.
(() => {
  "use strict";
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const post = async (path, body) => {
    const res = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const got = await res.json();
    if (!res.ok) throw new Error([got.error, got.hint].filter(Boolean).join(" "));
    return got;
  };
  const make = async (options) => {
    const k = options.publicKey;
    k.challenge = bytes(k.challenge);
    k.user.id = bytes(k.user.id);
    for (const c of k.excludeCredentials || []) c.id = bytes(c.id);
    const made = await navigator.credentials.create({ publicKey: k });
    return { id: made.id, rawId: text(made.rawId), type: made.type, response: { clientDataJSON: text(made.response.clientDataJSON), attestationObject: text(made.response.attestationObject), transports: made.response.getTransports?.() || [] } };
  };
  const use = async (options) => {
    const k = options.publicKey;
    k.challenge = bytes(k.challenge);
    for (const c of k.allowCredentials || []) c.id = bytes(c.id);
    const got = await navigator.credentials.get({ publicKey: k });
    const r = got.response;
    return { id: got.id, rawId: text(got.rawId), type: got.type, response: { clientDataJSON: text(r.clientDataJSON), authenticatorData: text(r.authenticatorData), signature: text(r.signature), userHandle: r.userHandle ? text(r.userHandle) : null } };
  };
  for (const box of document.querySelectorAll("[data-passkey]")) {
    const button = box.querySelector("[data-start]");
    const wrong = box.querySelector("[data-wrong]");
    if (!window.PublicKeyCredential) continue;
    button.disabled = false;
    button.addEventListener("click", async () => {
      button.disabled = true;
      wrong.hidden = true;
      try {
        const person = document.getElementById("person")?.value || "";
        const begun = await post(box.dataset.passkey, { person });
        const answer = "make" in box.dataset ? await make(begun.options) : await use(begun.options);
        const name = box.querySelector("input")?.value || "";
        const done = await post(box.dataset.passkey + "/answer", { id: begun.id, name, answer });
        location.assign(done.next || box.dataset.next || "/");
      } catch (e) {
        wrong.textContent = e.name === "NotAllowedError" ? "The device was not used, or not in time. Try again." : e.message;
        wrong.hidden = false;
        button.disabled = false;
      }
    });
  }
})();
