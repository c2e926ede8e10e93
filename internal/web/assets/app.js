// What a page does beyond its forms and links: stop and go on updating, and say
// so when the server no longer answers. Without this script nothing is missing
// but the updating.
(() => {
  "use strict";
  const live = () => document.getElementById("live");
  const stale = document.getElementById("stale");
  const refresh = Number(live()?.dataset.refresh || 0) * 1000;
  if (!refresh || !stale) return;

  let paused = false;
  let heard = Date.now();

  const show = () => {
    for (const b of document.querySelectorAll("[data-pause]")) {
      b.hidden = false;
      b.setAttribute("aria-pressed", String(paused));
      b.textContent = paused ? "Go on updating" : "Pause updates";
    }
  };
  const judge = () => {
    const silent = Date.now() - heard;
    if (paused || document.hidden || silent < 3 * refresh) return;
    if (stale.hidden) {
      const since = new Date(heard).toLocaleTimeString();
      stale.textContent = "Holdfast has not answered since " + since + ". What you see is from then; nothing here is known to be true now.";
      stale.hidden = false;
      document.body.classList.add("is-stale");
    }
  };
  const fresh = () => {
    heard = Date.now();
    if (!stale.hidden) {
      stale.hidden = true;
      document.body.classList.remove("is-stale");
    }
  };

  document.addEventListener("htmx:before:request", (e) => {
    if (paused || document.hidden) e.preventDefault();
  });
  document.addEventListener("htmx:after:request", (e) => {
    if (e.detail?.ctx?.response?.status === 200) fresh();
  });
  document.addEventListener("htmx:after:swap", show);
  document.addEventListener("click", (e) => {
    if (!(e.target instanceof Element) || !e.target.closest("[data-pause]")) return;
    paused = !paused;
    heard = Date.now();
    show();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) heard = Date.now();
  });
  setInterval(judge, 1000);
  show();
})();
