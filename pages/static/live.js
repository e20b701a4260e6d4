// Keeps the parts of a page with `data-live` current. Its value is the URL of an event stream; after events, the page is
// loaded again and the part with the same id replaces this one. Without this script, the reader reloads the page.
"use strict";
(() => {
  const pause = 1000; // milliseconds between loads
  const events = ["started", "progress", "completed", "partial_completed", "failed", "cancelled"];
  for (const part of document.querySelectorAll("[data-live]")) {
    if (!part.querySelector("progress")) continue; // nothing is running
    const source = new EventSource(part.dataset.live);
    let timer = null;
    const load = async () => {
      timer = null;
      const response = await fetch(location.href, { credentials: "same-origin", redirect: "error" });
      if (!response.ok) return source.close();
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const current = document.getElementById(part.id);
      const next = page.getElementById(part.id);
      if (!current || !next) return source.close();
      if (!current.contains(document.activeElement)) current.replaceWith(document.adoptNode(next));
      if (!next.querySelector("progress")) source.close(); // everything has ended
    };
    const wait = () => { timer = timer || setTimeout(() => load().catch(() => {}), pause); };
    for (const event of events) source.addEventListener(`prompt_run.${event}`, wait);
  }
})();
